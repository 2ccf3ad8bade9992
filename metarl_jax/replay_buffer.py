"""A replay buffer of many tasks: one ring of steps for each, of a fixed shape.

A step is any pytree of arrays: whole trials in one ring are steps of one task. Part of
an algorithm's state, so it is saved with it, and a compiled step writes to it in place
where the caller lets it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.types import Key


class ReplayBuffer(NamedTuple):
    """The last steps of each of M tasks."""

    steps: Any  # leaves [M, capacity, ...]
    size: jax.Array  # [M] int32, steps held
    cursor: jax.Array  # [M] int32, where the next is written


def empty(step: Any, *, num_tasks: int, capacity: int) -> ReplayBuffer:
    """Makes a buffer that holds nothing.

    Args:
      step: one step, or its shapes: what each ring is made of.
      num_tasks: M.
      capacity: steps of one task; a later one takes the place of the oldest.

    Returns:
      The buffer.
    """
    steps = jax.tree.map(
        lambda x: jnp.zeros((num_tasks, capacity, *x.shape), x.dtype), step
    )
    count = jnp.zeros(num_tasks, jnp.int32)
    return ReplayBuffer(steps, count, count)


def add(
    buffer: ReplayBuffer, task: jax.Array, steps: Any, mask: jax.Array
) -> ReplayBuffer:
    """Writes the valid ones among L steps of each of N tasks, in their order.

    For all tasks at once, unlike most functions here: under `vmap` each task would
    write to a copy of the buffer of its own.

    Args:
      buffer: M tasks of at least L steps each, so that no step has to be written twice.
      task: `[N]` which of them; different ones.
      steps: leaves `[N, L, ...]`.
      mask: `[N, L]` which of the steps were taken.

    Returns:
      The buffer with the steps.

    Raises:
      ValueError: if there is room for less than L steps.
    """
    capacity = jax.tree.leaves(buffer.steps)[0].shape[1]
    if mask.shape[-1] > capacity:
        raise ValueError(
            f"the steps added at once must be at most the capacity of {capacity}; got "
            f"{mask.shape[-1]}"
        )
    order = jnp.cumsum(mask, axis=-1, dtype=jnp.int32)
    slot = (buffer.cursor[task][:, None] + order - 1) % capacity
    # Out of bounds is nowhere.
    slot = jnp.where(mask, slot, capacity)
    count = order[:, -1]
    return ReplayBuffer(
        jax.tree.map(
            lambda ring, new: ring.at[task[:, None], slot].set(
                new.astype(ring.dtype), mode="drop"
            ),
            buffer.steps,
            steps,
        ),
        buffer.size.at[task].set(jnp.minimum(buffer.size[task] + count, capacity)),
        buffer.cursor.at[task].set((buffer.cursor[task] + count) % capacity),
    )


def sample(key: Key, buffer: ReplayBuffer, task: jax.Array, *, size: int) -> Any:
    """Draws steps of some tasks uniformly, with replacement.

    Args:
      key: consumed.
      buffer: the buffer; it must hold a step of each of these tasks.
      task: `[N]` which; the same one may be there twice.
      size: B, steps of each.

    Returns:
      Steps, leaves `[N, B, ...]`.
    """
    held = buffer.size[task][:, None]
    slot = jax.random.randint(key, (task.shape[0], size), 0, held)
    return jax.tree.map(lambda ring: ring[task[:, None], slot], buffer.steps)


class Placed(NamedTuple):
    """A step and its place in the trial it was taken in."""

    step: Any
    position: jax.Array  # int32, the trial's steps before it
    known: jax.Array  # int32, those of earlier episodes: what was inferred from


def place(steps: Any, mask: jax.Array, *, num_episodes: int) -> Placed:
    """Notes of steps where in their trials they are.

    Args:
      steps: leaves `[E, T, ...]`, of one trial or of some that follow one another.
      mask: `[E, T]` which of the steps were taken.
      num_episodes: episodes of a trial.

    Returns:
      The steps, `[E, T]`.
    """
    count = jnp.cumsum(mask.ravel(), dtype=jnp.int32).reshape(mask.shape)
    taken = count - mask.astype(count.dtype)  # of all trials
    before = taken[:, 0]
    begin = before[jnp.arange(len(mask)) // num_episodes * num_episodes]
    known = jnp.broadcast_to((before - begin)[:, None], mask.shape)
    return Placed(steps, taken - begin[:, None], known)


def prefix(
    key: Key, buffer: ReplayBuffer, task: jax.Array, *, size: int
) -> tuple[Any, jax.Array]:
    """Draws what was known of some tasks when one of their steps was taken.

    The step is drawn uniformly; known are the steps of its trial before its episode,
    none in the first.

    Args:
      key: consumed.
      buffer: of `Placed` steps; it must hold a step of each of these tasks.
      task: `[N]` which; the same one may be there twice.
      size: B, the most steps of each; what came later is left out, and so is what the
        ring no longer holds.

    Returns:
      Steps, leaves `[N, B, ...]`, and which of them count, `[N, B]`.
    """
    capacity = jax.tree.leaves(buffer.steps)[0].shape[1]
    held = buffer.size[task]
    age = jax.random.randint(key, task.shape, 0, held)  # 0 is the oldest
    oldest = buffer.cursor[task] - held
    drawn = (oldest + age) % capacity
    start = age - buffer.steps.position[task, drawn]
    number = start[:, None] + jnp.arange(size)[None]
    end = start + buffer.steps.known[task, drawn]
    slot = (oldest[:, None] + number) % capacity
    steps = jax.tree.map(lambda ring: ring[task[:, None], slot], buffer.steps.step)
    return steps, (number >= 0) & (number < end[:, None])
