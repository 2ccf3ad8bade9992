"""Robots that MuJoCo moves: Gymnasium's own motion, one definition of the reward."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax import rollout
from metarl_jax.envs import ant, locomotion, mujoco, robots
from metarl_jax.policies.random import PersistentRandomPolicy
from metarl_jax.types import Agent

needed = pytest.mark.skipif(not mujoco.is_installed(), reason="needs MuJoCo")
KEY = jax.random.key(0)
DEFINITIONS = {
    "half-cheetah-velocity": locomotion.half_cheetah_velocity(),
    "half-cheetah-direction": locomotion.half_cheetah_direction("varibad"),
    "ant-goal": ant.ant_goal(),
    "ant-direction": ant.ant_direction("pearl"),
}


@needed
@pytest.mark.parametrize("name", ["HalfCheetah-v5", "Ant-v5", "Swimmer-v5"])
def test_the_motion_is_gymnasium_s(name):
    ours, theirs = mujoco.Positions(name), gymnasium.make(name).unwrapped
    ours.reset(seed=7)
    theirs.reset(seed=7)
    theirs.action_space.seed(0)
    for _ in range(30):
        action = theirs.action_space.sample()
        obs, *_ = ours.step(action)
        theirs.step(action)
        both = theirs.data.qpos, theirs.data.qvel
        np.testing.assert_array_equal(obs, np.concatenate(both))


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
    size = {"half-cheetah": 9, "ant": 15}[definition.robot]
    for i, goal in enumerate(goals):
        episode = jax.tree.map(lambda x, i=i: x[i], data)
        for t in range(int(episode.mask.sum())):
            before, after = episode.obs[t][:size], episode.next_obs[t]
            action = jnp.clip(episode.action[t], -1, 1)
            want = definition.reward(before, after[:size], action, goal)
            np.testing.assert_allclose(episode.reward[t], want, rtol=1e-4, atol=1e-4)
            fallen = definition.fallen(after[:size], after[size:])
            assert episode.terminated[t] == fallen
    assert definition.observe(before, after[size:]).ndim == 1


@needed
@pytest.mark.parametrize("name", ["half-cheetah-velocity", "half-cheetah-direction"])
def test_engines_pay_alike_for_what_was_recorded(name, monkeypatch):
    definition = DEFINITIONS[name]._replace(horizon=5)
    tasks = robots.robot_family(definition, engine="mujoco")
    tasks = tasks._replace(encode=lambda obs: obs)
    planar = robots.robot_family(definition, engine="planar")
    task, step = tasks.sample(KEY), jax.jit(tasks.step)
    obs, state = jax.jit(tasks.reset)(KEY, task)
    body = planar.sample(KEY).replace(goal=task.goal)
    for i in range(5):
        action = jax.random.uniform(jax.random.key(i), (6,), minval=-1.5, maxval=1.5)
        before = robots.EnvState(time=0, position=obs[:9], velocity=obs[9:])
        obs, state, paid, _ = step(KEY, state, action, task)
        recorded = obs[:9], obs[9:]
        monkeypatch.setattr(robots, "move", lambda *_, to=recorded, **__: to)
        seen, _, reward, _ = planar.step(KEY, before, action, body)
        np.testing.assert_allclose(reward, paid, rtol=1e-5)
        np.testing.assert_array_equal(seen, definition.observe(*recorded))


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
    assert not way.fallen(after, after)
    assert way.fallen(before, after)
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


@needed
def test_nothing_is_said_of_gymnasium_s_files(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mujoco.Positions("HalfCheetah-v5")
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named_with_the_command(monkeypatch):
    monkeypatch.setattr(mujoco, "is_installed", lambda: False)
    with pytest.raises(ValueError, match=r'pip install "metarl-jax\[mujoco\]"'):
        mujoco.ant_to_a_goal()
