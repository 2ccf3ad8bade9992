"""Other bodies of the same robot, as tasks."""

import jax
import jax.numpy as jnp

from metarl_jax.envs.planar.model import Physics, Tree
from metarl_jax.types import Key


def random_parameters(key: Key, physics: Physics, *, log_scale: float) -> Physics:
    """Draws a body as in the "random parameters" tasks (Rakelly et al. 2019).

    Every mass, inertia and friction is multiplied by 1.5^u and every damping by 1.3^u,
    with u ~ U(-L, L) of its own.

    Args:
      key: consumed.
      physics: of the robot as it is read.
      log_scale: L.

    Returns:
      The physics of a task.
    """
    bases = {
        "mass": 1.5,
        "inertia": 1.5,
        "friction": 1.5,
        "floor_friction": 1.5,
        "damping": 1.3,
    }

    def drawn(key, name):
        value = getattr(physics, name)
        u = jax.random.uniform(key, value.shape, minval=-log_scale, maxval=log_scale)
        return value * bases[name] ** u

    keys = jax.random.split(key, len(bases))
    return physics._replace(
        **{name: drawn(key, name) for key, name in zip(keys, bases, strict=True)}
    )


def lengthened(tree: Tree, physics: Physics, scale: jax.Array) -> Physics:
    """Makes links longer, all their parts and masses in proportion.

    A link that is s times as long has its points s times as far from its joint, s times
    the mass, s times the inertia along it and s³ times the inertia across.

    Args:
      tree: the robot.
      physics: its physics.
      scale: `[N]` s of every link.

    Returns:
      The physics of a task; radii are as they were.
    """
    scale = jnp.asarray(scale)
    parents = jnp.asarray([max(parent, 0) for parent in tree.parents])
    # The root's anchor is where it is in the world.
    of_anchor = jnp.where(jnp.arange(tree.num_links) == 0, 1.0, scale[parents])
    contacts = jnp.asarray(tree.contacts, int)
    return physics._replace(
        anchor=physics.anchor * of_anchor[:, None],
        centre=physics.centre * scale[:, None],
        mass=physics.mass * scale,
        inertia=physics.inertia * jnp.stack([scale, scale**3, scale**3], axis=1),
        point=physics.point * scale[contacts][:, None],
    )
