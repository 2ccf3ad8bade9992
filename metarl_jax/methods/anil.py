"""MAML of which only the head adapts (Raghu et al. 2020, arXiv 1909.09157)."""

from typing import Literal

from metarl_jax.algorithms.anil import anil as make_anil
from metarl_jax.algorithms.anil import body, head
from metarl_jax.recipe import Method
from metarl_jax.settings import (
    Adaptation,
    MetaGradient,
    OuterUpdate,
    PolicySettings,
    Rounds,
)
from metarl_jax.types import MetaAlgorithm, TaskDistribution
from metarl_jax.validation import check_choice


def build(
    tasks: TaskDistribution,
    policy: PolicySettings,
    *,
    rounds: Rounds = Rounds(),
    adaptation: Adaptation = Adaptation(),
    adapts: Literal["head", "body"] = "head",
    meta_gradient: MetaGradient = MetaGradient(),
    outer: OuterUpdate = OuterUpdate(),
) -> MetaAlgorithm:
    """Builds MAML of which a part adapts.

    Args:
      adapts: the part of the network that adapts.
    """
    check_choice(("head", "body"), adapts=adapts)
    return make_anil(
        tasks,
        policy.make(tasks, tasks.horizon),
        num_episodes=rounds.num_episodes,
        adapts=head if adapts == "head" else body,
        outer_optimizer=outer.make(),
        differentiation=meta_gradient.differentiation,
        **adaptation.arguments(rounds.num_tasks),
    )


anil = Method("anil", build, "gradient")
boil = Method("boil", build, "gradient", defaults={"adapts": "body"})
"""MAML of which all but the head adapts (Oh et al. 2021, arXiv 2008.08882)."""
