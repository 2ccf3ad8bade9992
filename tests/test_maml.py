"""MAML's compiled step against a plain loop, and what must hold of any step."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metarl_jax import returns, rollout, surrogates
from metarl_jax.algorithms.maml import maml
from metarl_jax.batching import map_tasks
from metarl_jax.envs.bandit import bernoulli_bandit
from metarl_jax.envs.point_navigation import point_navigation
from metarl_jax.policies.mlp import MLPPolicy, mlp_policy
from metarl_jax.trust_region import TrustRegion
from metarl_jax.types import Agent

N, E, T, K = 3, 4, 5, 2
TASKS = point_navigation(horizon=T, goal_tolerance=0.1)
POLICY = mlp_policy(TASKS, hidden_sizes=(4,), activation=jnp.tanh)
KEY = jax.random.key(7)


def build(**kwargs):
    kwargs = {"outer_optimizer": optax.sgd(1.0), **kwargs}
    return maml(TASKS, POLICY, num_tasks=N, num_episodes=E, **kwargs)


def assert_close(a, b, **kwargs):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **kwargs), a, b)


def plain_log_prob(params, obs, action):
    """The policy's log-probability, written out."""
    p = params["params"]
    x = jnp.tanh(obs @ p["hidden_0"]["kernel"] + p["hidden_0"]["bias"])
    mean = x @ p["mean"]["kernel"] + p["mean"]["bias"]
    z = (action - mean) / jnp.exp(p["log_std"])
    return jnp.sum(-0.5 * z**2 - p["log_std"] - 0.5 * jnp.log(2 * jnp.pi), axis=-1)


def plain_mean(params, data, ratio):
    """Averages log π A, or the ratio times A, over the valid steps of one task."""
    trajectories, advantage = data
    total, count = 0.0, 0
    for e in range(E):
        for t in range(T):
            if trajectories.mask[e, t]:
                log_prob = plain_log_prob(
                    params, trajectories.obs[e, t], trajectories.action[e, t]
                )
                if ratio:
                    log_prob = jnp.exp(log_prob - trajectories.log_prob[e, t])
                total, count = total + log_prob * advantage[e, t], count + 1
    return total / count


def plain_advantage(trajectories):
    to_go = jnp.stack(
        [
            returns.discounted_returns(r, d, discount=0.99)
            for r, d in zip(trajectories.reward, trajectories.terminated, strict=True)
        ]
    )
    value = returns.linear_feature_baseline(trajectories.obs, to_go, trajectories.mask)
    # With λ = 1 the discounted residuals telescope to G - b.
    return returns.normalise(to_go - value, trajectories.mask)


def plain_meta_gradient(key, params):
    """∇θ of the mean over tasks, by loops over tasks, rounds, episodes and steps.

    The inner optimiser is SGD with momentum 0.5 and rate 0.2, written out.
    """
    key_tasks, key_before, key_after = jax.random.split(key, 3)
    round_keys = [*jax.random.split(key_before, K), key_after]

    def inner_steps(params, rounds):
        velocity = jax.tree.map(jnp.zeros_like, params)
        for data in rounds:
            gradient = jax.grad(plain_mean)(params, data, False)
            velocity = jax.tree.map(lambda v, g: 0.5 * v + g, velocity, gradient)
            params = jax.tree.map(lambda p, v: p + 0.2 * v, params, velocity)
        return params

    total = jax.tree.map(jnp.zeros_like, params)
    for i in range(N):
        task = TASKS.sample(jax.random.split(key_tasks, N)[i])
        rounds = []
        for round_key in round_keys:
            agent = Agent(inner_steps(params, rounds))
            _, trajectories = rollout.collect(
                jax.random.split(round_key, N)[i],
                TASKS,
                POLICY,
                agent,
                task,
                num_episodes=E,
            )
            rounds.append((trajectories, plain_advantage(trajectories)))
        objective = lambda p, r=rounds: plain_mean(inner_steps(p, r[:K]), r[K], True)  # noqa: E731
        total = jax.tree.map(jnp.add, total, jax.grad(objective)(params))
    return jax.tree.map(lambda x: x / N, total)


