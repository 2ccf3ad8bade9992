"""Gymnasium's environments in pools: the same episodes, seeded at every reset."""

import sys
import types

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax import rollout
from metarl_jax.envs import envpool
from metarl_jax.envs.gymnasium_family import gymnasium_family
from metarl_jax.policies.random import PersistentRandomPolicy
from metarl_jax.types import Agent

KEY = jax.random.key(0)


class Pool:
    """What envpool offers, of Gymnasium's own copies: seeds when it is made."""

    made = 0

    def __init__(self, name, *, num_envs, seed, **options):
        options.pop("max_episode_steps", None)
        self.envs = [gymnasium.make(name, **options) for _ in range(num_envs)]
        self.seeds, self.over = seed, [False] * num_envs
        self.action_space = self.envs[0].action_space
        self.observation_space = self.envs[0].observation_space
        type(self).made += 1

    def __len__(self):
        return len(self.envs)

    def reset(self):
        pairs = zip(self.envs, self.seeds, strict=True)
        return np.stack([env.reset(seed=seed)[0] for env, seed in pairs]), {}

    def step(self, actions):
        assert actions.dtype == self.action_space.dtype
        steps = [self._step(i, action) for i, action in enumerate(actions)]
        arrays = [np.stack(part) for part in zip(*steps, strict=True)]
        return *arrays, {"twice": 2 * arrays[1]}

    def _step(self, i, action):
        """As envpool does, a copy that has ended begins another episode."""
        if self.over[i]:
            self.over[i] = False
            return self.envs[i].reset()[0], 0.0, False, False
        obs, reward, terminated, truncated, _ = self.envs[i].step(action)
        self.over[i] = terminated or truncated
        return obs, reward, terminated, truncated


@pytest.fixture
def installed(monkeypatch):
    if envpool.is_installed():
        return
    module = types.ModuleType("envpool")
    module.list_all_envs = lambda: ["CartPole-v1"]
    module.make_gymnasium = Pool
    monkeypatch.setattr(envpool, "is_installed", lambda: True)
    monkeypatch.setitem(sys.modules, "envpool", module)


def make():
    return gymnasium.make("CartPole-v1", sutton_barto_reward=False)


def episodes(tasks, key, number=3):
    policy = PersistentRandomPolicy(tasks.action_space)

    def one(key):
        agent = Agent((), policy.initial_memory())
        return rollout.episode(key, tasks, policy, agent, tasks.sample(key))[1]

    return jax.jit(jax.vmap(one))(jax.random.split(key, number))


def test_episodes_are_decided_by_their_seeds(installed):
    def reward(task, obs, action, next_obs, info):
        return task + 10 * action

    tasks = gymnasium_family(
        lambda: gymnasium.make("CartPole-v1"),
        jax.random.uniform,
        horizon=30,
        reward=reward,
        vector="envpool",
    )
    first, other, again = (episodes(tasks, jax.random.key(i)) for i in (0, 1, 0))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert np.all(first.obs[:, 0] != other.obs[:, 0])
    assert first.terminated.any()
    goal = jax.vmap(tasks.sample)(jax.random.split(KEY, 3))
    want = jnp.where(first.mask, goal[:, None] + 10 * first.action, 0.0)
    np.testing.assert_allclose(first.reward, want, rtol=1e-6)
    tasks.env.close()


def test_pools_are_what_copies_are_one_by_one(monkeypatch):
    """Episodes that end at different times, beside others begun later."""
    module = types.ModuleType("envpool")
    module.list_all_envs = lambda: ["CartPole-v1"]
    module.make_gymnasium = Pool
    monkeypatch.setattr(envpool, "is_installed", lambda: True)
    monkeypatch.setitem(sys.modules, "envpool", module)
    pools = gymnasium_family(
        make, lambda key: jnp.zeros(()), horizon=30, info=("twice",), vector="envpool"
    )
    copies = gymnasium_family(make, lambda key: jnp.zeros(()), horizon=30)
    for key in jax.random.split(KEY, 2):
        both = episodes(pools, key), episodes(copies, key)
        jax.tree.map(np.testing.assert_array_equal, *both)
    # Two batches of copies at once, stepped together.
    keys = jax.random.split(KEY, 4)
    task = pools.sample(KEY)
    ends = []
    for tasks in (pools, copies):
        reset, step = (
            jax.vmap(tasks.reset, (0, None)),
            jax.vmap(tasks.step, (0, 0, 0, None)),
        )
        _, older = reset(keys[:2], task)
        _, newer = reset(keys[2:], task)
        states = jax.tree.map(lambda *x: jnp.concatenate(x), older, newer)
        for i in range(3):
            action = (jnp.arange(4) + i) % 2
            obs, states, *_ = step(keys, states, action, task)
        ends.append(obs)
    np.testing.assert_array_equal(*ends)
    assert len({id(pool) for pool, _ in pools.env.simulators._places.values()}) == 2


def test_what_pools_cannot_do_is_refused(installed, monkeypatch):
    def family(make=make, apply_task=None, **options):
        gymnasium_family(
            make,
            lambda key: jnp.zeros(()),
            apply_task,
            horizon=3,
            vector="envpool",
            **options,
        )

    with pytest.raises(ValueError, match="apply_task must be None where envpool"):
        family(apply_task=lambda env, task: None)
    with pytest.raises(ValueError, match=r"info must name .* got \['speed'\]"):
        family(lambda: gymnasium.make("CartPole-v1"), info=("speed",))
    gymnasium.register("Nowhere-v0", "gymnasium.envs.classic_control:CartPoleEnv")
    with pytest.raises(ValueError, match="it has no Nowhere-v0"):
        family(lambda: gymnasium.make("Nowhere-v0"))
    monkeypatch.setattr(envpool, "is_installed", lambda: False)
    with pytest.raises(ValueError, match=r'pip install "metarl-jax\[envpool\]"'):
        family()
