"""What ants are asked to do: the definitions that `metarl_jax.envs.locomotion` lacks.

Positions are MuJoCo's `qpos [15]` and `qvel [14]` of Gymnasium's Ant-v5: q₀ and q₁ are
where it is, q₂ is its height. Contact forces are neither seen nor paid for: they were
zero from MuJoCo 2.0 on, in most of what is published.
"""

from typing import Literal

import jax
import jax.numpy as jnp

from metarl_jax.envs.locomotion import Locomotion, Robot, never, speed_reward
from metarl_jax.validation import check_choice

Variant = Literal["promp", "pearl"]

ANT = Robot("ant.xml", "Ant-v5", 0.05, 0.1, 0.1, True)


def goal_reward(
    before: jax.Array, after: jax.Array, action: jax.Array, goal: jax.Array
) -> jax.Array:
    """Computes -‖p - g‖₁ - 0.1 Σ a², for going to a place g `[2]`."""
    del before
    off = jnp.sum(jnp.abs(after[:2] - goal))
    return -off - 0.1 * jnp.sum(jnp.square(action))


def heading_reward(
    before: jax.Array, after: jax.Array, action: jax.Array, goal: jax.Array
) -> jax.Array:
    """Computes ⟨v, d⟩ - 0.5 Σ a² + 1, for going along a direction d `[2]`."""
    velocity = (after[:2] - before[:2]) / ANT.seconds
    return jnp.dot(velocity, goal) - 0.5 * jnp.sum(jnp.square(action)) + 1.0


def velocity_reward(
    before: jax.Array, after: jax.Array, action: jax.Array, goal: jax.Array
) -> jax.Array:
    """Computes -|v - g| - 0.005 Σ a² + 1.05, for running at a speed g `[]`."""
    paid = speed_reward(
        before, after, action, goal, seconds=ANT.seconds, control_cost=0.005
    )
    return paid + 1.05


def ant_goal() -> Locomotion:
    """Defines going to a place in the disc of radius 3: -‖p - g‖₁ - 0.1 Σ a².

    g = 3 √u (cos φ, sin φ), as in ProMP (1810.06784), PEARL (1903.08254) and VariBAD
    (1910.08348), uniform in the disc. T = 200, no end but that. The ant sees where it
    is, `[29]`.

    Returns:
      The definition.
    """

    def sample_goal(key):
        key_radius, key_angle = jax.random.split(key)
        radius = 3.0 * jnp.sqrt(jax.random.uniform(key_radius))
        return radius * _heading(jax.random.uniform(key_angle, maxval=2 * jnp.pi))

    return Locomotion("ant", sample_goal, goal_reward, _all, never, 200)


def ant_velocity() -> Locomotion:
    """Defines running at a speed along x: -|v - g| - 0.005 Σ a² + 1.05.

    g ~ U(0, 3), T = 200, over where the torso is not between 0.2 and 1 metres high, as
    in MAML (1703.03400), whose v is the torso's at the end of a control step; here it
    is the step's mean. The ant sees where it is, `[29]`.

    Returns:
      The definition.
    """

    def sample_goal(key):
        return jax.random.uniform(key, maxval=3.0)

    fallen = _outside(0.2, 1.0)
    return Locomotion("ant", sample_goal, velocity_reward, _all, fallen, 200)


def ant_direction(variant: Variant = "promp") -> Locomotion:
    """Defines going along a direction d: ⟨v, d⟩ - 0.5 Σ a² + 1.

    The episode is over where the torso is too low or above 1 metre. The ant does not
    see where it is, `[27]`.

    | variant | d | lowest | T |
    |---|---|---|---|
    | `"promp"` (1810.06784) | ±(1, 0) | 0 m | 200 |
    | `"pearl"` (1903.08254) | (cos φ, sin φ), φ ~ U(0, 2π) | 0.2 m | 200 |

    PEARL draws two angles once, for training and evaluation alike; here they are drawn
    anew for every task.

    Args:
      variant: the paper.

    Returns:
      The definition.

    Raises:
      ValueError: if there is no such variant.
    """
    check_choice(("promp", "pearl"), variant=variant)

    def sample_goal(key):
        if variant == "promp":
            sign = jax.random.rademacher(key, (), jnp.float32)
            return jnp.stack([sign, jnp.zeros_like(sign)])
        return _heading(jax.random.uniform(key, maxval=2 * jnp.pi))

    def observe(position, velocity):
        return jnp.concatenate([position[2:], velocity])

    fallen = _outside(0.0 if variant == "promp" else 0.2, 1.0)
    return Locomotion("ant", sample_goal, heading_reward, observe, fallen, 200)


def _all(position, velocity):
    return jnp.concatenate([position, velocity])


def _outside(lowest, highest):
    def fallen(position, velocity):
        del velocity
        return ~((position[2] >= lowest) & (position[2] <= highest))

    return fallen


def _heading(angle):
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)])
