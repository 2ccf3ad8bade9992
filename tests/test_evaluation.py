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
    evaluate_measures,
    heldout_tasks,
    references,
)
from metarl_jax.intervals import interquartile_mean, summarise
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


def test_measures_are_told_of_the_episodes_that_are_reported(known):
    curve, (tasks, trajectories), _ = known
    measures = {
        "steps": lambda task, episode: jnp.sum(episode.mask),
        "off": lambda task, episode: episode.reward[-1] - task.goal,
    }
    # Types and ranks are the library's own matter, here as with rewards.
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        returns, told = jax.jit(
            lambda key: evaluate_measures(
                *(key, family()._replace(measures=measures), Constant()),
                *(to_mean_return, START),
                **SIZES,
            )
        )(jax.random.key(0))
    np.testing.assert_allclose(returns, curve, rtol=1e-6)
    np.testing.assert_array_equal(told["steps"], np.full((3, 4), HORIZON))
    last = trajectories.reward[..., -1].mean(-1)
    np.testing.assert_allclose(told["off"], last - tasks.goal[:, None], rtol=1e-4)


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


def test_intervals_over_seeds_are_those_of_student():
    returns = np.random.default_rng(0).normal(size=(3, 8, 2))
    summary = summarise(returns, confidence=0.9)
    np.testing.assert_allclose(summary.mean, returns.mean(axis=(0, 1)))
    np.testing.assert_allclose(
        summary.iqm, scipy.stats.trim_mean(returns.reshape(24, 2), 0.25)
    )
    by_seed = returns.mean(axis=1), scipy.stats.trim_mean(returns, 0.25, axis=1)
    for statistic, centre, low, high in (
        (by_seed[0], summary.mean, summary.ci_low, summary.ci_high),
        (by_seed[1], summary.iqm, summary.iqm_ci_low, summary.iqm_ci_high),
    ):
        error = scipy.stats.sem(statistic)
        expected = scipy.stats.t.interval(0.9, 2, centre, error)
        np.testing.assert_allclose((low, high), expected)
    assert not summary.num_not_finite.any()


@pytest.mark.parametrize("num_tasks", [4, 8, 40])
def test_intervals_of_one_seed_are_over_its_tasks(num_tasks):
    tasks = np.random.default_rng(num_tasks).normal(size=(1, num_tasks, 1)) ** 3
    summary = summarise(tasks)
    error = scipy.stats.sem(tasks[0])
    np.testing.assert_allclose(
        (summary.ci_low, summary.ci_high),
        scipy.stats.t.interval(0.95, num_tasks - 1, summary.mean, error),
    )
    trimmed = scipy.stats.mstats.trimmed_mean_ci(tasks[0, :, 0], (0.25, 0.25))
    np.testing.assert_allclose([*summary.iqm_ci_low, *summary.iqm_ci_high], trimmed)


def test_an_interval_is_as_wide_as_a_bootstrap_of_many_tasks_says():
    tasks = np.random.default_rng(1).exponential(size=400)
    summary = summarise(tasks[None, :, None])
    drawn = np.random.default_rng(2).choice(tasks, (4000, 400))
    for statistic, low, high in (
        (drawn.mean(axis=1), summary.ci_low, summary.ci_high),
        (interquartile_mean(drawn), summary.iqm_ci_low, summary.iqm_ci_high),
    ):
        assert (high - low)[0] == pytest.approx(2 * 1.96 * statistic.std(), rel=0.08)


def test_a_single_value_has_no_interval():
    summary = summarise(np.ones((1, 1, 2)))
    np.testing.assert_array_equal(summary.mean, [1, 1])
    assert np.isnan([*summary[2:6]]).all()
    # Of two seeds with a task each there is one.
    summary = summarise(np.array([[[0.0]], [[2.0]]]), shared_tasks=True)
    np.testing.assert_allclose(summary.ci_high, 1 + scipy.stats.t.ppf(0.975, 1))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_no_number_and_is_counted(bad):
    returns = np.random.default_rng(0).normal(size=(2, 20, 3))
    returns[0, [3, 7], 1] = returns[1, 2, 1] = bad
    summary = summarise(returns)
    assert summary.num_not_finite.tolist() == [0, 3, 0]
    for field in summary[:6]:
        np.testing.assert_array_equal(np.isnan(field), [False, True, False])
    # A level that is never reached is the largest of all; what is NaN has no place.
    assert interquartile_mean([1, 2, 4, np.inf]) == 3.0
    assert np.isnan(interquartile_mean([1, 2, 4, np.nan]))


def simulated(num_seeds, seed_std, task_std, shared, rng):
    """Returns 4000 experiments along the last axis, whose true means are zero."""
    tasks = rng.normal(size=(1 if shared else num_seeds, 20, 4000))
    noise = rng.normal(size=(num_seeds, 20, 4000))
    return seed_std * rng.normal(size=(num_seeds, 1, 4000)) + task_std * tasks + noise


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("num_seeds", [3, 5, 10])
def test_intervals_hold_the_truth_as_often_as_stated(num_seeds, shared):
    # Coverage is measured to ± 0.007, two standard errors.
    rng = np.random.default_rng(num_seeds)
    for seed_std, task_std in ((0, 1), (0.5, 1), (1, 1), (3, 0.5)):
        returns = simulated(num_seeds, seed_std, task_std, shared, rng)
        summary = summarise(returns, shared_tasks=shared)
        for low, high in (summary[2:4], summary[4:6]):
            assert 0.925 < np.mean((low < 0) & (high > 0)) < 0.98


def test_intervals_of_one_seed_hold_the_mean_over_its_tasks():
    rng = np.random.default_rng(0)
    seed = rng.normal(size=4000)
    summary = summarise(seed + simulated(1, 0, 1, False, rng))
    for low, high in (summary[2:4], summary[4:6]):
        assert 0.93 < np.mean((low < seed) & (high > seed)) < 0.97
        assert np.mean((low < 0) & (high > 0)) < 0.6  # nothing of other seeds


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"returns": np.zeros((3, 4))}, r"got shape \(3, 4\)"),
        ({"returns": np.zeros((3, 0, 4))}, r"got shape \(3, 0, 4\)"),
        ({"confidence": 1.0}, "confidence must be .* got 1.0"),
    ],
)
def test_wrong_summaries_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        summarise(**{"returns": np.zeros((2, 3, 4)), **arguments})
