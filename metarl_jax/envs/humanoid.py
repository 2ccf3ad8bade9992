"""What humanoids are asked to do.

Positions are MuJoCo's `qpos [24]` of Gymnasium's Humanoid-v5, of which q₂ is the
height, and then where the centre of mass is, x and y: `[26]`. Velocities are
`qvel [23]`.
"""

import jax
import jax.numpy as jnp

from metarl_jax.envs.locomotion import Locomotion, Robot

HUMANOID = Robot(
    "humanoid.xml", "Humanoid-v5", 0.015, 0.01, 0.01, sees_mass_centre=True
)


def heading_reward(
    before: jax.Array, after: jax.Array, action: jax.Array, goal: jax.Array
) -> jax.Array:
    """Computes 1.25 ⟨v, d⟩ - 0.1 Σ a² + 5, for going along a direction d `[2]`."""
    velocity = (after[-2:] - before[-2:]) / HUMANOID.seconds
    return 1.25 * jnp.dot(velocity, goal) - 0.1 * jnp.sum(jnp.square(action)) + 5.0


def humanoid_direction() -> Locomotion:
    """Defines going along a direction d: 1.25 ⟨v, d⟩ - 0.1 Σ a² + 5.

    v is the mean velocity of the centre of mass in a control step, actions are within
    [-0.4, 0.4]. d = (cos φ, sin φ) with φ ~ U(0, 2π), T = 200, over where the torso is
    not between 1 and 2 metres high, as in the code of ProMP (1810.06784) and PEARL
    (1903.08254). PEARL draws 100 directions once and 30 held-out ones; here they are
    drawn anew. Neither the cost of contact forces, at most 10, nor what else those see
    of forces and inertias is here: a humanoid sees its positions without where it is,
    and velocities, `[45]`.

    Returns:
      The definition.
    """

    def sample_goal(key):
        angle = jax.random.uniform(key, maxval=2 * jnp.pi)
        return jnp.stack([jnp.cos(angle), jnp.sin(angle)])

    def observe(position, velocity):
        return jnp.concatenate([position[2:-2], velocity])

    def fallen(position, velocity):
        del velocity
        return ~((position[2] >= 1.0) & (position[2] <= 2.0))

    return Locomotion("humanoid", sample_goal, heading_reward, observe, fallen, 200)
