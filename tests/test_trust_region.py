"""The trust region against dense linear algebra."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from metarl_jax import inner_loop, outer_loop
from metarl_jax.distributions import Categorical, DiagGaussian
from metarl_jax.policy_gradient import Batch
from metarl_jax.trust_region import (
    TrustRegion,
    conjugate_gradient,
    fisher_vector_product,
    trust_region_step,
)
from metarl_jax.types import Agent


def test_conjugate_gradient_solves():
    root = jax.random.normal(jax.random.key(0), (6, 6))
    matrix = root @ root.T + jnp.eye(6)
    b = {"a": jnp.arange(2.0), "b": jnp.ones(4)}
    flat, unravel = ravel_pytree(b)

    @jax.jit
    def solve(b):
        product = lambda v: unravel(matrix @ ravel_pytree(v)[0])  # noqa: E731
        return conjugate_gradient(product, b, num_iterations=12)

    np.testing.assert_allclose(
        ravel_pytree(solve(b))[0], np.linalg.solve(matrix, flat), rtol=2e-3, atol=1e-4
    )
    # Iterations after an exact solution, the zero vector included, change nothing.
    assert all((x == 0).all() for x in jax.tree.leaves(solve(optax.tree.zeros_like(b))))


@pytest.mark.parametrize("head", [Categorical, DiagGaussian])
def test_fisher_product_is_the_hessian_of_kl_through_adaptation(head):
    """Against the dense Hessian of θ ↦ KL(π_adapt(θold) ‖ π_adapt(θ)), in float64."""
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(1), 5)
        obs = jax.random.normal(keys[0], (2, 7, 2), jnp.float64)
        mask = jnp.arange(7) < 5
        params = {
            "w": jax.random.normal(keys[1], (2, 3), jnp.float64),
            "s": jax.random.normal(keys[2], (3,), jnp.float64),
        }

        def act(params, obs):
            x = jnp.tanh(obs @ params["w"])
            if head is Categorical:
                return Categorical(x * params["s"])
            return DiagGaussian(x, jnp.broadcast_to(params["s"], x.shape))

        def loss(params, obs):
            distribution = act(params, obs)
            return jnp.mean(distribution.log_prob(distribution.mode() + 1) * obs[:, 0])

        step = inner_loop.gradient_step(loss, optax.sgd(0.5))

        def adapted(params):
            agent = Agent(params, (), optax.sgd(0.5).init(params))
            return act(inner_loop.adapt(step, agent, obs[:, :4]).params, obs[1])

        flat, unravel = ravel_pytree(params)
        old = adapted(params)
        hessian = jax.jit(
            jax.hessian(lambda x: jnp.mean(old.kl(adapted(unravel(x))), where=mask))
        )(flat)
        product = jax.jit(
            lambda v: ravel_pytree(
                fisher_vector_product(adapted, params, mask, unravel(v))
            )[0]
        )
        dense = jax.vmap(product)(jnp.eye(flat.size, dtype=jnp.float64))
        assert np.abs(hessian).max() > 1e-2
        np.testing.assert_allclose(dense, hessian, atol=1e-12)


def test_line_search_holds_the_constraint_and_refuses_what_does_not_improve():
    params, gradient = {"x": jnp.zeros(2)}, {"x": jnp.array([1.0, 0.5])}
    settings = TrustRegion(max_kl=0.02, num_cg_iterations=4, damping=0.0)

    @jax.jit
    def run(sign, stretch):
        def evaluate(p):  # the divergence is `stretch` times what the metric says
            kl = 0.5 * stretch * jnp.sum(p["x"] ** 2)
            return sign * jnp.vdot(gradient["x"], p["x"]), kl

        return trust_region_step(
            params, jnp.zeros(()), gradient, lambda v: v, evaluate, settings
        )

    new, info = run(1.0, 1.0 - 1e-5)
    # F = I: the whole step √(2δ) along the gradient is taken.
    expected = np.sqrt(0.04) * gradient["x"] / np.linalg.norm(gradient["x"])
    np.testing.assert_allclose(new["x"], expected, rtol=1e-5)
    assert info.num_backtracks == 0
    np.testing.assert_allclose(info.kl, 0.02, rtol=1e-4)

    new, info = run(1.0, 3.0)
    assert info.kl <= 0.02
    # ρ^2n · 3 ≤ 1 first at n = 3, so three tries were refused.
    assert info.num_backtracks == 3
    np.testing.assert_allclose(new["x"], 0.8**3 * expected, rtol=1e-5)

    new, info = run(-1.0, 1.0)
    np.testing.assert_array_equal(new["x"], params["x"])
    assert not info.accepted
    assert info.kl == 0


def test_the_line_search_measures_how_far_the_new_policy_is_from_the_old():
    """KL(old ‖ new), which is far from KL(new ‖ old) where a choice becomes rare."""
    logits = {"x": jnp.array([2.0, -1.0, -1.0])}
    every = Batch(*[jnp.zeros((1, 1))] * 5, mask=jnp.ones((1, 1), bool))
    one_task = jax.tree.map(lambda x: x[None], every)

    def objective(params, before, after):
        return params["x"] @ jnp.array([-1.0, 2.0, 0.5]), params

    def act(params, obs):
        return Categorical(jnp.broadcast_to(params["x"], (obs.size, 3)))

    @jax.jit
    def update(params):
        return outer_loop.update(
            TrustRegion(max_kl=2.0, damping=1e-3, after_strides=(1, 1)),
            (),
            params,
            objective,
            act,
            jax.tree.map(lambda x: x[None], params),
            one_task,
            one_task,
        )

    new, _, info = update(logits)
    old, new = (np.asarray(jax.nn.softmax(p["x"]), float) for p in (logits, new))
    forwards, backwards = old @ np.log(old / new), new @ np.log(new / old)
    assert abs(forwards / backwards - 1) > 0.2
    np.testing.assert_allclose(info.kl, forwards, rtol=1e-4)
