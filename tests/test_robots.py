"""Families of planar robots: tasks, starts, ends, and Gymnasium's own environments."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax import catalogue
from metarl_jax.envs import locomotion
from metarl_jax.envs.checks import check_one_task
from metarl_jax.envs.planar.files import planar_robot
from metarl_jax.envs.robots import planar_family
from metarl_jax.recipe import Recipe

KEY = jax.random.key(0)
WORLDS = ["half-cheetah-velocity", "half-cheetah-direction", "walker-parameters"]
WORLDS += ["hopper-parameters", "swimmer-velocity"]
DEFINITIONS = {
    "half-cheetah": locomotion.half_cheetah_velocity(),
    "walker": locomotion.walker_running(),
    "hopper": locomotion.hopper_running(),
    "swimmer": locomotion.swimmer_velocity(),
}


@pytest.mark.parametrize("name", DEFINITIONS)
def test_observations_starts_and_ends_are_gymnasium_s(name):
    for package in ("mujoco", "imageio"):
        pytest.importorskip(package, reason="the extra [mujoco]")

    robot, definition = locomotion.ROBOTS[name], DEFINITIONS[name]
    theirs = gymnasium.make(robot.environment).unwrapped
    assert theirs.dt == pytest.approx(robot.seconds)
    tasks = planar_family(definition)
    starts = jax.vmap(tasks.reset, in_axes=(0, None))
    task = tasks.sample(KEY)
    obs, states = jax.jit(starts)(jax.random.split(KEY, 400), task)
    own, drawn = [], []
    for seed in range(400):
        seen, _ = theirs.reset(seed=seed)
        own.append(seen)
        drawn.append(np.concatenate([theirs.data.qpos, theirs.data.qvel]))
    np.testing.assert_array_equal(obs.shape, np.shape(own))
    ours = np.concatenate([states.position, states.velocity], axis=1)
    theirs_drawn = np.asarray(drawn)
    scale = theirs_drawn.std(axis=0).mean()
    np.testing.assert_allclose(ours.mean(0), theirs_drawn.mean(0), atol=0.3 * scale)
    np.testing.assert_allclose(ours.std(0), theirs_drawn.std(0), atol=0.2 * scale)
    # The same pose is seen alike.
    theirs.set_state(ours[0, : theirs.model.nq], ours[0, theirs.model.nq :])
    np.testing.assert_allclose(obs[0], theirs._get_obs(), atol=1e-5)


@pytest.mark.parametrize("name", WORLDS)
def test_a_step_moves_and_pays_by_the_definition(name):
    tasks = catalogue.load(name, "worlds").tasks(horizon=5)
    env, task = tasks.env, tasks.sample(KEY)
    definition = env.locomotion

    def steps(key):
        _, state = tasks.reset(key, task)
        action = jax.random.uniform(key, (env.num_actions,), minval=-2.0, maxval=2.0)
        return state, action, tasks.step(key, state, action, task)

    state, action, (obs, new, reward, terminated) = jax.jit(steps)(KEY)
    given = jnp.clip(action, -1, 1)
    expected = definition.reward(state.position, new.position, given, task.goal)
    np.testing.assert_allclose(reward, expected, rtol=1e-4)
    np.testing.assert_array_equal(obs, definition.observe(new.position, new.velocity))
    assert not terminated
    assert np.abs(new.velocity - state.velocity).max() > 1e-3
    assert int(task.max_steps_in_episode) == tasks.horizon == 5


def test_a_fallen_walker_s_episode_is_over():
    tasks = catalogue.load("walker-parameters", "worlds").tasks()
    task = tasks.sample(KEY)
    _, state = tasks.reset(KEY, task)
    low = state.replace(position=state.position.at[1].set(0.5))
    step = jax.jit(tasks.step)
    assert not step(KEY, state, jnp.zeros(6), task)[3]
    assert step(KEY, low, jnp.zeros(6), task)[3]


def test_tasks_of_parameters_differ_in_their_bodies():
    tasks = catalogue.load("hopper-parameters", "worlds").tasks()
    first, second = (tasks.sample(key) for key in jax.random.split(KEY))
    physics = planar_robot("hopper")[1]
    assert np.all(first.physics.mass != second.physics.mass)
    np.testing.assert_array_equal(first.physics.gear, physics.gear)
    same = catalogue.load("hopper-parameters", "worlds").tasks(log_scale=0.0)
    np.testing.assert_allclose(same.sample(KEY).physics.mass, physics.mass, rtol=1e-6)


def test_resets_draw_no_task():
    """The family says so itself; here it is looked at."""
    tasks = planar_family(locomotion.swimmer_velocity())
    check_one_task(tasks.env, tasks.sample)


def test_a_shown_task_is_the_goal_alone():
    world = catalogue.load("half-cheetah-velocity", "worlds")
    recipe = Recipe(world, catalogue.load("maml", "methods"))
    shown = recipe(show_task=True, num_tasks=2, num_episodes=2)
    assert shown.tasks.observation.shape == (18,)


@pytest.mark.parametrize("name", WORLDS)
def test_wrong_options_are_refused(name):
    tasks = catalogue.load(name, "worlds").tasks
    with pytest.raises(ValueError, match="horizon must be"):
        tasks(horizon=0)
    wrong = {"log_scale": -1.0} if name.endswith("parameters") else {"engine": "havok"}
    with pytest.raises(ValueError, match=r"log_scale must be|engine must be one of"):
        tasks(**wrong)
