"""MAML by the whole of its gradient (Stadie et al. 2018, arXiv 1803.01118)."""

from metarl_jax.algorithms.emaml import emaml as make_emaml
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
    adaptation: Adaptation = Adaptation(inner_surrogate="score-function"),
    correction_coeff: float = 0.01,
    meta_gradient: MetaGradient = MetaGradient(),
    outer: OuterUpdate = OuterUpdate(),
) -> MetaAlgorithm:
    """Builds E-MAML.

    Args:
      correction_coeff: weight of the score correction, which the paper has whole: the
        gradient through the data that were adapted to, noisy where they are many.
    """
    return make_emaml(
        tasks,
        policy.make(tasks, tasks.horizon),
        num_episodes=rounds.num_episodes,
        correction_coeff=correction_coeff,
        outer_optimizer=outer.make(),
        differentiation=meta_gradient.differentiation,
        **adaptation.arguments(rounds.num_tasks),
    )


emaml = Method("emaml", build, "gradient")
