"""What the options of several experiments mean."""

from typing import Literal

import flax.linen as nn
import jax
import optax

from metarl_jax import surrogates
from metarl_jax.trust_region import TrustRegion
from metarl_jax.validation import check_above_zero

SurrogateName = Literal[
    "score-function",
    "likelihood-ratio",
    "dice",
    "loaded-dice",
    "second-order-expansion",
    "clipped",
]
ActivationName = Literal["relu", "tanh"]
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
