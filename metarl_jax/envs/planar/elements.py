"""Forces along a direction of motion, linear in the velocity that is to come.

An element acts along a row J of a Jacobian, u = J v. With a force f, a damping c, a
stiffness k and an inertia m of its own it gives a step of length h

    f - h k u - (m + h (c + h k)) J a

at the velocity v + h a and the position after it: backward Euler, which is stable for
all c and k. With h = 0 it is the force as it is.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from metarl_jax.envs.planar.dynamics import Pose, Vector, turned
from metarl_jax.envs.planar.model import Tree
from metarl_jax.envs.planar.sparse import Sparse

# What moves with u, by its degree of freedom; those on one branch of the tree.
Row = Mapping[int, Any]


class Element(NamedTuple):
    """A force along a direction of motion."""

    row: Row  # J
    force: Any  # f
    damping: Any = 0.0  # c
    stiffness: Any = 0.0  # k
    speed: Any = 0.0  # u; used with a stiffness alone
    inertia: Any = 0.0  # m


def add(element: Element, step: float, matrix: Sparse, right: list[jax.Array]) -> None:
    """Adds an element to M a = b.

    Args:
      element: what acts.
      step: h.
      matrix: M, changed.
      right: b, changed.
    """
    row = element.row
    force = element.force - step * element.stiffness * element.speed
    for i, value in row.items():
        right[i] = right[i] + value * force
    weight = element.inertia + step * (element.damping + step * element.stiffness)
    for i in row:
        weighted = weight * row[i]
        for j in row:
            if j <= i:
                matrix[i, j] = matrix[i, j] + weighted * row[j]


def point_rows(tree: Tree, where: Pose, link: int, arm: Vector) -> tuple[Row, Row]:
    """Returns how a point of a link moves along x and along y.

    Args:
      tree: the robot.
      where: its pose.
      link: the link.
      arm: from its joint to the point.

    Returns:
      The rows.
    """
    along_x: dict[int, Any] = {0: 1.0}
    along_y: dict[int, Any] = {1: 1.0}
    while link >= 0:
        along_x[link + 2], along_y[link + 2] = turned(arm)
        arm, link = where.edge[link], tree.parents[link]
    return along_x, along_y


def point_velocity(where: Pose, link: int, arm: Vector) -> Vector:
    """Returns the velocity of a point of a link."""
    moved = turned(arm)
    base, spin = where.joint_velocity[link], where.spin[link]
    return base[0] + spin * moved[0], base[1] + spin * moved[1]
