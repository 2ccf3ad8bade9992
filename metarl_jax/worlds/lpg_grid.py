"""Grids with objects that pay and come back (Oh et al. 2020, arXiv 2007.08794)."""

from typing import Literal

from metarl_jax.envs import lpg_grid as family
from metarl_jax.recipe import World
from metarl_jax.types import TaskDistribution
from metarl_jax.validation import check_positive


def tasks(
    *,
    layout: family.LayoutName = "dense",
    observation: Literal["features", "state"] = "features",
    horizon: int = 100,
) -> TaskDistribution:
    """Builds the grids.

    Args:
      layout: which of ten, or one of five for every task.
      observation: features for networks, or the number of a state for a table.
      horizon: time limit of an episode in steps; the layouts' own are up to 2,000.
    """
    check_positive(horizon=horizon)
    return family.lpg_grid(layout=layout, observation=observation, horizon=horizon)


lpg_grid = World(
    tasks,
    defaults={
        "gradient": {"inner_lr": 1.0},
        "rule": {"num_steps": 1000, "num_adaptation_steps": 40},
    },
)
