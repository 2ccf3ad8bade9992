"""Arms and swimmers: their motion, their tasks, and tasks drawn at a reset."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments.bsuite.deep_sea import DeepSea
from gymnax.environments.misc.bernoulli_bandit import BernoulliBandit
from gymnax.environments.misc.meta_maze import MetaMaze
from gymnax.environments.misc.point_robot import PointRobot
from gymnax.environments.misc.reacher import Reacher as GymnaxReacher
from gymnax.environments.misc.rooms import FourRooms
from gymnax.environments.misc.swimmer import Swimmer

from metarl_jax.envs import reacher as arm
from metarl_jax.envs.gymnax_family import gymnax_family
from metarl_jax.envs.reacher import reacher

DRAWN = {
    "reacher": (GymnaxReacher(), ("goal_xy",)),
    "swimmer": (Swimmer(), ("goal_xy", "urchin_xys")),
    "point robot": (PointRobot(), ("goal",)),
    "maze": (MetaMaze(), ("goal",)),
    "bandit": (BernoulliBandit(), ("reward_probs",)),
    "rooms": (FourRooms(), ("goal",)),
    "sea": (DeepSea(size=3), ("action_mapping",)),
}
ON = {"rooms": {"resample_goal_pos": True}, "sea": {"sample_action_map": True}}


@pytest.mark.parametrize("name", DRAWN)
def test_a_trial_keeps_what_a_reset_draws(name):
    env, fields = DRAWN[name]

    def params(key):
        del key
        return env.default_params.replace(**ON.get(name, {}))

    with pytest.raises(ValueError, match=rf"drawn_at_reset=\(.*'{fields[0]}'"):
        gymnax_family(env, params)
    tasks = gymnax_family(env, params, drawn_at_reset=fields, horizon=7)

    def states(key_task, keys):
        task = tasks.sample(key_task)
        return task, jax.vmap(lambda key: tasks.reset(key, task)[1])(keys)

    keys = jax.random.split(jax.random.key(1), 5)
    task, state = jax.vmap(states, (0, None))(jax.random.split(keys[0], 6), keys)
    for field in fields:
        values, drawn = np.asarray(getattr(state, field)), task.drawn[field]
        np.testing.assert_array_equal(values, np.repeat(drawn[:, None], 5, axis=1))
        assert len(np.unique(values.reshape(30, -1), axis=0)) > 1
    assert (task.max_steps_in_episode == 7).all()
    one = jax.tree.map(lambda x: x[0], task)
    _, start = tasks.reset(keys[0], one)
    late = start.replace(time=start.time + 7)
    assert tasks.env.is_truncated(late, one)
    assert not tasks.env.is_truncated(start, one)


def test_what_is_shown_after_a_reset_is_of_the_task():
    tasks = gymnax_family(GymnaxReacher(), drawn_at_reset=("goal_xy",))
    task = tasks.sample(jax.random.key(0))
    obs, _ = tasks.reset(jax.random.key(1), task)
    np.testing.assert_array_equal(obs[-2:], task.drawn["goal_xy"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "sample_params is required for Reacher-misc"),
        ({"drawn_at_reset": ("goal",)}, "among angles, .*goal_xy; got 'goal'"),
        ({"drawn_at_reset": ("time",)}, "got 'time'"),
        ({"drawn_at_reset": ("angles",)}, "draws .goal_xy"),
    ],
)
def test_tasks_that_nothing_draws_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        gymnax_family(GymnaxReacher(), **arguments)


def test_an_arm_moves_as_a_plain_loop_says():
    tasks = reacher(length=(0.5, 1.5), damping=(0.1, 2.0))
    task = tasks.sample(jax.random.key(0))
    obs, state = tasks.reset(jax.random.key(1), task)
    angles, velocities = np.array(state.angles), np.zeros(2)
    lengths, goal = np.array(task.lengths), np.array(task.goal)
    assert 0.5 <= lengths.min() < lengths.max() <= 1.5
    assert 0.1 <= task.damping <= 2.0
    actions = np.random.default_rng(0).uniform(-2, 2, (20, 2))
    for action in actions:
        obs, state, reward, terminated = tasks.step(
            jax.random.key(2), state, jnp.array(action, jnp.float32), task
        )
        torque = np.clip(action, -1, 1)
        velocities = velocities + 0.05 * (5.0 * torque - task.damping * velocities)
        angles = angles + 0.05 * velocities
        ends = lengths @ np.stack([np.cos(angles), np.sin(angles)], axis=1)
        np.testing.assert_allclose(reward, np.exp(-np.sum((ends - goal) ** 2)), 1e-4)
        expected = [*np.cos(angles), *np.sin(angles), *velocities, *ends]
        np.testing.assert_allclose(obs, expected, rtol=1e-4, atol=1e-5)
        assert not terminated


def test_goals_are_uniform_over_what_the_arm_reaches():
    tasks = reacher(length=(0.5, 1.5))
    task = jax.vmap(tasks.sample)(jax.random.split(jax.random.key(0), 4000))
    radius = jnp.linalg.norm(task.goal, axis=1)
    inner = jnp.abs(task.lengths[:, 0] - task.lengths[:, 1])
    outer = task.lengths.sum(axis=1)
    share = (radius**2 - inner**2) / (outer**2 - inner**2)
    assert (share > -1e-5).all()
    assert (share < 1 + 1e-5).all()
    np.testing.assert_allclose(jnp.sort(share), np.linspace(0, 1, 4000), atol=0.03)
    # Some bend of the arm brings the tip there: the law of cosines has a solution.
    cosine = (radius**2 - jnp.sum(task.lengths**2, 1)) / (2 * jnp.prod(task.lengths, 1))
    assert (jnp.abs(cosine) <= 1 + 1e-4).all()
    assert arm.Reacher().name == tasks.env.name