def test_meta_gradient_equals_a_plain_loop_however_tasks_are_grouped():
    momentum = optax.sgd(0.2, momentum=0.5)
    state = build().init(jax.random.key(0))
    expected = plain_meta_gradient(KEY, state.agent.params)
    assert optax.tree.norm(expected) > 1e-2
    for group_size in (None, 1):
        algorithm = build(
            num_inner_steps=K, inner_optimizer=momentum, task_group_size=group_size
        )
        state = jax.jit(algorithm.init)(jax.random.key(0))
        new, info = jax.jit(algorithm.step)(KEY, state)
        moved = optax.tree.sub(new.agent.params, state.agent.params)
        assert_close(moved, expected, rtol=2e-3, atol=2e-5)
        # Every leaf takes part: nothing is detached by accident.
        assert all(jnp.any(x != 0) for x in jax.tree.leaves(moved))
        np.testing.assert_allclose(
            info.gradient_norm, optax.tree.norm(expected), rtol=1e-3
        )


def test_first_order_leaves_the_inner_gradient_constant():
    """Under SGD ∂θ'/∂θ = I, so the meta-gradient is the gradient at θ'."""
    algorithm = build(first_order=True, inner_optimizer=optax.sgd(0.3))
    state = algorithm.init(jax.random.key(0))
    new, _ = jax.jit(algorithm.step)(KEY, state)
    moved = optax.tree.sub(new.agent.params, state.agent.params)

    key_tasks, key_before, key_after = jax.random.split(KEY, 3)
    key_before = jax.random.split(key_before, 1)[0]
    total = optax.tree.zeros_like(moved)
    for i in range(N):
        task = TASKS.sample(jax.random.split(key_tasks, N)[i])

        def collect(key, agent, i=i, task=task):
            key = jax.random.split(key, N)[i]
            return rollout.collect(key, TASKS, POLICY, agent, task, num_episodes=E)[1]

        agent = algorithm.adapt(KEY, state.agent, collect(key_before, state.agent))
        after = collect(key_after, agent)
        data = after, plain_advantage(after)
        gradient = jax.grad(plain_mean)(agent.params, data, True)
        total = optax.tree.add(total, optax.tree.scale(1 / N, gradient))
    assert_close(moved, total, rtol=2e-3, atol=2e-5)


def test_a_task_adapts_alone_as_it_does_in_a_batch():
    algorithm = build()
    agent = algorithm.init(jax.random.key(0)).agent
    tasks = jax.vmap(TASKS.sample)(jax.random.split(KEY, N))
    data = jax.vmap(
        lambda key, task: rollout.collect(
            key, TASKS, POLICY, agent, task, num_episodes=E
        )[1]
    )(jax.random.split(KEY, N), tasks)
    adapt = lambda data: algorithm.adapt(KEY, agent, data).params  # noqa: E731
    batch = jax.jit(map_tasks(adapt))(data)
    alone = jax.jit(adapt)(jax.tree.map(lambda x: x[1], data))
    assert_close(jax.tree.map(lambda x: x[1], batch), alone, rtol=1e-4, atol=1e-6)


def test_seeds_under_vmap_equal_single_runs_and_the_step_is_traced_once():
    algorithm = build(
        outer_optimizer=TrustRegion(before_strides=(2, 2), after_strides=(1, 2))
    )
    keys = jax.random.split(jax.random.key(3), 2)
    init = jax.jit(algorithm.init)
    single = jax.jit(chex.assert_max_traces(algorithm.step, n=1))
    states = jax.jit(jax.vmap(algorithm.init))(keys)
    many, info = jax.jit(jax.vmap(algorithm.step))(keys, states)
    for i, key in enumerate(keys):
        state, single_info = single(key, init(key))
        single(key, state)  # the state a step returns is of the type it takes
        assert_close(
            jax.tree.map(lambda x, i=i: x[i], many.agent.params),
            state.agent.params,
            rtol=1e-3,
            atol=1e-4,
        )
        assert 0 < single_info.kl <= 0.01
        np.testing.assert_allclose(info.kl[i], single_info.kl, rtol=0.02)


