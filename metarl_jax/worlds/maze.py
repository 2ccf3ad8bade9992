"""A maze whose walls and goal are hidden, another one for every task."""

from metarl_jax.envs.maze import maze as family
from metarl_jax.recipe import World
from metarl_jax.types import TaskDistribution
from metarl_jax.validation import check_at_least


def tasks(
    *, horizon: int = 25, maze_size: int = 5, opened: float = 0.1
) -> TaskDistribution:
    """Builds mazes.

    Args:
      horizon: time limit of an episode in steps.
      maze_size: cells along a side.
      opened: share of the walls beside a tree's that are open.
    """
    check_at_least(3, maze_size=maze_size)
    return family(horizon=horizon, size=maze_size, opened=opened)


maze = World(
    tasks,
    defaults={
        "gradient": {"inner_lr": 1.0, "num_episodes": 40},
        "memory": {
            "num_tasks": 128,
            "num_episodes": 3,
            "num_minibatches": 8,
            "lr": 1e-3,
            "entropy_coeff": 0.03,
            "num_steps": 600,
            "decay_steps": 600,
            "num_eval_tasks": 400,
            "num_eval_episodes": 1,
            "num_adaptation_steps": 2,
        },
    },
)
