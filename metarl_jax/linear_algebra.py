"""Factorisations of many matrices, one after the other on a CPU.

LAPACK is called for a whole batch, and jaxlib deals the batch out to the very threads
that the devices of a CPU compute with. Where each of them waits for its batch, nobody
is left to do it, and the program stands still: two devices on two cores with two
factorisations each are enough. One matrix is factorised where it is asked for.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def orthogonal(
    key: jax.Array, shape: tuple[int, int], dtype: jnp.dtype = jnp.float32
) -> jax.Array:
    """Draws a matrix with orthonormal rows or columns, of which there are fewer.

    Args:
      key: a random key.
      shape: of the matrix.
      dtype: of its numbers.
    """
    draw = jax.nn.initializers.orthogonal()
    return _one_by_one(lambda key: draw(key, shape, dtype))(key)


def solve_positive(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns the X of A X = B, by Cholesky's factorisation.

    Args:
      a: `[K, K]`, symmetric and positive definite.
      b: `[K, M]`.
    """

    def solve(a, b):
        return jax.scipy.linalg.solve(a, b, assume_a="pos")

    return _one_by_one(solve)(a, b)


def _one_by_one(function: Callable) -> Callable:
    """Lets a `vmap` of a function take turns where the program is for a CPU."""
    in_turn = jax.custom_batching.sequential_vmap(function)
    return lambda *args: jax.lax.platform_dependent(
        *args, cpu=in_turn, default=function
    )
