"""What other tasks would have paid, where a task is a cell that pays."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax.types import Key, Task, TaskDistribution, Trajectory


def with_cell_goals(
    tasks: TaskDistribution,
    *,
    cell_of: Callable[[Any], jax.Array],
    goals: np.ndarray,
) -> TaskDistribution:
    """Says what other goals pay, and which goals a trial has come to.

    Args:
      tasks: a family whose tasks have a `goal` `[2]` and whose environment has a method
        `reward(cell, task) -> []`; nothing else of an episode depends on the goal.
      cell_of: `(obs) -> [2]`, the cell that is observed.
      goals: `[G, 2]`, the cells that may be goals.

    Returns:
      The family, with `relabel` and `achieved`.
    """
    env: Any = tasks.env

    def relabel(task: Task, trajectory: Trajectory) -> jax.Array:
        def reward(obs):
            return jnp.asarray(env.reward(cell_of(obs), task), jnp.float32)

        return jax.vmap(reward)(trajectory.next_obs)

    def achieved(key: Key, task: Task, trajectories: Trajectory) -> Task:
        cells = jax.vmap(jax.vmap(cell_of))(trajectories.next_obs).reshape(-1, 2)
        same = jnp.all(cells[:, None] == jnp.asarray(goals)[None], axis=-1)
        is_goal = jnp.any(same, axis=-1) & trajectories.mask.ravel()
        chosen = jax.random.categorical(key, jnp.where(is_goal, 0.0, -jnp.inf))
        goal = jnp.where(jnp.any(is_goal), cells[chosen], task.goal)
        return task.replace(goal=goal)

    return tasks._replace(relabel=relabel, achieved=achieved)
