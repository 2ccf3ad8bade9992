"""Each update rule against an independent truth: plain loops, enumeration, MAML's.

The policy, its divergence and every objective are written out here; only acting and the
linear baseline are the library's, which have tests of their own.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metarl_jax import returns, rollout
from metarl_jax.algorithms.promp import promp
from metarl_jax.envs.point_navigation import point_navigation
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.types import Agent

N, E, T, K = 2, 3, 5, 2
TASKS = point_navigation(horizon=T, goal_tolerance=0.1)
POLICY = mlp_policy(TASKS, hidden_sizes=(4,), activation=jnp.tanh)
KEY = jax.random.key(7)
INNER_LR = 0.2
START = POLICY.init(jax.random.key(0), (), jnp.zeros(2))
# Compiling is most of what these tests cost; nothing here runs long.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def assert_close(a, b, **kwargs):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **kwargs), a, b)


def plain_gaussian(params, obs):
    """The policy's mean and log standard deviation, written out."""
    p = params["params"]
    x = jnp.tanh(obs @ p["hidden_0"]["kernel"] + p["hidden_0"]["bias"])
    return x @ p["mean"]["kernel"] + p["mean"]["bias"], p["log_std"]


def plain_log_prob(params, data):
    mean, log_std = plain_gaussian(params, data.obs)
    z = (data.action - mean) / jnp.exp(log_std)
    return jnp.sum(-0.5 * z**2 - log_std - 0.5 * jnp.log(2 * jnp.pi), axis=-1)


def plain_kl(old_params, params, data):
    """Mean over the valid steps of KL(old ‖ new), by its formula."""
    (m, s), (n, u) = (plain_gaussian(p, data.obs) for p in (old_params, params))
    ratio = jnp.exp(2 * s - 2 * u) + (m - n) ** 2 / jnp.exp(2 * u)
    return plain_mean(jnp.sum(u - s + 0.5 * (ratio - 1), axis=-1), data)


def plain_mean(x, data):
    return jnp.sum(jnp.where(data.mask, x, 0.0)) / jnp.sum(data.mask)


def plain_advantage(data):
    """The return to go less the linear baseline; λ = 1 makes GAE that."""
    to_go = jnp.stack(
        [
            returns.discounted_returns(r, d, discount=0.99)
            for r, d in zip(data.reward, data.terminated, strict=True)
        ]
    )
    return to_go - returns.linear_feature_baseline(data.obs, to_go, data.mask)


def plain_normalised(advantage, mask):
    mean = jnp.sum(jnp.where(mask, advantage, 0.0)) / jnp.sum(mask)
    variance = jnp.sum(jnp.where(mask, (advantage - mean) ** 2, 0.0)) / jnp.sum(mask)
    return jnp.where(mask, (advantage - mean) / jnp.sqrt(variance), 0.0)


@pytest.fixture(scope="module")
def data():
    """What a meta-training step from `START` with `KEY` sees, `[N][K + 1]`.

    Trajectories, normalised advantages and the parameters that acted; each task adapts
    by plain ascent of log π A, whose gradient on fresh data is that of the ratio.
    """

    @jit
    def collect(key, params, task):
        data = rollout.collect(key, TASKS, POLICY, Agent(params), task, num_episodes=E)[
            1
        ]
        return data, plain_normalised(plain_advantage(data), data.mask)

    @jit
    def adapt(params, data, advantage):
        loss = lambda p: plain_mean(plain_log_prob(p, data) * advantage, data)  # noqa: E731
        return ascend(params, jax.grad(loss)(params), INNER_LR)

    key_tasks, key_before, key_after = jax.random.split(KEY, 3)
    round_keys = [*jax.random.split(key_before, K), key_after]
    rows = []
    for i in range(N):
        task = TASKS.sample(jax.random.split(key_tasks, N)[i])
        params, rounds = START, []
        for round_key in round_keys:
            key = jax.random.split(round_key, N)[i]
            rounds.append((*collect(key, params, task), params))
            params = adapt(params, *rounds[-1][:2])
        rows.append(rounds)
    return rows


def start(algorithm):
    state = algorithm.init(jax.random.key(0))
    return state._replace(agent=state.agent._replace(params=START))


def ascend(params, gradient, rate):
    return jax.tree.map(lambda p, g: p + rate * g, params, gradient)


def plain_ratio(params, data):
    return jnp.exp(plain_log_prob(params, data) - data.log_prob)


def test_promp_s_epochs_equal_a_plain_loop(data):
    outer_lr, clip, eta, epochs = 0.5, 0.1, 0.3, 3
    algorithm = promp(
        TASKS,
        POLICY,
        num_tasks=N,
        num_episodes=E,
        num_inner_steps=K,
        num_epochs=epochs,
        inner_optimizer=optax.sgd(INNER_LR),
        outer_optimizer=optax.sgd(outer_lr),
        clip_range=clip,
        kl_coeff=eta,
        task_group_size=1,
    )
    state = start(algorithm)
    new, info = jit(algorithm.step)(KEY, state)

    def objective(theta):
        total, divergence, clipped = 0.0, 0.0, 0
        for rounds in data:
            params = theta
            for d, a, old_params in rounds[:K]:
                divergence += plain_kl(old_params, params, d) / (N * K)
                inner = lambda p, d=d, a=a: plain_mean(plain_ratio(p, d) * a, d)  # noqa: E731
                params = ascend(params, jax.grad(inner)(params), INNER_LR)
            d, a, _ = rounds[K]
            rho = plain_ratio(params, d)
            kept = jnp.minimum(rho * a, jnp.clip(rho, 1 - clip, 1 + clip) * a)
            total += plain_mean(kept, d) / N
            clipped += jnp.sum(d.mask & (kept < rho * a))
        return total - eta * divergence, (divergence, clipped)

    params = START
    gradient = jit(jax.grad(objective, has_aux=True))
    for _ in range(epochs):
        g, (divergence, clipped) = gradient(params)
        params = ascend(params, g, outer_lr)
    # Neither the clipping nor the penalty is idle.
    assert clipped >= 3
    assert divergence > 1e-3
    assert_close(new.agent.params, params, rtol=2e-3, atol=2e-5)
    np.testing.assert_allclose(info.kl, divergence, rtol=2e-3)
