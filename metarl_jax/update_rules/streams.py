"""Acting without an end: copies of one task that begin anew wherever an episode ends.

A learner that is updated every so many steps does not wait for episodes. The return
within the horizon is what counts, so the time limit ends an episode as the environment
does.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.types import Key, Observation, State, Task, TaskDistribution


class Stream(NamedTuple):
    """Where E copies of one task are."""

    obs: Observation  # [E, ...]
    env_state: State  # [E, ...]
    time: jax.Array  # [E] int32, steps of the episode that were taken
    gained: jax.Array  # [E] reward of the episode so far


class Steps(NamedTuple):
    """Steps of E copies, `[E, T]`."""

    obs: Observation  # [E, T, ...] o_t
    action: jax.Array  # [E, T]
    told: Any  # [E, T, ...] what the policy says beside its action
    reward: jax.Array  # [E, T]
    ended: jax.Array  # [E, T] bool, the step ended an episode
    episode_return: jax.Array  # [E, T] where an episode ended, NaN elsewhere


def begin(key: Key, tasks: TaskDistribution, task: Task, *, num_envs: int) -> Stream:
    """Begins an episode of each copy."""
    obs, env_state = jax.vmap(tasks.reset, (0, None))(
        jax.random.split(key, num_envs), task
    )
    return Stream(obs, env_state, jnp.zeros(num_envs, jnp.int32), jnp.zeros(num_envs))


def act(
    key: Key,
    tasks: TaskDistribution,
    choose: Callable[[Key, Observation], tuple[jax.Array, Any]],
    task: Task,
    stream: Stream,
    *,
    num_steps: int,
) -> tuple[Stream, Steps]:
    """Takes steps of all copies.

    Args:
      key: consumed.
      tasks: the family.
      choose: `(key, obs) -> (action, told)`, for one copy.
      task: the environment's params.
      stream: where the copies are.
      num_steps: T.

    Returns:
      Where they are then, and the steps.
    """

    def one(key, obs, env_state, time, gained):
        key_action, key_step, key_reset = jax.random.split(key, 3)
        action, told = choose(key_action, obs)
        next_obs, env_state, reward, terminated = tasks.step(
            key_step, env_state, action, task
        )
        late = (time == tasks.horizon - 1) | tasks.env.is_truncated(env_state, task)
        ended = terminated | late
        gained = gained + reward
        fresh = (*tasks.reset(key_reset, task), jnp.zeros_like(time), 0.0 * gained)
        same = (next_obs, env_state, time + 1, gained)
        after = jax.tree.map(lambda x, y: jnp.where(ended, x, y), fresh, same)
        episode_return = jnp.where(ended, gained, jnp.nan)
        return Stream(*after), Steps(obs, action, told, reward, ended, episode_return)

    def step(stream, key):
        keys = jax.random.split(key, stream.time.shape[0])
        return jax.vmap(one)(keys, *stream)

    stream, steps = jax.lax.scan(step, stream, jax.random.split(key, num_steps))
    steps = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), steps)
    return stream, jax.lax.stop_gradient(steps)
