"""Adaptation of a context alone (Zintgraf et al. 2019, arXiv 1810.03642)."""

from metarl_jax.algorithms.cavia import cavia as make_cavia
from metarl_jax.recipe import Method
from metarl_jax.settings import (
    Adaptation,
    MetaGradient,
    OuterUpdate,
    PolicySettings,
    Rounds,
)
from metarl_jax.types import MetaAlgorithm, TaskDistribution


def build(
    tasks: TaskDistribution,
    policy: PolicySettings,
    *,
    rounds: Rounds = Rounds(),
    adaptation: Adaptation = Adaptation(inner_lr=0.5),
    context_size: int = 5,
    meta_gradient: MetaGradient = MetaGradient(),
    outer: OuterUpdate = OuterUpdate(),
) -> MetaAlgorithm:
    """Builds CAVIA.

    Args:
      context_size: numbers that adapt.
    """
    return make_cavia(
        tasks,
        policy.make(tasks, tasks.horizon),
        num_episodes=rounds.num_episodes,
        context_size=context_size,
        outer_optimizer=outer.make(),
        differentiation=meta_gradient.differentiation,
        **adaptation.arguments(rounds.num_tasks),
    )


cavia = Method("cavia", build, "gradient")
