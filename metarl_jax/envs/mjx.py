"""Robots moved by MJX, MuJoCo's own physics inside a compiled step."""

import contextlib
import functools
import importlib
import importlib.resources
import importlib.util
import io
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from metarl_jax.envs.gymnax_family import gymnax_family
from metarl_jax.envs.locomotion import Locomotion, first_pose
from metarl_jax.envs.mujoco import ALL_ROBOTS, silence
from metarl_jax.promotion import standard_promotion
from metarl_jax.types import TaskDistribution
from metarl_jax.validation import check_positive


@struct.dataclass(kw_only=True)
class EnvState(environment.EnvState):
    """What time changes."""

    position: jax.Array  # [Q], MuJoCo's `qpos`, and where the centre of mass is
    velocity: jax.Array  # [V], MuJoCo's `qvel`
    acceleration: jax.Array  # [V], which the solver of contacts begins with


@struct.dataclass(kw_only=True)
class EnvParams(environment.EnvParams):
    """The task: what a robot is to do."""

    goal: jax.Array


class MjxRobot(environment.Environment[EnvState, EnvParams]):
    """A robot of Gymnasium, version 5, moved by MJX.

    Its model and time step are those of its file. A solver of contacts that MJX lacks
    (the humanoid's, PGS) is Newton's here.

    Args:
      locomotion: what it is to do.
    """

    def __init__(self, locomotion: Locomotion):
        super().__init__()
        self.locomotion = locomotion
        self.robot = ALL_ROBOTS[locomotion.robot]
        self._mjx, self._model, host = _model(self.robot.xml)
        self._num_steps = round(self.robot.seconds / host.opt.timestep)
        self._at_rest, self._num_velocities = np.array(host.qpos0), host.nv
        self._bounds = np.array(host.actuator_ctrlrange.T, np.float32)

    def reset_env(self, key, params):
        """Draws the first pose."""
        del params
        rest = jnp.asarray(self._at_rest, jnp.result_type(float))
        position, velocity = first_pose(key, self.robot, rest, self._num_velocities)
        if self.robot.sees_mass_centre:
            data = self._data(qpos=position)
            data = self._mjx.com_pos(
                self._model, self._mjx.kinematics(self._model, data)
            )
            position = jnp.concatenate([position, data.subtree_com[0, :2]])
        state = EnvState(
            time=0,
            position=position,
            velocity=velocity,
            acceleration=jnp.zeros_like(velocity),
        )
        return self.locomotion.observe(position, velocity), state

    def step_env(self, key, state, action, params):
        """Takes a control step."""
        del key
        data = self._data(
            qpos=state.position[: self._at_rest.size],
            qvel=state.velocity,
            qacc_warmstart=state.acceleration,
            ctrl=jnp.asarray(action, state.velocity.dtype),
        )
        data = jax.lax.fori_loop(
            0, self._num_steps, lambda _, d: self._mjx.step(self._model, d), data
        )
        position, velocity = data.qpos, data.qvel
        if self.robot.sees_mass_centre:
            position = jnp.concatenate([position, data.subtree_com[0, :2]])
        reward = self.locomotion.reward(
            state.position, position, jnp.asarray(action), params.goal
        )
        state = EnvState(
            time=state.time + 1,
            position=position,
            velocity=velocity,
            acceleration=data.qacc_warmstart,
        )
        obs = self.locomotion.observe(position, velocity)
        return obs, state, reward, self.is_terminated(state, params), {}

    def _data(self, **parts):
        return self._mjx.make_data(self._model).replace(**parts)

    def is_terminated(self, state, params):
        """Returns whether it has fallen."""
        del params
        return self.locomotion.fallen(state.position, state.velocity)

    @property
    def name(self) -> str:
        """Environment name."""
        return f"MJX {self.locomotion.robot}"

    @property
    def num_actions(self) -> int:
        """Motors."""
        return self._bounds.shape[1]

    def action_space(self, params=None):
        """What the motors take, in units of their gears."""
        del params
        low, high = self._bounds
        return spaces.Box(low, high, low.shape)

    def observation_space(self, params):
        """Unbounded."""
        del params
        num_positions = self._at_rest.size + 2 * self.robot.sees_mass_centre
        parts = jnp.zeros(num_positions), jnp.zeros(self._num_velocities)
        obs = jax.eval_shape(self.locomotion.observe, *parts)
        return spaces.Box(-math.inf, math.inf, obs.shape)


def is_installed() -> bool:
    """Tells whether MJX is there."""
    return (
        importlib.util.find_spec("mujoco") is not None
        and importlib.util.find_spec("mujoco.mjx") is not None
    )


@functools.cache
def _model(xml: str) -> tuple[Any, Any, Any]:
    """Returns MJX, its model of a robot, and MuJoCo's."""
    with contextlib.redirect_stdout(io.StringIO()):  # it says what else it can use
        mjx: Any = importlib.import_module("mujoco.mjx")
    mujoco: Any = importlib.import_module("mujoco")
    assets = importlib.resources.files("gymnasium") / "envs" / "mujoco" / "assets"
    with silence():
        text = (assets / xml).read_text(encoding="utf-8")
        model = mujoco.MjModel.from_xml_string(text)
    if model.opt.solver == mujoco.mjtSolver.mjSOL_PGS:
        model.opt.solver = mujoco.mjtSolver.mjSOL_NEWTON
    with jax.ensure_compile_time_eval(), standard_promotion():
        return mjx, mjx.put_model(model), model


def mjx_family(definition: Locomotion) -> TaskDistribution:
    """Makes a family of robot tasks, simulated by MJX inside the compiled step.

    What it sees, is paid for and ends by are those of `mujoco_family`. Compiling takes
    a minute or two, and on a CPU MuJoCo on the host is many times as fast.

    Args:
      definition: of `metarl_jax.envs.locomotion`, `.ant` or `.humanoid`.

    Returns:
      The family.

    Raises:
      ValueError: if MJX is not installed, or the horizon is below 1.
    """
    if not is_installed():
        raise ValueError(
            "MJX is required for the engine mjx; install it with: "
            'pip install "metarl-jax[mjx]"'
        )
    check_positive(horizon=definition.horizon)

    def sample(key):
        return EnvParams(
            max_steps_in_episode=definition.horizon, goal=definition.sample_goal(key)
        )

    # A reset draws the first pose and nothing else.
    return gymnax_family(
        MjxRobot(definition), sample, horizon=definition.horizon, allow_resampling=True
    )
