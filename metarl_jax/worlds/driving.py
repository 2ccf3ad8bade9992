"""A car of unknown grip, steering and load among others, on a road of three lanes."""

from typing import Any, Literal

import jax
import jax.numpy as jnp

from metarl_jax.envs.driving.family import driving_family
from metarl_jax.recipe import World
from metarl_jax.types import TaskDistribution


def tasks(
    *,
    horizon: int = 75,
    num_vehicles: int = 8,
    heldout: Literal["inside", "outside"] = "inside",
) -> TaskDistribution:
    """Builds the family.

    Args:
      horizon: steps of 0.2 s in an episode.
      num_vehicles: others on the road.
      heldout: held-out tasks from within the ranges of meta-training, or beyond them.
    """
    return driving_family(horizon=horizon, num_vehicles=num_vehicles, heldout=heldout)


def shown(task: Any) -> jax.Array:
    """Returns what who knows the car is told: it and the traffic, each about 1."""
    car = [task.friction, task.wheelbase / 3, 3 * task.steering_delay, task.load]
    return jnp.stack([*car, 30 * task.density, task.aggressiveness])


driving = World(
    tasks,
    shown=shown,
    defaults={
        "gradient": {"num_episodes": 10, "num_eval_episodes": 10},
        "memory": {
            "num_tasks": 128,
            "num_episodes": 2,
            "num_minibatches": 8,
            "num_epochs": 4,
            "lr": 1e-3,
            "entropy_coeff": 0.0,
            "value_scale": 20.0,
            "num_steps": 250,
            "decay_steps": 250,
            "num_eval_tasks": 200,
            "num_eval_episodes": 1,
            "num_adaptation_steps": 1,
        },
        "inference": {
            "num_steps": 40,
            "num_eval_episodes": 1,
            "num_adaptation_steps": 2,
        },
    },
)
