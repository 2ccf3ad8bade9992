"""How a planar robot moves: accelerations, and control steps of many small ones.

Positions and velocities are MuJoCo's `qpos` and `qvel` of the same robot, `[N + 2]`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.envs.planar import dynamics, forces
from metarl_jax.envs.planar.dynamics import Augmented, augmented, parents_of
from metarl_jax.envs.planar.elements import add
from metarl_jax.envs.planar.model import Physics, Tree
from metarl_jax.envs.planar.sparse import solve

# In one small step no link turns by more than this, radians, and the root moves no
# farther, metres: beyond, forces would no longer follow the motion.
MOST = 0.5


class _Robot(NamedTuple):
    """A robot, its arrays taken apart into numbers."""

    tree: Tree
    physics: Physics
    bodies: Augmented

    def absolute(self, position: Sequence[Any]) -> list[Any]:
        """Returns where the root is and the angles of the links."""
        tree, anchor = self.tree, self.physics.anchor[0]
        at_rest = tree.at_rest
        root = [anchor[d] + position[d] - at_rest[d] for d in range(2)]
        return [*root, *self.angles(position, at_rest[2:])]

    def angles(self, joints: Sequence[Any], at_rest: Sequence[float]) -> list[Any]:
        """Adds up the joints along the tree; of velocities, with zeros at rest."""
        tree, found = self.tree, []
        for i, parent in enumerate(tree.parents):
            turn = tree.signs[i] * (joints[i + 2] - at_rest[i])
            found.append(turn if parent < 0 else found[parent] + turn)
        return found

    def relative(self, rates: Sequence[Any]) -> list[Any]:
        """Returns the joints' rates from those of the links: of change, or of that."""
        tree = self.tree
        return [
            *rates[:2],
            *(
                sum(c * rates[d] for d, c in forces.joint_row(tree, i).items())
                for i in range(tree.num_links)
            ),
        ]

    def accelerate(
        self,
        position,
        velocity,
        torque,
        *,
        step,
        floor,
        limits,
        once: Callable[[Any], Any] = lambda values: values,
    ):
        """Solves for the accelerations of the root and the links over a step."""
        tree, physics, bodies = self
        zeros = (0.0,) * tree.num_links
        spins = [*velocity[:2], *self.angles(velocity, zeros)]
        where = once(dynamics.pose(tree, physics, self.absolute(position), spins))
        matrix = dynamics.mass_matrix(tree, bodies, where)
        gravity = physics.gravity if tree.has_gravity else None
        right = dynamics.bias(tree, bodies, where, gravity)
        of_joints = forces.joints(
            tree,
            physics,
            bodies,
            position,
            velocity,
            torque,
            step=step,
            limits=limits,
        )
        for element in of_joints:
            add(element, step, matrix, right)
        if floor:
            for element in forces.floor(tree, physics, bodies, where):
                add(element, step, matrix, right)
        if tree.has_fluid:
            for element in forces.fluid(tree, physics, where):
                add(element, step, matrix, right)
        matrix, right = once((matrix, right))
        return spins, solve(matrix, right, parents_of(tree), once)

    def torques(self, action: jax.Array) -> list[Any]:
        """Returns what the motors do to the joints."""
        torque: list[Any] = [0.0] * self.tree.num_links
        for motor, link in enumerate(self.tree.motors):
            torque[link] = torque[link] + self.physics.gear[motor] * action[motor]
        return torque


def acceleration(
    tree: Tree,
    physics: Physics,
    position: jax.Array,
    velocity: jax.Array,
    action: jax.Array,
    *,
    floor: bool = True,
    limits: bool = True,
) -> jax.Array:
    """Computes the accelerations of one pose and motion, MuJoCo's `qacc`.

    Args:
      tree: the robot.
      physics: its physics.
      position: `[N + 2]`.
      velocity: `[N + 2]`.
      action: `[A]` within [-1, 1].
      floor: whether there is one.
      limits: whether joints have any.

    Returns:
      `[N + 2]`.
    """
    robot = _taken_apart(tree, physics)
    _, found = robot.accelerate(
        list(position),
        list(velocity),
        robot.torques(action),
        step=0.0,
        floor=floor,
        limits=limits,
    )
    return jnp.stack(robot.relative(found))


# Compiled with what calls it; traced once, whatever calls it.
@functools.partial(jax.jit, static_argnames=("tree", "num_substeps", "floor", "limits"))
def move(
    tree: Tree,
    physics: Physics,
    position: jax.Array,
    velocity: jax.Array,
    action: jax.Array,
    *,
    seconds: jax.typing.ArrayLike,
    num_substeps: int,
    floor: bool = True,
    limits: bool = True,
) -> tuple[jax.Array, jax.Array]:
    """Moves a robot by one control step of several small ones.

    Each is semi-implicit: v' = v + h a, q' = q + h v', where a has what damps, limits
    and the floor at its end (`metarl_jax.envs.planar.elements`).

    Args:
      tree: the robot.
      physics: its physics.
      position: `[N + 2]`.
      velocity: `[N + 2]`.
      action: `[A]` within [-1, 1], held.
      seconds: of the control step.
      num_substeps: small steps.
      floor: whether there is one.
      limits: whether joints have any.

    Returns:
      Position and velocity afterwards.
    """
    robot = _taken_apart(tree, physics)
    step = seconds / num_substeps
    most = MOST / step
    torque = robot.torques(action)

    def small(carry, number):
        position, velocity = carry
        spins, change = robot.accelerate(
            position,
            velocity,
            torque,
            step=step,
            floor=floor,
            limits=limits,
            once=functools.partial(_once, number),
        )
        new = [
            jnp.clip(v + step * a, -most, most)
            for v, a in zip(spins, change, strict=True)
        ]
        new = robot.relative(new)
        position = [q + step * v for q, v in zip(position, new, strict=True)]
        return (position, new), None

    start = ([*position], [*velocity])
    (position_list, velocity_list), _ = jax.lax.scan(
        small, start, jnp.arange(num_substeps)
    )
    return jnp.stack(position_list), jnp.stack(velocity_list)


def _once(number: jax.Array, values: Any) -> Any:
    """Keeps a CPU from computing values again for each of those that read them.

    XLA fuses what is cheap into whatever reads it, where it is computed anew: 250
    cosines of a half-cheetah's 7. It does not look through a condition that it cannot
    decide before the program runs, such as one on the number of a small step.
    """

    def held(values):
        zeros = functools.partial(jax.tree.map, jnp.zeros_like)
        return jax.lax.cond(number < 0, zeros, lambda values: values, values)

    return jax.lax.platform_dependent(values, cpu=held, default=lambda values: values)


def _taken_apart(tree: Tree, physics: Physics) -> _Robot:
    """Makes every number of the arrays an array of its own: a batch of it is dense."""

    def apart(x):
        x = jnp.asarray(x)
        if not x.ndim:
            return x
        return [apart(x[i]) for i in range(x.shape[0])]

    numbers = Physics(*map(apart, physics))
    return _Robot(tree, numbers, augmented(tree, numbers))
