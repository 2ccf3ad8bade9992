"""Optimisers, schedules and surrogates: tried on a few numbers, before all else."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from metarl_jax.promotion import standard_promotion
from metarl_jax.validation.scalars import GREATEST, reason, shown

# How the one that moves nothing on purpose is recognised.
_SET_TO_ZERO = getattr(optax.set_to_zero().update, "__qualname__", None)
# Steps that an optimiser may gather gradients for, or warm up, until something moves.
_PATIENCE = 100
# Steps after which one that is held back by a schedule is expected to move.
_LATER = 1_000_000


def check_optimizers(**optimizers: Any) -> None:
    """Raises a `ValueError` that names the first which cannot descend.

    Tried where every parameter and every derivative is 1: it is no optax
    transformation, or its update goes uphill, is not finite or never comes, as with a
    learning rate that is negative, NaN, infinite in float32 or 0 there.
    `optax.set_to_zero()`, which says that nothing is to move, passes; so does what was
    made for parameters of a certain structure, and what has a traced learning rate.
    None passes, where it stands for the default.
    """
    for name, value in optimizers.items():
        if value is None:
            continue
        parts = [getattr(value, part, None) for part in ("init", "update")]
        if isinstance(value, type) or not all(map(callable, parts)):
            raise ValueError(
                f"{name} must be an optax transformation, such as optax.adam(1e-3); "
                f"got {shown(value)}"
            )
        if getattr(value.update, "__qualname__", "") != _SET_TO_ZERO:
            _check_descends(name, value)


def _check_descends(name: str, optimizer: Any) -> None:
    try:
        update = _first_update(optimizer)
    except Exception:
        return  # made for other parameters: seen when it meets them
    if update is None:
        return
    if np.isnan(update).any() or np.abs(update).max() > GREATEST:
        fault = f"be finite in float32; a derivative of 1 makes {name} move by"
    elif (update > 0).any():
        fault = f"go downhill; a derivative of 1 makes {name} move by"
    elif not update.any():
        fault = "move something at some time; a derivative of 1 always makes it move by"
    else:
        return
    raise ValueError(f"the updates of {name} must {fault} {shown(update.max())}")


@standard_promotion()
def _first_update(optimizer: Any) -> np.ndarray | None:
    """Returns the first update that is not zero, if there is one; None if traced."""
    ones = {"weight": jnp.ones(2)}
    optimizer = optax.with_extra_args_support(optimizer)
    state = optimizer.init(ones)
    update = np.zeros(2)
    for step in range(_PATIENCE + 1):
        if step == _PATIENCE:  # held back by a schedule?
            state = jax.tree.map(_later, state)
        new, state = optimizer.update(ones, state, ones, value=jnp.ones(()))
        if isinstance(new["weight"], Tracer):
            return None
        update = np.asarray(new["weight"])
        if update.any():
            break
    return update


def _later(x: Any) -> Any:
    return x + _LATER if jnp.issubdtype(jnp.result_type(x), jnp.integer) else x


def check_differentiable(**optimizers: Any) -> None:
    """Raises a `ValueError` naming the first without derivatives at a gradient of 0.

    A meta-gradient goes through the update, and an entry of the inner gradient that is
    exactly 0, as behind a unit that is off, makes it NaN where the update has the root
    of a second moment that is 0. What has a traced learning rate passes.
    """
    for name, optimizer in optimizers.items():
        try:
            slope = _slope_of_update(optimizer)
        except Exception:
            continue  # made for other parameters: seen when it meets them
        if not isinstance(slope, Tracer) and not np.isfinite(slope).all():
            raise ValueError(
                f"{name} must have a finite derivative where a gradient's entry is 0, "
                "as optax.adam(1e-3, eps_root=1e-8) has and without eps_root has not; "
                f"got {shown(np.asarray(slope)[1])}"
            )


@standard_promotion()
def _slope_of_update(optimizer: Any) -> jax.Array:
    """Returns d(Δθ_1 + Δθ_2)/dg of the first update at the gradient g = (1, 0)."""

    def moved(gradient):
        params: Any = {"weight": jnp.ones(2)}
        extended: Any = optax.with_extra_args_support(optimizer)
        state = extended.init(params)
        updates, _ = extended.update(
            {"weight": gradient}, state, params, value=jnp.ones(())
        )
        return jnp.sum(updates["weight"])

    return jax.grad(moved)(jnp.array([1.0, 0.0]))


def first_values(**schedules: Any) -> dict[str, Any]:
    """Returns what is to be checked of schedules, their value at step 0; or numbers.

    Raises:
      ValueError: if one is a function, but not of the steps taken.
    """
    values = {}
    for name, value in schedules.items():
        if not callable(value):
            values[name] = value
            continue
        try:
            values[f"{name} at step 0"] = jnp.asarray(value(jnp.zeros((), jnp.int32)))
        except Exception as error:
            raise ValueError(
                f"{name} must be a number, or a function of the steps taken that "
                f"returns one; got {shown(value)}, {reason(error)}"
            ) from error
    return values


def check_surrogates(**surrogates: Any) -> None:
    """Raises a `ValueError` that names the first which is no meta-gradient estimator.

    One of the signature of `metarl_jax.surrogates`, traced abstractly.
    """
    steps = jax.ShapeDtypeStruct((2,), np.float32)
    mask = jax.ShapeDtypeStruct((2,), bool)
    for name, value in surrogates.items():
        try:
            got = jax.tree.map(np.shape, jax.eval_shape(value, *[steps] * 4, mask))
        except Exception as error:
            got = f"{shown(value)}, {reason(error)}"
        if got != ():
            raise ValueError(
                f"{name} must make a scalar of one trajectory, as the functions of "
                f"metarl_jax.surrogates do; got {got}"
            )
