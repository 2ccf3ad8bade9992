"""Learned drifts: what holds of them whatever was learned, and what is done by them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metarl_jax import actor_critic, rollout, surrogates
from metarl_jax.algorithms.lpo import MARGIN, DriftNetwork, lpo
from metarl_jax.envs.two_colors import two_colors
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.types import Agent

KEY = jax.random.key(2)
TASKS = two_colors(size=2, horizon=6, swap_period=3)
POLICY = mlp_policy(TASKS, hidden_sizes=(4,), value_head=True)


def test_a_network_of_the_drift_is_nothing_where_the_policy_has_not_moved():
    network = DriftNetwork((5,))
    params = network.init(KEY, jnp.zeros(()), jnp.zeros(()))
    noise = optax.tree.random_like(KEY, params)
    moved = optax.tree.add(params, noise)
    for advantage in (-3.0, 0.0, 2.0):
        assert network.apply(params, 0.3, advantage) == 0
        assert network.apply(moved, 0.0, advantage) == 0
    assert abs(network.apply(moved, 0.3, 1.0)) > 0.01


def test_epochs_of_minibatches_are_descended_in_turn():
    """One minibatch an epoch, so that no shuffling matters; by a plain loop."""
    params = POLICY.init(KEY, (), TASKS.blank())
    agent = Agent(params, (), optax.sgd(0.3).init(params))
    _, data = rollout.collect(
        KEY, TASKS, POLICY, agent, TASKS.sample(KEY), num_episodes=3
    )
    new = jax.jit(
        lambda agent: actor_critic.update_in_epochs(
            KEY,
            POLICY,
            agent,
            data,
            surrogates.clipped(0.05),
            optimizer=optax.sgd(0.3),
            num_epochs=3,
            num_minibatches=1,
            entropy_coeff=0.1,
        )
    )(agent)
    aims = actor_critic.targets(POLICY, params, data, discount=0.99, gae_lambda=0.95)
    advantage = aims.advantage - aims.advantage.mean()
    advantage = advantage / advantage.std()

    @jax.jit
    @jax.grad
    def slope(params):
        distribution, value, _ = POLICY.apply(params, (), data.obs)
        ratio = jnp.exp(distribution.log_prob(data.action) - data.log_prob)
        gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 0.95, 1.05) * advantage)
        error = (value - aims.value) ** 2
        return jnp.mean(0.25 * error - gain - 0.1 * distribution.entropy())

    plain = params
    for _ in range(3):
        plain = jax.tree.map(lambda p, g: p - 0.3 * g, plain, slope(plain))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5),
        new.params,
        plain,
    )


def test_it_begins_as_ppo_and_the_rule_is_what_moves():
    algorithm = lpo(
        TASKS,
        POLICY,
        num_tasks=4,
        num_episodes=2,
        rollout_length=6,
        lifetime=6,
        sigma=3.0,
        num_epochs=2,
        num_minibatches=1,
        hidden_sizes=(3,),
        inner_optimizer=optax.sgd(0.3),
    )
    state = jax.jit(algorithm.init)(jax.random.key(0))
    new, info = jax.jit(algorithm.step)(KEY, state)
    assert not info.skipped
    assert info.gradient_norm > 0
    jax.tree.map(np.testing.assert_array_equal, new.agent.params, state.agent.params)
    agent = state.agent
    _, data = rollout.collect(
        KEY, TASKS, POLICY, agent, TASKS.sample(KEY), num_episodes=2
    )
    adapted = jax.jit(algorithm.adapt)(KEY, agent, data)
    ppo = jax.jit(
        lambda agent: actor_critic.update_in_epochs(
            KEY,
            POLICY,
            agent,
            data,
            surrogates.clipped(0.2),
            optimizer=optax.sgd(0.3),
            num_epochs=2,
            num_minibatches=1,
            entropy_coeff=0.0,
        )
    )(agent._replace(inner_state=agent.inner_state.optimizer_state))
    assert MARGIN < 1e-3
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3),
        adapted.params,
        ppo.params,
    )


def test_more_minibatches_than_steps_are_refused():
    with pytest.raises(ValueError, match="at most the 4 steps of an update; got 5"):
        lpo(TASKS, POLICY, num_episodes=2, rollout_length=2, num_minibatches=5)
