"""A board of goals, death, ice, energy and transporters (Stadie et al. 2018)."""

from metarl_jax.envs import krazy_world as family
from metarl_jax.recipe import World
from metarl_jax.types import TaskDistribution
from metarl_jax.validation import check_at_least


def tasks(
    *,
    horizon: int = 90,
    board_size: int = 10,
    random_actions: bool = False,
    random_kinds: bool = False,
    observation: family.Observation = "window",
) -> TaskDistribution:
    """Builds the boards.

    Args:
      horizon: time limit of an episode in steps; 90 is all the energy there is.
      board_size: squares along a side.
      random_actions: draw for every task what an action does.
      random_kinds: draw for every task which number shows which kind of square.
      observation: the squares around the agent, or the board.
    """
    check_at_least(2, board_size=board_size)
    return family.krazy_world(
        horizon=horizon,
        size=board_size,
        random_actions=random_actions,
        random_kinds=random_kinds,
        observation=observation,
    )


krazy_world = World(
    tasks,
    defaults={
        "gradient": {"inner_lr": 1.0, "num_episodes": 20},
        "memory": {
            "num_episodes": 3,
            "lr": 1e-3,
            "entropy_coeff": 0.01,
            "num_steps": 400,
            "decay_steps": 400,
            "num_eval_tasks": 500,
            "num_eval_episodes": 1,
            "num_adaptation_steps": 2,
        },
    },
)
