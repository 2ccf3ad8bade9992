"""Robots that MuJoCo moves: Gymnasium's own motion, one definition of the reward."""

import importlib
from functools import partial

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax import catalogue, rollout
from metarl_jax.envs import ant, humanoid, locomotion, mjx, mujoco, robots
from metarl_jax.envs.planar.files import planar_robot
from metarl_jax.envs.planar.variation import lengthened, random_parameters
from metarl_jax.policies.random import PersistentRandomPolicy
from metarl_jax.types import Agent

needed = pytest.mark.skipif(not mujoco.is_installed(), reason="needs MuJoCo")
KEY = jax.random.key(0)
DEFINITIONS = {
    "half-cheetah-velocity": locomotion.half_cheetah_velocity(),
    "ant-goal": ant.ant_goal(),
    "ant-direction": ant.ant_direction("pearl"),
    "ant-velocity": ant.ant_velocity(),
    "humanoid-direction": humanoid.humanoid_direction(),
}
SIZES = {"half-cheetah": 9, "walker": 9, "hopper": 6, "ant": 15, "humanoid": 26}


@needed
@pytest.mark.parametrize(
    "name", ["HalfCheetah-v5", "Ant-v5", "Swimmer-v5", "Humanoid-v5"]
)
def test_the_motion_is_gymnasium_s(name):
    ours = mujoco.Positions(name, name == "Humanoid-v5")
    theirs = gymnasium.make(name).unwrapped
    ours.reset(seed=7)
    theirs.reset(seed=7)
    theirs.action_space.seed(0)
    for _ in range(30):
        action = theirs.action_space.sample()
        obs, *_ = ours.step(action)
        theirs.step(action)
        both = [theirs.data.qpos, theirs.data.qvel]
        if name == "Humanoid-v5":
            centre = np.average(
                theirs.data.xipos, axis=0, weights=theirs.model.body_mass
            )
            both.insert(1, centre[:2])
        np.testing.assert_allclose(obs, np.concatenate(both), rtol=1e-12)


@needed
@pytest.mark.parametrize("name", DEFINITIONS)
def test_rewards_and_ends_are_the_definition_s(name):
    definition = DEFINITIONS[name]._replace(horizon=12)
    # Positions are recorded as they are; the policy acts at random.
    tasks = mujoco.mujoco_family(definition)._replace(encode=lambda obs: obs)
    policy = PersistentRandomPolicy(tasks.action_space)

    def one(key):
        task = tasks.sample(key)
        agent = Agent((), policy.initial_memory())
        return task.goal, rollout.episode(key, tasks, policy, agent, task)[1]

    goals, data = jax.jit(jax.vmap(one))(jax.random.split(KEY, 3))
    size = SIZES[definition.robot]
    most = 0.4 if name == "humanoid-direction" else 1.0
    for i, goal in enumerate(goals):
        episode = jax.tree.map(lambda x, i=i: x[i], data)
        for t in range(int(episode.mask.sum())):
            before, after = episode.obs[t][:size], episode.next_obs[t]
            action = jnp.clip(episode.action[t], -most, most)
            want = definition.reward(before, after[:size], action, goal)
            np.testing.assert_allclose(episode.reward[t], want, rtol=1e-4, atol=1e-4)
            fallen = definition.fallen(after[:size], after[size:])
            assert episode.terminated[t] == fallen
    assert definition.observe(before, after[size:]).ndim == 1


