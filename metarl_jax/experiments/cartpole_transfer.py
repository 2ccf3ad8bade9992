"""MAML on CartPoles whose wires may be crossed: what a policy must learn anew."""

from metarl_jax.experiments import options
from metarl_jax.experiments.cartpole_maml import cartpole_maml
from metarl_jax.training import Experiment


def cartpole_transfer(
    *,
    force_mag: tuple[float, float] = (5.0, 15.0),
    length: tuple[float, float] = (0.25, 0.75),
    masspole: tuple[float, float] = (0.05, 0.5),
    gravity: tuple[float, float] = (9.8, 9.8),
    crossed_wires: float = 0.5,
    num_tasks: int = 20,
    num_episodes: int = 10,
    horizon: int = 500,
    num_inner_steps: int = 1,
    inner_lr: float = 1.0,
    inner_surrogate: options.SurrogateName = "likelihood-ratio",
    first_order: bool = False,
    outer_optimizer: options.OuterOptimizerName = "trust-region",
    max_kl: float = 0.01,
    outer_lr: float = 1e-3,
    discount: float = 0.99,
    hidden_sizes: tuple[int, ...] = (64, 64),
    activation: options.ActivationName = "tanh",
    num_steps: int = 300,
    task_group_size: int | None = None,
    num_eval_tasks: int = 40,
    num_eval_episodes: int = 10,
    num_adaptation_steps: int = 3,
) -> Experiment:
    """Trains MAML to balance a pole when left may push right.

    No policy balances such poles without adapting, so that the steps it takes to adapt
    can be compared with those of learning from scratch. The physics is drawn as well,
    in the ranges of moderate variation of Packer et al. 2018 (arXiv 1810.12282).

    Args:
      force_mag: range of the push's force in newtons.
      length: range of half the pole's length in metres.
      masspole: range of the pole's mass in kilograms.
      gravity: range of gravity in metres per second squared.
      crossed_wires: probability that left pushes right.
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
      task_group_size: tasks whose gradients are computed at once; by default one on a
        CPU, all elsewhere.
      num_eval_tasks: held-out tasks of the evaluation.
      num_eval_episodes: episodes of each of them before and after every adaptation
        step.
      num_adaptation_steps: adaptation steps in the evaluation.
    """
    return cartpole_maml(**locals())
