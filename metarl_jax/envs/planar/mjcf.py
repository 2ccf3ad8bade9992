"""A robot's file in MuJoCo's format, as records: the part of it that planar trees use.

What would change the motion and is not understood is refused.
"""

import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np


class Geom(NamedTuple):
    """A capsule, or a sphere of half length 0, in the frame of its body."""

    name: str
    centre: np.ndarray  # [3]
    axis: np.ndarray  # [3], of length 1
    half_length: float
    radius: float
    density: float
    friction: float
    touches_floor: bool


class Joint(NamedTuple):
    """A slide or a hinge of one body."""

    name: str
    is_hinge: bool
    axis: np.ndarray  # [3]
    anchor: np.ndarray  # [3], in the frame of its body
    armature: float
    damping: float
    stiffness: float
    limited: bool
    lower: float
    upper: float
    reference: float  # where it is in the pose of the file


class Body(NamedTuple):
    """A body, its parent given by its place in the list; -1 is the world."""

    name: str
    parent: int
    position: np.ndarray  # [3], in the frame of its parent
    geoms: list[Geom]
    joints: list[Joint]


class Model(NamedTuple):
    """What a file says."""

    bodies: list[Body]
    motors: list[tuple[str, float]]  # the joint's name and the gear
    gravity: np.ndarray  # [3]
    density: float
    viscosity: float
    floor: float | None  # its height
    floor_friction: float
    total_mass: float | None


def parse(text: str) -> Model:
    """Parses a model.

    Args:
      text: the XML.

    Returns:
      The records, bodies in the order of the file, depth first.

    Raises:
      ValueError: if something changes the motion that is not understood here.
    """
    root = ET.fromstring(text)
    compiler = _attributes(root, "compiler")
    option = _attributes(root, "option")
    default = {
        tag: _attributes(root, f"default/{tag}") for tag in ("geom", "joint", "motor")
    }
    _refuse(root.find("default/default") is not None, "classes of defaults")
    turn = math.pi / 180 if compiler.get("angle", "degree") == "degree" else 1.0
    world = root.find("worldbody")
    if world is None:
        raise ValueError("a robot's file must have a worldbody; got none")
    floors = [{**default["geom"], **geom.attrib} for geom in world.findall("geom")]
    _refuse(any(floor.get("type") != "plane" for floor in floors), "a shaped world")
    _refuse(len(floors) > 1, "several floors")
    bodies: list[Body] = []

    def visit(element, parent):
        turned = {"quat", "axisangle", "euler", "xyaxes", "zaxis"} & set(element.attrib)
        _refuse(bool(turned), "a turned body")
        _refuse(element.find("inertial") is not None, "an inertia that is given")
        index = len(bodies)
        geoms = [{**default["geom"], **geom.attrib} for geom in element.findall("geom")]
        joints = [
            {**default["joint"], **joint.attrib} for joint in element.findall("joint")
        ]
        bodies.append(
            Body(
                element.get("name", f"body {index}"),
                parent,
                _numbers(element.attrib, "pos", (0.0, 0.0, 0.0)),
                [_geom(geom, floors, turn) for geom in geoms],
                [_joint(joint, turn) for joint in joints],
            )
        )
        for child in element.findall("body"):
            visit(child, index)

    for element in world.findall("body"):
        visit(element, -1)

    motors = []
    for element in root.findall("actuator/*"):
        _refuse(element.tag != "motor", f"an actuator {element.tag}")
        motor = {**default["motor"], **element.attrib}
        bounds = tuple(_numbers(motor, "ctrlrange", (0.0, 0.0)))
        _refuse(bounds != (-1.0, 1.0), f"a motor with a control range {bounds}")
        motors.append((motor["joint"], float(_numbers(motor, "gear", (1.0,))[0])))
    for tag in ("tendon", "equality", "contact"):
        _refuse(root.find(f"{tag}/*") is not None, f"a section {tag}")
    total_mass = float(compiler.get("settotalmass", -1.0))
    floor = floors[0] if floors else {}
    return Model(
        bodies,
        motors,
        _numbers(option, "gravity", (0.0, 0.0, -9.81)),
        float(option.get("density", 0.0)),
        float(option.get("viscosity", 0.0)),
        float(_numbers(floor, "pos", (0.0, 0.0, 0.0))[2]) if floors else None,
        float(_numbers(floor, "friction", (1.0,))[0]),
        total_mass if total_mass > 0 else None,
    )


