"""A step towards the adapted parameters (Nichol et al. 2018, arXiv 1803.02999)."""

from metarl_jax.algorithms.reptile import reptile as make_reptile
from metarl_jax.recipe import Method
from metarl_jax.settings import Adaptation, PolicySettings, Rounds
from metarl_jax.types import MetaAlgorithm, TaskDistribution


def build(
    tasks: TaskDistribution,
    policy: PolicySettings,
    *,
    rounds: Rounds = Rounds(),
    adaptation: Adaptation = Adaptation(num_inner_steps=5, inner_lr=0.5),
    outer_lr: float = 1.0,
) -> MetaAlgorithm:
    """Builds Reptile.

    Args:
      outer_lr: how far the parameters move towards the mean of the adapted ones.
    """
    return make_reptile(
        tasks,
        policy.make(tasks, tasks.horizon),
        num_episodes=rounds.num_episodes,
        outer_lr=outer_lr,
        **adaptation.arguments(rounds.num_tasks),
    )


reptile = Method("reptile", build, "gradient")
