"""What square grids have in common: moves, cells as they are shown, and the way."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

CellObservation = Literal["one_hot", "coordinates"]

# Stay, up, right, down, left, as (x, y).
MOVES = np.array([[0, 0], [0, 1], [1, 0], [0, -1], [-1, 0]], np.int32)


def moved(cell: jax.Array, move: Any, size: int) -> jax.Array:
    """Returns the cell `[2]` beside another, which a wall leaves where it is."""
    return jnp.clip(cell + jnp.asarray(MOVES)[move], 0, size - 1)


def shown(cell: jax.Array, size: int, observation: CellObservation) -> jax.Array:
    """Returns a cell `[2]` as numbers: one-hot `[size²]`, or the two of it `[2]`."""
    if observation == "coordinates":
        return cell.astype(jnp.float32)
    return jax.nn.one_hot(cell[0] * size + cell[1], size**2, dtype=jnp.float32)


def cell_of(obs: jax.Array, size: int, observation: CellObservation) -> jax.Array:
    """Returns the cell `[2]` int32 that is shown."""
    if observation == "coordinates":
        return obs.astype(jnp.int32)
    return jnp.stack(jnp.divmod(jnp.argmax(obs), size)).astype(jnp.int32)


def which(obs: jax.Array, size: int, observation: CellObservation) -> jax.Array:
    """Returns the cell that is shown, one-hot `[size²]`."""
    return shown(cell_of(obs, size, observation), size, "one_hot")


def towards(cell: jax.Array, goal: jax.Array) -> jax.Array:
    """Returns the move `[]` that leads to a goal, along x first; at it, to stay."""
    dx, dy = goal - cell
    along_x, along_y = jnp.where(dx > 0, 2, 4), jnp.where(dy > 0, 1, 3)
    return jnp.where(dx != 0, along_x, jnp.where(dy != 0, along_y, 0))
