"""Any method on 2-D navigation, all with the same budget of environment steps."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import optax

from metarl_jax import surrogates
from metarl_jax.algorithms.anil import anil, body, head
from metarl_jax.algorithms.cavia import cavia
from metarl_jax.algorithms.emaml import emaml
from metarl_jax.algorithms.es_maml import es_maml
from metarl_jax.algorithms.maml import maml
from metarl_jax.algorithms.meta_sgd import meta_sgd
from metarl_jax.algorithms.pretraining import pretraining
from metarl_jax.algorithms.promp import promp
from metarl_jax.algorithms.reptile import reptile
from metarl_jax.envs.conditioned import task_conditioned
from metarl_jax.envs.point_navigation import point_navigation
from metarl_jax.experiments import options
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.training import Evaluation, Experiment
from metarl_jax.types import DifferentiationName, MetaAlgorithm

MethodName = Literal[
    "maml",
    "maml-dice",
    "maml-ppo",
    "fomaml",
    "promp",
    "emaml",
    "meta-sgd",
    "anil",
    "boil",
    "cavia",
    "reptile",
    "es-maml",
    "pretraining",
    "task-shown",
]


class Method(NamedTuple):
    """How one method is set up here."""

    build: Callable[..., MetaAlgorithm]
    inner_lr: float = 0.1
    outer_lr: float = 5e-3
    rounds: int = 2  # times that a meta-training step acts in every task
    split: int = 1  # tasks among which the episodes of one are divided

    def num_steps(self, num_steps: int) -> int:
        """Returns the steps that act as much as `num_steps` of two rounds do."""
        return max(1, round(2 * num_steps / self.rounds))


RATIO: Any = {"inner_surrogate": surrogates.likelihood_ratio}
REPTILE_STEPS = 5

METHODS: dict[MethodName, Method] = {
    "maml": Method(partial(maml, **RATIO)),
    "maml-dice": Method(partial(maml, inner_surrogate=surrogates.loaded_dice)),
    "maml-ppo": Method(partial(promp, kl_coeff=0.0), outer_lr=1e-3),
    "fomaml": Method(partial(maml, first_order=True)),
    "promp": Method(promp, outer_lr=1e-3),
    "emaml": Method(partial(emaml, correction_coeff=0.01)),
    "meta-sgd": Method(partial(meta_sgd, **RATIO)),
    "anil": Method(partial(anil, adapts=head, **RATIO)),
    "boil": Method(partial(anil, adapts=body, **RATIO)),
    "cavia": Method(partial(cavia, discount=0.99, **RATIO), inner_lr=0.5),
    "reptile": Method(
        partial(reptile, num_inner_steps=REPTILE_STEPS, **RATIO),
        inner_lr=0.5,
        rounds=REPTILE_STEPS + 1,
    ),
    "es-maml": Method(
        partial(es_maml, sigma=0.05, **RATIO), outer_lr=5e-2, rounds=4, split=5
    ),
    "pretraining": Method(pretraining, inner_lr=3e-3, outer_lr=3e-4, rounds=1),
    "task-shown": Method(pretraining, outer_lr=1e-3, rounds=1),
}


def point_nav(
    *,
    method: MethodName = "maml",
    num_tasks: int = 20,
    num_episodes: int = 20,
    horizon: int = 100,
    action_scale: float = 0.1,
    inner_lr: float | None = None,
    outer_optimizer: options.OuterOptimizerName = "trust-region",
    max_kl: float = 0.01,
    outer_lr: float | None = None,
    hidden_sizes: tuple[int, ...] = (64, 64),
    activation: options.ActivationName = "relu",
    num_steps: int = 100,
    differentiation: DifferentiationName = "plain",
    task_group_size: int | None = None,
    num_eval_tasks: int = 40,
    num_eval_episodes: int = 20,
    num_adaptation_steps: int = 3,
) -> Experiment:
    """Trains one method on the navigation of Finn et al. 2017, comparably to others.

    All methods have the same family, network, discount and episodes a round, and make
    the same number of environment steps in meta-training. What a method leaves open is
    set as it was seen to learn within this budget; not all were tried alike. The
    likelihood ratio is the inner surrogate wherever the method does not prescribe one.

    - maml, maml-dice: second derivatives, with the likelihood ratio and with Loaded
      DiCE inside; maml-ppo: MAML's objective by PPO's epochs; fomaml: first order.
    - promp: as its paper has it. emaml: with a hundredth of the score correction, whose
      whole is too noisy here to learn by.
    - meta-sgd, anil, boil, cavia: step sizes learned; head only; body only; context
      only.
    - reptile, es-maml: no derivatives through adaptation. For es-maml, whose gradient
      is made of one perturbation a task, five tasks share the episodes of one.
    - pretraining: one policy for all tasks, fine-tuned by PPO; its random
      initialisation is learning from scratch. task-shown: one policy that is told the
      goal, and does not adapt.

    Args:
      method: what learns.
      num_tasks: tasks in a meta-training step.
      num_episodes: episodes of each task in each round.
      horizon: time limit of an episode in steps.
      action_scale: what the policy's output is multiplied by before it is clipped at
        0.1; 1 in many later codes.
      inner_lr: size of the first adaptation step, halved for later ones; for
        pretraining the learning rate of Adam; by default the method's.
      outer_optimizer: the meta-update, where the method does not prescribe it.
      max_kl: divergence of a trust-region step in nats.
      outer_lr: learning rate of Adam as the meta-update; by default the method's.
      hidden_sizes: widths of the policy's hidden layers.
      activation: nonlinearity of the policy.
      num_steps: meta-training steps of two rounds each; methods whose steps act more or
        less often take fewer or more.
      differentiation: what the meta-gradient keeps of each inner step and what it
        computes again, where the method differentiates through adaptation.
      task_group_size: tasks whose gradients are computed at once; by default one on a
        CPU, all elsewhere.
      num_eval_tasks: held-out tasks of the evaluation.
      num_eval_episodes: episodes of each of them before and after every adaptation
        step.
      num_adaptation_steps: adaptation steps in the evaluation.
    """
    setting = METHODS[method]
    inner_lr = setting.inner_lr if inner_lr is None else inner_lr
    outer_lr = setting.outer_lr if outer_lr is None else outer_lr
    tasks = point_navigation(horizon=horizon, action_scale=action_scale)
    goal = None if method == "task-shown" else lambda task: task.goal
    if method == "task-shown":
        tasks = task_conditioned(tasks, lambda task: task.goal)
    policy = mlp_policy(
        tasks,
        hidden_sizes=hidden_sizes,
        activation=options.activation_named(activation),
    )
    if num_episodes % setting.split:
        raise ValueError(
            f"num_episodes must be a multiple of {setting.split} for {method}, which "
            f"shares them among as many tasks; got {num_episodes}"
        )
    settings: dict[str, Any] = {
        "num_tasks": num_tasks * setting.split,
        "num_episodes": num_episodes // setting.split,
    }
    if setting.build is pretraining:
        # Who knows the goal has nothing to find out.
        told = method == "task-shown"
        settings["inner_optimizer"] = (
            optax.set_to_zero() if told else optax.adam(inner_lr)
        )
        settings["outer_optimizer"] = optax.adam(outer_lr)
    else:
        settings["task_group_size"] = options.group_size_for_device(
            task_group_size, settings["num_tasks"]
        )
        if method not in ("reptile", "es-maml"):
            settings["differentiation"] = differentiation
        if method == "meta-sgd":
            settings["initial_rate"] = inner_lr
        else:
            settings["inner_optimizer"] = options.inner_sgd(inner_lr)
        if method in ("promp", "maml-ppo", "es-maml"):
            settings["outer_optimizer"] = optax.adam(outer_lr)
        elif method != "reptile":
            settings["outer_optimizer"] = options.outer_optimizer_named(
                outer_optimizer, max_kl=max_kl, outer_lr=outer_lr
            )
    return Experiment(
        tasks,
        setting.build(tasks, policy, **settings),
        setting.num_steps(num_steps),
        Evaluation(num_eval_tasks, num_eval_episodes, num_adaptation_steps),
        goal=goal,
    )
