"""Mass and inertia of capsules and spheres of even density, as MuJoCo has them."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from metarl_jax.envs.planar.mjcf import Geom


class Solid(NamedTuple):
    """What its geoms make of a body, in the plane."""

    mass: float
    centre: np.ndarray  # [2], of mass, in the frame of the body
    inertia: np.ndarray  # [3], about two axes in the plane and the one across it
    angle: float  # of the first axis, anticlockwise


def capsule_mass(geom: Geom) -> float:
    """Computes ρ (π r² l + 4/3 π r³) with the cylinder's length l = 2 h."""
    radius, length = geom.radius, 2 * geom.half_length
    return geom.density * math.pi * radius**2 * (length + 4 / 3 * radius)


def capsule_inertia(geom: Geom) -> tuple[float, float]:
    """Computes the inertia along a capsule's axis and across it.

    A cylinder and two halves of a ball, whose own centres of mass are 3/8 r from their
    flat sides.

    Returns:
      I of the axis, and I of an axis across it through the middle.
    """
    radius, length = geom.radius, 2 * geom.half_length
    ball = geom.density * math.pi * 4 / 3 * radius**3
    cylinder = capsule_mass(geom) - ball
    along = cylinder * radius**2 / 2 + ball * 2 / 5 * radius**2
    across = cylinder * (3 * radius**2 + length**2) / 12
    across += ball * (2 / 5 * radius**2 + length**2 / 4 + 3 / 8 * length * radius)
    return along, across


def solid(geoms: Sequence[Geom], plane: tuple[int, int]) -> Solid:
    """Adds the geoms of a body.

    Args:
      geoms: with their axes in the plane.
      plane: which coordinates are the plane's.

    Returns:
      The solid; the inertia's first axis is along the capsule if there is but one.

    Raises:
      ValueError: if there is no geom, or one is out of the plane.
    """
    out = 3 - sum(plane)
    if not geoms:
        raise ValueError("a body must have a geom; got none")
    for geom in geoms:
        if abs(geom.centre[out]) > 1e-9 or abs(geom.axis[out]) > 1e-9:
            raise ValueError(f"a geom must lie in the plane; {geom.name} does not")
    masses = np.array([capsule_mass(geom) for geom in geoms])
    centres = np.array([geom.centre[list(plane)] for geom in geoms])
    centre = masses @ centres / masses.sum()
    within, across_plane = np.zeros((2, 2)), 0.0
    for geom, mass, offset in zip(geoms, masses, centres - centre, strict=True):
        along, across = capsule_inertia(geom)
        axis = geom.axis[list(plane)]
        within += along * np.outer(axis, axis)
        within += across * (np.eye(2) - np.outer(axis, axis))
        within += mass * (offset @ offset * np.eye(2) - np.outer(offset, offset))
        across_plane += across + mass * offset @ offset
    values, vectors = np.linalg.eigh(within)
    angle = math.atan2(vectors[1, 0], vectors[0, 0])
    return Solid(masses.sum(), centre, np.append(values, across_plane), angle)
