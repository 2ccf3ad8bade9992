"""A policy with memory, trained by PPO (Duan et al. 2016, arXiv 1611.02779)."""

import optax

from metarl_jax.algorithms.rl2 import rl2 as make_rl2
from metarl_jax.envs.conditioned import numbers
from metarl_jax.policies.mlp import MLPPolicy
from metarl_jax.recipe import Method
from metarl_jax.settings import (
    PPO,
    PolicySettings,
    Trials,
    decaying,
    trials_for_device,
)
from metarl_jax.types import MetaAlgorithm, TaskDistribution
from metarl_jax.validation import check_flags, check_fraction, check_positive


def build(
    tasks: TaskDistribution,
    policy: PolicySettings,
    *,
    trials: Trials = Trials(),
    num_exploration_episodes: int = 0,
    ppo: PPO = PPO(),
    entropy_coeff: float = 0.03,
    entropy_decay_steps: int | None = None,
    final_gae_lambda: float | None = None,
    told_critic: bool = False,
    expected_rewards: bool = False,
    task_group_size: int | None = None,
) -> MetaAlgorithm:
    """Builds RL².

    Args:
      num_exploration_episodes: how many episodes of a trial, from the first, are left
        out of the objective.
      entropy_coeff: first weight of the policy's entropy; it falls linearly to zero.
      entropy_decay_steps: meta-training steps until it has fallen; by default those of
        the learning rate.
      final_gae_lambda: exponent of the advantages' average to which the first one goes
        linearly, with the learning rate; by default it stays.
      told_critic: a critic of its own that is told the task, as the policy is not
        (arXiv 1710.06542), and reads what the policy remembers.
      expected_rewards: learn from the mean of a reward in the place of what was drawn,
        in worlds that tell it; the agent sees what was drawn.
      task_group_size: trials whose gradients are computed at once; by default a few on
        a CPU where a transformer or a linear recurrence remembers, all elsewhere.
    """
    if entropy_decay_steps is None:
        entropy_decay_steps = ppo.decay_steps
    check_positive(entropy_decay_steps=entropy_decay_steps)
    arguments = ppo.arguments()
    if final_gae_lambda is not None:
        check_fraction(gae_lambda=ppo.gae_lambda, final_gae_lambda=final_gae_lambda)
        arguments["gae_lambda"] = optax.linear_schedule(
            ppo.gae_lambda, final_gae_lambda, ppo.decay_steps
        )
    check_flags(told_critic=told_critic)
    if told_critic:
        arguments["critic_sees"] = numbers
        arguments["critic"] = MLPPolicy(
            num_actions=1,
            hidden_sizes=(128, 64),
            value_head=True,
            value_scale=ppo.value_scale,
        )
    length = trials.num_episodes * tasks.horizon
    memory_policy = policy.make(tasks, length, value_scale=ppo.value_scale)
    return make_rl2(
        tasks,
        memory_policy,
        num_tasks=trials.num_tasks,
        num_episodes=trials.num_episodes,
        num_exploration_episodes=num_exploration_episodes,
        expected_rewards=expected_rewards,
        entropy_coeff=decaying(entropy_decay_steps, entropy_coeff=entropy_coeff),
        task_group_size=trials_for_device(task_group_size, memory_policy, length),
        **arguments,
    )


rl2 = Method("rl2", build, "memory", policy="memory")
