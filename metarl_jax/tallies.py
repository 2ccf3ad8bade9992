"""What pieces of lives gave: rewards, ends, and the returns of episodes in them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.types import Trajectory


class Tally(NamedTuple):
    """What pieces of a life gave; sums, each `[]` of one piece."""

    reward: jax.Array
    num_steps: jax.Array
    num_ends: jax.Array  # of episodes, also by the time limit


def tally(trajectories: Trajectory) -> Tally:
    """Counts up a piece, `[W, T]`."""
    mask = trajectories.mask
    ended = mask & (trajectories.terminated | trajectories.truncated)
    reward = jnp.sum(trajectories.reward, where=mask)
    counts = (jnp.sum(x, dtype=reward.dtype) for x in (mask, ended))
    return Tally(reward, *counts)


def reward_rate(count: Tally) -> jax.Array:
    """Returns the mean reward of a step over all pieces that were counted, `[]`."""
    return jnp.sum(count.reward) / jnp.sum(count.num_steps)


def mean_return(count: Tally, *, horizon: int) -> jax.Array:
    """Estimates the mean return of an episode from pieces that hold no whole one.

    The mean reward of a step times the mean length of an episode, steps by ends, which
    is the horizon T where fewer ended than one in T steps. A mean reward alone says
    nothing where every step pays the same until an episode ends.

    Args:
      count: any shape, of pieces that are taken together.
      horizon: T.

    Returns:
      `[]`.
    """
    num_steps = jnp.sum(count.num_steps)
    length = num_steps / jnp.maximum(jnp.sum(count.num_ends), num_steps / horizon)
    return reward_rate(count) * length


def mean_returns(count: Tally, parts: Any, *, horizon: int) -> list[jax.Array]:
    """Estimates the mean return in each of some parts of lives, a list of `[]`.

    Args:
      count: of pieces, `[..., K]`.
      parts: indices or slices of K.
      horizon: T.
    """
    return [
        mean_return(jax.tree.map(lambda x, i=i: x[..., i], count), horizon=horizon)
        for i in parts
    ]


def ends_of_life(count: Tally, *, horizon: int) -> list[jax.Array]:
    """Estimates the mean returns in a life's first piece and in its last tenth."""
    tenth = max(count.reward.shape[-1] // 10, 1)
    return mean_returns(count, (slice(1), slice(-tenth, None)), horizon=horizon)


def finished_returns(
    gained: jax.Array, trajectories: Trajectory
) -> tuple[jax.Array, jax.Array]:
    """Adds up rewards through pieces, until episodes end.

    Args:
      gained: `[W]` what each stream's episode gave before.
      trajectories: `[W, T]`.

    Returns:
      `[W]` what each stream's last episode has given, and `[W, T]` returns where an
      episode ended, NaN elsewhere.
    """

    def step(gained, inputs):
        reward, ended = inputs
        gained = gained + reward
        return jnp.where(ended, 0.0, gained), jnp.where(ended, gained, jnp.nan)

    ended = trajectories.terminated | trajectories.truncated
    gained, found = jax.lax.scan(step, gained, (trajectories.reward.T, ended.T))
    return gained, found.T
