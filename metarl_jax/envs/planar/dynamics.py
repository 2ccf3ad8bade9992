"""Kinematics of a planar tree, its mass matrix and its bias forces, unrolled.

The degrees of freedom are where the root is, x and y, and the angle of every link from
its pose in the file, anticlockwise: 0, 1 and i + 2. With absolute angles the mass
matrix holds scalar products of vectors that turn with the links. Let e_i be the vector
from the joint of link i's parent to its own, and

    p_i = m_i c_i + Σ_children M_j e_j,

the first moment of a link with all that hangs on it shrunk into its joints (M_j is the
mass of a subtree; an "augmented body"). Then link i and an ancestor a couple by
p_i · e_b, with b the child of a on the way to i; a link with itself by the augmented
body's inertia; and with the root's place by p_i turned by a right angle.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.envs.planar.model import Physics, Tree
from metarl_jax.envs.planar.sparse import Sparse, ancestors

Vector = tuple[jax.Array, jax.Array]


def dot(u: Vector, v: Vector) -> jax.Array:
    """Returns u · v."""
    return u[0] * v[0] + u[1] * v[1]


def turned(v: Vector) -> Vector:
    """Turns a vector anticlockwise by a right angle: its derivative by its angle."""
    return -v[1], v[0]


def parents_of(tree: Tree) -> list[int]:
    """Returns the parent of every degree of freedom."""
    return [-1, 0, 1, *(parent + 2 for parent in tree.parents[1:])]


class Augmented(NamedTuple):
    """What the mass matrix is made of in every pose."""

    total: jax.Array
    moment: list[Vector]  # p_i at rest
    inertia: list[jax.Array]  # of the augmented bodies about their joints


def augmented(tree: Tree, physics: Physics) -> Augmented:
    """Computes masses, first moments and inertias of the augmented bodies."""
    links = range(tree.num_links)
    mass = [physics.mass[i] for i in links]
    moment = [_scaled(mass[i], vector(physics.centre, i)) for i in links]
    inertia = [
        physics.inertia[i][2] + dot(moment[i], vector(physics.centre, i)) for i in links
    ]
    for i in reversed(links[1:]):
        parent, anchor = tree.parents[i], vector(physics.anchor, i)
        mass[parent] = mass[parent] + mass[i]
        moment[parent] = _sum(moment[parent], _scaled(mass[i], anchor))
        inertia[parent] = inertia[parent] + mass[i] * dot(anchor, anchor)
    return Augmented(mass[0], moment, inertia)


class Pose(NamedTuple):
    """Where everything is and how it moves."""

    cos: list[jax.Array]
    sin: list[jax.Array]
    edge: list[Vector]  # e_i; the root's is where it is
    joint: list[Vector]  # where the joint of link i is
    joint_velocity: list[Vector]
    spin: list[jax.Array]  # of every link

    def world(self, i: int, v: Vector) -> Vector:
        """Turns a vector with link i."""
        c, s = self.cos[i], self.sin[i]
        return c * v[0] - s * v[1], s * v[0] + c * v[1]


def pose(tree: Tree, physics: Physics, position, velocity) -> Pose:
    """Computes the pose.

    Args:
      tree: the robot.
      physics: its lengths are used.
      position: N + 2 numbers: of the root, and the angles of the links.
      velocity: their derivatives.

    Returns:
      The pose.
    """
    angle, spin = position[2:], list(velocity[2:])
    cos, sin = [jnp.cos(a) for a in angle], [jnp.sin(a) for a in angle]
    found = Pose(
        cos,
        sin,
        [(position[0], position[1])],
        [(position[0], position[1])],
        [(velocity[0], velocity[1])],
        spin,
    )
    for i in range(1, tree.num_links):
        parent = tree.parents[i]
        edge = found.world(parent, vector(physics.anchor, i))
        found.edge.append(edge)
        found.joint.append(_sum(found.joint[parent], edge))
        moved = _scaled(spin[parent], turned(edge))
        found.joint_velocity.append(_sum(found.joint_velocity[parent], moved))
    return found


def mass_matrix(tree: Tree, bodies: Augmented, where: Pose) -> Sparse:
    """Computes the mass matrix, without rotors."""
    matrix: Sparse = {}
    zero = jnp.zeros_like(bodies.total)
    matrix[0, 0] = matrix[1, 1] = bodies.total
    matrix[1, 0] = zero
    for i in range(tree.num_links):
        moment = where.world(i, bodies.moment[i])
        matrix[i + 2, 0], matrix[i + 2, 1] = turned(moment)
        matrix[i + 2, i + 2] = bodies.inertia[i]
        for ancestor, edge in _way_up(tree, where, i):
            matrix[i + 2, ancestor + 2] = dot(moment, edge)
    return matrix


def bias(tree: Tree, bodies: Augmented, where: Pose, gravity) -> list[jax.Array]:
    """Computes the forces of gravity and of turning, one a degree of freedom.

    A mass on a turning vector r is pulled outwards by ω² r.

    Args:
      tree: the robot.
      bodies: its augmented bodies.
      where: its pose and motion.
      gravity: downwards; None for none.

    Returns:
      N + 2 forces and torques.
    """
    square = [spin * spin for spin in where.spin]
    x = y = jnp.zeros_like(bodies.total)
    torque = [x for _ in range(tree.num_links)]
    for i in range(tree.num_links):
        moment = where.world(i, bodies.moment[i])
        across = turned(moment)
        x, y = x + square[i] * moment[0], y + square[i] * moment[1]
        if gravity is not None:
            torque[i] = torque[i] - gravity * across[1]
        for ancestor, edge in _way_up(tree, where, i):
            torque[i] = torque[i] + square[ancestor] * dot(across, edge)
            pulled = square[i] * dot(turned(edge), moment)
            torque[ancestor] = torque[ancestor] + pulled
    if gravity is not None:
        y = y - gravity * bodies.total
    return [x, y, *torque]


def _way_up(tree: Tree, where: Pose, i: int) -> list[tuple[int, Vector]]:
    """Lists the ancestors of a link, each with the edge that leads from it to there."""
    links = [i, *ancestors(tree.parents, i)]
    return [
        (ancestor, where.edge[child]) for child, ancestor in itertools.pairwise(links)
    ]


def vector(array, i: int) -> Vector:
    """Returns row i of an array `[N, 2]`, or of one taken apart."""
    return array[i][0], array[i][1]


def _sum(u: Vector, v: Vector) -> Vector:
    return u[0] + v[0], u[1] + v[1]


def _scaled(factor, v: Vector) -> Vector:
    return factor * v[0], factor * v[1]
