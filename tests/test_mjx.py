"""Robots that MJX moves: MuJoCo's motion, one definition of the reward."""

import jax
import numpy as np
import pytest

from metarl_jax.envs import locomotion, mjx, mujoco
from metarl_jax.envs.humanoid import humanoid_direction
from metarl_jax.envs.robots import robot_family

pytestmark = pytest.mark.skipif(not mjx.is_installed(), reason="the extra [mjx]")
KEY = jax.random.key(0)


def test_half_cheetahs_move_as_on_the_host():
    definition = locomotion.half_cheetah_velocity()._replace(horizon=5)
    tasks = robot_family(definition, engine="mjx")
    task = tasks.sample(KEY)
    _, state = jax.jit(tasks.reset)(KEY, task)
    host = mujoco.Positions("HalfCheetah-v5")
    host.reset(seed=0)
    host._robot.set_state(*(np.asarray(x) for x in (state.position, state.velocity)))
    step = jax.jit(tasks.step)
    for i in range(5):
        action = jax.random.uniform(jax.random.key(i), (6,), minval=-1.0)
        before = state
        obs, state, reward, over = step(KEY, state, action, task)
        there = host.step(np.asarray(action))[0]
        ours = np.concatenate([state.position, state.velocity])
        np.testing.assert_allclose(ours, there, atol=1e-3)
        paid = definition.reward(before.position, state.position, action, task.goal)
        np.testing.assert_allclose(reward, paid, rtol=1e-4)
        np.testing.assert_array_equal(
            obs, definition.observe(state.position, state.velocity)
        )
        assert not over


def test_what_a_humanoid_is_is_the_same_on_the_host():
    tasks = robot_family(humanoid_direction(), engine="mjx")
    theirs = robot_family(humanoid_direction(), engine="mujoco")
    assert tasks.observation == theirs.observation
    np.testing.assert_array_equal(tasks.action_space.high, theirs.action_space.high)
    task = tasks.sample(KEY)
    _, state = jax.jit(tasks.reset)(KEY, task)
    host = mujoco.Positions("Humanoid-v5", mass_centre=True)
    host.reset(seed=0)
    host._robot.set_state(
        *(np.asarray(x) for x in (state.position[:24], state.velocity))
    )
    np.testing.assert_allclose(state.position[24:], host._seen()[24:26], atol=1e-5)
    shapes = jax.eval_shape(tasks.step, KEY, state, np.zeros(17, np.float32), task)
    assert shapes[0].shape == (45,)
