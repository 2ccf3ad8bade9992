"""Robots of Gymnasium in the plane, told what to do, inside a compiled step."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from metarl_jax.envs import mjx
from metarl_jax.envs.gymnax_family import gymnax_family
from metarl_jax.envs.locomotion import ROBOTS, Locomotion, first_pose
from metarl_jax.envs.mujoco import mujoco_family
from metarl_jax.envs.planar.files import planar_robot
from metarl_jax.envs.planar.model import Physics, Tree
from metarl_jax.envs.planar.motion import move
from metarl_jax.types import Key, TaskDistribution
from metarl_jax.validation import check_choice, check_functions, check_positive

# Small steps of a control step. MuJoCo takes 5 of the half-cheetah and 4 of the others.
NUM_SUBSTEPS = {"half-cheetah": 8, "walker": 4, "hopper": 4, "swimmer": 4}


@struct.dataclass(kw_only=True)
class EnvState(environment.EnvState):
    """What time changes."""

    position: jax.Array  # [Q], MuJoCo's `qpos`
    velocity: jax.Array  # [Q], MuJoCo's `qvel`


@struct.dataclass(kw_only=True)
class EnvParams(environment.EnvParams):
    """The task: a body, and what it is to do."""

    physics: Physics
    goal: jax.Array  # []


class PlanarRobot(environment.Environment[EnvState, EnvParams]):
    """A robot that moves in a plane.

    It starts as Gymnasium's does: at rest in the pose of its file, with noise. Motors
    take actions within [-1, 1].

    Args:
      locomotion: what it is to do.
      tree: the robot.
    """

    def __init__(self, locomotion: Locomotion, tree: Tree):
        super().__init__()
        self.locomotion = locomotion
        self.tree = tree
        self.robot = ROBOTS[locomotion.robot]

    def reset_env(self, key, params):
        """Draws the first pose."""
        del params
        rest = jnp.asarray(self.tree.at_rest)
        position, velocity = first_pose(key, self.robot, rest, rest.size)
        state = EnvState(time=0, position=position, velocity=velocity)
        return self.locomotion.observe(position, velocity), state

    def step_env(self, key, state, action, params):
        """Takes a control step."""
        del key
        position, velocity = move(
            self.tree,
            params.physics,
            state.position,
            state.velocity,
            action,
            seconds=self.robot.seconds,
            num_substeps=NUM_SUBSTEPS[self.locomotion.robot],
        )
        reward = self.locomotion.reward(
            state.position, position, jnp.asarray(action), params.goal
        )
        state = EnvState(time=state.time + 1, position=position, velocity=velocity)
        obs = self.locomotion.observe(position, velocity)
        return obs, state, reward, self.is_terminated(state, params), {}

    def is_terminated(self, state, params):
        """Returns whether it has fallen."""
        del params
        return self.locomotion.fallen(state.position, state.velocity)

    @property
    def name(self) -> str:
        """Environment name."""
        return f"planar {self.locomotion.robot}"

    @property
    def num_actions(self) -> int:
        """Motors."""
        return len(self.tree.motors)

    def action_space(self, params=None):
        """What the motors take, in units of their gears."""
        del params
        return spaces.Box(-1.0, 1.0, (self.num_actions,))

    def observation_space(self, params):
        """Unbounded."""
        del params
        size = self.tree.num_links + 2
        obs = jax.eval_shape(self.locomotion.observe, *[jnp.zeros(size)] * 2)
        return spaces.Box(-np.inf, np.inf, obs.shape)


Engine = Literal["planar", "mujoco", "mjx"]
SpatialEngine = Literal["mujoco", "mjx"]
BodyEngine = Literal["planar", "mujoco"]


def robot_family(
    locomotion: Locomotion,
    *,
    engine: Engine | None = "planar",
    horizon: int | None = None,
    sample_physics: Callable[[Key, Physics], Physics] | None = None,
) -> TaskDistribution:
    """Builds a family of a robot, moved by an engine.

    Args:
      locomotion: what it is to do.
      engine: `"planar"`, a robot in a plane inside the compiled step; `"mujoco"`,
        MuJoCo on the host; `"mjx"`, MuJoCo's own inside the compiled step; None, of
        robots that do not move in a plane: `"mjx"` where JAX has an accelerator and it
        is installed, else `"mujoco"`.
      horizon: T, control steps in an episode; None: the definition's.
      sample_physics: `(key, physics) -> physics`, the body of a task; None: as it is.

    Returns:
      The family.

    Raises:
      ValueError: if there is no such engine, it is not installed or does not move such
        a robot, or the horizon is below 1.
    """
    is_planar = locomotion.robot in ROBOTS
    if engine is None and not is_planar:
        accelerated = jax.default_backend() != "cpu" and mjx.is_installed()
        engine = "mjx" if accelerated else "mujoco"
    engines = ("planar", "mujoco", "mjx") if is_planar else ("mujoco", "mjx")
    check_choice(engines, engine=str(engine))
    if horizon is not None:
        check_positive(horizon=horizon)
        locomotion = locomotion._replace(horizon=horizon)
    if engine == "mjx":
        if sample_physics is not None:
            raise ValueError(
                "engine must be planar or mujoco where bodies differ; got mjx"
            )
        return mjx.mjx_family(locomotion)
    if engine == "mujoco":
        return mujoco_family(locomotion, sample_physics=sample_physics)
    return planar_family(locomotion, sample_physics=sample_physics)


def planar_family(
    locomotion: Locomotion,
    *,
    sample_physics: Callable[[Key, Physics], Physics] | None = None,
) -> TaskDistribution:
    """Builds a family of a robot moved in a plane, inside the compiled step.

    Args:
      locomotion: what it is to do; its goal is drawn for every task.
      sample_physics: `(key, physics) -> physics`, the body of a task, from the robot as
        it is read; None: nothing of it varies.

    Returns:
      The family.

    Raises:
      ValueError: if `sample_physics` is no function or the horizon is below 1.
    """
    if sample_physics is not None:
        check_functions(sample_physics=sample_physics)
    check_positive(horizon=locomotion.horizon)
    tree, physics = planar_robot(locomotion.robot)
    env = PlanarRobot(locomotion, tree)

    def sample(key):
        key_goal, key_physics = jax.random.split(key)
        body = jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(float)), physics)
        return EnvParams(
            max_steps_in_episode=locomotion.horizon,
            physics=sample_physics(key_physics, body) if sample_physics else body,
            goal=locomotion.sample_goal(key_goal),
        )

    # A reset draws the first pose and nothing else; seeing that by running would take
    # longer than many a test.
    return gymnax_family(
        env,
        sample,
        horizon=locomotion.horizon,
        allow_resampling=True,
    )
