"""The evaluation protocol on agents and environments whose returns are known."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from flax import struct
from gymnax.environments import environment, spaces

from metarl_jax import rollout
from metarl_jax.distributions import DiagGaussian
from metarl_jax.evaluation import (
    adaptation_trajectories,
    evaluate,
    heldout_tasks,
    interquartile_mean,
    references,
    summarise,
)
from metarl_jax.types import Agent, MetaAlgorithm, TaskDistribution

HORIZON = 4


@struct.dataclass
class NoisyState(environment.EnvState):
    noise: jax.Array = struct.field(default_factory=lambda: jnp.zeros(()))


@struct.dataclass
class NoisyParams(environment.EnvParams):
    goal: jax.Array = struct.field(default_factory=lambda: jnp.zeros(()))


class NoisyEcho(environment.Environment):
    """Pays the action, and on the last step noise that the reset drew.

    The observation is the task and the noise.
    """

    def reset_env(self, key, params):
        state = NoisyState(time=0, noise=jax.random.uniform(key))
        return jnp.stack([params.goal, state.noise]), state

    def step_env(self, key, state, action, params):
        time = state.time + 1
        reward = action[0] + jnp.where(time == HORIZON, state.noise, 0.0)
        obs = jnp.stack([params.goal, state.noise])
        return obs, NoisyState(time=time, noise=state.noise), reward, False, {}

    def action_space(self, params=None):
        return spaces.Box(-jnp.inf, jnp.inf, (1,))

    def observation_space(self, params):
        return spaces.Box(-jnp.inf, jnp.inf, (2,))


class Constant(NamedTuple):
    """Acts by its parameter, plus the number of steps it remembers."""

    remembers: bool = False
    std: float = 0.0

    def init(self, key, memory, obs):
        return -jax.random.uniform(key)

    def apply(self, params, memory, obs):
        mean = params + memory if self.remembers else params
        distribution = DiagGaussian(mean[None], jnp.log(jnp.full(1, self.std)))
        return distribution, jnp.zeros(()), memory + 1.0 if self.remembers else memory

    def initial_memory(self):
        return jnp.zeros(()) if self.remembers else ()


def family(**oracles):
    env = NoisyEcho()

    def sample(key):
        return NoisyParams(
            max_steps_in_episode=HORIZON, goal=100 + jax.random.uniform(key)
        )

    def never(key):
        raise AssertionError("a meta-training task in the evaluation")

    return TaskDistribution(env, never, sample, HORIZON, oracles)


def to_mean_return(key, agent, trajectories):
    """Moves the parameter to a quarter of the data's mean return; counts the steps."""
    mean_return = jnp.mean(rollout.episode_returns(trajectories))
    return agent._replace(
        params=mean_return / HORIZON, inner_state=agent.inner_state + 1.0
    )


START = Agent(jnp.asarray(2.0), (), jnp.zeros(()))
SIZES = {"num_tasks": 3, "num_episodes": 2, "num_adaptation_steps": 3}


@pytest.fixture(scope="module")
def known():
    """The curve and the trajectories of an agent that replays its last return."""

    @jax.jit
    def run(key):
        args = key, family(), Constant(), to_mean_return, START
        fewer = {**SIZES, "num_tasks": 2}
        return (
            evaluate(*args, task_group_size=2, **SIZES),
            adaptation_trajectories(*args, **SIZES),
            adaptation_trajectories(*args, **fewer),
        )

    return run(jax.random.key(0))


def test_each_round_is_reported_and_adapted_on(known):
    curve, (_, trajectories), _ = known
    noise = np.asarray(trajectories.obs[..., 0, 1])  # [N, K + 1, E]
    assert curve.shape == (3, 4)
    # The parameter after k steps is the return reported after k - 1 over the horizon,
    # so returns pile up the mean noise of every round until then, this one included.
    expected = 2.0 * HORIZON + np.cumsum(noise.mean(axis=-1), axis=-1)
    np.testing.assert_allclose(curve, expected, rtol=1e-5)
    returns = rollout.episode_returns(trajectories).mean(axis=-1)
    np.testing.assert_allclose(returns, curve, rtol=1e-6)


