"""What an ideal observer knows of a task after each step, where it can be computed.

No probe can read more out of a memory than this: the mean of the exact posterior is the
best prediction of a task's numbers from what was seen.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from metarl_jax.strategies.grid import PosteriorSamplingGrid
from metarl_jax.strategies.half_circle import NearestFirstHalfCircle, goals
from metarl_jax.types import TaskDistribution, Trajectory


def posterior_mean(
    tasks: TaskDistribution,
) -> Callable[[Trajectory], jax.Array] | None:
    """Makes what computes E[task | first t steps], where the posterior is known.

    Of Bernoulli bandits with independent uniform arms (1 + s_a) / (2 + s_a + f_a); of
    the 5×5 grid that hides its goal, and of the half-circle of a hundred goals, the
    mean of the goals that are still possible.

    Args:
      tasks: the family; its horizon and number of arms may be any.

    Returns:
      `(steps [L, ...]) -> [L + 1, P]`, of one trial without gaps
      (`metarl_jax.trials.stream`): before each step and after the last, of the arms'
      means or of the goal; None for other families.
    """
    env: Any = tasks.env
    if env.name == "Bandit" and "Gittins index" in tasks.oracles:
        return lambda steps: _arms(steps, env.num_actions)
    if env.name == "GridNavigation" and env.size == 5 and env.hides_goal:
        grid = PosteriorSamplingGrid()
        cells = jnp.stack(jnp.divmod(jnp.arange(25), 5), axis=-1)
        return lambda steps: _places(grid, lambda m: m.possible.ravel(), cells, steps)
    if env.name == "PointNavigation" and _is_half_circle(tasks):
        circle = NearestFirstHalfCircle()
        return lambda steps: _places(circle, lambda m: m, goals(), steps)
    return None


def _arms(steps, num_arms):
    pulled = jax.nn.one_hot(steps.action, num_arms) * steps.mask[:, None]
    counts, paid = (
        jnp.concatenate([jnp.zeros((1, num_arms)), jnp.cumsum(x, axis=0)])
        for x in (pulled, pulled * steps.reward[:, None])
    )
    return (1 + paid) / (2 + counts)


def _places(observer, possible, places, steps):
    """Returns the mean of the places that an observer has not ruled out."""

    def observe(memory, step):
        after = observer.observe(memory, step)
        memory = jax.tree.map(lambda a, b: jnp.where(step.mask, a, b), after, memory)
        return memory, possible(memory)

    start = observer.initial_memory()
    after = jax.lax.scan(observe, start, steps)[1]
    left = jnp.append(possible(start)[None], after, axis=0).astype(jnp.float32)
    return left @ places.astype(jnp.float32) / jnp.sum(left, axis=1, keepdims=True)


def _is_half_circle(tasks: TaskDistribution) -> bool:
    """Tells whether held-out goals and rewards are those of the half-circle."""
    task = tasks.sample_heldout(jax.random.key(0))
    if not hasattr(task, "dense"):
        return False
    rewards = [float(tasks.env.reward(jnp.float32(d), task)) for d in (0.15, 0.25)]  # pyright: ignore
    nearest = float(jnp.min(jnp.linalg.norm(goals() - task.goal, axis=-1)))
    return nearest < 1e-5 and abs(rewards[0] - 0.85) < 1e-5 and rewards[1] == 0
