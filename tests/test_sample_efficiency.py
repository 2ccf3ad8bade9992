"""When a learning curve arrives, by hand; what is counted, by counting."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.distributions import Categorical
from metarl_jax.envs.bandit import bernoulli_bandit
from metarl_jax.envs.classic_control import cartpole
from metarl_jax.sample_efficiency import (
    LearningCurve,
    learning_curve,
    returns_at,
    steps_to_return,
)
from metarl_jax.types import Agent

CURVE = LearningCurve([0, 100, 100, 250], [20.0, 90.0, 80.0, 120.0])


class ConstantPolicy(NamedTuple):
    """Its parameters are its logits `[2]`."""

    def init(self, key, memory, obs):
        return jnp.zeros(2)

    def apply(self, params, memory, obs):
        return Categorical(params), jnp.zeros(()), memory

    def initial_memory(self):
        return ()


@pytest.mark.parametrize(
    ("level", "steps"), [(20, 0), (20.5, 100), (85, 100), (90, 100), (91, 250)]
)
def test_steps_to_return(level, steps):
    assert steps_to_return(CURVE, level=level) == steps


def test_a_level_that_is_never_reached():
    assert steps_to_return(CURVE, level=121) == np.inf
    assert steps_to_return(LearningCurve([0], [1.0]), level=2.0) == np.inf


def test_returns_at():
    np.testing.assert_array_equal(
        returns_at(CURVE, np.array([0, 99, 100, 101, 249, 250, 251])),
        [20, 20, 80, 80, 80, 120, np.nan],
    )


@pytest.mark.parametrize(
    ("steps", "returns", "message"),
    [
        ([0, 1], [1.0], r"\(2,\) and \(1,\)"),
        ([], [], r"\(0,\)"),
        ([1, 2], [1.0, 1.0], "begin at 0"),
        ([0, 2, 1], [1.0, 1.0, 1.0], "never fall"),
    ],
)
def test_bad_curves(steps, returns, message):
    for read in (
        lambda curve: steps_to_return(curve, level=1.0),
        lambda curve: returns_at(curve, np.zeros(1)),
    ):
        with pytest.raises(ValueError, match=message):
            read(LearningCurve(steps, returns))
    with pytest.raises(ValueError, match="at least 0; got"):
        returns_at(CURVE, np.array([-1]))


def run(tasks, adapt, agent, task, **counts):
    def curve(agent, task):
        return learning_curve(
            jax.random.key(1), tasks, ConstantPolicy(), adapt, agent, task, **counts
        )

    return jax.jit(curve)(agent, task)


def test_a_learning_curve_evaluates_what_was_learned():
    # Arm 0 never pays, arm 1 always; the second lesson moves the agent to arm 1.
    tasks = bernoulli_bandit(num_arms=2, horizon=5)
    task = tasks.sample(jax.random.key(0)).replace(mean=jnp.array([0.0, 1.0]))

    def adapt(key, agent, trajectories):
        lessons = agent.inner_state + 1
        params = jnp.where(lessons >= 2, -agent.params, agent.params)
        return agent._replace(params=params, inner_state=lessons)

    agent = Agent(jnp.array([1e6, -1e6]), inner_state=jnp.int32(0))
    counts = {"num_rounds": 2, "num_episodes": 2, "num_eval_episodes": 4}
    curve = run(tasks, adapt, agent, task, **counts)
    np.testing.assert_array_equal(curve.steps, [0, 10, 20])
    np.testing.assert_array_equal(curve.returns, [0.0, 0.0, 5.0])
    assert steps_to_return(curve, level=5.0) == 20


def test_only_steps_that_are_learned_from_count():
    # A push this strong topples the pole within a few steps.
    tasks = cartpole(horizon=6, force_mag=(100.0, 100.0))
    masks = []

    def adapt(key, agent, trajectories):
        jax.debug.callback(masks.append, trajectories.mask, ordered=True)
        return agent

    agent, task = Agent(jnp.zeros(2)), tasks.sample(jax.random.key(0))
    counts = {"num_rounds": 2, "num_episodes": 3, "num_eval_episodes": 1}
    curve = jax.block_until_ready(run(tasks, adapt, agent, task, **counts))
    jax.effects_barrier()
    lengths = np.sum(masks, axis=-1)
    assert lengths.shape == (2, 3)
    assert np.unique(lengths).size > 1
    np.testing.assert_array_equal(np.diff(curve.steps), lengths.sum(axis=1))


def test_a_round_needs_episodes():
    tasks = bernoulli_bandit(num_arms=2, horizon=5)
    agent, task = Agent(jnp.zeros(2)), tasks.sample(jax.random.key(0))
    counts = {"num_rounds": 1, "num_episodes": 1, "num_eval_episodes": 0}
    with pytest.raises(ValueError, match="num_eval_episodes"):
        run(tasks, lambda key, agent, data: agent, agent, task, **counts)
