"""highway-env (Leurent 2018) on the host: its configuration is the task.

A car among twenty others on a straight road. How many lanes there are, how dense the
traffic is, how the others drive and what the right-most lane is worth is not told. It
takes some twenty steps in a second of the CPU: made to evaluate on, and to compare
with what `metarl_jax.envs.driving` compiles.
"""

import importlib
import importlib.util
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
from flax import struct

from metarl_jax.envs.gymnasium_family import gymnasium_family
from metarl_jax.envs.ranges import Range, uniform
from metarl_jax.types import TaskDistribution, Trajectory
from metarl_jax.validation import check_positive

HORIZON = 30  # highway-env's own time limit, a second a step
SPEED_UNIT = 80.0  # metres per second, that an observed velocity of 1 stands for
DRIVERS = ("IDMVehicle", "AggressiveVehicle", "DefensiveVehicle")


@struct.dataclass
class HighwayTask:
    """What is put into the configuration."""

    lanes: jax.Array  # [] int32
    density: jax.Array  # [] of the traffic, 1 is highway-env's own
    drivers: jax.Array  # [] int32, which of `DRIVERS` the others are
    right_lane: jax.Array  # [] reward of the right-most lane; full speed's is 0.4


def is_installed() -> bool:
    """Tells whether highway-env is there."""
    return importlib.util.find_spec("highway_env") is not None


def configuration(task: HighwayTask) -> dict[str, Any]:
    """Returns what of highway-env's configuration a task decides."""
    drivers = DRIVERS[int(task.drivers)]
    return {
        "lanes_count": int(task.lanes),
        "vehicles_density": float(task.density),
        "other_vehicles_type": f"highway_env.vehicle.behavior.{drivers}",
        "right_lane_reward": float(task.right_lane),
    }


def _collided(task: HighwayTask, trajectory: Trajectory) -> jax.Array:
    """1 if the car touched another, which alone ends an episode."""
    del task
    return jnp.any(trajectory.terminated & trajectory.mask).astype(jnp.float32)


def _speed(task: HighwayTask, trajectory: Trajectory) -> jax.Array:
    """The mean speed along the road, metres per second; the first car is one's own."""
    del task
    along = SPEED_UNIT * trajectory.next_obs[:, 0, 3]
    return jnp.mean(along, where=trajectory.mask)


def highway(
    *,
    horizon: int = HORIZON,
    density: Range = (0.5, 1.5),
    right_lane: Range = (0.05, 0.4),
) -> TaskDistribution:
    """Builds roads of 2 to 4 lanes, with drivers of one of three kinds.

    What is seen are the nearest five cars, one's own first: whether one is there, where
    it is and how it moves, `[25]`. Actions change the lane or the speed that is kept:
    left, nothing, right, faster, slower.

    Args:
      horizon: T, steps of a second.
      density: of the traffic; uniform in the range, 1 is highway-env's own.
      right_lane: the right-most lane's reward, uniform in the range.

    Returns:
      The family; held-out tasks are new draws, and `"collisions"` and `"speed (m/s)"`
      are its measures.

    Raises:
      ValueError: if highway-env is not installed, the horizon is not from 1 to 30, or a
        range is not positive, finite and in order.
    """
    check_positive(horizon=horizon)
    if horizon > HORIZON:
        raise ValueError(f"horizon must be at most {HORIZON}; got {horizon}")
    draw = uniform(density=density, right_lane=right_lane)
    if not is_installed():
        raise ValueError(
            "highway-env is required for its roads; install it with: "
            'pip install "metarl-jax[driving]"'
        )
    importlib.import_module("highway_env")  # which tells Gymnasium of its roads

    def sample(key):
        key_lanes, key_drivers, key_weights = jax.random.split(key, 3)
        return HighwayTask(
            lanes=jax.random.randint(key_lanes, (), 2, 5, jnp.int32),
            drivers=jax.random.randint(key_drivers, (), 0, len(DRIVERS), jnp.int32),
            **draw(key_weights),
        )

    return gymnasium_family(
        lambda: gymnasium.make("highway-fast-v0"),
        sample,
        lambda env, task: env.unwrapped.configure(configuration(task)),
        horizon=horizon,
    )._replace(measures={"collisions": _collided, "speed (m/s)": _speed})
