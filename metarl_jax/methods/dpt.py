"""Pretraining on optimal actions, in context (Lee et al. 2023, arXiv 2306.14892)."""

import optax

from metarl_jax.algorithms.dpt import dpt as make_dpt
from metarl_jax.recipe import Method
from metarl_jax.settings import PolicySettings, Trials, trials_for_device
from metarl_jax.types import MetaAlgorithm, TaskDistribution
from metarl_jax.validation import check_above_zero, check_positive


def build(
    tasks: TaskDistribution,
    policy: PolicySettings,
    *,
    trials: Trials = Trials(num_tasks=64, num_episodes=1),
    lr: float = 3e-3,
    decay_steps: int = 1000,
    task_group_size: int | None = None,
) -> MetaAlgorithm:
    """Builds DPT, for worlds that know their optimal actions.

    Args:
      lr: first learning rate of Adam; it falls to zero along a cosine.
      decay_steps: meta-training steps until it has fallen.
      task_group_size: trials whose gradients are computed at once; by default a few on
        a CPU where a transformer or a linear recurrence remembers, all elsewhere.
    """
    check_above_zero(lr=lr)
    check_positive(decay_steps=decay_steps)
    schedule = optax.cosine_decay_schedule(lr, decay_steps)
    length = trials.num_episodes * tasks.horizon
    memory_policy = policy.make(tasks, length)
    return make_dpt(
        tasks,
        memory_policy,
        num_tasks=trials.num_tasks,
        num_episodes=trials.num_episodes,
        outer_optimizer=optax.chain(
            optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=1e-4)
        ),
        task_group_size=trials_for_device(task_group_size, memory_policy, length),
    )


dpt = Method("dpt", build, "memory", policy="memory")
