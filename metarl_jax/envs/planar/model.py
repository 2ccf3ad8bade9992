"""A planar tree: what never changes of a robot, and the physics that a task may."""

from typing import Any, NamedTuple

import numpy as np

from metarl_jax.envs.planar.inertia import solid
from metarl_jax.envs.planar.mjcf import Body, Geom, Joint, parse

# How near an end of a capsule is to another, in radii, to add nothing to it.
_NEAR = 0.8


class Tree(NamedTuple):
    """What is traced into the program, of N links, A motors and C points of contact.

    Attributes:
      parents: the parent of every link, -1 for the root; parents come first.
      signs: 1 for a joint that turns its link anticlockwise in the plane, else -1.
      limited: whether every joint has limits.
      motors: the link that every motor turns.
      contacts: the link of every point that may touch the floor.
      contact_geoms: its geom, numbered from 0 in the file's order.
      at_rest: `[N + 2]` MuJoCo's positions in the pose of the file.
      names: of the links.
      shapes: every geom as a figure needs it, as it is read: its link, both ends in the
        link's frame and its radius.
      has_gravity: whether gravity is in the plane.
      has_fluid: whether it moves in a fluid.
    """

    parents: tuple[int, ...]
    signs: tuple[int, ...]
    limited: tuple[bool, ...]
    motors: tuple[int, ...]
    contacts: tuple[int, ...]
    contact_geoms: tuple[int, ...]
    at_rest: tuple[float, ...]
    names: tuple[str, ...]
    shapes: tuple[tuple[int, tuple[float, ...], float], ...]
    has_gravity: bool
    has_fluid: bool

    @property
    def num_links(self) -> int:
        """N."""
        return len(self.parents)


class Physics(NamedTuple):
    """What a task may change: arrays, float64 as they are read.

    Lengths in metres, masses in kilograms, angles in radians, time in seconds. The
    frame of a link is at its joint and turns with it.
    """

    anchor: Any  # [N, 2], a link's joint in its parent's frame; the root's in the world
    centre: Any  # [N, 2], of mass
    mass: Any  # [N]
    inertia: Any  # [N, 3], about two axes in the plane and the one across it
    inertia_angle: Any  # [N], of the first axis; a fluid's drag follows it
    armature: Any  # [N + 2], inertia of a joint's rotor
    damping: Any  # [N + 2]
    stiffness: Any  # [N + 2]
    lower: Any  # [N]
    upper: Any  # [N]
    gear: Any  # [A]
    point: Any  # [C, 2], the centre of a sphere that may touch the floor
    radius: Any  # [C]
    friction: Any  # [G], of a geom; the greater of it and of the floor's counts
    floor_friction: Any  # []
    floor: Any  # [], its height
    gravity: Any  # [], downwards in the plane
    density: Any  # [], of the fluid
    viscosity: Any  # []


def read(text: str) -> tuple[Tree, Physics]:
    """Reads a planar tree from a MuJoCo model.

    The root slides along two axes and turns; every other body has one hinge across the
    plane. Bodies do not touch one another.

    Args:
      text: the XML.

    Returns:
      The tree, and its physics in float64.

    Raises:
      ValueError: if the model is no planar tree.
    """
    model = parse(text)
    bodies = model.bodies
    hinges = [_hinge(i, body) for i, body in enumerate(bodies)]
    up = 2 if abs(hinges[0].axis[1]) == 1 else 1
    plane = (0, up)
    # A turn about +y takes z towards x.
    turns = [joint.axis[3 - up] * (-1 if up == 2 else 1) for joint in hinges]
    if any(abs(turn) != 1 for turn in turns):
        raise ValueError("hinges must turn about the axis across the plane")
    anchors = [joint.anchor[list(plane)] for joint in hinges]
    solids = [solid(body.geoms, plane) for body in bodies]
    scale = 1.0
    if model.total_mass is not None:
        scale = model.total_mass / sum(one.mass for one in solids)
    joints = [*_slides(bodies[0], up), *hinges]
    names = [joint.name for joint in hinges]
    geoms = [(i, geom) for i, body in enumerate(bodies) for geom in body.geoms]
    contacts = _contacts(bodies, geoms, plane) if up == 2 else []
    across = np.array([0.0, 0.0, 0.0])
    across[up] = 1.0

    def place(i):
        """The joint of link i in its parent's frame."""
        parent = bodies[i].parent
        own = bodies[i].position[list(plane)] + anchors[i]
        return own if parent < 0 else own - anchors[parent]

    def each(name, which):
        return np.array([getattr(joint, name) for joint in which], np.float64)

    tree = Tree(
        parents=tuple(body.parent for body in bodies),
        signs=tuple(int(turn) for turn in turns),
        limited=tuple(joint.limited for joint in hinges),
        motors=tuple(names.index(name) for name, _ in model.motors),
        contacts=tuple(geoms[g][0] for g, _ in contacts),
        contact_geoms=tuple(g for g, _ in contacts),
        at_rest=tuple(joint.reference for joint in joints),
        names=tuple(body.name for body in bodies),
        shapes=tuple(
            (i, _ends(geom, anchors[i], plane), geom.radius) for i, geom in geoms
        ),
        has_gravity=bool(model.gravity @ across),
        has_fluid=bool(model.density or model.viscosity),
    )
    physics = Physics(
        anchor=np.array([place(i) for i in range(len(bodies))]),
        centre=np.array([s.centre - a for s, a in zip(solids, anchors, strict=True)]),
        mass=scale * np.array([one.mass for one in solids]),
        inertia=scale * np.array([one.inertia for one in solids]),
        inertia_angle=np.array([one.angle for one in solids]),
        armature=each("armature", joints),
        damping=each("damping", joints),
        stiffness=each("stiffness", joints),
        lower=each("lower", hinges),
        upper=each("upper", hinges),
        gear=np.array([gear for _, gear in model.motors]),
        point=np.array([p - anchors[geoms[g][0]] for g, p in contacts]).reshape(-1, 2),
        radius=np.array([geoms[g][1].radius for g, _ in contacts]),
        friction=np.array([geom.friction for _, geom in geoms]),
        floor_friction=np.float64(model.floor_friction),
        floor=np.float64(0.0 if model.floor is None else model.floor),
        gravity=np.float64(-(model.gravity @ across)),
        density=np.float64(model.density),
        viscosity=np.float64(model.viscosity),
    )
    return tree, physics


