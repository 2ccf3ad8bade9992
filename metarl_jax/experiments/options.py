"""What the options of several experiments mean."""

from typing import Literal

import flax.linen as nn
import jax
import optax

from metarl_jax import surrogates
from metarl_jax.policies import hypernetwork
from metarl_jax.policies.linear_recurrent import LinearRecurrent
from metarl_jax.policies.memory import Core
from metarl_jax.policies.recurrent import GRU, LSTM
from metarl_jax.policies.transformer import Transformer
from metarl_jax.trust_region import TrustRegion
from metarl_jax.validation import check_above_zero, check_positive

SurrogateName = Literal[
    "score-function",
    "likelihood-ratio",
    "dice",
    "loaded-dice",
    "second-order-expansion",
    "clipped",
]
ActivationName = Literal["relu", "tanh"]
CoreName = Literal["gru", "lstm", "transformer", "linear"]
InitialisationName = Literal["bias-hyperinit", "kaiming", "normc", "hyperfan-in"]
OuterOptimizerName = Literal["trust-region", "adam"]


def surrogate_named(name: SurrogateName) -> surrogates.Surrogate:
    """Returns the meta-gradient estimator of that name."""
    return {
        "score-function": surrogates.score_function,
        "likelihood-ratio": surrogates.likelihood_ratio,
        "dice": surrogates.dice,
        "loaded-dice": surrogates.loaded_dice,
        "second-order-expansion": surrogates.second_order_expansion,
        "clipped": surrogates.clipped(0.2),
    }[name]


def activation_named(name: ActivationName):
    """Returns the activation function of that name."""
    return {"relu": nn.relu, "tanh": nn.tanh}[name]


def inner_sgd(inner_lr: float) -> optax.GradientTransformation:
    """Makes gradient steps of α, then of α/2 after the first.

    The steps at which Finn et al. 2017 (arXiv 1703.03400, appendix A.2) test.

    Raises:
      ValueError: if α is not above 0.
    """
    check_above_zero(inner_lr=inner_lr)
    return optax.sgd(optax.piecewise_constant_schedule(inner_lr, {1: 0.5}))


def outer_optimizer_named(
    name: OuterOptimizerName, *, max_kl: float, outer_lr: float
) -> optax.GradientTransformation | TrustRegion:
    """Returns the outer update of that name.

    The trust region measures its metric on a tenth of the steps, before and after
    adaptation; the line search uses all of them.

    Raises:
      ValueError: if a step size is not above 0.
    """
    check_above_zero(max_kl=max_kl, outer_lr=outer_lr)
    if name == "adam":
        return optax.adam(outer_lr)
    return TrustRegion(max_kl=max_kl, before_strides=(2, 5), after_strides=(1, 10))


def group_size_for_device(task_group_size: int | None, num_tasks: int) -> int | None:
    """Chooses how many tasks' gradients are computed at once.

    Args:
      task_group_size: the user's choice; None for one task at a time on a CPU, where
        its activations stay in cache, and all at once elsewhere.
      num_tasks: N.

    Returns:
      The `task_group_size` an algorithm takes.
    """
    if task_group_size is not None:
        return task_group_size
    return 1 if jax.default_backend() == "cpu" else num_tasks


def core_named(name: CoreName, *, size: int, context: int) -> Core:
    """Makes what a policy with memory remembers with.

    Args:
      name: of the architecture.
      size: of its state; a transformer's is that of the residual stream.
      context: how many steps a transformer looks back; others have no limit.

    Raises:
      ValueError: if the size is below 1, or not what the architecture needs.
    """
    check_positive(size=size, context=context)
    if name == "transformer":
        return Transformer(size, context=context)
    if name == "linear":
        return LinearRecurrent(size, size)
    return {"gru": GRU, "lstm": LSTM}[name](size)


def initialisation_named(name: InitialisationName) -> hypernetwork.Initialisation:
    """Returns the initialisation of a hypernetwork of that name."""
    return {
        "bias-hyperinit": hypernetwork.bias_hyperinit,
        "kaiming": hypernetwork.kaiming,
        "normc": hypernetwork.normc,
        "hyperfan-in": hypernetwork.hyperfan_in,
    }[name]


def decaying_adam(
    lr: float, *, decay_steps: int, updates_per_step: int
) -> optax.GradientTransformation:
    """Makes Adam for PPO, its learning rate falling linearly to a fiftieth.

    Gradients are clipped to a norm of 0.5.

    Args:
      lr: the first learning rate.
      decay_steps: meta-training steps until it has fallen.
      updates_per_step: optimiser updates in a meta-training step.

    Raises:
      ValueError: if a size is not above 0.
    """
    check_above_zero(lr=lr)
    check_positive(decay_steps=decay_steps)
    schedule = optax.linear_schedule(lr, lr / 50, decay_steps * updates_per_step)
    return optax.chain(optax.clip_by_global_norm(0.5), optax.adam(schedule, eps=1e-5))
