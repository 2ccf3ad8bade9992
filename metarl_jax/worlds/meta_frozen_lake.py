"""A frozen lake, another in every task, with some tries at it (Grigsby et al. 2024)."""

from metarl_jax.envs import meta_frozen_lake as family
from metarl_jax.recipe import World
from metarl_jax.types import TaskDistribution
from metarl_jax.validation import check_at_least


def tasks(
    *,
    horizon: int = 20,
    lake_size: int = 5,
    frozen: float = 0.8,
    hard: bool = False,
    recover: bool = False,
) -> TaskDistribution:
    """Builds the lakes.

    Args:
      horizon: time limit of an episode in steps.
      lake_size: cells along a side.
      frozen: probability of ice.
      hard: swap two ways, blur what is seen and break what is left.
      recover: put back who falls, at a cost.
    """
    check_at_least(2, lake_size=lake_size)
    return family.meta_frozen_lake(
        horizon=horizon, size=lake_size, frozen=frozen, hard=hard, recover=recover
    )


meta_frozen_lake = World(
    tasks,
    defaults={
        "gradient": {"inner_lr": 1.0, "num_episodes": 40},
        "memory": {
            "num_episodes": 6,
            "entropy_coeff": 0.01,
            "num_steps": 400,
            "decay_steps": 400,
            "num_eval_tasks": 500,
            "num_eval_episodes": 1,
            "num_adaptation_steps": 5,
        },
        "amago": {"num_tasks": 8, "num_steps": 400, "decay_steps": 400},
    },
)
