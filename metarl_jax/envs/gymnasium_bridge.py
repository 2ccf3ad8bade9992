"""One task as a Gymnasium environment on the host, with the very same dynamics.

For what runs outside of a compiled program: another library's learner on a task of
ours, or a user's own loop.
"""

import functools
import multiprocessing
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.error import ResetNeeded

from metarl_jax import spaces
from metarl_jax.types import Key, Task, TaskDistribution
from metarl_jax.validation import check_seed, check_tasks


# Compiled once for an environment, however many tasks there are of it.
@functools.partial(jax.jit, static_argnames="env")
def _reset(env: Any, key: Key, task: Task) -> tuple[Any, Any]:
    """Begins an episode: what is carried from step to step, and the observation."""
    key, key_reset = jax.random.split(key)
    obs, state = env.reset_env(key_reset, task)
    # What is a Python number or weakly typed here would compile the step twice.
    state = jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(x)), state)
    return (key, state), obs


@functools.partial(jax.jit, static_argnames="env")
def _step(env: Any, carry: Any, action: Any, task: Task) -> tuple[Any, Any]:
    """Takes a step: what is carried, and the observation, the reward and both ends."""
    key, state = carry
    key, key_step = jax.random.split(key)
    action = spaces.given(env.action_space(task), action)
    obs, state, reward, terminated, _ = env.step_env(key_step, state, action, task)
    return (key, state), (obs, reward, terminated, env.is_truncated(state, task))


@functools.cache
def _first_process() -> int | None:
    return multiprocessing.current_process().pid


def _check_process() -> None:
    """Refuses a forked process, in which JAX waits for threads that are not there."""
    if multiprocessing.current_process().pid != _first_process():
        raise RuntimeError(
            "JAX does not work in a forked process; one that is spawned is required, "
            'as by AsyncVectorEnv(..., context="spawn")'
        )


class GymnasiumTask(gymnasium.Env):
    """A task behind Gymnasium's interface; `as_gymnasium` makes one."""

    def __init__(self, tasks: TaskDistribution, task: Task, seed: int):
        self._env, self._task, self._horizon = tasks.env, task, tasks.horizon
        self._key = jax.random.key(seed)
        self._state: Any = None
        self._steps_left = 0
        self.action_space = spaces.to_gymnasium(tasks.env.action_space(task))
        self.observation_space = spaces.to_gymnasium(tasks.env.observation_space(task))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begins an episode; a seed begins the random stream anew as well."""
        _check_process()
        super().reset(seed=seed, options=options)
        if seed is not None:
            self._key = jax.random.key(seed)
        (self._key, self._state), obs = _reset(self._env, self._key, self._task)
        self._steps_left = self._horizon
        return spaces.to_numpy(self.observation_space, obs), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Takes a step; the time limit truncates unless the episode ends by itself.

        Raises:
          ValueError: if the action is no number of a `Discrete` space, or for a `Box`
            not of its shape or NaN somewhere; one outside of its bounds is clipped.
          ResetNeeded: if no episode has begun.
        """
        if self._steps_left == 0:
            raise ResetNeeded("the episode has ended or not begun; reset() is required")
        (self._key, self._state), outcome = _step(
            self._env,
            (self._key, self._state),
            _drawn(self.action_space, action),
            self._task,
        )
        # Leaf by leaf: `jax.device_get` would take twice the time of the whole step.
        obs, reward, terminated, truncated = jax.tree.map(np.asarray, outcome)
        self._steps_left -= 1
        terminated = bool(terminated)
        truncated = not terminated and (bool(truncated) or self._steps_left == 0)
        if terminated or truncated:
            self._steps_left = 0
        obs = spaces.to_numpy(self.observation_space, obs)
        return obs, float(reward), terminated, truncated, {}


def _drawn(space: gymnasium.Space, action: Any, batch: tuple[int, ...] = ()) -> Any:
    """Returns what a policy would have drawn to take an action, or a batch of them.

    Raises:
      ValueError: if one is no number of a `Discrete` space, or for a `Box` not of its
        shape or NaN somewhere; one outside of its bounds is clipped.
    """
    each = f" for each of {batch[0]} copies" if batch else ""
    if isinstance(space, gymnasium.spaces.Discrete):
        numbers = np.asarray(action)
        last = space.start + space.n - 1
        whole = numbers.shape == batch and numbers.dtype.kind in "iu"
        if not (whole and np.all((numbers >= space.start) & (numbers <= last))):
            raise ValueError(
                f"an action must be an integer from {space.start} to {last}{each}; got "
                f"{action!r}"
            )
        return numbers - space.start
    if isinstance(space, gymnasium.spaces.Box):
        numbers = np.asarray(action)
        is_number = numbers.dtype.kind in "biuf"
        shape = batch + space.shape
        if numbers.shape != shape or not is_number or np.isnan(numbers).any():
            raise ValueError(
                f"an action must be numbers of shape {shape}, none of them NaN; got "
                f"{action!r}"
            )
        # Before they are cast to the types that JAX has.
        return np.clip(numbers, space.low, space.high)
    return action


def as_gymnasium(
    tasks: TaskDistribution, task: Task, *, seed: int = 0
) -> GymnasiumTask:
    """Makes one task of a family a Gymnasium environment.

    Args:
      tasks: the family; its horizon T truncates an episode.
      task: the environment's params, one task without a leading axis.
      seed: of the random stream, until `reset` is given another.

    Returns:
      An environment whose every episode is of this task, with the actions, the rewards
      and the observations of the family's environment: these are of its observation
      space and not encoded (`tasks.encode` does that for a policy). JAX does not
      survive a fork, so that several processes of them must be spawned:
      `AsyncVectorEnv(..., context="spawn")`.

    Raises:
      ValueError: if `task` is not one task of the family, a space has no equivalent
        among gymnasium's, or an observation is not what its space declares.
      RuntimeError: in a forked process, here or by a later `reset`.
    """
    _check_process()
    check_seed(seed)
    _check_task(tasks, task)
    return GymnasiumTask(tasks, task, seed)


def _check_task(tasks: TaskDistribution, task: Task) -> None:
    """Raises a `ValueError` unless it is one task of a family that can be shown."""
    check_tasks(tasks)
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
    shows = spaces.encoder(
        tasks.env.observation_space(task), f"the observation of {tasks.env.name}"
    )
    jax.eval_shape(
        lambda key: shows(tasks.env.reset_env(key, task)[0]), jax.random.key(0)
    )
