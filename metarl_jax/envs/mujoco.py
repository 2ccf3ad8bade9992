"""Robots moved by MuJoCo itself, on the host."""

import contextlib
import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium
import jax
import numpy as np
from flax import struct

from metarl_jax.envs import ant
from metarl_jax.envs.gymnasium_family import gymnasium_family
from metarl_jax.envs.locomotion import ROBOTS, Locomotion
from metarl_jax.types import TaskDistribution


@struct.dataclass
class MujocoTask:
    """What a robot is asked to do."""

    goal: jax.Array


def is_installed() -> bool:
    """Tells whether MuJoCo is there."""
    return importlib.util.find_spec("mujoco") is not None


def mujoco_family(definition: Locomotion) -> TaskDistribution:
    """Makes a family of robot tasks, simulated by MuJoCo on the host.

    The robot is Gymnasium's, version 5, with its time step, first positions and noise;
    what it sees, is paid for and ends by are the definition's, compiled with the rest.
    Resets are seeded by the key and MuJoCo is deterministic: a run resumes bit for bit.

    Args:
      definition: of `metarl_jax.envs.locomotion` or `metarl_jax.envs.ant`.

    Returns:
      The family.

    Raises:
      ValueError: if MuJoCo is not installed.
    """
    if not is_installed():
        raise ValueError(
            "MuJoCo is required for robots on the host; install it with: "
            'pip install "metarl-jax[mujoco]"'
        )
    robot = {**ROBOTS, "ant": ant.ANT}[definition.robot]
    num_positions = Positions(robot.environment).num_positions

    def parts(obs):
        return obs[:num_positions], obs[num_positions:]

    def reward(task, obs, action, next_obs, info):
        del info
        before, after = parts(obs)[0], parts(next_obs)[0]
        return definition.reward(before, after, action, task.goal)

    return gymnasium_family(
        lambda: Positions(robot.environment),
        lambda key: MujocoTask(definition.sample_goal(key)),
        horizon=definition.horizon,
        reward=reward,
        ends=lambda task, obs: definition.fallen(*parts(obs)),
        encode=lambda obs: definition.observe(*parts(obs)),
    )


def ant_to_a_goal() -> TaskDistribution:
    """Makes the family of `metarl_jax.envs.ant.ant_goal`, simulated by MuJoCo.

    Raises:
      ValueError: if MuJoCo is not installed.
    """
    return mujoco_family(ant.ant_goal())


def ant_along_a_direction(variant: ant.Variant = "promp") -> TaskDistribution:
    """Makes the family of `metarl_jax.envs.ant.ant_direction`, simulated by MuJoCo.

    Args:
      variant: the paper whose directions are drawn: `"promp"`, forwards or backwards;
        `"pearl"`, any angle.

    Raises:
      ValueError: if there is no such variant, or MuJoCo is not installed.
    """
    return mujoco_family(ant.ant_direction(variant))


class Positions(gymnasium.Wrapper):
    """A robot of Gymnasium that shows q and v and does no more than move.

    Its own observation, reward and end are left out, which take a good part of a step.

    Args:
      environment: the robot's name in Gymnasium.
    """

    def __init__(self, environment: str):
        with _silence():
            super().__init__(gymnasium.make(environment).unwrapped)
        self._robot: Any = self.env
        data = self._robot.data
        self.num_positions = data.qpos.size
        size = data.qpos.size + data.qvel.size
        self.observation_space = gymnasium.spaces.Box(
            -np.inf, np.inf, (size,), np.float64
        )

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[np.ndarray, dict]:
        """Begins an episode at rest, but for the noise."""
        self._robot.reset(seed=seed, options=options)
        return self._seen(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Moves for a control step."""
        self._robot.do_simulation(action, self._robot.frame_skip)
        return self._seen(), 0.0, False, False, {}

    def _seen(self):
        data = self._robot.data
        return np.concatenate([data.qpos, data.qvel])


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keeps MuJoCo from saying of every copy what is out of date in Gymnasium's files.

    It would be printed, and written to a file in the current folder.
    """
    mujoco: Any = importlib.import_module("mujoco")  # an extra
    handler = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(handler)
