"""A dark room with a key and then a door that pay (Laskin et al. 2022)."""

from typing import Literal

from metarl_jax.envs import room_key_door as family
from metarl_jax.recipe import World
from metarl_jax.types import TaskDistribution
from metarl_jax.validation import check_at_least


def tasks(
    *,
    horizon: int = 50,
    room_size: int = 9,
    random_actions: bool = False,
    observation: Literal["one_hot", "coordinates"] = "one_hot",
) -> TaskDistribution:
    """Builds the room.

    Args:
      horizon: time limit of an episode in steps.
      room_size: cells along a side.
      random_actions: draw for every task what an action does.
      observation: how the agent's cell is shown.
    """
    check_at_least(2, room_size=room_size)
    return family.room_key_door(
        horizon=horizon,
        size=room_size,
        random_actions=random_actions,
        observation=observation,
    )


room_key_door = World(
    tasks,
    defaults={
        "gradient": {"inner_lr": 1.0, "num_episodes": 40},
        "memory": {
            "entropy_coeff": 0.01,
            "num_steps": 600,
            "decay_steps": 600,
            "num_eval_tasks": 500,
            "num_eval_episodes": 1,
            "num_adaptation_steps": 3,
        },
        "amago": {"num_tasks": 8, "num_steps": 400, "decay_steps": 400},
    },
)
