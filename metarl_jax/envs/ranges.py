"""Physics drawn for every task: ranges of constants."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from metarl_jax.types import Key
from metarl_jax.validation import check_above_zero

Range = tuple[float, float]


def uniform(**ranges: Range) -> Callable[[Key], dict[str, jax.Array]]:
    """Returns `(key) -> {name: []}`, each drawn uniformly and independently.

    Args:
      **ranges: low and high ends by name; equal ends fix the value.

    Raises:
      ValueError: if a range is not positive, finite and in order.
    """
    for name, ends in ranges.items():
        if not isinstance(ends, tuple | list) or len(ends) != 2:
            raise ValueError(f"{name} must be a range (low, high); got {ends!r}")
        for end in ends:
            check_above_zero(**{f"each end of {name}": end})
        if ends[0] > ends[1]:
            raise ValueError(f"{name} must be a range 0 < low <= high; got {ends}")
    low, high = jnp.asarray(list(ranges.values())).T

    def draw(key):
        values = jax.random.uniform(key, (len(ranges),), minval=low, maxval=high)
        return dict(zip(ranges, values, strict=True))

    return draw
