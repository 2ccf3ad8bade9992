"""Differentiated in whichever way, adaptation has the same derivatives."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import jit

from metarl_jax import inner_loop, policy_gradient, surrogates
from metarl_jax.algorithms.anil import anil
from metarl_jax.algorithms.cavia import cavia
from metarl_jax.algorithms.emaml import emaml
from metarl_jax.algorithms.maml import maml
from metarl_jax.algorithms.meta_sgd import meta_sgd
from metarl_jax.algorithms.promp import promp
from metarl_jax.envs.point_navigation import point_navigation
from metarl_jax.policies.mlp import MLPPolicy, mlp_policy
from metarl_jax.policy_gradient import Batch
from metarl_jax.trust_region import TrustRegion, fisher_vector_product
from metarl_jax.types import Agent

SPARING = ("rematerialised", "mixed")
KEY = jax.random.key(7)
ALGORITHMS = [maml, promp, emaml, anil, cavia, meta_sgd]


def assert_close(actual, expected, **kwargs):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, **kwargs), actual, expected
    )


def recorded(key, *shape):
    """A made-up batch `[..., E, T]` of two-dimensional observations and actions."""
    keys = jax.random.split(key, 5)
    normal = lambda i, *rest: jax.random.normal(keys[i], (*shape, *rest))  # noqa: E731
    mask = jnp.arange(shape[-1]) < shape[-1] - 1
    return Batch(
        normal(0, 2),
        normal(1, 2),
        normal(2) * 0.1 - 2.0,
        normal(3),
        normal(4),
        jnp.broadcast_to(mask, shape),
    )


def objective(policy, surrogate, optimizer, differentiation):
    """MAML's, `(params, before, after) -> ([], θ')`."""
    mean = partial(policy_gradient.surrogate_mean, policy, surrogate)
    step = inner_loop.gradient_step(
        lambda params, batch: -mean(params, batch),
        optimizer,
        differentiation=differentiation,
    )

    def value(params, before, after):
        agent = Agent(params, (), optimizer.init(params))
        params = inner_loop.adapt(step, agent, before).params
        return mean(params, after), params

    return value


@pytest.mark.parametrize(
    ("optimizer", "num_steps"),
    [(optax.sgd(0.1), 1), (optax.adam(0.1, eps_root=1e-2), 3)],
    ids=["sgd", "adam"],
)
def test_gradient_and_fisher_product_are_those_of_plain(optimizer, num_steps):
    """For every surrogate, chosen by weights that the loss closes over."""
    policy = MLPPolicy(action_dim=2, hidden_sizes=(4,), activation=jnp.tanh)
    estimators = [
        surrogates.score_function,
        surrogates.likelihood_ratio,
        surrogates.dice,
        surrogates.loaded_dice,
        surrogates.second_order_expansion,
        surrogates.clipped(0.2),
    ]

    def derivatives(weight, params, vector, before, after, differentiation):
        def surrogate(*args):
            return weight @ jnp.stack([estimator(*args) for estimator in estimators])

        value = objective(policy, surrogate, optimizer, differentiation)

        def distribution(params):
            adapted = value(params, before, after)[1]
            return policy_gradient.act(policy, adapted, after.obs)

        return jax.grad(lambda p: value(p, before, after)[0])(params), (
            fisher_vector_product(distribution, params, after.mask.ravel(), vector)
        )

    with jax.enable_x64(True):
        keys = jax.random.split(KEY, 4)
        params = policy.init(keys[0], (), jnp.zeros(2))
        params = jax.tree.map(lambda x: x.astype(jnp.float64), params)
        vector = jax.tree.map(
            lambda x: jnp.cos(jnp.arange(x.size)).reshape(x.shape), params
        )
        arguments = (
            jnp.eye(len(estimators)),
            params,
            vector,
            recorded(keys[1], num_steps, 3, 4),
            recorded(keys[2], 3, 4),
        )

        @jit
        def by_choice(*arguments):
            return [
                jax.vmap(
                    partial(derivatives, differentiation=choice),
                    in_axes=(0, None, None, None, None),
                )(*arguments)
                for choice in ("plain", *SPARING)
            ]

        plain, *others = by_choice(*arguments)
        for other in others:
            for leaf, expected in zip(
                jax.tree.leaves(other), jax.tree.leaves(plain), strict=True
            ):
                scale = jnp.abs(expected).max(range(1, expected.ndim))
                assert jnp.all(scale > 1e-6)
                error = jnp.abs(leaf - expected).max(range(1, expected.ndim))
                assert jnp.all(error < 1e-12 * scale)


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda a: a.__name__)
def test_every_algorithm_takes_the_step_of_plain(algorithm):
    """By a trust region where more than a policy's parameters is learned, or less."""
    tasks = point_navigation(horizon=3)
    within = TrustRegion(num_cg_iterations=2, damping=0.1)
    build = partial(
        algorithm,
        tasks,
        mlp_policy(tasks, hidden_sizes=(3,), activation=jnp.tanh),
        num_tasks=2,
        num_episodes=3,
        num_inner_steps=2,
        outer_optimizer=within if algorithm in (cavia, meta_sgd) else optax.sgd(0.1),
    )
    with jax.enable_x64(True):
        state = build().init(jax.random.key(0))
        state = jax.tree.map(
            lambda x: x.astype(float) if x.dtype == jnp.float32 else x, state
        )
        plain, mixed = jit(
            lambda key, state: [
                build(differentiation=choice).step(key, state)
                for choice in ("plain", "mixed")
            ]
        )(KEY, state)
        assert not plain[1].skipped
        assert plain[1].gradient_norm > 1e-3
        assert_close(mixed, plain, rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match=r"rematerialised, mixed.* got 'forward'"):
        build(differentiation="forward")


def test_what_a_step_is_given_beside_its_parameters_has_the_derivatives_of_plain():
    """The data, an auxiliary output, and a rate that the loss closes over."""
    num_steps = 3

    def value(inputs, keys, choice):
        params, x, rate = inputs

        def loss(params, data):
            x, key, index = data
            z = jnp.tanh(x @ params["w"]) + params["b"]
            noise = jax.random.normal(key, z.shape, z.dtype)
            total = rate * jnp.mean(z**2 * jnp.cos(x[:, 0]) + noise * z) * index
            return total, {"cube": jnp.sum(z**3), "count": jnp.sum(z > 0), "key": key}

        step = inner_loop.gradient_step(
            loss, optax.sgd(0.1), has_aux=True, differentiation=choice
        )
        agent = Agent(params, (), optax.sgd(0.1).init(params))
        data = (x, keys, jnp.arange(num_steps) + 1)
        agent, aux = jax.lax.scan(step, agent, data)
        outer, _ = loss(agent.params, (x[0], keys[0], 1))
        return outer + aux["cube"] @ jnp.arange(1.0, num_steps + 1)

    with jax.enable_x64(True):
        inputs = (
            {"w": jnp.array([0.5, -1.0, 0.2]), "b": jnp.array(0.3)},
            jax.random.normal(KEY, (num_steps, 5, 3)),
            jnp.array(0.7),
        )
        keys = jax.random.split(KEY, num_steps)
        choices = ("plain", *SPARING, jax.checkpoint_policies.dots_saveable)
        plain, *others = jit(
            lambda *args: [jax.grad(value)(*args, choice) for choice in choices]
        )(inputs, keys)
        assert all(jnp.all(x != 0) for x in jax.tree.leaves(plain))
        for other in others:
            assert_close(other, plain, rtol=1e-12, atol=1e-14)
        epsilon = 1e-6
        shifted = [
            jit(value, static_argnums=2)((*inputs[:2], 0.7 + s), keys, "plain")
            for s in (epsilon, -epsilon)
        ]
        difference = (shifted[0] - shifted[1]) / (2 * epsilon)
        np.testing.assert_allclose(plain[2], difference, rtol=1e-6)


def test_through_adam_gradients_are_the_slopes_though_a_parameter_does_nothing():
    optimizer = optax.adam(0.1, eps_root=1e-8)

    def loss(params, x):
        return jnp.mean((jnp.tanh(x @ params["w"]) + params["dead"]) ** 2)

    def value(params, data, choice):
        step = inner_loop.gradient_step(loss, optimizer, differentiation=choice)
        agent = Agent(params, (), optimizer.init(params))
        return loss(inner_loop.adapt(step, agent, data).params, data[0])

    with jax.enable_x64(True):
        data = jax.random.normal(KEY, (4, 6, 2))
        params = {"w": jnp.ones(2), "dead": jnp.zeros(())}
        after = jit(value, static_argnums=2)
        slopes, epsilon = [], 1e-5
        for i in range(2):
            low, high = (
                after({**params, "w": params["w"].at[i].add(s)}, data, "plain")
                for s in (-epsilon, epsilon)
            )
            slopes.append((high - low) / (2 * epsilon))
        for choice in ("plain", *SPARING):
            gradient = jit(jax.grad(value), static_argnums=2)(params, data, choice)
            np.testing.assert_allclose(gradient["w"], slopes, rtol=1e-5)
            assert jnp.isfinite(gradient["dead"])


@pytest.mark.parametrize(
    "make",
    [
        optax.adam,
        optax.adamw,
        optax.nadam,
        optax.amsgrad,
        partial(optax.rmsprop, eps_in_sqrt=False),
        lambda rate: optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate)),
    ],
)
def test_what_has_no_derivative_at_zero_is_for_the_first_order_alone(make):
    loss = lambda params, data: jnp.sum(params * data)  # noqa: E731
    message = r"inner_optimizer must have a finite derivative .*eps_root.*; got nan"
    with pytest.raises(ValueError, match=message):
        inner_loop.gradient_step(loss, make(0.1))
    inner_loop.gradient_step(loss, make(0.1), first_order=True)


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.sgd(0.1, momentum=0.9, nesterov=True),
        optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1)),
        optax.chain(optax.clip(1.0), optax.adam(0.1, eps_root=1e-8)),
        optax.inject_hyperparams(optax.sgd)(0.1),
        optax.rmsprop(0.1),
        optax.set_to_zero(),
        optax.masked(optax.sgd(0.1), {"other": True}),
    ],
)
def test_what_has_a_derivative_at_zero_is_taken(optimizer):
    inner_loop.gradient_step(lambda params, data: jnp.sum(params), optimizer)


def temporary_bytes(function, *arguments):
    analysis = jit(function).lower(*arguments).compile().memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes


def test_fifty_steps_take_at_most_three_times_the_memory_of_one():
    policy = MLPPolicy(action_dim=2, hidden_sizes=(64, 64))
    params = policy.init(KEY, (), jnp.zeros(2))
    after = jax.eval_shape(lambda: recorded(KEY, 20, 100))

    def memory(choice, num_steps):
        value = objective(policy, surrogates.likelihood_ratio, optax.sgd(0.1), choice)
        before = jax.eval_shape(lambda: recorded(KEY, num_steps, 20, 100))
        gradient = jax.grad(lambda *args: value(*args)[0])
        return temporary_bytes(gradient, params, before, after)

    one = memory("plain", 1)
    assert memory("plain", 50) > 15 * one  # or this would show nothing
    for choice in SPARING:
        assert memory(choice, 50) < 3 * one


def test_mixed_mode_needs_less_than_rematerialisation_where_the_loss_has_a_loop():
    def loss(params, x):
        def cell(state, x):
            state = jnp.tanh(state @ params["w"] + x @ params["u"])
            return state, jnp.mean(state**2)

        return jnp.mean(jax.lax.scan(cell, jnp.zeros((x.shape[1], 64)), x)[1])

    params = {"w": jnp.eye(64), "u": jnp.ones((2, 64))}
    before = jax.ShapeDtypeStruct((4, 100, 20, 2), jnp.float32)

    def memory(choice):
        step = inner_loop.gradient_step(loss, optax.sgd(0.1), differentiation=choice)

        def value(params, x):
            agent = Agent(params, (), optax.sgd(0.1).init(params))
            return loss(inner_loop.adapt(step, agent, x).params, x[0])

        return temporary_bytes(jax.grad(value), params, before)

    assert memory("mixed") < 0.7 * memory("rematerialised")
