"""One update of what is learned: taken by optax, and left out unless it is finite."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from metarl_jax.promotion import standard_promotion
from metarl_jax.types import Params, State


def clipped_adam(lr: float = 3e-4) -> optax.GradientTransformation:
    """Makes Adam for PPO: gradients are clipped to a norm of 0.5.

    Where an advantage is negative, a probability ratio has a gradient however large it
    is. One such gradient, of a policy whose deviation has become small, would stay in
    Adam's second moment, and hold all others back, for a thousand updates.
    """
    return optax.chain(optax.clip_by_global_norm(0.5), optax.adam(lr))


def at_step(step: jax.Array, value: Any) -> Any:
    """Returns what a schedule says at a step, or the number that there is instead."""
    return value(step) if callable(value) else value


@standard_promotion()
def descend(
    optimizer: optax.GradientTransformation,
    optimizer_state: Any,
    params: Params,
    gradient: Params,
    loss: jax.Array,
    **told: Any,
) -> tuple[Params, Any]:
    """Takes one step of an optax optimiser.

    Args:
      optimizer: any optax transformation.
      optimizer_state: its state.
      params: θ.
      gradient: of the loss at θ.
      loss: `[]`, told as `value` to optimisers that want it, such as
        `optax.contrib.reduce_on_plateau`.
      **told: what else is told to those that want it.

    Returns:
      The new parameters and the optimiser's new state.
    """
    updates, optimizer_state = optax.with_extra_args_support(optimizer).update(
        gradient, optimizer_state, params, value=loss, **told
    )
    return optax.apply_updates(params, updates), optimizer_state


def keep_finite(new: State, old: State, seen: Any) -> tuple[State, jax.Array]:
    """Takes an update if everything on its way was finite, and leaves it out otherwise.

    Looked at is what the update was made from and what it made, the optimiser's state
    included: a step of infinite size leaves the gradient finite, and an overflowing
    moment divides all later steps to zero. Only what has ceased to be finite counts:
    some optimisers begin with the infinite loss they have yet to fall below.

    Args:
      new: what the update made, a pytree.
      old: what there was before, of the same structure.
      seen: what it was made from, of which everything must be finite: rewards,
        advantages, the gradient's norm.

    Returns:
      The new or the old state, whole, and whether the update was skipped, `[]` bool.
    """
    kept = jax.tree.map(lambda new, old: _finite(new) | ~_finite(old), new, old)
    finite = all_finite(seen) & _all(kept)
    state = jax.tree.map(lambda new, old: jnp.where(finite, new, old), new, old)
    return state, ~finite


def all_finite(tree: Any) -> jax.Array:
    """Tells whether every number in a pytree is finite, `[]` bool."""
    return _all(jax.tree.map(_finite, tree))


def _finite(x: jax.Array) -> jax.Array:
    if jnp.issubdtype(jnp.result_type(x), jnp.inexact):
        return jnp.isfinite(x)
    return jnp.ones((), bool)  # an integer, a boolean or a key


def _all(tree: Any) -> jax.Array:
    # A sum: XLA puts a chain of conjunctions into every place that its end is used in.
    leaves = [jnp.all(x) for x in jax.tree.leaves(tree)]
    return jnp.sum(jnp.stack([*leaves, jnp.ones((), bool)])) == len(leaves) + 1
