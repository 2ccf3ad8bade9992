"""Proximal meta-policy search (Rothfuss et al. 2019, arXiv 1810.06784)."""

from metarl_jax.algorithms.promp import promp as make_promp
from metarl_jax.recipe import Method
from metarl_jax.settings import (
    Adaptation,
    MetaGradient,
    PolicySettings,
    Rounds,
    adam,
)
from metarl_jax.types import MetaAlgorithm, TaskDistribution


def build(
    tasks: TaskDistribution,
    policy: PolicySettings,
    *,
    rounds: Rounds = Rounds(),
    adaptation: Adaptation = Adaptation(),
    num_epochs: int = 5,
    clip_range: float = 0.3,
    kl_coeff: float = 5e-4,
    outer_lr: float = 1e-3,
    meta_gradient: MetaGradient = MetaGradient(),
) -> MetaAlgorithm:
    """Builds ProMP.

    Args:
      num_epochs: meta-updates that use the same data.
      clip_range: a probability ratio has no gradient beyond 1 plus or minus this.
      kl_coeff: weight of the divergence from the policies that collected the data.
      outer_lr: learning rate of Adam as the meta-update.
    """
    return make_promp(
        tasks,
        policy.make(tasks, tasks.horizon),
        num_episodes=rounds.num_episodes,
        num_epochs=num_epochs,
        clip_range=clip_range,
        kl_coeff=kl_coeff,
        outer_optimizer=adam(outer_lr=outer_lr),
        differentiation=meta_gradient.differentiation,
        **adaptation.arguments(rounds.num_tasks),
    )


promp = Method("promp", build, "gradient")
maml_ppo = Method("maml-ppo", build, "gradient", defaults={"kl_coeff": 0.0})
"""MAML's objective by PPO's epochs, as a baseline of the same paper."""