def test_rounds_share_the_task_and_never_the_key(known):
    *_, (tasks, trajectories), (first_tasks, first_trajectories) = known
    goal = np.asarray(trajectories.obs[..., 0])  # [N, K + 1, E, T]
    assert len(np.unique(goal)) == 3
    np.testing.assert_array_equal(
        goal, np.broadcast_to(tasks.goal[:, None, None, None], goal.shape)
    )
    noise = np.asarray(trajectories.obs[..., 0, 1])
    assert len(np.unique(noise)) == noise.size
    # Fewer tasks are the first ones, and the same happens on them.
    np.testing.assert_array_equal(first_tasks.goal, tasks.goal[:2])
    np.testing.assert_array_equal(first_trajectories.reward, trajectories.reward[:2])


def test_memory_lives_as_long_as_the_trial():
    def scramble(key, agent, trajectories):  # a step from memory alone
        return agent._replace(inner_state=agent.inner_state + agent.memory)

    policy = Constant(remembers=True)
    agent = Agent(jnp.asarray(0.0), policy.initial_memory(), jnp.zeros(()))
    tasks = family()
    algorithm = MetaAlgorithm(
        lambda key: NamedTuple("State", [("agent", Agent)])(agent),
        lambda key, state: (state, None),
        scramble,
        policy,
    )

    @jax.jit
    def run(key):
        curve = evaluate(key, tasks, policy, scramble, agent, **SIZES)
        return curve, references(key, tasks, algorithm, agent, **SIZES)

    curve, rows = run(jax.random.key(1))
    # Steps are remembered across the ends of the two episodes of a round and across
    # rounds; what is not a whole number is the noise.
    num_steps = 2 * HORIZON
    first = sum(range(num_steps)) / 2
    expected = first + num_steps * HORIZON * np.arange(4)
    assert np.all((curve - expected > 0) & (curve - expected < 1))
    # Without adaptation the memory, too, starts each round afresh.
    unadapted = rows["no adaptation"]
    assert np.all((unadapted - first > 0) & (unadapted - first < 1))


def test_references_share_tasks_and_budget():
    def simulated(key, task):
        return task.goal + jax.random.uniform(key)

    tasks = family(exact=lambda key, task: task.goal, simulated=simulated)

    class State(NamedTuple):
        agent: Agent

    def init(key):
        return State(Agent(jax.random.uniform(key) - 50.0, (), jnp.zeros(())))

    algorithm = MetaAlgorithm(
        init, lambda key, state: (state, None), to_mean_return, Constant()
    )
    key = jax.random.key(2)
    rows = jax.jit(lambda key: references(key, tasks, algorithm, START, **SIZES))(key)
    assert set(rows) == {"random initialisation", "no adaptation", "exact", "simulated"}
    assert {row.shape for row in rows.values()} == {(3, 4)}
    goal = np.asarray(heldout_tasks(key, tasks, num_tasks=3).goal)
    np.testing.assert_array_equal(rows["exact"], np.tile(goal[:, None], 4))
    excess = rows["simulated"] - goal[:, None]
    assert np.all((excess > 0) & (excess < 1))
    assert len(np.unique(excess[:, 0])) == 3
    # The unadapted agent: its start and fresh noise, round after round.
    noise = rows["no adaptation"] - 2.0 * HORIZON
    assert np.all((noise > 0) & (noise < 1))
    assert len(np.unique(noise)) == noise.size
    # A fresh initialisation adapts: its returns grow by the same keys' noise.
    random = rows["random initialisation"]
    assert np.all((random[:, 0] > -200) & (random[:, 0] < -190))
    np.testing.assert_allclose(np.diff(random), noise[:, 1:], atol=1e-4)


class EarlyFinisher(environment.Environment):
    """Ends at once with reward 1 in a quarter of the episodes, else never pays."""

    def reset_env(self, key, params):
        lucky = jax.random.bernoulli(key, 0.25).astype(jnp.float32)
        return jnp.zeros(1), NoisyState(time=0, noise=lucky)

    def step_env(self, key, state, action, params):
        lucky = state.noise > 0
        state = NoisyState(time=state.time + 1, noise=state.noise)
        # Counted again and again by whoever counts steps after the end.
        return jnp.zeros(1), state, lucky.astype(jnp.float32), lucky, {}

    def action_space(self, params=None):
        return spaces.Box(-1.0, 1.0, (1,))

    def observation_space(self, params):
        return spaces.Box(-1.0, 1.0, (1,))


def test_early_finishers_do_not_count_more_than_others():
    tasks = TaskDistribution(
        EarlyFinisher(),
        lambda key: NoisyParams(max_steps_in_episode=100),
        lambda key: NoisyParams(max_steps_in_episode=100),
        100,
    )
    curve = jax.jit(
        lambda key: evaluate(
            key,
            tasks,
            Constant(),
            lambda key, agent, trajectories: agent,
            START,
            num_tasks=10,
            num_episodes=100,
            num_adaptation_steps=1,
        )
    )(jax.random.key(3))
    # 2000 episodes: 0.25 to within four standard errors.
    assert abs(np.mean(curve) - 0.25) < 0.04


