"""Robots moved by MuJoCo itself, on the host."""

import contextlib
import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from metarl_jax.envs import ant, humanoid
from metarl_jax.envs.gymnasium_family import gymnasium_family
from metarl_jax.envs.locomotion import ROBOTS, Locomotion
from metarl_jax.envs.planar import in_mujoco
from metarl_jax.envs.planar.files import planar_robot
from metarl_jax.envs.planar.model import Physics
from metarl_jax.types import Key, TaskDistribution
from metarl_jax.validation import check_functions

ALL_ROBOTS = {**ROBOTS, "ant": ant.ANT, "humanoid": humanoid.HUMANOID}


@struct.dataclass
class MujocoTask:
    """What a robot is asked to do, and its body where that is the task's."""

    goal: jax.Array
    physics: Any = ()


def is_installed() -> bool:
    """Tells whether MuJoCo is there."""
    return importlib.util.find_spec("mujoco") is not None


def mujoco_family(
    definition: Locomotion,
    *,
    sample_physics: Callable[[Key, Physics], Physics] | None = None,
) -> TaskDistribution:
    """Makes a family of robot tasks, simulated by MuJoCo on the host.

    The robot is Gymnasium's, version 5, with its time step, first positions and noise;
    what it sees, is paid for and ends by are the definition's, compiled with the rest.
    Resets are seeded by the key and MuJoCo is deterministic: a run resumes bit for bit.

    Args:
      definition: of `metarl_jax.envs.locomotion`, `.ant` or `.humanoid`.
      sample_physics: `(key, physics) -> physics`, the body of a task, which is put into
        MuJoCo's model of the robot; None: the robot as it is read.

    Returns:
      The family.

    Raises:
      ValueError: if MuJoCo is not installed, or `sample_physics` is no function, is of
        a robot that does not move in a plane, or draws what touches the floor.
    """
    check_installed()
    robot = ALL_ROBOTS[definition.robot]
    num_positions = Positions(robot.environment, robot.sees_mass_centre).num_positions
    sample_body = _bodies(definition.robot, sample_physics)

    def sample(key):
        key_goal, key_physics = jax.random.split(key)
        return MujocoTask(definition.sample_goal(key_goal), sample_body(key_physics))

    def apply_task(env, task):
        env.put(definition.robot, task.physics)

    def parts(obs):
        return obs[:num_positions], obs[num_positions:]

    def reward(task, obs, action, next_obs, info):
        del info
        before, after = parts(obs)[0], parts(next_obs)[0]
        return definition.reward(before, after, action, task.goal)

    return gymnasium_family(
        lambda: Positions(robot.environment, robot.sees_mass_centre),
        sample,
        apply_task if sample_physics else None,
        horizon=definition.horizon,
        reward=reward,
        ends=lambda task, obs: definition.fallen(*parts(obs)),
        encode=lambda obs: definition.observe(*parts(obs)),
    )


def check_installed() -> None:
    """Raises a `ValueError` that names the command, unless MuJoCo is installed."""
    if not is_installed():
        raise ValueError(
            "MuJoCo is required for robots on the host; install it with: "
            'pip install "metarl-jax[mujoco]"'
        )


def _bodies(robot: str, sample_physics) -> Callable[[Key], Any]:
    """Makes what draws a task's body.

    Raises:
      ValueError: if these are no bodies that MuJoCo can be given.
    """
    if sample_physics is None:
        return lambda key: ()
    check_functions(sample_physics=sample_physics)
    if robot not in ROBOTS:
        raise ValueError(
            f"sample_physics must be of a robot in a plane, {', '.join(ROBOTS)}; got "
            f"{robot}"
        )
    _, physics = planar_robot(robot)
    body = Physics(*(jnp.asarray(x, jnp.result_type(float)) for x in physics))
    with jax.ensure_compile_time_eval():
        drawn = sample_physics(jax.random.key(0), body)
        changed = [
            name
            for name in in_mujoco.SHAPES
            if not np.array_equal(getattr(body, name), getattr(drawn, name))
        ]
    if changed:
        raise ValueError(
            "sample_physics must leave what touches the floor as it is where MuJoCo "
            f"moves the robot; got another {', '.join(changed)}"
        )
    return lambda key: sample_physics(key, body)


class Positions(gymnasium.Wrapper):
    """A robot of Gymnasium that shows q and v and does no more than move.

    Its own observation, reward and end are left out, which take a good part of a step.

    Args:
      environment: the robot's name in Gymnasium.
      mass_centre: whether to show where the centre of mass is `[2]`, after q.
    """

    def __init__(self, environment: str, mass_centre: bool = False):
        with silence():
            super().__init__(gymnasium.make(environment).unwrapped)
        self._robot: Any = self.env
        data = self._robot.data
        self._mass_centre = mass_centre
        self.num_positions = data.qpos.size + 2 * mass_centre
        size = self.num_positions + data.qvel.size
        self.observation_space = gymnasium.spaces.Box(
            -np.inf, np.inf, (size,), np.float64
        )

    def put(self, robot: str, physics: Physics) -> None:
        """Gives a planar robot another body, before a reset."""
        model = self._robot.model
        in_mujoco.put(model, planar_robot(robot)[0], physics)
        mujoco: Any = importlib.import_module("mujoco")  # an extra
        mujoco.mj_setConst(model, self._robot.data)

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
        if self._mass_centre:
            # As of the beginning of the last small step, as Gymnasium's own is.
            centre = data.subtree_com[0, :2]
            return np.concatenate([data.qpos, centre, data.qvel])
        return np.concatenate([data.qpos, data.qvel])


@contextlib.contextmanager
def silence() -> Iterator[None]:
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