def _geom(geom: Mapping[str, str], floors, turn: float) -> Geom:
    kind = geom.get("type", "sphere")
    _refuse(kind not in ("capsule", "sphere"), f"a geom of type {kind}")
    _refuse("mass" in geom, "a geom's mass that is given")
    size = _numbers(geom, "size", ())
    centre = _numbers(geom, "pos", (0.0, 0.0, 0.0))
    axis = np.array([0.0, 0.0, 1.0])
    half_length = 0.0
    if "fromto" in geom:
        ends = _numbers(geom, "fromto", ()).reshape(2, 3)
        centre, along = ends.mean(axis=0), ends[1] - ends[0]
        half_length = float(np.linalg.norm(along)) / 2
        axis = along / (2 * half_length)
    elif kind == "capsule":
        half_length = float(size[1])
        axis = _turned(geom, turn) @ axis
    meets = [
        (int(geom.get("contype", 1)) & int(floor.get("conaffinity", 1)))
        | (int(floor.get("contype", 1)) & int(geom.get("conaffinity", 1)))
        for floor in floors
    ]
    return Geom(
        geom.get("name", ""),
        centre,
        axis,
        half_length,
        float(size[0]),
        float(geom.get("density", 1000.0)),
        float(_numbers(geom, "friction", (1.0,))[0]),
        any(meets),
    )


def _turned(geom: Mapping[str, str], turn: float) -> np.ndarray:
    """Returns the rotation `[3, 3]` of a geom in its body."""
    _refuse(bool({"euler", "xyaxes", "zaxis"} & set(geom)), "a geom turned by angles")
    if "axisangle" in geom:
        *axis, angle = _numbers(geom, "axisangle", ())
        half = angle * turn / 2
        along = np.asarray(axis) / np.linalg.norm(axis)
        w, x, y, z = np.cos(half), *(np.sin(half) * along)
    else:
        quaternion = _numbers(geom, "quat", (1.0, 0.0, 0.0, 0.0))
        w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _joint(joint: Mapping[str, str], turn: float) -> Joint:
    kind = joint.get("type", "hinge")
    _refuse(kind not in ("slide", "hinge"), f"a joint of type {kind}")
    _refuse(float(joint.get("springref", 0.0)) != 0, "a spring's rest that is given")
    is_hinge = kind == "hinge"
    unit = turn if is_hinge else 1.0
    lower, upper = _numbers(joint, "range", (0.0, 0.0)) * unit
    limited = joint.get("limited", "auto")
    return Joint(
        joint.get("name", ""),
        is_hinge,
        _numbers(joint, "axis", (0.0, 0.0, 1.0)),
        _numbers(joint, "pos", (0.0, 0.0, 0.0)),
        float(joint.get("armature", 0.0)),
        float(joint.get("damping", 0.0)),
        float(joint.get("stiffness", 0.0)),
        limited == "true" or (limited == "auto" and "range" in joint),
        float(lower),
        float(upper),
        float(joint.get("ref", 0.0)) * unit,
    )


def _attributes(root: ET.Element, path: str) -> dict[str, str]:
    found = root.find(path)
    return {} if found is None else dict(found.attrib)


def _numbers(attributes: Mapping[str, str], name: str, default) -> np.ndarray:
    text = attributes.get(name)
    return np.asarray(default if text is None else text.split(), np.float64)


def _refuse(found: bool, what: str) -> None:
    if found:
        raise ValueError(f"a robot's file must be of a planar tree; got {what}")
