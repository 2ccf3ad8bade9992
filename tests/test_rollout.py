"""Acting: masks, episode ends, memory, and that no gradient passes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnax.environments import environment, spaces

from metarl_jax import rollout
from metarl_jax.algorithms.maml import maml
from metarl_jax.distributions import DiagGaussian
from metarl_jax.types import Agent, TaskDistribution

HORIZON = 6


@struct.dataclass
class CountdownState(environment.EnvState):
    left: jax.Array = struct.field(default_factory=lambda: jnp.zeros(()))


@struct.dataclass
class CountdownParams(environment.EnvParams):
    length: jax.Array = struct.field(default_factory=lambda: jnp.asarray(3))


class Countdown(environment.Environment):
    """Ends by itself after `length` steps; afterwards everything is NaN.

    Differentiable: the reward is the action itself, without any stop_gradient.
    """

    def reset_env(self, key, params):
        state = CountdownState(time=0, left=jnp.asarray(params.length, jnp.float32))
        return jnp.array([1.0]), state

    def step_env(self, key, state, action, params):
        left = state.left - 1
        poison = jnp.where(left < 0, jnp.nan, 1.0)
        state = CountdownState(time=state.time + 1, left=left)
        return (
            jnp.array([1.0]) * left * poison,
            state,
            action[0] * poison,
            left <= 0,
            {},
        )

    def action_space(self, params=None):
        return spaces.Box(-np.inf, np.inf, (1,))

    def observation_space(self, params):
        return spaces.Box(-1.0, 1.0, (1,))


class Remembering(NamedTuple):
    """A policy whose memory counts the steps it has acted in."""

    def init(self, key, memory, obs):
        return {"mean": jnp.ones(1)}

    def apply(self, params, memory, obs):
        distribution = DiagGaussian(params["mean"] + memory, jnp.full(1, -3.0))
        return distribution, jnp.zeros(()), memory + 1.0

    def initial_memory(self):
        return jnp.zeros(())


def family(horizon=HORIZON):
    def sample(key):
        return CountdownParams(max_steps_in_episode=horizon)

    return TaskDistribution(Countdown(), sample, sample, horizon)


def act(key, length, num_episodes=2, params=None):
    """Collects with the remembering policy, one episode after the other."""
    tasks, policy = family(), Remembering()
    agent = Agent(params or policy.init(key, (), None), policy.initial_memory())
    task = CountdownParams(length=length, max_steps_in_episode=HORIZON)
    return rollout.collect(key, tasks, policy, agent, task, num_episodes=num_episodes)


def test_ends_masks_and_memory_across_episodes():
    collect = jax.jit(act)
    agent, ends_itself = collect(jax.random.key(0), 3)
    np.testing.assert_array_equal(ends_itself.mask, [[True] * 3 + [False] * 3] * 2)
    np.testing.assert_array_equal(np.where(ends_itself.terminated), [[0, 1], [2, 2]])
    assert not ends_itself.truncated.any()
    # The memory lives as long as the trial and does not count padded steps.
    assert agent.memory == 6
    np.testing.assert_allclose(
        ends_itself.action[:, :3, 0], [[1, 2, 3], [4, 5, 6]], atol=0.3
    )
    # Whatever the environment does after the end, the data stay finite.
    for leaf in jax.tree.leaves(ends_itself):
        assert np.isfinite(leaf).all()
    assert (ends_itself.reward[:, 3:] == 0).all()

    agent, cut_off = collect(jax.random.key(0), 100)
    assert cut_off.mask.all()
    assert not cut_off.terminated.any()
    np.testing.assert_array_equal(np.where(cut_off.truncated), [[0, 1], [5, 5]])
    assert agent.memory == 2 * HORIZON
    # The observation after the last step is kept: a time limit is bootstrapped from it.
    np.testing.assert_array_equal(cut_off.next_obs[:, -1, 0], [94, 94])

    _, both = collect(jax.random.key(0), HORIZON)
    assert both.terminated[:, -1].all()  # a termination at the limit is a termination
    assert not both.truncated.any()


class Witness(Remembering):
    """A policy that sums the rewards it has seen, and counts episode ends."""

    def initial_memory(self):
        return {"steps": jnp.zeros(()), "reward": jnp.zeros(()), "ends": jnp.zeros(())}

    def apply(self, params, memory, obs):
        distribution, value, steps = super().apply(params, memory["steps"], obs)
        return distribution, value, {**memory, "steps": steps}

    def observe(self, memory, transition):
        return {
            "steps": memory["steps"],
            "reward": memory["reward"] + transition.reward,
            "ends": memory["ends"] + (transition.terminated | transition.truncated),
        }


@pytest.mark.parametrize("length", [3, 100])
def test_a_policy_sees_every_reward_and_how_each_episode_ended(length):
    policy = Witness()
    agent = Agent(policy.init(jax.random.key(0), (), None), policy.initial_memory())
    task = CountdownParams(length=length, max_steps_in_episode=HORIZON)
    agent, data = jax.jit(
        lambda key: rollout.collect(key, family(), policy, agent, task, num_episodes=3)
    )(jax.random.key(0))
    # The last reward of every episode is among them; what follows its end is not.
    np.testing.assert_allclose(agent.memory["reward"], jnp.sum(data.reward), rtol=1e-6)
    assert agent.memory["ends"] == 3
    assert agent.memory["steps"] == jnp.sum(data.mask)


class Drawing(Witness):
    """A witness that draws where its next episode's actions lie."""

    def begin(self, key, memory):
        return {**memory, "steps": jax.random.uniform(key, minval=100, maxval=1000)}


def test_a_policy_may_draw_at_the_start_of_each_episode():
    policy = Drawing()
    agent = Agent(policy.init(jax.random.key(0), (), None), policy.initial_memory())
    task = CountdownParams(length=3, max_steps_in_episode=HORIZON)

    @jax.jit
    def run(key):
        return rollout.collect(key, family(), policy, agent, task, num_episodes=3)

    agent, data = run(jax.random.key(0))
    first = np.asarray(data.action[:, 0, 0])
    assert np.all((first > 100) & (np.abs(np.diff(first, append=first[0])) > 1))
    # One draw an episode, and the rest of the memory is kept.
    np.testing.assert_allclose(data.action[:, 2, 0] - first, 2.0, atol=0.3)
    np.testing.assert_allclose(agent.memory["reward"], jnp.sum(data.reward), rtol=1e-6)
    assert agent.memory["ends"] == 3
    _, other = run(jax.random.key(1))
    assert np.all(np.abs(other.action[:, 0, 0] - first) > 1e-3)


def test_no_gradient_passes_through_a_differentiable_environment():
    def total_reward(params):
        return jnp.sum(act(jax.random.key(1), 4, params=params)[1].reward)

    gradient = jax.grad(total_reward)({"mean": jnp.ones(1)})
    np.testing.assert_array_equal(gradient["mean"], 0.0)


def test_recorded_log_prob_is_that_of_the_action():
    _, data = jax.jit(act)(jax.random.key(2), 100)
    policy, steps = Remembering(), jnp.arange(2.0 * HORIZON).reshape(2, HORIZON)
    expected = jax.vmap(
        jax.vmap(
            lambda m, a: policy.apply({"mean": jnp.ones(1)}, m, None)[0].log_prob(a)
        )
    )(steps, data.action)
    np.testing.assert_allclose(data.log_prob, expected, rtol=1e-5)


def test_a_policy_with_memory_is_refused_by_parallel_episodes():
    with pytest.raises(ValueError, match="Remembering has memory"):
        maml(family(), Remembering())
