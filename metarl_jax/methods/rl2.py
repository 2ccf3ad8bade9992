"""A policy with memory, trained by PPO (Duan et al. 2016, arXiv 1611.02779)."""

from metarl_jax.algorithms.rl2 import rl2 as make_rl2
from metarl_jax.recipe import Method
from metarl_jax.settings import PPO, PolicySettings, Trials, decaying
from metarl_jax.types import MetaAlgorithm, TaskDistribution


def build(
    tasks: TaskDistribution,
    policy: PolicySettings,
    *,
    trials: Trials = Trials(),
    num_exploration_episodes: int = 0,
    ppo: PPO = PPO(),
    entropy_coeff: float = 0.03,
) -> MetaAlgorithm:
    """Builds RL².

    Args:
      num_exploration_episodes: how many episodes of a trial, from the first, are left
        out of the objective.
      entropy_coeff: first weight of the policy's entropy; it falls linearly to zero
        with the learning rate.
    """
    length = trials.num_episodes * tasks.horizon
    return make_rl2(
        tasks,
        policy.make(tasks, length, value_scale=ppo.value_scale),
        num_tasks=trials.num_tasks,
        num_episodes=trials.num_episodes,
        num_exploration_episodes=num_exploration_episodes,
        entropy_coeff=decaying(ppo.decay_steps, entropy_coeff=entropy_coeff),
        **ppo.arguments(),
    )


rl2 = Method("rl2", build, "memory", policy="memory")
