"""What is told of an episode beside its return: safety and comfort.

Each is a function of what was seen, `(task, trajectory) -> []`.
"""

import jax
import jax.numpy as jnp

from metarl_jax.envs.driving.world import SECONDS, seen

CALM = 10.0  # seconds to a collision beyond which none is counted


def _ended(episode):
    """Returns whether it ended by itself, and whether that was off the road."""
    last = jnp.maximum(jnp.sum(episode.mask) - 1, 0)
    end = seen(episode.next_obs[last])
    off = (end.right < 0) | (end.left < 0) | (jnp.abs(end.heading) > jnp.pi / 2)
    return jnp.any(episode.terminated), off


def collision(task, episode) -> jax.Array:
    """Tells whether an episode ended by touching somebody, 0 or 1."""
    del task
    ended, off = _ended(episode)
    return (ended & ~off).astype(jnp.float32)


def road_left(task, episode) -> jax.Array:
    """Tells whether an episode ended off the road, 0 or 1."""
    del task
    ended, off = _ended(episode)
    return (ended & off).astype(jnp.float32)


def least_time_to_collision(task, episode) -> jax.Array:
    """Computes min_t s / Δv behind whoever is ahead, seconds, at most 10."""
    del task
    now = seen(episode.next_obs)
    time = jnp.where(now.closing > 0, now.gap / jnp.maximum(now.closing, 1e-3), CALM)
    return jnp.min(jnp.clip(time, 0.0, CALM), where=episode.mask, initial=CALM)


def lateral_acceleration(task, episode) -> jax.Array:
    """Computes the root mean square of v² κ, metres per second squared."""
    del task
    square = jnp.square(seen(episode.next_obs).lateral)
    return jnp.sqrt(jnp.mean(square, where=episode.mask))


def jerk(task, episode) -> jax.Array:
    """Computes the root mean square of a', along, metres per second cubed."""
    del task
    before, after = seen(episode.obs), seen(episode.next_obs)
    change = (after.acceleration - before.acceleration) / SECONDS
    return jnp.sqrt(jnp.mean(jnp.square(change), where=episode.mask))


def mean_speed(task, episode) -> jax.Array:
    """Computes the mean speed while it lasted, metres per second."""
    del task
    return jnp.mean(seen(episode.next_obs).speed, where=episode.mask)


MEASURES = {
    "collisions": collision,
    "off the road": road_left,
    "least time to collision (s)": least_time_to_collision,
    "lateral acceleration (m/s²)": lateral_acceleration,
    "jerk (m/s³)": jerk,
    "speed (m/s)": mean_speed,
}