@needed
@pytest.mark.parametrize(
    ("definition", "body"),
    [
        (DEFINITIONS["half-cheetah-velocity"], False),
        (locomotion.half_cheetah_direction("varibad"), False),
        (locomotion.walker_running(), True),
        (locomotion.hopper_running(), True),
    ],
)
def test_engines_pay_alike_for_what_was_recorded(definition, body, monkeypatch):
    definition = definition._replace(horizon=5)
    draw = partial(random_parameters, log_scale=3.0) if body else None
    tasks = robots.robot_family(definition, engine="mujoco", sample_physics=draw)
    tasks = tasks._replace(encode=lambda obs: obs)
    planar = robots.robot_family(definition, engine="planar", sample_physics=draw)
    task, step = tasks.sample(KEY), jax.jit(tasks.step)
    obs, state = jax.jit(tasks.reset)(KEY, task)
    same = planar.sample(KEY)
    np.testing.assert_array_equal(same.goal, task.goal)
    if body:
        jax.tree.map(np.testing.assert_array_equal, same.physics, task.physics)
    size, motors = SIZES[definition.robot], planar.action_space.shape
    for i in range(5):
        action = jax.random.uniform(jax.random.key(i), motors, minval=-1.5, maxval=1.5)
        before = robots.EnvState(time=0, position=obs[:size], velocity=obs[size:])
        obs, state, paid, over = step(KEY, state, action, task)
        recorded = obs[:size], obs[size:]
        monkeypatch.setattr(robots, "move", lambda *_, to=recorded, **__: to)
        seen, _, reward, ended = planar.step(KEY, before, action, same)
        np.testing.assert_allclose(reward, paid, rtol=1e-5)
        np.testing.assert_array_equal(seen, definition.observe(*recorded))
        assert ended == over
        if over:
            break
    tasks.env.close()


@needed
def test_bodies_of_tasks_are_mujoco_s():
    """Every copy moves as MuJoCo's model of the task's own masses does."""
    definition = locomotion.hopper_running()._replace(horizon=9)
    draw = partial(random_parameters, log_scale=3.0)
    tasks = mujoco.mujoco_family(definition, sample_physics=draw)
    tasks = tasks._replace(encode=lambda obs: obs)
    some = jax.vmap(tasks.sample)(jax.random.split(KEY, 3))
    keys = jnp.stack([KEY, KEY, KEY])
    starts, states = jax.jit(jax.vmap(tasks.reset))(keys, some)
    np.testing.assert_array_equal(starts[0], starts[1])  # one seed, one start
    obs, *_ = jax.jit(jax.vmap(tasks.step))(keys, states, jnp.ones((3, 3)), some)
    assert np.abs(obs[0] - obs[1]).max() > 1e-3
    for i in range(3):
        theirs = gymnasium.make("Hopper-v5").unwrapped
        model, physics = theirs.model, jax.tree.map(lambda x, i=i: x[i], some.physics)
        model.body_mass[1:] = physics.mass
        # About the axis across the plane, the only one that it turns about.
        model.body_inertia[1:, :2] = physics.inertia[:, 2:]
        model.dof_damping[:] = physics.damping
        model.geom_friction[0, 0] = physics.floor_friction
        model.geom_friction[1:, 0] = physics.friction
        importlib.import_module("mujoco").mj_setConst(model, theirs.data)
        theirs.set_state(*np.split(np.asarray(starts[i]), 2))
        theirs.do_simulation(np.ones(3), theirs.frame_skip)
        both = np.concatenate([theirs.data.qpos, theirs.data.qvel])
        np.testing.assert_allclose(obs[i], both, rtol=1e-4, atol=1e-5)
    tasks.env.close()


def test_bodies_that_mujoco_is_not_given_are_refused(monkeypatch):
    monkeypatch.setattr(mujoco, "check_installed", lambda: None)
    tree, _ = planar_robot("walker")

    def longer(key, physics):
        return lengthened(tree, physics, 1.5 * jnp.ones(tree.num_links))

    walker, goal = locomotion.walker_running(), ant.ant_goal()
    with pytest.raises(ValueError, match="as it is where MuJoCo moves"):
        mujoco._bodies(walker.robot, longer)
    with pytest.raises(ValueError, match="must be of a robot in a plane"):
        mujoco._bodies(goal.robot, longer)
    with pytest.raises(ValueError, match="planar or mujoco where bodies differ"):
        robots.robot_family(walker, engine="mjx", sample_physics=longer)
    with pytest.raises(ValueError, match="engine must be one of mujoco, mjx"):
        robots.robot_family(goal, engine="planar")


