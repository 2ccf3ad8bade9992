"""A planar arm of two links whose tip is to reach a place that it is not told.

The arm of gymnax's `Reacher`, without its weight and without collisions: torques
accelerate the joints, α' = c a - b α for torques a in [-1, 1], and the reward of a step
is exp(-‖tip - goal‖²) with the tip at Σ_i l_i (cos φ_i, sin φ_i), the angles φ measured
against the ground. The goal, and where it is asked for the lengths l and the damping b,
are the task; the agent sees the angles' cosines and sines, the velocities and the tip.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

from metarl_jax.envs.gymnax_family import gymnax_family
from metarl_jax.envs.ranges import Range, uniform
from metarl_jax.types import TaskDistribution
from metarl_jax.validation import check_positive

TORQUE = 5.0  # c: radians per second squared
DT = 0.05  # seconds


@struct.dataclass
class EnvState(environment.EnvState):
    """Where the arm is."""

    angles: jax.Array  # [2] φ, radians
    velocities: jax.Array  # [2] α, radians per second
    time: int


@struct.dataclass
class EnvParams(environment.EnvParams):
    """The task."""

    goal: jax.Array | tuple[float, float] = (1.0, 0.0)
    lengths: jax.Array | tuple[float, float] = (1.0, 1.0)
    damping: float | jax.Array = 0.5  # 1 / second
    max_steps_in_episode: int = 50


class Reacher(environment.Environment[EnvState, EnvParams]):
    """The arm; see the module."""

    @property
    def default_params(self) -> EnvParams:
        """A task."""
        return EnvParams()

    @property
    def name(self) -> str:
        """Environment name."""
        return "Reacher"

    @property
    def num_actions(self) -> int:
        """Number of torques."""
        return 2

    def reset_env(self, key, params):
        """Starts at rest, at random angles."""
        angles = jax.random.uniform(key, (2,), minval=-jnp.pi, maxval=jnp.pi)
        state = EnvState(angles=angles, velocities=jnp.zeros(2), time=0)
        return self.get_obs(state, params), state

    def step_env(self, key, state, action, params):
        """Accelerates the joints for one step of 0.05 seconds."""
        del key
        accelerations = TORQUE * action - params.damping * state.velocities
        velocities = state.velocities + DT * accelerations
        angles = state.angles + DT * velocities
        state = EnvState(angles=angles, velocities=velocities, time=state.time + 1)
        distance = tip(angles, params.lengths) - jnp.asarray(params.goal)
        reward = jnp.exp(-jnp.sum(distance**2))
        return self.get_obs(state, params), state, reward, jnp.asarray(False), {}

    def get_obs(self, state, params=None, key=None):
        """Returns cosines, sines, velocities and the tip, `[8]`."""
        del key
        angles = state.angles
        parts = [jnp.cos(angles), jnp.sin(angles), state.velocities]
        return jnp.concatenate([*parts, tip(angles, params.lengths)])  # pyright: ignore

    def is_terminated(self, state, params):
        """Never."""
        del state, params
        return jnp.asarray(False)

    def action_space(self, params=None):
        """Two torques."""
        del params
        return spaces.Box(-1.0, 1.0, (2,))

    def observation_space(self, params):
        """Unbounded, but for the cosines and sines."""
        del params
        return spaces.Box(-jnp.inf, jnp.inf, (8,))


def tip(angles: jax.Array, lengths: Any) -> jax.Array:
    """Returns where the arm ends, `[2]`, by angles `[2]` and lengths `[2]`."""
    lengths = jnp.asarray(lengths)
    return jnp.stack([lengths @ jnp.cos(angles), lengths @ jnp.sin(angles)])


def reacher(
    *,
    horizon: int = 50,
    length: Range = (1.0, 1.0),
    damping: Range = (0.5, 0.5),
) -> TaskDistribution:
    """Builds the arm with goals drawn uniformly from what it can reach.

    Args:
      horizon: steps of an episode.
      length: of each link; uniform in the range.
      damping: 1 / second; uniform in the range.

    Returns:
      The family; held-out tasks are new draws.

    Raises:
      ValueError: if a range is not positive, finite and in order, or the horizon is
        below 1.
    """
    check_positive(horizon=horizon)
    env = Reacher()
    draw_length, draw_damping = uniform(length=length), uniform(damping=damping)

    def sample(key):
        key_lengths, key_damping, key_radius, key_angle = jax.random.split(key, 4)
        keys = jax.random.split(key_lengths)
        lengths = jax.vmap(draw_length)(keys)["length"]
        # Uniform over the ring between the difference and the sum of the lengths.
        inner, outer = jnp.abs(lengths[0] - lengths[1]), jnp.sum(lengths)
        u = jax.random.uniform(key_radius)
        radius = jnp.sqrt(inner**2 + u * (outer**2 - inner**2))
        angle = jax.random.uniform(key_angle, maxval=2 * jnp.pi)
        goal = radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)])
        drawn = draw_damping(key_damping)["damping"]
        return EnvParams(goal=goal, lengths=lengths, damping=drawn)

    return gymnax_family(env, sample, horizon=horizon)
