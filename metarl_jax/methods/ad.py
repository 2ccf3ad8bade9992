"""Imitating how learners learn, in context (Laskin et al. 2022, arXiv 2210.14215)."""

import optax

from metarl_jax.algorithms.ad import ad as make_ad
from metarl_jax.datasets import load_dataset, windows
from metarl_jax.recipe import Method
from metarl_jax.settings import PolicySettings, Trials, trials_for_device
from metarl_jax.types import MetaAlgorithm, TaskDistribution
from metarl_jax.validation import check_above_zero, check_positive


def build(
    tasks: TaskDistribution,
    policy: PolicySettings,
    *,
    trials: Trials = Trials(num_tasks=32, num_episodes=4),
    dataset: str = "",
    num_source_rounds: int = 20,
    num_source_episodes: int = 10,
    stride: int = 20,
    lr: float = 3e-3,
    decay_steps: int = 1000,
    task_group_size: int | None = None,
) -> MetaAlgorithm:
    """Builds algorithm distillation.

    Args:
      dataset: folder of recorded histories, as `metarl-jax record` writes it; by
        default every step collects new ones, of PPO from nothing.
      num_source_rounds: rounds of acting and adapting of a history that is collected.
      num_source_episodes: episodes of such a round.
      stride: every which episode of a history stands in a window.
      lr: first learning rate of Adam; it falls to zero along a cosine.
      decay_steps: training steps until it has fallen.
      task_group_size: windows whose gradients are computed at once; by default a few on
        a CPU where a transformer or a linear recurrence remembers, all elsewhere.
    """
    check_above_zero(lr=lr)
    check_positive(decay_steps=decay_steps, stride=stride)
    drawn = None
    if dataset:
        drawn = windows(
            load_dataset(dataset),
            num_episodes=trials.num_episodes,
            stride=stride,
        )
    schedule = optax.cosine_decay_schedule(lr, decay_steps)
    length = trials.num_episodes * tasks.horizon
    memory_policy = policy.make(tasks, length)
    return make_ad(
        tasks,
        memory_policy,
        windows=drawn,
        num_tasks=trials.num_tasks,
        num_episodes=trials.num_episodes,
        num_source_rounds=num_source_rounds,
        num_source_episodes=num_source_episodes,
        stride=stride,
        outer_optimizer=optax.chain(
            optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=1e-4)
        ),
        task_group_size=trials_for_device(task_group_size, memory_policy, length),
    )


ad = Method("ad", build, "memory", policy="memory", defaults={"core": "transformer"})