def test_definitions_of_the_ant_by_hand():
    before, after = np.zeros(15), np.zeros(15)
    after[:3] = [0.1, -0.05, 0.5]
    action, there = jnp.full(8, 0.5), jnp.array([1.0, 1.0])
    # |0.1 - 1| + |-0.05 - 1| and 0.1 * 8 * 0.25
    goal = ant.ant_goal()
    assert goal.reward(before, after, action, there) == pytest.approx(-1.95 - 0.2)
    # <(2, -1), (1, 1)> - 0.5 * 2 + 1
    way = ant.ant_direction()
    assert way.reward(before, after, action, there) == pytest.approx(1.0)
    low = after + jnp.eye(15)[2] * -0.4
    assert not way.fallen(after, after)
    assert not way.fallen(low, after)  # ProMP lets it lie, PEARL and MAML do not
    assert way.fallen(low - 0.2, after)
    assert ant.ant_direction("pearl").fallen(low, after)
    # -|2 - 0.5| - 0.005 * 2 + 1.05
    run = ant.ant_velocity()
    assert run.reward(before, after, action, 0.5) == pytest.approx(-0.46)
    assert run.fallen(low, after)
    assert run.observe(before, jnp.zeros(14)).shape == (29,)
    speeds = jax.vmap(run.sample_goal)(jax.random.split(KEY, 999))
    assert 0 <= speeds.min() < 0.02
    assert 2.98 < speeds.max() <= 3
    assert not goal.fallen(before, after)
    goals = jax.vmap(goal.sample_goal)(jax.random.split(KEY, 4000))
    radius = jnp.linalg.norm(goals, axis=1)
    assert radius.max() <= 3
    # Uniform in the disc: half of it is within 3 / sqrt 2.
    assert jnp.mean(radius < 3 / 2**0.5) == pytest.approx(0.5, abs=0.03)
    ways = jax.vmap(way.sample_goal)(jax.random.split(KEY, 99))
    assert set(np.asarray(ways)[:, 0]) == {-1, 1}
    angles = jax.vmap(ant.ant_direction("pearl").sample_goal)(jax.random.split(KEY, 99))
    np.testing.assert_allclose(jnp.linalg.norm(angles, axis=1), 1, rtol=1e-5)


def test_the_definition_of_the_humanoid_by_hand():
    before, after = np.zeros(26), np.zeros(26)
    after[[0, 2, 24, 25]] = [9.0, 1.4, 0.03, -0.015]  # the mass is paid, not the torso
    action, way = jnp.full(17, 0.2), humanoid.humanoid_direction()
    # 1.25 <(2, -1), (0, 1)> - 0.1 * 17 * 0.04 + 5
    paid = way.reward(before, after, action, jnp.array([0.0, 1.0]))
    assert paid == pytest.approx(-1.25 - 0.068 + 5)
    assert way.observe(after, jnp.zeros(23)).shape == (45,)
    assert not way.fallen(after, after)
    assert way.fallen(before, after)
    goals = jax.vmap(way.sample_goal)(jax.random.split(KEY, 4000))
    np.testing.assert_allclose(jnp.linalg.norm(goals, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(goals.mean(axis=0), 0, atol=0.05)


@needed
def test_nothing_is_said_of_gymnasium_s_files(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mujoco.Positions("HalfCheetah-v5")
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named_with_the_command(monkeypatch):
    monkeypatch.setattr(mujoco, "is_installed", lambda: False)
    for world in ("ant-goal", "ant-velocity", "humanoid-direction"):
        with pytest.raises(ValueError, match=r'pip install "metarl-jax\[mujoco\]"'):
            catalogue.load(world, "worlds").tasks(engine="mujoco")
    monkeypatch.setattr(mjx, "is_installed", lambda: False)
    with pytest.raises(ValueError, match=r'pip install "metarl-jax\[mjx\]"'):
        catalogue.load("humanoid-direction", "worlds").tasks(engine="mjx")
