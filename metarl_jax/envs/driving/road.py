"""Coordinates along a road: how far along it, how far to the left of its first lane.

A road is its curvature κ(s), anticlockwise, at knots `[K]` a fixed distance apart and
linear in between: straights, arcs and Euler spirals. After the last knot it begins
again.
"""

import jax
import jax.numpy as jnp
import numpy as np

KNOT = 60.0  # metres from knot to knot
LANE = 3.5  # metres, the width of a lane


def curvature_at(curvature: jax.Array, along: jax.Array) -> jax.Array:
    """Computes κ(s) by linear interpolation.

    Args:
      curvature: `[K]` at the knots, 1 / metre.
      along: `[...]` s, metres.

    Returns:
      `[...]` the curvature.
    """
    num_knots = curvature.shape[0]
    knot = along / KNOT
    before = jnp.floor(knot)
    share = knot - before
    first = before.astype(jnp.int32) % num_knots
    second = (first + 1) % num_knots
    return (1 - share) * curvature[first] + share * curvature[second]


def advance(
    curvature: jax.Array, offset: jax.Array, forwards: jax.Array, leftwards: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Moves in a road's coordinates, exactly where it is an arc.

    Around the arc's centre, 1 - κ d away in units of its radius, the displacement
    (x, y) leads to the polar angle and radius of (κ x, 1 - κ (d + y)).

    Args:
      curvature: `[]` κ of the line that offsets are measured from.
      offset: `[]` d, to the left of it.
      forwards: `[]` x, along the road's direction at the beginning.
      leftwards: `[]` y, across it.

    Returns:
      How far it went along the line, and the new offset.
    """
    offset = offset + leftwards
    towards = 1 - curvature * offset
    bend = curvature * forwards / towards
    # atan(z) / z, whose other terms are nothing at roads' curvatures.
    square = jnp.square(bend)
    along = forwards / towards * (1 - square / 3 + jnp.square(square) / 5)
    # 1 - r = (1 - r²) / (1 + r), which has no division by a curvature of 0.
    radius = jnp.hypot(curvature * forwards, towards)
    arc = jnp.square(offset) + jnp.square(forwards)
    return along, (2 * offset - curvature * arc) / (1 + radius)


def centreline(curvature: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Integrates where the line is, for figures.

    Args:
      curvature: `[K]` at the knots.
      along: `[P]` increasing s, metres; finely, a step is a straight.

    Returns:
      `[P, 3]` x, y and direction, from (0, 0, 0) at the first.
    """
    between = (along[1:] + along[:-1]) / 2
    steps = np.diff(along)
    bends = np.asarray(curvature_at(jnp.asarray(curvature), jnp.asarray(between)))
    direction = np.concatenate([[0.0], np.cumsum(bends * steps)])
    middle = (direction[1:] + direction[:-1]) / 2
    x = np.concatenate([[0.0], np.cumsum(np.cos(middle) * steps)])
    y = np.concatenate([[0.0], np.cumsum(np.sin(middle) * steps)])
    return np.stack([x, y, direction], axis=-1)
