"""What others have published as files: discovered rules and learned optimisers.

Read from a path that the user gives; nothing of it comes with this package.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metarl_jax.optimizer_network import OptimizerNetwork
from metarl_jax.types import Params

_LIFETIME = "lstm/~/meta_lstm/~unroll/"
# By what a layer is called here, what it is called in the file.
_LAYERS = {
    "backward/gates": "lstm/lstm/linear",
    "modulation": "lstm/linear",
    "embedding": "lstm/linear_1",
    "y_target": "lstm/linear_2",
    "z_target": "lstm/linear_3",
    "policy_target": "lstm/linear_4",
    "action_net/layer_0": "lstm/sequential_1/conv1_d",
    "lifetime/embed/layer_0": _LIFETIME + "mlp_2/~/linear_0",
    "lifetime/lstm/gates": _LIFETIME + "lstm/linear",
}
for _here, _there in (("reader/", "lstm/"), ("lifetime/reader/", _LIFETIME)):
    for _i in range(2):
        _last = "_1" if _i else ""
        _LAYERS |= {
            f"{_here}y_net/layer_{_i}": f"{_there}mlp/~/linear_{_i}",
            f"{_here}z_net/layer_{_i}": f"{_there}mlp_1/~/linear_{_i}",
            f"{_here}action_net/layer_{_i}": f"{_there}sequential/conv1_d{_last}",
        }


def disco_103(path: str | Path) -> Params:
    """Reads the parameters of Disco103, as they were published.

    Args:
      path: of `disco_103.npz`.

    Returns:
      Parameters of `metarl_jax.update_rules.update_network.UpdateNetwork`.

    Raises:
      ValueError: if the file does not hold what Disco103 is made of.
    """
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    found = {}
    for here, there in _LAYERS.items():
        for parameter, name in (("kernel", "w"), ("bias", "b")):
            found[f"{here}/{parameter}"] = _taken(arrays, f"{there}/{name}", path)
    if arrays:
        raise ValueError(f"{path} holds more than Disco103 does: {sorted(arrays)}")
    return {"params": _nested(found)}


def open_optimizer(path: str | Path) -> tuple[Params, OptimizerNetwork]:
    """Reads a published optimiser of OPEN (Goldie et al. 2024, arXiv 2407.07082).

    Args:
      path: of an array of all its parameters in a row, such as `breakout_OPEN.npy`.

    Returns:
      Parameters, and the `OptimizerNetwork` that they are of.

    Raises:
      ValueError: if there are not as many as of a network of 8 and 16, or, as the one
        for several environments, of 16 and 32.
    """
    flat = np.load(path, allow_pickle=False)
    networks = [OptimizerNetwork(8, 16), OptimizerNetwork(16, 32)]
    counts = {optax.tree.size(network.zeros()): network for network in networks}
    if flat.ndim != 1 or flat.size not in counts:
        raise ValueError(
            f"{path} must hold {' or '.join(map(str, counts))} numbers in a row, as "
            f"optimisers of OPEN do; its shape is {flat.shape}"
        )
    network = counts[flat.size]
    shapes: Any = network.zeros()["params"]
    tree, start = {}, 0
    # In the file's order, which is that of its own layers' and parameters' names.
    for layer in ("gru", "hidden_0", "norm_0", "hidden_1", "norm_1", "output"):
        leaves, treedef = jax.tree.flatten(shapes[layer])
        ends = start + np.cumsum([leaf.size for leaf in leaves])
        parts = np.split(flat[: ends[-1]], [start, *ends[:-1]])[1:]
        tree[layer] = treedef.unflatten(
            [
                jnp.asarray(x.reshape(leaf.shape))
                for x, leaf in zip(parts, leaves, strict=True)
            ]
        )
        start = ends[-1]
    return {"params": tree}, network


def _taken(arrays: dict[str, np.ndarray], name: str, path: str | Path) -> jax.Array:
    if name not in arrays:
        raise ValueError(f"{path} must hold {name}, as Disco103 does; it does not")
    x = arrays.pop(name)
    return jnp.asarray(x.reshape(x.shape[-2:]))  # a convolution's width is 1


def _nested(flat: Mapping[str, jax.Array]) -> dict:
    tree: dict = {}
    for name, x in flat.items():
        *parents, last = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = x
    return tree
