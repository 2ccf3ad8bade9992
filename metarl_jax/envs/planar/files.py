"""Planar robots in the files that Gymnasium comes with."""

import functools
import importlib.resources

from metarl_jax.envs.locomotion import ROBOTS
from metarl_jax.envs.planar.model import Physics, Tree, read


@functools.cache
def planar_robot(name: str) -> tuple[Tree, Physics]:
    """Reads a robot from the file that Gymnasium comes with.

    Args:
      name: in `metarl_jax.envs.locomotion.ROBOTS`.

    Returns:
      The tree, and its physics in float64.
    """
    assets = importlib.resources.files("gymnasium") / "envs" / "mujoco" / "assets"
    return read((assets / ROBOTS[name].xml).read_text(encoding="utf-8"))
