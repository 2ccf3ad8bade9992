"""A room with a cell that pays, and nothing shows which (Laskin et al. 2022)."""

from typing import Literal

from metarl_jax.envs import dark_room as family
from metarl_jax.recipe import World
from metarl_jax.types import TaskDistribution
from metarl_jax.validation import check_at_least


def tasks(
    *,
    horizon: int = 20,
    room_size: int = 9,
    start: Literal["random", "centre"] = "random",
    split: bool = True,
    observation: Literal["one_hot", "coordinates"] = "one_hot",
) -> TaskDistribution:
    """Builds the room.

    Args:
      horizon: time limit of an episode in steps.
      room_size: cells along a side.
      start: where episodes start: a cell drawn at random, or the centre.
      split: hold a fifth of the cells out as goals of the evaluation.
      observation: how the agent's cell is shown.
    """
    check_at_least(3, room_size=room_size)
    return family.dark_room(
        horizon=horizon,
        size=room_size,
        start=start,
        split=split,
        observation=observation,
    )


dark_room = World(
    tasks,
    defaults={
        "gradient": {"inner_lr": 1.0, "num_episodes": 40},
        "memory": {
            "entropy_coeff": 0.01,
            "num_steps": 600,
            "decay_steps": 600,
            "num_eval_tasks": 500,
            "num_eval_episodes": 1,
            "num_adaptation_steps": 7,
        },
    },
)
