"""A learned policy gradient (Oh et al. 2020, arXiv 2007.08794)."""

import optax

from metarl_jax.algorithms.lpg import lpg as make_lpg
from metarl_jax.recipe import Method
from metarl_jax.rule_network import UpdateRule
from metarl_jax.settings import Lives, MetaGradient, PolicySettings, adam
from metarl_jax.types import MetaAlgorithm, TaskDistribution
from metarl_jax.validation import check_above_zero, check_positive


def build(
    tasks: TaskDistribution,
    policy: PolicySettings,
    *,
    lives: Lives = Lives(),
    lifetime: int = 500,
    num_inner_steps: int = 5,
    inner_lr: float = 0.5,
    num_predictions: int = 8,
    rule_size: int = 64,
    discount: float = 0.99,
    gae_lambda: float = 0.95,
    entropy_coeff: float = 0.05,
    outer_lr: float = 1e-3,
    sigma: float | None = None,
    temporal: bool = False,
    task_group_size: int | None = None,
    meta_gradient: MetaGradient = MetaGradient(),
) -> MetaAlgorithm:
    """Builds LPG.

    Args:
      lifetime: updates of a life, after which another begins in another task.
      num_inner_steps: updates that the meta-gradient goes through.
      inner_lr: size of an agent's steps.
      num_predictions: classes of what an agent predicts.
      rule_size: of the rule's LSTM.
      discount: discount factor per step, of what the rule is judged by.
      gae_lambda: exponent of the advantages' average, likewise.
      entropy_coeff: weight of the agents' entropy, likewise.
      outer_lr: learning rate of Adam as the meta-update.
      sigma: standard deviation of the rule's perturbations, where it is learned by
        evolution; by default it is learned by gradients.
      temporal: show the rule how much of a life is over.
      task_group_size: lives whose gradients are computed at once.
    """
    check_above_zero(inner_lr=inner_lr)
    check_positive(rule_size=rule_size)
    return make_lpg(
        tasks,
        policy.make(tasks, tasks.horizon, value_head=True),
        **lives.arguments(),
        lifetime=lifetime,
        num_inner_steps=num_inner_steps,
        rule=UpdateRule(num_predictions, rule_size, temporal=temporal),
        num_predictions=num_predictions,
        inner_optimizer=optax.sgd(inner_lr),
        outer_optimizer=adam(outer_lr=outer_lr),
        discount=discount,
        gae_lambda=gae_lambda,
        entropy_coeff=entropy_coeff,
        sigma=sigma,
        temporal=temporal,
        task_group_size=task_group_size,
        differentiation=meta_gradient.differentiation,
    )


lpg = Method("lpg", build, "rule")
ta_lpg = Method(
    "ta-lpg",
    build,
    "rule",
    defaults={"sigma": 0.1, "outer_lr": 1e-2, "temporal": True},
)
"""LPG that knows an agent's age, by evolution (Jackson et al. 2024, 2402.05828)."""
