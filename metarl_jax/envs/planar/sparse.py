"""Linear equations of a tree: Gaussian elimination from the leaves fills no zero in.

The mass matrix of a tree couples a degree of freedom with its ancestors alone
(Featherstone 2008, Rigid Body Dynamics Algorithms, chapter 6).
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax

# The lower half of a symmetric matrix: what is not there is zero.
Sparse = dict[tuple[int, int], jax.Array]


def ancestors(parents: Sequence[int], i: int) -> list[int]:
    """Lists the ancestors of a degree of freedom, the nearest first."""
    found = []
    while (i := parents[i]) >= 0:
        found.append(i)
    return found


def solve(
    matrix: Sparse,
    right: Sequence[jax.Array],
    parents: Sequence[int],
    once: Callable[[Any], Any] = lambda values: values,
) -> list[jax.Array]:
    """Solves M x = b by M = Lᵀ D L, unrolled.

    Args:
      matrix: M, positive definite: entries `(i, j)` for every degree of freedom i and
        its ancestors j, and `(i, i)`.
      right: b.
      parents: of every degree of freedom, smaller numbers; -1 for none.
      once: holds what is passed through it, so that it is not computed again by all
        that reads it.

    Returns:
      x.
    """
    size = len(parents)
    above = [ancestors(parents, i) for i in range(size)]
    matrix = dict(matrix)
    inverse = {}
    for k in reversed(range(size)):
        inverse[k] = 1.0 / matrix[k, k]
        for at, i in enumerate(above[k]):
            factor = matrix[k, i] * inverse[k]
            for j in (i, *above[k][at + 1 :]):
                matrix[i, j] = matrix[i, j] - factor * matrix[k, j]
    # Row k of L is what was left in M, over its diagonal.
    lower = {(k, i): matrix[k, i] * inverse[k] for k in range(size) for i in above[k]}
    lower, inverse = once((lower, inverse))
    x = list(right)
    for k in reversed(range(size)):
        for i in above[k]:
            x[i] = x[i] - lower[k, i] * x[k]
    x = [one * inverse[k] for k, one in enumerate(once(x))]
    for k in range(size):
        for i in above[k]:
            x[k] = x[k] - lower[k, i] * x[i]
    return x
