"""Almost no inner loop: of the policy, only a part adapts.

Maximises the return after adaptation, as MAML does,

    I(θ) = E_task E_{D ~ π_θ} [ J(θ') ],    θ' = θ - α m ∘ ∇_θ L(θ; D),

with a mask m that is 1 for the parameters that adapt and 0 for those that all tasks
share; the outer step learns all of them. Adapting the head alone is ANIL (Raghu et al.
2020, arXiv 1909.09157), the body alone BOIL (Oh et al. 2021, arXiv 2008.08882), and
everything is MAML, of which both are an inner optimiser that holds some parameters.
"""

from collections.abc import Callable
from typing import Any

import jax
import optax

from metarl_jax.algorithms.maml import maml
from metarl_jax.types import MetaAlgorithm, Policy, TaskDistribution
from metarl_jax.validation import check_functions, check_optimizers


def head(path: str) -> bool:
    """Tells whether a parameter belongs to what stands on the hidden layers.

    Args:
      path: the names from the root to the leaf, such as `"params/hidden_0/kernel"`.

    Returns:
      True if none of them begins with `hidden`: the last layer and the log standard
      deviation of the policies in `metarl_jax.policies`.
    """
    return not body(path)


def body(path: str) -> bool:
    """Tells whether a parameter belongs to a hidden layer, as `head` does."""
    return any(name.startswith("hidden") for name in path.split("/"))


def hold_others(
    optimizer: optax.GradientTransformation, adapts: Callable[[str], bool]
) -> optax.GradientTransformation:
    """Makes an optimiser that leaves some parameters as they are.

    Args:
      optimizer: updates the others.
      adapts: tells by its path whether a parameter is updated.

    Returns:
      An optax transformation, whose `init` raises a `ValueError` if `adapts` is true of
      no parameter.
    """

    def labels(params):
        def label(path, _):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            names.append(name)
            return "adapted" if adapts(name) else "held"

        names = []
        found = jax.tree_util.tree_map_with_path(label, params)
        if "adapted" not in jax.tree.leaves(found):
            raise ValueError(
                f"adapts must be true of a parameter; of {names} it is of none"
            )
        return found

    # The held updates do not read their gradients, so the compiler drops the part of
    # the backward pass that only those need.
    return optax.partition({"adapted": optimizer, "held": optax.set_to_zero()}, labels)


def anil(
    tasks: TaskDistribution,
    policy: Policy,
    *,
    adapts: Callable[[str], bool] = head,
    inner_optimizer: optax.GradientTransformation | None = None,
    **options: Any,
) -> MetaAlgorithm:
    """Builds MAML of which a part adapts, for a policy without memory.

    Args:
      tasks: the task distribution.
      policy: how the agent acts.
      adapts: tells by its path whether a parameter adapts: `head` for ANIL, `body` for
        BOIL, or a function of your own.
      inner_optimizer: turns the inner gradient of what adapts into an update; default
        `optax.sgd(0.1)`.
      **options: those of `maml`. With `differentiation="mixed"` the meta-gradient goes
        through the parameters that do not adapt as well.

    Returns:
      A `MetaAlgorithm`.

    Raises:
      ValueError: as `maml` does, or if no parameter adapts.
    """
    check_functions(adapts=adapts)
    check_optimizers(inner_optimizer=inner_optimizer)
    held = hold_others(inner_optimizer or optax.sgd(0.1), adapts)
    algorithm = maml(tasks, policy, inner_optimizer=held, **options)
    jax.eval_shape(algorithm.init, jax.random.key(0))  # finds out whether any adapts
    return algorithm


def boil(tasks: TaskDistribution, policy: Policy, **options: Any) -> MetaAlgorithm:
    """Builds `anil` of which the body adapts."""
    return anil(tasks, policy, adapts=body, **options)
