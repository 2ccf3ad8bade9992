"""MAML on 2-D navigation in under a minute: a narrower network and fewer steps."""

from metarl_jax.experiments import options
from metarl_jax.experiments.point_nav_maml import point_nav_maml
from metarl_jax.training import Experiment
from metarl_jax.types import DifferentiationName


def point_nav_maml_quick(
    *,
    num_tasks: int = 20,
    num_episodes: int = 20,
    horizon: int = 100,
    num_inner_steps: int = 1,
    inner_lr: float = 0.1,
    inner_surrogate: options.SurrogateName = "likelihood-ratio",
    first_order: bool = False,
    outer_optimizer: options.OuterOptimizerName = "trust-region",
    max_kl: float = 0.01,
    outer_lr: float = 1e-3,
    discount: float = 0.99,
    hidden_sizes: tuple[int, ...] = (64, 64),
    activation: options.ActivationName = "relu",
    num_steps: int = 40,
    differentiation: DifferentiationName = "plain",
    task_group_size: int | None = None,
    num_eval_tasks: int = 20,
    num_eval_episodes: int = 20,
    num_adaptation_steps: int = 3,
) -> Experiment:
    """Trains point-nav-maml in small, to see everything work.

    Args:
      num_tasks: tasks in a meta-training step.
      num_episodes: episodes of each task before and after adaptation.
      horizon: time limit of an episode in steps.
      num_inner_steps: adaptation steps in meta-training.
      inner_lr: size of the first adaptation step; later ones are half of it.
      inner_surrogate: what an adaptation step ascends.
      first_order: drop the second derivatives.
      outer_optimizer: the meta-update.
      max_kl: divergence of a trust-region step in nats.
      outer_lr: learning rate of Adam.
      discount: discount factor.
      hidden_sizes: widths of the policy's hidden layers.
      activation: nonlinearity of the policy.
      num_steps: meta-training steps.
      differentiation: what the meta-gradient keeps of each inner step and what it
        computes again; all but plain add little but the data of further steps.
      task_group_size: tasks whose gradients are computed at once; by default one on a
        CPU, all elsewhere.
      num_eval_tasks: held-out tasks of the evaluation.
      num_eval_episodes: episodes of each of them before and after every adaptation
        step.
      num_adaptation_steps: adaptation steps in the evaluation.
    """
    return point_nav_maml(**locals())
