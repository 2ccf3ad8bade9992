"""A memory trained off-policy, on replayed trials (Grigsby et al. 2024, 2310.09971)."""

import optax

from metarl_jax import spaces
from metarl_jax.algorithms.amago import amago as make_amago
from metarl_jax.datasets import load_dataset, windows
from metarl_jax.recipe import Method
from metarl_jax.settings import PolicySettings, Trials, decaying
from metarl_jax.types import MetaAlgorithm, TaskDistribution
from metarl_jax.validation import (
    check_above_zero,
    check_fraction,
    check_positive,
    check_sizes,
)


def build(
    tasks: TaskDistribution,
    policy: PolicySettings,
    *,
    trials: Trials = Trials(num_tasks=8, num_episodes=4),
    dataset: str = "",
    stride: int = 1,
    num_updates: int = 16,
    batch_size: int = 32,
    capacity: int = 5000,
    discount: float = 0.97,
    shorter: tuple[int, ...] = (10,),
    num_critics: int = 2,
    critic_hidden_sizes: tuple[int, ...] = (64,),
    lr: float = 2e-3,
    decay_steps: int = 400,
    climb_coeff: float = 1.0,
    clone_coeff: float = 0.3,
    critic_coeff: float = 10.0,
    entropy_coeff: float = 0.01,
    target_rate: float = 0.1,
    exploration: float = 0.05,
    roam_fraction: float = 0.0,
    relabel_fraction: float = 0.0,
    hindsight_fraction: float = 1.0,
) -> MetaAlgorithm:
    """Builds AMAGO.

    Args:
      dataset: folder of recorded histories, as `metarl-jax record` writes it, to learn
        from instead of what the agent does; by default none.
      stride: every which episode of a recorded history stands in a trial.
      num_updates: updates in a meta-training step.
      batch_size: trials of an update.
      capacity: trials that the ring holds.
      discount: discount factor per step, across episode ends, that the agent acts by.
      shorter: how many steps the further discounts look ahead.
      num_critics: critics of each discount; a target takes the least of two.
      critic_hidden_sizes: widths of the critics' hidden layers.
      lr: first learning rate of Adam; it falls linearly to a tenth.
      decay_steps: meta-training steps until it has fallen.
      climb_coeff: weight of the actions' values for the actors.
      clone_coeff: weight of imitating actions that were better than the actors'.
      critic_coeff: weight of the critics' errors.
      entropy_coeff: weight of the actors' entropy; it falls linearly to zero.
      target_rate: how far the target critics move in an update.
      exploration: how many of the actions are uniformly random.
      roam_fraction: in how many of the episodes random actions are kept up.
      relabel_fraction: how many trials are replayed with another task's rewards.
      hindsight_fraction: how many of these with those of a task whose goal they met.
    """
    check_above_zero(lr=lr)
    check_fraction(
        discount=discount, exploration=exploration, relabel_fraction=relabel_fraction
    )
    check_positive(
        num_updates=num_updates,
        decay_steps=decay_steps,
        num_critics=num_critics,
        stride=stride,
    )
    check_positive(updates_of_decay_steps=decay_steps * num_updates)
    check_sizes(shorter=shorter, critic_hidden_sizes=critic_hidden_sizes)
    if len(set(shorter)) < len(shorter):
        raise ValueError(f"shorter must be different numbers of steps; got {shorter}")
    drawn = None
    if dataset:
        drawn = windows(
            load_dataset(dataset), num_episodes=trials.num_episodes, stride=stride
        )
    squashed = spaces.is_box(tasks.action_space)
    return make_amago(
        tasks,
        policy.make(
            tasks,
            trials.num_episodes * tasks.horizon,
            value_head=False,
            **({"squashed": True} if squashed else {}),
        ),
        windows=drawn,
        num_tasks=trials.num_tasks,
        num_episodes=trials.num_episodes,
        num_updates=num_updates,
        batch_size=batch_size,
        capacity=capacity,
        discounts=(*(1 - 1 / steps for steps in shorter), discount),
        num_critics=num_critics,
        num_target_critics=min(2, num_critics),
        hidden_sizes=critic_hidden_sizes,
        optimizer=optax.chain(
            optax.clip_by_global_norm(1.0),
            optax.adam(optax.linear_schedule(lr, lr / 10, decay_steps * num_updates)),
        ),
        climb_coeff=climb_coeff,
        clone_coeff=clone_coeff,
        critic_coeff=critic_coeff,
        entropy_coeff=decaying(decay_steps, entropy_coeff=entropy_coeff),
        target_rate=target_rate,
        exploration=exploration,
        roam_fraction=roam_fraction,
        relabel_fraction=relabel_fraction,
        hindsight_fraction=hindsight_fraction,
    )


amago = Method("amago", build, "memory", policy="memory")
