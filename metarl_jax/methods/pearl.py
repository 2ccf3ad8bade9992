"""Posterior sampling by an encoder, off-policy (Rakelly et al. 2019, 1903.08254)."""

import jax.numpy as jnp
import optax

from metarl_jax.algorithms.pearl import pearl as make_pearl
from metarl_jax.recipe import Method
from metarl_jax.settings import Mlp, PolicySettings, Trials
from metarl_jax.types import MetaAlgorithm, TaskDistribution
from metarl_jax.validation import check_above_zero, check_positive


def build(
    tasks: TaskDistribution,
    policy: PolicySettings,
    *,
    trials: Trials = Trials(num_tasks=16, num_episodes=3),
    num_train_tasks: int = 100,
    num_initial_episodes: int = 10,
    num_updates: int = 100,
    batch_size: int = 32,
    context_size: int = 100,
    trial_fraction: float = 0.8,
    capacity: int = 5000,
    recent_capacity: int = 1000,
    latent_size: int = 5,
    lr: float = 1e-3,
    decay_steps: int = 360,
    temperature: float = 0.2,
    kl_coeff: float = 0.01,
    discount: float = 0.99,
    target_rate: float = 0.01,
) -> MetaAlgorithm:
    """Builds PEARL. Actor, critic and encoder have hidden layers of the same widths.

    Args:
      num_train_tasks: meta-training tasks.
      num_initial_episodes: random episodes in each of them at the start.
      num_updates: updates in a meta-training step.
      batch_size: steps of each task in an update.
      context_size: the most steps that a belief is made of in an update.
      trial_fraction: how many of these contexts are what was known in a trial so far.
      capacity: steps of each task that the replay buffer holds.
      recent_capacity: how many of the last of them contexts are made of.
      latent_size: size of the latent variable.
      lr: learning rate of Adam, which falls to a tenth from two thirds of
        `decay_steps` on.
      decay_steps: meta-training steps until it has fallen.
      temperature: weight of the policy's entropy.
      kl_coeff: weight of the divergence of beliefs from the prior.
      discount: discount factor per step.
      target_rate: how far the target critic moves in an update.
    """
    if not isinstance(policy, Mlp):
        raise ValueError(
            "PEARL acts by a policy without memory that is given a sample of its "
            f"belief; policy must be mlp, got {type(policy).__name__.lower()}"
        )
    check_above_zero(lr=lr)
    check_positive(num_updates=num_updates, decay_steps=decay_steps)
    check_positive(updates_of_decay_steps=decay_steps * num_updates)
    falls = decay_steps * num_updates // 3
    return make_pearl(
        tasks,
        policy.make(tasks, tasks.horizon, squashed=True),
        num_tasks=trials.num_tasks,
        num_episodes=trials.num_episodes,
        num_train_tasks=num_train_tasks,
        num_initial_episodes=num_initial_episodes,
        num_updates=num_updates,
        batch_size=batch_size,
        context_size=context_size,
        trial_fraction=trial_fraction,
        capacity=capacity,
        recent_capacity=recent_capacity,
        latent_size=latent_size,
        hidden_sizes=policy.hidden_sizes,
        encoder_hidden_sizes=policy.hidden_sizes,
        optimizer=optax.adam(
            optax.exponential_decay(lr, max(falls, 1), 0.1, 2 * falls)
        ),
        temperature=temperature,
        kl_coeff=kl_coeff,
        discount=discount,
        target_rate=target_rate,
        context_reward=tasks.revealed_reward,
    )


pearl = Method(
    "pearl",
    build,
    "inference",
    belief=lambda agent: (agent.memory.mean, jnp.sqrt(agent.memory.variance)),
)
