"""Gradients through policy-gradient steps (Finn et al. 2017, arXiv 1703.03400)."""

from metarl_jax.algorithms.maml import maml as make_maml
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
    adaptation: Adaptation = Adaptation(),
    first_order: bool = False,
    meta_gradient: MetaGradient = MetaGradient(),
    outer: OuterUpdate = OuterUpdate(),
) -> MetaAlgorithm:
    """Builds MAML.

    Args:
      first_order: drop the second derivatives.
    """
    return make_maml(
        tasks,
        policy.make(tasks, tasks.horizon),
        num_episodes=rounds.num_episodes,
        outer_optimizer=outer.make(),
        first_order=first_order,
        differentiation=meta_gradient.differentiation,
        **adaptation.arguments(rounds.num_tasks),
    )


maml = Method("maml", build, "gradient")
maml_dice = Method(
    "maml-dice", build, "gradient", defaults={"inner_surrogate": "loaded-dice"}
)
"""MAML with Loaded DiCE inside (Farquhar et al. 2019, arXiv 1909.10549)."""
fomaml = Method("fomaml", build, "gradient", defaults={"first_order": True})
"""MAML without second derivatives."""