def test_greedy_acts_by_the_mode():
    run = partial(evaluate, jax.random.key(4), family(), Constant(std=10.0))
    keep = partial(
        run,
        lambda key, agent, trajectories: agent,
        START,
        **{**SIZES, "num_adaptation_steps": 0},
    )
    sampled, greedy = jax.jit(lambda: (keep(), keep(greedy=True)))()
    assert np.all((greedy > 2.0 * HORIZON) & (greedy < 2.0 * HORIZON + 1))
    assert np.std(sampled) > 2.0


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"num_tasks": 0}, "num_tasks must be .* got 0"),
        ({"num_episodes": 0}, "num_episodes must be .* got 0"),
        ({"num_adaptation_steps": -1}, "num_adaptation_steps must be .* got -1"),
    ],
)
def test_wrong_counts_are_named(sizes, message):
    with pytest.raises(ValueError, match=message):
        evaluate(
            jax.random.key(0),
            family(),
            Constant(),
            to_mean_return,
            START,
            **{**SIZES, **sizes},
        )


@pytest.mark.parametrize("size", [1, 3, 4, 7, 40])
def test_interquartile_mean_matches_scipy(size):
    x = np.random.default_rng(size).normal(size=(3, size, 2)) ** 3
    np.testing.assert_allclose(
        interquartile_mean(x, axis=1), scipy.stats.trim_mean(x, 0.25, axis=1)
    )


def test_summary_of_known_values():
    returns = np.random.default_rng(0).normal(size=(3, 8, 2))
    summary = summarise(returns, seed=1)
    np.testing.assert_allclose(summary.mean, returns.mean(axis=(0, 1)))
    np.testing.assert_allclose(
        summary.iqm, scipy.stats.trim_mean(returns.reshape(24, 2), 0.25)
    )
    same, other = summarise(returns, seed=1), summarise(returns, seed=2)
    for a, b, c in zip(summary, same, other, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, c, atol=0.1)
    assert np.any(summary.ci_low != other.ci_low)
    # Seeds that differ, tasks that do not: all of the interval is the seeds', however
    # many tasks there are. A resample of 3 seeds is one of 10 means.
    seeds = np.repeat([[[0.0]], [[1.0]], [[5.0]]], 50, axis=1)
    summary = summarise(seeds)
    assert (summary.ci_low, summary.ci_high) == (0.0, 5.0)
    # One seed: the interval is the tasks'.
    tasks = np.random.default_rng(1).normal(size=(1, 400, 1))
    summary = summarise(tasks)
    half_width = 1.96 * tasks.std() / 20
    np.testing.assert_allclose(summary.ci_low, tasks.mean() - half_width, atol=0.01)
    np.testing.assert_allclose(summary.ci_high, tasks.mean() + half_width, atol=0.01)


@pytest.mark.parametrize(
    ("num_seeds", "seed_std", "low", "high"),
    [(1, 0.0, 0.89, 0.97), (10, 1.0, 0.88, 0.95)],
)
def test_intervals_hold_the_truth_as_often_as_stated(num_seeds, seed_std, low, high):
    # The last axis is a thousand simulated experiments. Resampling seeds × tasks as if
    # they were 200 independent values would hold the truth in under half of the second.
    rng = np.random.default_rng(5)
    returns = rng.normal(size=(num_seeds, 20, 1000))
    returns += seed_std * rng.normal(size=(num_seeds, 1, 1000))
    summary = summarise(returns, num_resamples=300)
    mean = np.mean((summary.ci_low < 0) & (summary.ci_high > 0))
    iqm = np.mean((summary.iqm_ci_low < 0) & (summary.iqm_ci_high > 0))
    assert low < mean < high
    assert low < iqm < high


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"returns": np.zeros((3, 4))}, r"got shape \(3, 4\)"),
        ({"returns": np.zeros((3, 0, 4))}, r"got shape \(3, 0, 4\)"),
        ({"num_resamples": 0}, "num_resamples must be .* got 0"),
        ({"confidence": 1.0}, "confidence must be .* got 1.0"),
    ],
)
def test_wrong_summaries_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        summarise(**{"returns": np.zeros((2, 3, 4)), **arguments})
