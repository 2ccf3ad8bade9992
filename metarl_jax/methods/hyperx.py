"""VariBAD that is paid for what is new (Zintgraf et al. 2021, arXiv 2010.01062)."""

from metarl_jax.algorithms.hyperx import hyperx as make_hyperx
from metarl_jax.recipe import Method
from metarl_jax.settings import PPO, Belief, PolicySettings, Trials, adam
from metarl_jax.types import MetaAlgorithm, TaskDistribution
from metarl_jax.validation import check_positive


def build(
    tasks: TaskDistribution,
    policy: PolicySettings,
    *,
    trials: Trials = Trials(),
    belief: Belief = Belief(),
    ppo: PPO = PPO(discount=0.98, clip_range=0.05, num_epochs=8),
    entropy_coeff: float = 0.1,
    novelty_coeff: float = 10.0,
    error_coeff: float = 1.0,
    bonus_steps: int = 2000,
    novelty_hidden_sizes: tuple[int, ...] = (256, 256),
    novelty_output_size: int = 128,
    novelty_scale: float = 10.0,
    novelty_lr: float = 1e-4,
    num_novelty_epochs: int = 1,
) -> MetaAlgorithm:
    """Builds HyperX, VariBAD with two bonuses. The critic is another of the policy.

    Args:
      entropy_coeff: weight of the policy's entropy.
      novelty_coeff: weight of how new a state and belief are.
      error_coeff: weight of how badly a belief tells the step that led to it.
      bonus_steps: meta-training steps in which both weights fall linearly to zero.
      novelty_hidden_sizes: widths of the hidden layers of the random network, and of
        that which learns to predict it.
      novelty_output_size: numbers that they make of a state and belief.
      novelty_scale: the random network's weights are as many times usual ones.
      novelty_lr: learning rate of the Adam of the network that predicts.
      num_novelty_epochs: its passes through one step's trials.
    """
    check_positive(bonus_steps=bonus_steps)
    return make_hyperx(
        tasks,
        entropy_coeff=entropy_coeff,
        novelty_coeff=novelty_coeff,
        error_coeff=error_coeff,
        decay_steps=bonus_steps,
        novelty_hidden_sizes=novelty_hidden_sizes,
        novelty_output_size=novelty_output_size,
        novelty_scale=novelty_scale,
        novelty_optimizer=adam(novelty_lr=novelty_lr),
        num_novelty_epochs=num_novelty_epochs,
        **belief.arguments(tasks, policy, trials, ppo),
    )


hyperx = Method("hyperx", build, "memory")
