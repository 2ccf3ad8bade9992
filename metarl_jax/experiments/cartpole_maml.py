"""MAML on CartPoles whose physics is drawn for every task."""

from metarl_jax.algorithms.maml import maml
from metarl_jax.envs.classic_control import cartpole
from metarl_jax.experiments import options
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.training import Evaluation, Experiment


def cartpole_maml(
    *,
    force_mag: tuple[float, float] = (1.0, 20.0),
    length: tuple[float, float] = (0.1, 2.0),
    masspole: tuple[float, float] = (0.05, 2.0),
    gravity: tuple[float, float] = (5.0, 20.0),
    crossed_wires: float = 0.0,
    num_tasks: int = 20,
    num_episodes: int = 10,
    horizon: int = 200,
    num_inner_steps: int = 1,
    inner_lr: float = 0.5,
    inner_surrogate: options.SurrogateName = "likelihood-ratio",
    first_order: bool = False,
    outer_optimizer: options.OuterOptimizerName = "trust-region",
    max_kl: float = 0.01,
    outer_lr: float = 1e-3,
    discount: float = 0.99,
    hidden_sizes: tuple[int, ...] = (64, 64),
    activation: options.ActivationName = "tanh",
    num_steps: int = 40,
    task_group_size: int | None = None,
    num_eval_tasks: int = 40,
    num_eval_episodes: int = 10,
    num_adaptation_steps: int = 3,
) -> Experiment:
    """Trains MAML to balance a pole of unknown force, length, mass and weight.

    The ranges are wide, because one policy balances the usual ones without adapting.

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
    tasks = cartpole(
        horizon=horizon,
        force_mag=force_mag,
        length=length,
        masspole=masspole,
        gravity=gravity,
        crossed_wires=crossed_wires,
    )
    policy = mlp_policy(
        tasks,
        hidden_sizes=hidden_sizes,
        activation=options.activation_named(activation),
    )
    algorithm = maml(
        tasks,
        policy,
        num_tasks=num_tasks,
        num_episodes=num_episodes,
        num_inner_steps=num_inner_steps,
        inner_optimizer=options.inner_sgd(inner_lr),
        inner_surrogate=options.surrogate_named(inner_surrogate),
        outer_optimizer=options.outer_optimizer_named(
            outer_optimizer, max_kl=max_kl, outer_lr=outer_lr
        ),
        discount=discount,
        first_order=first_order,
        task_group_size=options.group_size_for_device(task_group_size, num_tasks),
    )
    return Experiment(
        tasks,
        algorithm,
        num_steps,
        Evaluation(num_eval_tasks, num_eval_episodes, num_adaptation_steps),
    )
