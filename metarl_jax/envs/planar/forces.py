"""What acts on a planar tree: motors, springs and limits, the floor, a fluid.

The floor and the limits are springs and dampers with constants per mass, and friction
is clipped viscous friction: it is not MuJoCo's solver, whose forces are found together
by an optimisation. Motors, springs, dampers and the fluid are MuJoCo's own.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from metarl_jax.envs.planar.dynamics import Augmented, Pose, dot, turned, vector
from metarl_jax.envs.planar.elements import (
    Element,
    Row,
    point_rows,
    point_velocity,
)
from metarl_jax.envs.planar.model import Physics, Tree

# How fast a limit is regained, seconds: as MuJoCo's `solref`, critically damped.
LIMIT_TIME = 0.02
# The floor's stiffness and damping per mass of the robot, 1/s² and 1/s.
FLOOR_STIFFNESS = 1500.0
FLOOR_DAMPING = 20.0
# What slides faster than this has the whole friction, metres per second.
SLIP = 0.05


def joint_row(tree: Tree, i: int) -> Row:
    """Returns how joint i moves with the angles of the links."""
    sign, parent = float(tree.signs[i]), tree.parents[i]
    return {2: sign} if parent < 0 else {i + 2: sign, parent + 2: -sign}


def joints(
    tree: Tree,
    physics: Physics,
    bodies: Augmented,
    position: Sequence[jax.Array],
    velocity: Sequence[jax.Array],
    torque: Sequence[Any],
    *,
    step: float,
    limits: bool,
) -> Iterator[Element]:
    """Lists rotors, springs, dampers, motors and limits.

    A joint's damping is taken at the end of a step. Its spring is not, which would
    damp it further, but its rotor is heavier by h² k / 4: what swings too fast for the
    step swings slower, and without loss.

    Args:
      tree: the robot.
      physics: of its joints.
      bodies: its augmented bodies, which a limit's stiffness goes by.
      position: N + 2 numbers, MuJoCo's `qpos`.
      velocity: N + 2 numbers, MuJoCo's `qvel`.
      torque: of N joints.
      step: h.
      limits: whether joints have them.

    Yields:
      An element for each of the N + 2.
    """
    for d in range(tree.num_links + 2):
        damping, stiffness = physics.damping[d], physics.stiffness[d]
        speed = velocity[d]
        element = Element(
            {d: 1.0},
            -stiffness * position[d] - damping * speed,
            damping + 0.25 * step * stiffness,
            inertia=physics.armature[d],
        )
        i = d - 2
        if i >= 0:
            element = element._replace(
                row=joint_row(tree, i), force=element.force + torque[i]
            )
        if i >= 0 and limits and tree.limited[i]:
            inertia = bodies.inertia[i] + physics.armature[d]
            below = jnp.minimum(position[d] - physics.lower[i], 0.0)
            above = jnp.maximum(position[d] - physics.upper[i], 0.0)
            beyond = below + above
            spring, damper = inertia / LIMIT_TIME**2, 2 * inertia / LIMIT_TIME
            push = -spring * beyond - damper * speed
            # A limit does not hold back what returns from it.
            holds = (beyond * push < 0).astype(push.dtype)
            element = element._replace(
                force=element.force + holds * push,
                damping=element.damping + holds * damper,
                stiffness=holds * spring,
                speed=speed,
            )
        yield element


def floor(
    tree: Tree, physics: Physics, bodies: Augmented, where: Pose
) -> Iterator[Element]:
    """Lists what the floor does to the points that may touch it.

    At a depth d and a velocity (u, w) the push is n = k d - c w, if that is above 0,
    and the friction -μ n u / max(|u|, u₀).

    Args:
      tree: the robot.
      physics: its points, radii and friction.
      bodies: its mass.
      where: its pose and motion.

    Yields:
      Two elements a point.
    """
    k, c = FLOOR_STIFFNESS * bodies.total, FLOOR_DAMPING * bodies.total
    for n, link in enumerate(tree.contacts):
        arm = where.world(link, vector(physics.point, n))
        height = where.joint[link][1] + arm[1]
        depth = physics.floor + physics.radius[n] - height
        sliding, sinking = point_velocity(where, link, arm)
        push = k * depth - c * sinking
        touches = (jnp.minimum(depth, push) > 0).astype(depth.dtype)
        along, upwards = point_rows(tree, where, link, arm)
        yield Element(upwards, touches * push, touches * c, touches * k, sinking)
        friction = jnp.maximum(
            physics.friction[tree.contact_geoms[n]], physics.floor_friction
        )
        drag = friction * touches * push / jnp.maximum(jnp.abs(sliding), SLIP)
        yield Element(along, -drag * sliding, drag)


def fluid(tree: Tree, physics: Physics, where: Pose) -> Iterator[Element]:
    """Lists the drag of a fluid on every link, as on a box of the link's inertia.

    A box of sides b of the same mass and principal inertias; of a velocity u along side
    i and a spin ω about the side across the plane (MuJoCo, "Inertia model")

        f_i = -(3 π β b̄ + ½ ρ b_j b_k |u|) u,
        τ = -(π β b̄³ + ρ b₃ (b₁⁴ + b₂⁴) |ω| / 64) ω,   b̄ = (b₁ + b₂ + b₃) / 3.

    Args:
      tree: the robot.
      physics: with the fluid's density ρ and viscosity β.
      where: the robot's pose and motion.

    Yields:
      Three elements a link.
    """
    for i in range(tree.num_links):
        inertia, mass = physics.inertia[i], physics.mass[i]
        total = inertia[0] + inertia[1] + inertia[2]
        sides = [
            jnp.sqrt(jnp.maximum(6 * (total - 2 * inertia[axis]) / mass, 1e-15))
            for axis in range(3)
        ]
        mean = (sides[0] + sides[1] + sides[2]) / 3
        arm = where.world(i, vector(physics.centre, i))
        moved = point_velocity(where, i, arm)
        rows = point_rows(tree, where, i, arm)
        angle = physics.inertia_angle[i]
        first = where.world(i, (jnp.cos(angle), jnp.sin(angle)))
        slow = 3 * jnp.pi * physics.viscosity * mean
        for axis, other in ((first, 1), (turned(first), 0)):
            speed = dot(axis, moved)
            face = sides[other] * sides[2]
            drag = slow + 0.5 * physics.density * face * jnp.abs(speed)
            row = {
                d: axis[0] * rows[0].get(d, 0.0) + axis[1] * rows[1].get(d, 0.0)
                for d in (0, *rows[1])
            }
            yield Element(row, -drag * speed, drag)
        spin = where.spin[i]
        quartic = sides[0] ** 4 + sides[1] ** 4
        drag = jnp.pi * physics.viscosity * mean**3
        drag += physics.density * sides[2] * quartic / 64 * jnp.abs(spin)
        yield Element({i + 2: 1.0}, -drag * spin, drag)