def _hinge(i: int, body: Body) -> Joint:
    """Returns the hinge of a body, the last of its joints."""
    wanted = [False, False, True] if i == 0 else [True]
    if [joint.is_hinge for joint in body.joints] != wanted or (body.parent < 0) != (
        i == 0
    ):
        raise ValueError(
            "a planar tree needs a root with two slides and a hinge, and bodies with a "
            f"hinge; {body.name} has {[joint.name for joint in body.joints]}"
        )
    return body.joints[-1]


def _slides(root: Body, up: int) -> list[Joint]:
    """Returns the slides along the plane's axes."""
    slides = root.joints[:2]
    if slides[0].axis[0] != 1 or slides[1].axis[up] != 1:
        raise ValueError("the root must slide along the axes of the plane")
    return slides


def _ends(geom: Geom, anchor: np.ndarray, plane) -> tuple[float, ...]:
    """Returns both ends of a capsule in the frame of its link, x, y, x, y."""
    along = geom.half_length * geom.axis[list(plane)]
    middle = geom.centre[list(plane)] - anchor
    return tuple(np.concatenate([middle - along, middle + along]).tolist())


def _frames(bodies: list[Body], plane) -> list[np.ndarray]:
    """Returns where every body is in the pose of the file."""
    frames: list[np.ndarray] = []
    for body in bodies:
        base = np.zeros(2) if body.parent < 0 else frames[body.parent]
        frames.append(base + body.position[list(plane)])
    return frames


def _contacts(
    bodies: list[Body], geoms: list[tuple[int, Geom]], plane
) -> list[tuple[int, np.ndarray]]:
    """Chooses the ends of capsules that may touch the floor.

    An end that all but lies within another capsule of its link or the next adds
    nothing, as at a knee. The thickest come first.

    Returns:
      For every chosen end its geom and its place in the frame of the body.
    """
    frames = _frames(bodies, plane)
    ends = []
    for g, (i, geom) in enumerate(geoms):
        for side in (1.0, -1.0) if geom.half_length else (0.0,):
            place = geom.centre + side * geom.half_length * geom.axis
            place = place[list(plane)]
            ends.append((g, i, place, place + frames[i], geom.radius))
    kept = []
    for end in sorted(ends, key=lambda end: -end[4]):
        g, i, _, at, radius = end

        def is_kin(j, i=i):
            return i == j or i == bodies[j].parent or j == bodies[i].parent

        near = any(
            np.linalg.norm(at - other[3]) + radius <= (1 + _NEAR) * other[4]
            for other in kept
            if is_kin(other[1])
        )
        inside = any(
            _covers(other, frames[j], plane, at, radius)
            for h, (j, other) in enumerate(geoms)
            if h != g and is_kin(j)
        )
        if geoms[g][1].touches_floor and not near and not inside:
            kept.append(end)
    kept.sort(key=lambda end: end[0])
    return [(g, place) for g, _, place, _, _ in kept]


def _covers(geom: Geom, frame, plane, at, radius: float) -> bool:
    """Tells whether a sphere lies within a capsule, away from its ends."""
    if not geom.half_length:
        return False
    axis = geom.axis[list(plane)]
    offset = at - frame - geom.centre[list(plane)]
    along = axis @ offset
    apart = np.linalg.norm(offset - along * axis)
    within = abs(along) < 0.9 * geom.half_length and apart + radius <= geom.radius
    return bool(within)
