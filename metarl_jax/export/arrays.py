"""Pytrees as arrays by name, real ones alone, and files of them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax.runs import files


def named(tree: Any) -> dict[str, Any]:
    """Returns the arrays of a pytree by their path, such as `params.hidden_0.kernel`.

    Of complex numbers `….real` and `….imag`, of keys the data, `….key`.
    """
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if _is_key(leaf):
            found[f"{name}.key"] = jax.random.key_data(leaf)
        elif jnp.iscomplexobj(leaf):
            found |= {f"{name}.real": jnp.real(leaf), f"{name}.imag": jnp.imag(leaf)}
        else:
            found[name] = jnp.asarray(leaf)
    return found


def restored(template: Any, arrays: Mapping[str, Any]) -> Any:
    """Returns the pytree that `named` has taken apart.

    Args:
      template: a pytree of the structure, with the types.
      arrays: by name; others are left alone.
    """

    def leaf(path, like):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if _is_key(like):
            return jax.random.wrap_key_data(arrays[f"{name}.key"])
        if jnp.iscomplexobj(like):
            return jax.lax.complex(arrays[f"{name}.real"], arrays[f"{name}.imag"])
        return arrays[name]

    return jax.tree_util.tree_map_with_path(leaf, template)


def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a pytree's leaves by path, in their order."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def write_safetensors(path: Path, arrays: Mapping[str, Any]) -> None:
    """Writes arrays as huggingface/safetensors has them.

    A header's length in 8 bytes, a header of JSON, the bytes of the arrays.

    Raises:
      ValueError: if an array is of another type than numbers.
    """
    header, blocks, offset = {}, [], 0
    for name, array in sorted(arrays.items()):
        array = np.asarray(array)
        kind, size = array.dtype.kind, 8 * array.dtype.itemsize
        if kind not in "fiub":
            raise ValueError(f"{name} must be real numbers; got {array.dtype}")
        block = array.astype(array.dtype.newbyteorder("<")).tobytes()
        header[name] = {
            "dtype": "BOOL" if kind == "b" else f"{kind.upper()}{size}",
            "shape": array.shape,
            "data_offsets": (offset, offset + len(block)),
        }
        blocks.append(block)
        offset += len(block)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    files.replace_bytes(path, len(text).to_bytes(8, "little") + text + b"".join(blocks))


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)