def test_no_key_is_used_twice():
    """For one episode; that rounds and tasks have keys of their own, the loop shows."""
    agent = build().init(jax.random.key(0)).agent
    with jax.debug_key_reuse(True):
        jax.jit(
            lambda key: rollout.episode(
                key, TASKS, POLICY, agent, TASKS.sample(jax.random.key(1))
            )
        )(KEY)


def test_environment_outputs_are_constants_whatever_the_environment_does():
    """Detaching the environment's outputs once more changes nothing."""
    detached = point_navigation(horizon=T, goal_tolerance=0.1)
    step_env = detached.env.step_env
    detached.env.step_env = lambda *args: jax.lax.stop_gradient(step_env(*args))
    results = []
    for tasks in (TASKS, detached):
        algorithm = maml(
            tasks, POLICY, num_tasks=N, num_episodes=E, outer_optimizer=optax.sgd(1.0)
        )
        state = algorithm.init(jax.random.key(0))
        results.append(jax.jit(algorithm.step)(KEY, state)[0].agent.params)
    assert_close(results[0], results[1], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "surrogate", [surrogates.dice, surrogates.loaded_dice], ids=lambda s: s.__name__
)
def test_every_estimator_takes_a_finite_step_on_discrete_actions(surrogate):
    tasks = bernoulli_bandit(num_arms=3, horizon=4)
    policy = mlp_policy(tasks, hidden_sizes=(4,))
    algorithm = maml(
        tasks,
        policy,
        num_tasks=2,
        num_episodes=3,
        inner_surrogate=surrogate,
        outer_optimizer=optax.adam(1e-2, eps_root=1e-8),
        num_inner_steps=2,
    )
    _, info = jax.jit(algorithm.step)(KEY, algorithm.init(KEY))
    assert np.isfinite(info.gradient_norm)
    assert info.gradient_norm > 0
    assert not info.skipped


def test_a_gradient_that_is_not_finite_is_skipped_and_reported():
    poisoned = lambda *args: surrogates.likelihood_ratio(*args) * jnp.nan  # noqa: E731
    algorithm = build(outer_surrogate=poisoned)
    state = algorithm.init(jax.random.key(0))
    new, info = jax.jit(algorithm.step)(KEY, state)
    assert info.skipped
    assert_close(new, state, rtol=0)


def test_the_step_at_the_paper_s_size_fits_in_32_mb():
    tasks = point_navigation()
    policy = mlp_policy(tasks, hidden_sizes=(64, 64))
    settings = TrustRegion(before_strides=(2, 5), after_strides=(1, 10))
    algorithm = maml(tasks, policy, outer_optimizer=settings, task_group_size=1)
    state = jax.eval_shape(algorithm.init, KEY)
    compiled = jax.jit(algorithm.step).lower(KEY, state).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 32 * 2**20


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_tasks": 0}, "num_tasks must be a whole number of at least 1; got 0"),
        ({"num_inner_steps": -1}, "num_inner_steps .* got -1"),
        ({"num_episodes": 2.5}, "num_episodes .* got 2.5"),
        ({"discount": 1.5}, "discount must be between 0 and 1; got 1.5"),
        ({"num_tasks": 4, "task_group_size": 3}, "divide num_tasks; got 3 and 4"),
        ({"policy": MLPPolicy(num_actions=5)}, "continuous actions of shape .2,."),
        ({"policy": MLPPolicy(action_dim=3)}, "continuous actions of shape .2,."),
    ],
)
def test_wrong_arguments_are_named_when_the_algorithm_is_built(kwargs, message):
    kwargs = {"policy": POLICY, **kwargs}
    with pytest.raises(ValueError, match=message):
        maml(TASKS, **kwargs)
