"""What robots are asked to do: one definition of it, whatever engine moves them.

Positions q `[Q]` and velocities v `[Q]` are MuJoCo's `qpos` and `qvel` of Gymnasium's
robots: q₀ is how far it has come, q₁ its height (a swimmer's place across), q₂ its
angle, then the joints. A reward is a function of the positions before and after a
control step, of the action and of the goal.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.types import Key
from metarl_jax.validation import check_choice

Paper = Literal["maml", "promp", "pearl", "varibad"]
PAPERS: tuple[Paper, ...] = ("maml", "promp", "pearl", "varibad")


class Robot(NamedTuple):
    """A robot of Gymnasium, version 5, as far as tasks are concerned.

    Attributes:
      xml: its model's file in `gymnasium.envs.mujoco`.
      environment: its name there, where its positions at rest and its frame skip are.
      seconds: of a control step, dt.
      position_noise: half the width of the uniform noise on the first positions.
      velocity_noise: the standard deviation of the noise on the first velocities if
        `normal_velocity`, else half its width.
      normal_velocity: whether the first velocities are normal, not uniform.
      sees_mass_centre: whether positions end with where the centre of mass is `[2]`.
    """

    xml: str
    environment: str
    seconds: float
    position_noise: float
    velocity_noise: float
    normal_velocity: bool = False
    sees_mass_centre: bool = False


ROBOTS = {
    "half-cheetah": Robot("half_cheetah.xml", "HalfCheetah-v5", 0.05, 0.1, 0.1, True),
    "walker": Robot("walker2d_v5.xml", "Walker2d-v5", 0.008, 0.005, 0.005),
    "hopper": Robot("hopper.xml", "Hopper-v5", 0.008, 0.005, 0.005),
    "swimmer": Robot("swimmer.xml", "Swimmer-v5", 0.04, 0.1, 0.1),
}


def first_pose(
    key: Key, robot: Robot, at_rest: jax.Array, num_velocities: int
) -> tuple[jax.Array, jax.Array]:
    """Draws the first pose and motion: at rest, but for the robot's noise.

    Args:
      key: consumed.
      robot: whose noise it is.
      at_rest: `[Q]` positions at rest.
      num_velocities: V.

    Returns:
      Position `[Q]` and velocity `[V]`.
    """
    key_position, key_velocity = jax.random.split(key)
    noise = robot.position_noise
    position = at_rest + jax.random.uniform(
        key_position, at_rest.shape, minval=-noise, maxval=noise
    )
    noise, shape = robot.velocity_noise, (num_velocities,)
    if robot.normal_velocity:
        velocity = noise * jax.random.normal(key_velocity, shape)
    else:
        velocity = jax.random.uniform(key_velocity, shape, minval=-noise, maxval=noise)
    return position, velocity


class Locomotion(NamedTuple):
    """What a robot is asked to do.

    Attributes:
      robot: its name, in `ROBOTS`, `"ant"` or `"humanoid"`.
      sample_goal: `(key) -> goal`, an array.
      reward: `(before [Q], after [Q], action [A], goal) -> []`, of the positions
        before and after a control step by an action within the motors' bounds.
      observe: `(position [Q], velocity [Q]) -> [O]`.
      fallen: `(position, velocity) -> []`, whether the episode is over.
      horizon: T, control steps in an episode.
    """

    robot: str
    sample_goal: Callable[[Key], jax.Array]
    reward: Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]
    observe: Callable[[jax.Array, jax.Array], jax.Array]
    fallen: Callable[[jax.Array, jax.Array], jax.Array]
    horizon: int


def speed(before: jax.Array, after: jax.Array, *, seconds: float) -> jax.Array:
    """Computes v = (q₀' - q₀) / dt, the mean speed of a control step."""
    return (after[0] - before[0]) / seconds


def speed_reward(
    before: jax.Array,
    after: jax.Array,
    action: jax.Array,
    goal: jax.Array,
    *,
    seconds: float,
    control_cost: float,
) -> jax.Array:
    """Computes -|v - g| - c Σ a², for running at a speed g.

    Args:
      before: `[Q]` positions before the step.
      after: `[Q]` positions after it.
      action: `[A]` within [-1, 1].
      goal: `[]` g, metres per second.
      seconds: dt.
      control_cost: c.

    Returns:
      `[]` the reward.
    """
    off = jnp.abs(speed(before, after, seconds=seconds) - goal)
    return -off - control_cost * jnp.sum(jnp.square(action))


def direction_reward(
    before: jax.Array,
    after: jax.Array,
    action: jax.Array,
    goal: jax.Array,
    *,
    seconds: float,
    control_cost: float,
    alive_bonus: float = 0.0,
) -> jax.Array:
    """Computes d v - c Σ a² + b, for running in a direction d of ±1.

    Args:
      before: `[Q]` positions before the step.
      after: `[Q]` positions after it.
      action: `[A]` within [-1, 1].
      goal: `[]` d; 1 where there is nothing to choose.
      seconds: dt.
      control_cost: c.
      alive_bonus: b.

    Returns:
      `[]` the reward.
    """
    forwards = goal * speed(before, after, seconds=seconds)
    return forwards - control_cost * jnp.sum(jnp.square(action)) + alive_bonus


def half_cheetah_velocity(variant: Paper = "promp") -> Locomotion:
    """Defines running at a speed: -|v - g| - 0.05 Σ a².

    | variant | g | T | observation |
    |---|---|---|---|
    | `"maml"` (1703.03400) | U(0, 2) | 200 | 20 |
    | `"promp"` (1810.06784) | U(0, 3) | 100 | 17 |
    | `"pearl"` (1903.08254), `"varibad"` (1910.08348) | U(0, 3) | 200 | 20 |

    The 17 are q₁… and v, the 20 also where the torso is. PEARL draws 100 tasks once
    and 30 held-out ones; here they are drawn anew, in training and afterwards.

    Args:
      variant: the paper.

    Returns:
      The definition.

    Raises:
      ValueError: if there is no such variant.
    """
    check_choice(PAPERS, variant=variant)
    fastest = 2.0 if variant == "maml" else 3.0

    def sample_goal(key):
        return jax.random.uniform(key, maxval=fastest)

    return _half_cheetah(variant, speed_reward, sample_goal)


def half_cheetah_direction(variant: Paper = "promp") -> Locomotion:
    """Defines running forwards or backwards: d v - 0.05 Σ a², d = ±1.

    Variants are those of `half_cheetah_velocity`. Held-out tasks are the same two.

    Args:
      variant: the paper.

    Returns:
      The definition.

    Raises:
      ValueError: if there is no such variant.
    """
    check_choice(PAPERS, variant=variant)

    def sample_goal(key):
        return jax.random.rademacher(key, (), jnp.float32)

    return _half_cheetah(variant, direction_reward, sample_goal)


def _half_cheetah(variant, reward, sample_goal) -> Locomotion:
    def rewarded(before, after, action, goal):
        return reward(before, after, action, goal, seconds=0.05, control_cost=0.05)

    def observe(position, velocity):
        seen = [position[1:], velocity]
        if variant != "promp":
            torso = jnp.stack(
                [position[0], jnp.zeros_like(position[0]), position[1] + 0.7]
            )
            seen.append(torso)
        return jnp.concatenate(seen)

    horizon = 100 if variant == "promp" else 200
    return Locomotion("half-cheetah", sample_goal, rewarded, observe, never, horizon)


def walker_running() -> Locomotion:
    """Defines running of a walker whose body is the task: v + 1 - 0.001 Σ a².

    It is over where the torso is not between 0.8 and 2 metres high or leans by more
    than 1 radian (Zintgraf et al. 2020, Rakelly et al. 2019: random parameters).

    Returns:
      The definition; the goal is 1.
    """

    def fallen(position, velocity):
        del velocity
        height, angle = position[1], position[2]
        return ~((height > 0.8) & (height < 2.0) & (jnp.abs(angle) < 1.0))

    return _runner("walker", fallen)


def hopper_running() -> Locomotion:
    """Defines running of a hopper whose body is the task: v + 1 - 0.001 Σ a².

    It is over where the torso is at most 0.7 metres high, leans by 0.2 radians or
    more, or anything is beyond 100.

    Returns:
      The definition; the goal is 1.
    """

    def fallen(position, velocity):
        within = jnp.all(jnp.abs(position[2:]) < 100.0)
        within &= jnp.all(jnp.abs(velocity) < 100.0)
        return ~(within & (position[1] > 0.7) & (jnp.abs(position[2]) < 0.2))

    return _runner("hopper", fallen)


def _runner(robot, fallen) -> Locomotion:
    seconds = ROBOTS[robot].seconds

    def rewarded(before, after, action, goal):
        return direction_reward(
            before,
            after,
            action,
            goal,
            seconds=seconds,
            control_cost=1e-3,
            alive_bonus=1.0,
        )

    def observe(position, velocity):
        return jnp.concatenate([position[1:], jnp.clip(velocity, -10.0, 10.0)])

    return Locomotion(robot, lambda key: jnp.ones(()), rewarded, observe, fallen, 200)


def swimmer_velocity() -> Locomotion:
    """Defines swimming at a speed: -|v - g| - 1e-4 Σ a², g ~ U(0.1, 0.2).

    As in the code of Rothfuss et al. (2019), where the first term has the other sign
    and being off is rewarded. The observation is q₂… and v `[8]`.

    Returns:
      The definition.
    """

    def sample_goal(key):
        return jax.random.uniform(key, minval=0.1, maxval=0.2)

    def rewarded(before, after, action, goal):
        return speed_reward(
            before, after, action, goal, seconds=0.04, control_cost=1e-4
        )

    def observe(position, velocity):
        return jnp.concatenate([position[2:], velocity])

    return Locomotion("swimmer", sample_goal, rewarded, observe, never, 200)


def never(position: jax.Array, velocity: jax.Array) -> jax.Array:
    """Returns that the episode is not over, wherever the robot is."""
    del position, velocity
    return jnp.asarray(False)
