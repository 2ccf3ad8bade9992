"""PPO on all tasks, then fine-tuned (Schulman et al. 2017, arXiv 1707.06347)."""

import optax

from metarl_jax.algorithms.pretraining import pretraining as make_pretraining
from metarl_jax.recipe import Method
from metarl_jax.settings import PolicySettings, Rounds, clipped_adam
from metarl_jax.types import MetaAlgorithm, TaskDistribution
from metarl_jax.validation import check_flags


def build(
    tasks: TaskDistribution,
    policy: PolicySettings,
    *,
    rounds: Rounds = Rounds(),
    num_epochs: int = 10,
    num_minibatches: int = 4,
    outer_lr: float = 3e-4,
    fine_tuning: bool = True,
    inner_lr: float = 3e-3,
    clip_range: float = 0.2,
    discount: float = 0.99,
    gae_lambda: float = 1.0,
) -> MetaAlgorithm:
    """Builds pretraining; its random initialisation is learning from scratch.

    Args:
      num_epochs: passes through one step's data.
      num_minibatches: updates in a pass.
      outer_lr: learning rate of Adam in pretraining; gradients are clipped.
      fine_tuning: adapt, by as many passes; otherwise what was learned stays.
      inner_lr: learning rate of Adam in fine-tuning, likewise.
      clip_range: a probability ratio has no gradient beyond 1 plus or minus this.
      discount: discount factor per step.
      gae_lambda: exponent of the advantages' average.
    """
    check_flags(fine_tuning=fine_tuning)
    tuned = clipped_adam(inner_lr=inner_lr)
    return make_pretraining(
        tasks,
        policy.make(tasks, tasks.horizon),
        num_tasks=rounds.num_tasks,
        num_episodes=rounds.num_episodes,
        num_epochs=num_epochs,
        num_minibatches=num_minibatches,
        num_inner_epochs=num_epochs,
        num_inner_minibatches=num_minibatches,
        outer_optimizer=clipped_adam(outer_lr=outer_lr),
        inner_optimizer=tuned if fine_tuning else optax.set_to_zero(),
        clip_range=clip_range,
        discount=discount,
        gae_lambda=gae_lambda,
    )


pretraining = Method("pretraining", build, "gradient")
task_shown = Method(
    "task-shown",
    build,
    "gradient",
    defaults={"show_task": True, "fine_tuning": False, "outer_lr": 1e-3},
)
"""PPO that is told the task and does not adapt: what knowing it is worth."""
