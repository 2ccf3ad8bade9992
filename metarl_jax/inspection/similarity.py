"""How alike two networks are: in what their layers hold, and in what they put out."""

from typing import Any

import jax
import jax.numpy as jnp

from metarl_jax.types import Params

# What a flax layer calls its own arrays; the layer is the module that holds them.
_OWN = ("kernel", "bias", "scale", "embedding")


def linear_cka(x: jax.Array, y: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Compares two representations of the same inputs.

    CKA(X, Y) = ‖Yᵀ X‖² / (‖Xᵀ X‖ ‖Yᵀ Y‖), Frobenius norms of centred X and Y: 1 where
    one is a rotation, a reflection or a multiple of the other (Kornblith et al. 2019,
    arXiv 1905.00414).

    Args:
      x: `[M, D]`, a row for each input.
      y: `[M, D']`, of the same inputs.
      mask: `[M]`, the inputs that count; None for all.

    Returns:
      `[]` in [0, 1]; NaN where a representation is the same for all inputs.
    """
    mask = jnp.ones(x.shape[0]) if mask is None else mask.astype(x.dtype)

    def centred(z):
        mean = jnp.sum(z * mask[:, None], axis=0) / jnp.sum(mask)
        return (z - mean) * mask[:, None]

    x, y = centred(x), centred(y)
    norms = jnp.linalg.norm(x.T @ x) * jnp.linalg.norm(y.T @ y)
    return jnp.linalg.norm(y.T @ x) ** 2 / norms


def layer_of(path: str) -> str:
    """Returns the layer that a parameter belongs to.

    >>> layer_of("params/hidden_0/kernel"), layer_of("params/log_std")
    ('hidden_0', 'log_std')

    Args:
      path: the names from the root to the leaf.
    """
    names = [name for name in path.split("/") if name and name != "params"]
    if len(names) > 1 and names[-1] in _OWN:
        names.pop()
    return "/".join(names)


def leaves_by_path(tree: Any) -> dict[str, jax.Array]:
    """Returns the leaves of a tree by the names that lead to them."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def moved(before: Params, after: Params) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Measures how far each layer moved.

    Args:
      before: θ.
      after: θ', of the same shape.

    Returns:
      By layer, ‖θ'_l - θ_l‖ and ‖θ_l‖, both `[]`.
    """
    squares: dict[str, tuple[jax.Array, jax.Array]] = {}
    old, new = leaves_by_path(before), leaves_by_path(after)
    for path, leaf in old.items():
        layer = layer_of(path)
        distance, norm = squares.get(layer, (jnp.zeros(()), jnp.zeros(())))
        squares[layer] = (
            distance + jnp.sum((new[path] - leaf) ** 2),
            norm + jnp.sum(leaf**2),
        )
    return {name: (jnp.sqrt(d), jnp.sqrt(n)) for name, (d, n) in squares.items()}
