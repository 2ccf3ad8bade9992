"""Other bodies of a planar robot in MuJoCo's own model of it."""

from typing import Any

import numpy as np

from metarl_jax.envs.planar.model import Physics, Tree

# What a geom's shape and place depend on, in which MuJoCo's models are not changed.
SHAPES = ("point", "radius", "floor")


def put(model: Any, tree: Tree, physics: Physics) -> None:
    """Changes MuJoCo's model of a robot into one of other physics.

    All of it but the shapes of links. What MuJoCo derives from masses is made anew by
    `mujoco.mj_setConst`, which is the caller's.

    Args:
      model: an `mujoco.MjModel` of the file that the tree was read from.
      tree: the robot.
      physics: of NumPy arrays.
    """
    up = 2 if tree.has_gravity else 1
    plane = [0, up]
    hinges = model.jnt_pos[2:][:, plane]
    parents = np.maximum(tree.parents, 0)
    of_parent = np.where(np.arange(tree.num_links)[:, None] == 0, 0, hinges[parents])
    model.body_pos[1:, plane] = physics.anchor - hinges + of_parent
    model.body_ipos[1:, plane] = physics.centre + hinges
    model.body_mass[1:] = physics.mass
    model.body_inertia[1:] = physics.inertia
    model.body_iquat[1:] = [_axes(angle, up) for angle in physics.inertia_angle]
    # Where these frames were the same, MuJoCo goes on taking one for the other.
    model.body_sameframe[:] = 0
    model.dof_armature[:] = physics.armature
    model.dof_damping[:] = physics.damping
    model.jnt_stiffness[:] = physics.stiffness
    model.jnt_range[2:] = np.stack([physics.lower, physics.upper], axis=1)
    model.actuator_gear[:, 0] = physics.gear
    of_links = model.geom_bodyid > 0
    model.geom_friction[of_links, 0] = physics.friction
    model.geom_friction[~of_links, 0] = physics.floor_friction
    model.opt.gravity[up] = -physics.gravity
    model.opt.density, model.opt.viscosity = physics.density, physics.viscosity


def _axes(angle: float, up: int) -> tuple[float, ...]:
    """Returns the rotation that takes x, y and z to the axes of an inertia.

    The first is at an angle in the plane, the second at a right angle to it in the
    plane, the third across: a quaternion.
    """
    half = angle / 2
    if up == 1:
        return (float(np.cos(half)), 0.0, 0.0, float(np.sin(half)))
    # First a quarter turn about x takes y to z and z to -y; then the angle about -y.
    w, x = np.sqrt(0.5), np.sqrt(0.5)
    c, s = np.cos(half), -np.sin(half)
    return tuple(float(q) for q in (c * w, c * x, s * w, -s * x))
