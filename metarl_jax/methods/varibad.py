"""A belief about the task, acted on (Zintgraf et al. 2020, arXiv 1910.08348)."""

from typing import Any

from metarl_jax.algorithms.varibad import varibad as make_varibad
from metarl_jax.recipe import Method
from metarl_jax.settings import PPO, Belief, PolicySettings, Trials, decaying
from metarl_jax.types import MetaAlgorithm, TaskDistribution
from metarl_jax.validation import check_flags


def build(
    tasks: TaskDistribution,
    policy: PolicySettings,
    *,
    trials: Trials = Trials(),
    belief: Belief = Belief(),
    ppo: PPO = PPO(discount=0.99),
    entropy_coeff: float = 0.05,
    entropy_falls: bool = False,
) -> MetaAlgorithm:
    """Builds VariBAD. The policy acts on the belief; its critic is another of its kind.

    Args:
      entropy_coeff: weight of the policy's entropy.
      entropy_falls: whether it falls linearly to zero with the learning rate.
    """
    check_flags(entropy_falls=entropy_falls)
    entropy: Any = entropy_coeff
    if entropy_falls:
        entropy = decaying(ppo.decay_steps, entropy_coeff=entropy_coeff)
    arguments = belief.arguments(tasks, policy, trials, ppo)
    return make_varibad(tasks, entropy_coeff=entropy, **arguments)


varibad = Method("varibad", build, "memory")
