"""A belief about the task, acted on (Zintgraf et al. 2020, arXiv 1910.08348)."""

from metarl_jax.algorithms.varibad import varibad as make_varibad
from metarl_jax.recipe import Method
from metarl_jax.settings import PPO, Belief, PolicySettings, Trials, decaying
from metarl_jax.types import MetaAlgorithm, TaskDistribution
from metarl_jax.validation import check_positive


def build(
    tasks: TaskDistribution,
    policy: PolicySettings,
    *,
    trials: Trials = Trials(),
    belief: Belief = Belief(),
    ppo: PPO = PPO(discount=0.99),
    entropy_coeff: float = 0.05,
    entropy_decay_steps: int | None = None,
) -> MetaAlgorithm:
    """Builds VariBAD. The policy acts on the belief; its critic is another of its kind.

    Args:
      entropy_coeff: first weight of the policy's entropy.
      entropy_decay_steps: meta-training steps in which it falls linearly to zero; by
        default it stays.
    """
    if entropy_decay_steps is None:
        weight = entropy_coeff
    else:
        check_positive(entropy_decay_steps=entropy_decay_steps)
        weight = decaying(entropy_decay_steps, entropy_coeff=entropy_coeff)
    arguments = belief.arguments(tasks, policy, trials, ppo)
    return make_varibad(tasks, entropy_coeff=weight, **arguments)


varibad = Method("varibad", build, "memory")
