"""Two colours that change their parts (Flennerhag et al. 2022, arXiv 2109.04504)."""

from metarl_jax.envs import two_colors as family
from metarl_jax.recipe import World
from metarl_jax.types import TaskDistribution
from metarl_jax.validation import check_at_least


def tasks(
    *, horizon: int = 100, grid_size: int = 5, swap_period: int = 100_000
) -> TaskDistribution:
    """Builds the grid.

    Args:
      horizon: time limit of an episode in steps.
      grid_size: cells along a side.
      swap_period: steps of an episode until the colours change their parts.
    """
    check_at_least(2, grid_size=grid_size)
    return family.two_colors(horizon=horizon, size=grid_size, swap_period=swap_period)


two_colors = World(
    tasks,
    defaults={
        "gradient": {"inner_lr": 1.0, "num_episodes": 20},
        "memory": {"num_episodes": 2},
    },
)
