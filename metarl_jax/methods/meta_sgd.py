"""MAML that learns each parameter's step size (Li et al. 2017, arXiv 1707.09835)."""

from metarl_jax.algorithms.meta_sgd import meta_sgd as make_meta_sgd
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
    meta_gradient: MetaGradient = MetaGradient(),
    outer: OuterUpdate = OuterUpdate(),
) -> MetaAlgorithm:
    """Builds Meta-SGD, whose step sizes all begin as `inner_lr`."""
    arguments = adaptation.arguments(rounds.num_tasks)
    del arguments["inner_optimizer"]
    return make_meta_sgd(
        tasks,
        policy.make(tasks, tasks.horizon),
        num_episodes=rounds.num_episodes,
        initial_rate=adaptation.inner_lr,
        outer_optimizer=outer.make(),
        differentiation=meta_gradient.differentiation,
        **arguments,
    )


meta_sgd = Method("meta-sgd", build, "gradient")
