"""A disc that swims to a place it is not told, among urchins (gymnax's `Swimmer`).

Accelerated by at most 1, in steps of 0.05 seconds; the reward of a step is
exp(-d² / 2) at the distance d to the goal, times 1 - exp(-30 u²) for every urchin at a
distance u. The goal and the five urchins, each uniform in [-1, 1]², are the task; the
agent sees the urchins, where it is and how fast, but not the goal.
"""

from gymnax.environments.misc.swimmer import Swimmer

from metarl_jax.envs.gymnax_family import gymnax_family
from metarl_jax.recipe import World
from metarl_jax.types import TaskDistribution
from metarl_jax.validation import check_positive
from metarl_jax.worlds.reacher import reacher


def tasks(*, horizon: int = 100, num_urchins: int = 5) -> TaskDistribution:
    """Builds the family.

    Args:
      horizon: steps of an episode.
      num_urchins: how many to keep away from.
    """
    check_positive(horizon=horizon, num_urchins=num_urchins)
    return gymnax_family(
        Swimmer(num_urchins),
        drawn_at_reset=("goal_xy", "urchin_xys"),
        horizon=horizon,
        encode=lambda obs: obs[:-2],
    )


swimmer = World(
    tasks,
    defaults={
        **reacher.defaults,
        "gradient": {"num_tasks": 20, "num_episodes": 20, "discount": 0.95},
        "memory": {
            **reacher.defaults["memory"],
            "value_scale": 20.0,
            "num_steps": 150,
            "decay_steps": 150,
        },
    },
)
