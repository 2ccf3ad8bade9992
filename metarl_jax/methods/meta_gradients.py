"""Meta-gradients of a learner's own numbers (Xu et al. 2018, arXiv 1805.09801)."""

from typing import Literal

from metarl_jax.algorithms.meta_gradients import meta_gradients as make_meta_gradients
from metarl_jax.learned_numbers import Name
from metarl_jax.recipe import Method
from metarl_jax.settings import Lives, MetaGradient, PolicySettings, adam
from metarl_jax.types import MetaAlgorithm, TaskDistribution
from metarl_jax.validation import check_above_zero


def build(
    tasks: TaskDistribution,
    policy: PolicySettings,
    *,
    lives: Lives = Lives(num_tasks=16, rollout_length=16),
    lifetime: int | None = 500,
    num_inner_steps: int = 7,
    num_bootstrap_steps: int | None = None,
    distance: Literal["kl", "squared"] = "kl",
    learned: tuple[Name, ...] = (
        *("learning_rate", "discount", "gae_lambda", "entropy_coeff"),
    ),
    inner_lr: float = 0.1,
    discount: float = 0.99,
    gae_lambda: float = 0.95,
    entropy_coeff: float = 0.05,
    value_coeff: float = 0.5,
    outer_lr: float = 1e-3,
    reactive_sizes: tuple[int, ...] | None = None,
    shared: bool = True,
    task_group_size: int | None = None,
    meta_gradient: MetaGradient = MetaGradient(),
) -> MetaAlgorithm:
    """Builds meta-gradients.

    Args:
      lifetime: updates of a life, after which another begins in another task; by
        default lives do not end.
      num_inner_steps: updates that the meta-gradient goes through.
      num_bootstrap_steps: updates from there to a target; by default the meta-gradient
        is that of the next pieces' own loss.
      distance: to the target.
      learned: which numbers are learned.
      inner_lr: learning rate that lives begin with.
      discount: discount factor that they begin with.
      gae_lambda: exponent of the advantages' average that they begin with.
      entropy_coeff: weight of the entropy that they begin with.
      value_coeff: weight of the squared value error.
      outer_lr: learning rate of Adam as the meta-update.
      reactive_sizes: hidden sizes of a network that makes the numbers of the latest
        rewards; by default they are constants.
      shared: have one rule for all lives.
      task_group_size: lives whose gradients are computed at once.
    """
    check_above_zero(inner_lr=inner_lr)
    return make_meta_gradients(
        tasks,
        policy.make(tasks, tasks.horizon, value_head=True),
        **lives.arguments(),
        lifetime=lifetime,
        num_inner_steps=num_inner_steps,
        num_bootstrap_steps=num_bootstrap_steps,
        distance=distance,
        learned=learned,
        learning_rate=inner_lr,
        discount=discount,
        gae_lambda=gae_lambda,
        entropy_coeff=entropy_coeff,
        value_coeff=value_coeff,
        outer_optimizer=adam(outer_lr=outer_lr),
        reactive_sizes=reactive_sizes,
        shared=shared,
        task_group_size=task_group_size,
        differentiation=meta_gradient.differentiation,
    )


meta_gradients = Method("meta-gradients", build, "rule")
bmg = Method("bmg", build, "rule", defaults={"num_bootstrap_steps": 8})
"""Bootstrapped meta-gradients (Flennerhag et al. 2022, arXiv 2109.04504)."""
