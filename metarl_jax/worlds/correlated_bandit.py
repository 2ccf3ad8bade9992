"""Two arms, of which one tells of the other (Wang et al. 2016, arXiv 1611.05763)."""

from typing import Literal

from metarl_jax.envs import bandit
from metarl_jax.recipe import World
from metarl_jax.types import TaskDistribution


def tasks(
    *,
    family: Literal["independent", "uniform", "easy", "medium", "hard"] = "medium",
    horizon: int = 100,
) -> TaskDistribution:
    """Builds a family of two arms.

    Args:
      family: how the arms are related.
      horizon: pulls of an episode.
    """
    if family == "independent":
        return bandit.bernoulli_bandit(num_arms=2, horizon=horizon)
    return bandit.correlated_bandit(family=family, horizon=horizon)


WANG = {
    "core": "lstm",
    "size": 48,
    "show_time": True,
    "num_tasks": 128,
    "num_episodes": 1,
    "num_minibatches": 8,
    "gae_lambda": 0.9,
    "entropy_coeff": 0.04,
    "num_steps": 500,
    "decay_steps": 500,
    "num_eval_tasks": 4000,
    "num_eval_episodes": 1,
    "num_adaptation_steps": 0,
}

correlated_bandit = World(
    tasks,
    defaults={
        "gradient": {
            "num_tasks": 40,
            "num_episodes": 2,
            "inner_lr": 1.0,
            "hidden_sizes": (32,),
            "num_eval_tasks": 200,
            "num_eval_episodes": 2,
        },
        "memory": WANG,
    },
)
