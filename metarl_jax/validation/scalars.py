"""Numbers, flags, names and keys: one check for each thing that a number can mean.

Scalar arrays pass where a rate or a weight is asked for; one that is traced passes
unread, so that a sweep can be a `jax.vmap` over a factory.
"""

import itertools
import numbers
import reprlib
from collections.abc import Callable, Sequence
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from metarl_jax.memory import check_fits
from metarl_jax.types import Differentiation, DifferentiationName, Key

Number = float | jax.Array

# What float32 holds, and still holds when it is squared, as a loss or a norm does.
LEAST = float(np.finfo(np.float32).tiny)
GREATEST = float(np.finfo(np.float32).max) ** 0.5
MAX_INDEX = 2**31 - 1


def check_at_least(least: int, /, **counts: int) -> None:
    """Raises a `ValueError` that names the first which is no count, or below `least`.

    A count is a whole number that an index of 32 bits can hold.
    """
    for name, value in counts.items():
        whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if not whole or value < least:
            raise ValueError(
                f"{name} must be a whole number of at least {least}; got {shown(value)}"
            )
        if value > MAX_INDEX:
            raise ValueError(
                f"{name} must be at most {MAX_INDEX}, the largest index; got "
                f"{shown(value)}"
            )


def check_positive(**counts: int) -> None:
    """Raises a `ValueError` that names the first which is not a count of at least 1."""
    check_at_least(1, **counts)


def check_sizes(**sizes: Sequence[int]) -> None:
    """Raises a `ValueError` that names the first which is not a sequence of counts."""
    for name, value in sizes.items():
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise ValueError(
                f"{name} must be a tuple of whole numbers; got {shown(value)}"
            )
        for size in value:
            check_positive(**{f"each of {name}": size})
        weights = sum(a * b for a, b in itertools.pairwise(value))
        check_fits(f"layers of {name}={shown(value)}", 4 * weights)


def check_divides(total: int, /, *, of: str = "num_tasks", **divisors: int | None):
    """Raises a `ValueError` that names the first count which does not divide a total.

    None passes.
    """
    for name, value in divisors.items():
        if value is None:
            continue
        check_positive(**{name: value})
        if total % value:
            raise ValueError(f"{name} must divide {of}; got {value} and {total}")


def check_above_zero(**rates: Number) -> None:
    """Raises a `ValueError` that names the first number not above 0 in float32."""
    _check_numbers(rates, "above 0", lambda x: x > 0, least=LEAST)


def check_not_negative(**weights: Number) -> None:
    """Raises a `ValueError` that names the first number below 0 or not finite."""
    _check_numbers(weights, "at least 0", lambda x: x >= 0)


def check_finite(**values: Number) -> None:
    """Raises a `ValueError` that names the first number that is not finite."""
    _check_numbers(values, "finite", lambda x: x == x)


def check_fraction(**fractions: Number) -> None:
    """Raises a `ValueError` that names the first number outside [0, 1]."""
    _check_numbers(fractions, "between 0 and 1", lambda x: 0 <= x <= 1)


def _check_numbers(
    values: dict[str, Any],
    requirement: str,
    holds: Callable[[float], bool],
    least: float = 0.0,
) -> None:
    for name, value in values.items():
        if isinstance(value, jax.Array | np.ndarray):
            if value.ndim:
                raise ValueError(
                    f"{name} must be one number; got an array of shape {value.shape}"
                )
            if isinstance(value, Tracer):
                continue
            value = np.asarray(value).item()
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        size: Any = value
        if not real or not holds(size):
            what = requirement if real else f"a number {requirement}"
            raise ValueError(f"{name} must be {what}; got {shown(value)}")
        if abs(size) > GREATEST or abs(size) < least:
            held = "0" if abs(size) < least else "infinite, or its square is"
            raise ValueError(
                f"{name} must be {requirement} in float32, where it is {held}; got "
                f"{shown(value)}"
            )


def check_flags(**flags: bool) -> None:
    """Raises a `ValueError` that names the first which is neither True nor False."""
    for name, value in flags.items():
        if not isinstance(value, bool | np.bool_):
            raise ValueError(f"{name} must be True or False; got {shown(value)}")


def check_functions(**functions: Any) -> None:
    """Raises a `ValueError` that names the first which cannot be called."""
    for name, value in functions.items():
        if not callable(value):
            raise ValueError(f"{name} must be a function; got {shown(value)}")


def check_choice(choices: Sequence[str], /, **names: str | None) -> None:
    """Raises a `ValueError` that names the first which is none of the choices."""
    for name, value in names.items():
        if not isinstance(value, str) or value not in choices:
            raise ValueError(
                f"{name} must be one of {', '.join(choices)}; got {shown(value)}"
            )


def shown(value: Any) -> str:
    """What a sentence says of a value: a number as it is printed, others shortened."""
    if isinstance(value, int) and value.bit_length() > 10_000:
        return f"a number of {value.bit_length()} bits"  # Python does not print it
    if isinstance(value, numbers.Real) and not isinstance(value, int):
        return str(value)
    return reprlib.repr(value)


def check_differentiation(differentiation: Differentiation) -> None:
    """Raises a `ValueError` if there is no such way to differentiate adaptation."""
    choices = get_args(DifferentiationName)
    if differentiation not in choices and not callable(differentiation):
        raise ValueError(
            f"differentiation must be one of {', '.join(choices)}, or a policy of "
            f"jax.checkpoint_policies; got {differentiation!r}"
        )


def check_seed(seed: int, num_seeds: int = 1) -> None:
    """Raises a `ValueError` unless seed, …, seed + num_seeds - 1 fit 32 bits."""
    whole = isinstance(seed, numbers.Integral) and not isinstance(seed, bool)
    if not whole or seed < 0:
        raise ValueError(
            f"seed must be a whole number of at least 0; got {shown(seed)}"
        )
    if seed + num_seeds > 2**32:
        raise ValueError(
            f"seed must be below 2**32 - num_seeds + 1; got {shown(seed)} with "
            f"{num_seeds} seeds"
        )


def check_key(key: Key) -> None:
    """Raises a `ValueError` unless it is one key, typed or of two legacy words."""
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if not (typed and shape == ()) and not (
        dtype == np.uint32 and len(shape or ()) == 1
    ):
        what = shown(key) if shape is None else f"{dtype} of shape {shape}"
        raise ValueError(
            f"key must be one random key, as jax.random.key(0) makes; got {what}"
        )


def reason(error: Exception) -> str:
    """The first line of somebody else's exception."""
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}"
