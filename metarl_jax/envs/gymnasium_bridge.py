"""One task as a Gymnasium environment on the host, with the very same dynamics.

For what runs outside of a compiled program: another library's learner on a task of
ours, or a user's own loop.
"""

from functools import partial
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.error import ResetNeeded
from gymnax.environments.spaces import gymnax_space_to_gym_space

from metarl_jax.types import Task, TaskDistribution


# Compiled once for an environment, however many tasks there are of it.
@partial(jax.jit, static_argnames="env")
def _reset(env, key, task):
    key, key_reset = jax.random.split(key)
    obs, state = env.reset_env(key_reset, task)
    # What is a Python number or weakly typed here would compile the step twice.
    state = jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(x)), state)
    return (key, state), obs


@partial(jax.jit, static_argnames="env")
def _step(env, carry, action, task):
    key, state = carry
    key, key_step = jax.random.split(key)
    obs, state, reward, terminated, _ = env.step_env(key_step, state, action, task)
    return (key, state), (obs, reward, terminated, env.is_truncated(state, task))


class GymnasiumTask(gymnasium.Env):
    """A task behind Gymnasium's interface; `as_gymnasium` makes one."""

    def __init__(self, tasks: TaskDistribution, task: Task, seed: int):
        self._env, self._task, self._horizon = tasks.env, task, tasks.horizon
        self._key = jax.random.key(seed)
        self._state: Any = None
        self._steps_left = 0
        self.action_space = gymnax_space_to_gym_space(tasks.env.action_space(task))
        self.observation_space = gymnax_space_to_gym_space(
            tasks.env.observation_space(task)
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begins an episode; a seed begins the random stream anew as well."""
        super().reset(seed=seed, options=options)
        if seed is not None:
            self._key = jax.random.key(seed)
        (self._key, self._state), obs = _reset(self._env, self._key, self._task)
        self._steps_left = self._horizon
        return jax.tree.map(np.array, obs), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Takes a step; the time limit truncates unless the episode ends by itself."""
        if self._steps_left == 0:
            raise ResetNeeded("the episode has ended or not begun; reset() is required")
        (self._key, self._state), outcome = _step(
            self._env, (self._key, self._state), action, self._task
        )
        # Leaf by leaf: `jax.device_get` would take twice the time of the whole step.
        obs, reward, terminated, truncated = jax.tree.map(np.array, outcome)
        self._steps_left -= 1
        terminated = bool(terminated)
        truncated = not terminated and (bool(truncated) or self._steps_left == 0)
        if terminated or truncated:
            self._steps_left = 0
        return obs, float(reward), terminated, truncated, {}


def as_gymnasium(
    tasks: TaskDistribution, task: Task, *, seed: int = 0
) -> GymnasiumTask:
    """Makes one task of a family a Gymnasium environment.

    Args:
      tasks: the family; its horizon T truncates an episode.
      task: the environment's params, one task without a leading axis.
      seed: of the random stream, until `reset` is given another.

    Returns:
      An environment whose every episode is of this task, with the family's own
      observations, actions and rewards.

    Raises:
      ValueError: if `task` is not one task of the family.
    """
    like = jax.eval_shape(tasks.sample, jax.random.key(0))
    shapes = [
        (jax.tree.structure(tree), [np.shape(x) for x in jax.tree.leaves(tree)])
        for tree in (task, like)
    ]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"task must be one task of the family, with leaves of shapes "
            f"{shapes[1][1]}; got {shapes[0][1]}"
        )
    return GymnasiumTask(tasks, task, seed)
