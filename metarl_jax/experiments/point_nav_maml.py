"""MAML on 2-D navigation, as in Finn et al. 2017 (arXiv 1703.03400, Table 4)."""

from metarl_jax.algorithms.maml import maml
from metarl_jax.envs.point_navigation import point_navigation
from metarl_jax.experiments import options
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.training import Evaluation, Experiment
from metarl_jax.types import DifferentiationName


def point_nav_maml(
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
    hidden_sizes: tuple[int, ...] = (100, 100),
    activation: options.ActivationName = "relu",
    num_steps: int = 150,
    differentiation: DifferentiationName = "plain",
    task_group_size: int | None = None,
    num_eval_tasks: int = 40,
    num_eval_episodes: int = 40,
    num_adaptation_steps: int = 3,
) -> Experiment:
    """Trains MAML to reach a goal that it is not told, in one gradient step.

    The reward is the negative distance to the goal and the policy's output is scaled by
    0.1 before it is clipped, as in the authors' code, which the published returns need.
    The inner surrogate is the likelihood ratio, whose Hessian is closer to the exact
    one than that of the authors' score function (`--inner-surrogate score-function`):
    the curves after two and three steps are better for it, and go on improving.

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
        step; the paper's is 40.
      num_adaptation_steps: adaptation steps in the evaluation.
    """
    tasks = point_navigation(horizon=horizon)
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
        differentiation=differentiation,
        task_group_size=options.group_size_for_device(task_group_size, num_tasks),
    )
    return Experiment(
        tasks,
        algorithm,
        num_steps,
        Evaluation(num_eval_tasks, num_eval_episodes, num_adaptation_steps),
        published={
            "Finn et al. 2017": (-40.41, -11.68, -3.33, -3.23),
        },
        goal=lambda task: task.goal,
    )
