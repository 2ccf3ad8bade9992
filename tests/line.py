"""A point on a line, simulated on the host, and something small that learns there.

Run as a script it trains in a directory, and is killed in the middle of an episode.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments.environment import EnvParams

from metarl_jax import rollout
from metarl_jax.envs.gymnasium_family import gymnasium_family
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.training import Evaluation, Experiment, train
from metarl_jax.types import Agent, MetaAlgorithm

HORIZON = 6


class Line(gymnasium.Env):
    """A point on a line; the episode ends where the goal is near. Exact in float32."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    steps, resets, opened = 0, 0, 0
    fate: Callable[[], None] | None = None  # what befalls it at step 200

    def __init__(self):
        self.goal = np.float32(0)
        self.x: np.ndarray | None = None
        type(self).opened += 1

    def reset(self, *, seed=None, options=None):
        assert seed is not None
        self.x = np.full(1, seed % 256 / 256, np.float32)
        type(self).resets += 1
        return self.x, {}

    def step(self, action):
        assert self.action_space.contains(action)
        assert self.x is not None, "stepped after the episode's end"
        x = self.x = self.x + np.float32(0.125) * action
        distance = x[0] - self.goal
        terminated = bool(abs(distance) < 0.125)
        if terminated:
            self.x = None
        type(self).steps += 1
        if type(self).fate and self.steps == 200:
            type(self).fate()
        return x, float(-distance * distance), terminated, False, {"before": x}

    def close(self):
        type(self).opened -= 1


@struct.dataclass(kw_only=True)
class Params(EnvParams):
    goal: jax.Array


def goal(key):
    return jax.random.uniform(key, minval=0.25, maxval=0.75)


def put(env, task):
    env.goal = task.goal


def sample(key):
    return Params(max_steps_in_episode=HORIZON, goal=goal(key))


class Climber(NamedTuple):
    agent: Agent


class Info(NamedTuple):
    return_before: Any
    return_after: Any
    skipped: Any


def experiment(num_steps=8):
    """Moves the parameters by what comes of acting; it need not get better."""
    tasks = gymnasium_family(Line, sample, put, horizon=HORIZON)
    policy = mlp_policy(tasks, hidden_sizes=(2,))

    def init(key):
        return Climber(Agent(policy.init(key, (), jnp.zeros(1))))

    def step(key, state):
        task_batch = jax.vmap(sample)(jax.random.split(key, 3))
        agents = jax.tree.map(lambda x: jnp.stack([x] * 3), state.agent)
        trajectories = rollout.collect_tasks(
            key, tasks, policy, agents, task_batch, num_episodes=2
        )
        mean = jnp.mean(rollout.episode_returns(trajectories))
        params = jax.tree.map(lambda x: x + 0.1 * mean, state.agent.params)
        info = Info(mean, mean, jnp.asarray(False))
        return Climber(state.agent._replace(params=params)), info

    algorithm = MetaAlgorithm(init, step, lambda key, agent, data: agent, policy)
    return Experiment(tasks, algorithm, num_steps, Evaluation(2, 1, 1))


def run(path, *, num_steps=8, resume=False):
    """Trains in a directory, or continues there."""
    where = {"resume": path} if resume else {"output_dir": path}
    return train(
        experiment(num_steps), name="line", checkpoint_every=2, quiet=True, **where
    )


if __name__ == "__main__":
    Line.fate = lambda: os.kill(os.getpid(), signal.SIGKILL)
    run(sys.argv[1])
