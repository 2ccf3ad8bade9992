"""Many copies of tasks behind Gymnasium's vector interface, in one compiled step.

For other libraries' learners on tasks of ours: a step of all copies is one call of a
compiled program, where a vector of single environments makes one for each.
"""

import functools
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from metarl_jax import spaces
from metarl_jax.envs import gymnasium_bridge as bridge
from metarl_jax.envs.host import HostEnvironment
from metarl_jax.types import Task, TaskDistribution
from metarl_jax.validation import (
    check_at_least,
    check_choice,
    check_seed,
    check_tasks,
)


def _chosen(mask, yes, no):
    """Returns the copies of one tree where the mask says so, and of the other."""

    def choose(a, b):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            data = map(jax.random.key_data, (a, b))
            return jax.random.wrap_key_data(choose(*data), impl=jax.random.key_impl(a))
        return jnp.where(mask.reshape(-1, *[1] * (a.ndim - 1)), a.astype(b.dtype), b)

    return jax.tree.map(choose, yes, no)


@functools.partial(jax.jit, static_argnames="env")
def _reset(env, mask, carry, obs, keys, tasks):
    """Begins an episode in some copies."""
    begun = jax.vmap(functools.partial(bridge._reset, env))(keys, tasks)
    return _chosen(mask, begun, (carry, obs))


@functools.partial(jax.jit, static_argnames="env")
def _begin(env, keys, tasks):
    return jax.vmap(functools.partial(bridge._reset, env))(keys, tasks)


@functools.partial(jax.jit, static_argnames=("env", "mode", "horizon"))
def _step(env, mode, horizon, carry, over, num_steps, actions, tasks):
    """Takes a step in every copy; those that are `over` begin anew instead.

    Returns:
      What is carried, the observation, how many steps each episode has, the rewards,
      both ends, and the observations at which episodes ended.
    """
    take = jax.vmap(functools.partial(bridge._step, env))
    taken, (last, reward, terminated, truncated) = take(carry, actions, tasks)
    num_steps = num_steps + 1
    truncated = (truncated | (num_steps >= horizon)) & ~terminated
    again = terminated | truncated
    if mode == AutoresetMode.DISABLED:
        again = jnp.zeros_like(over)
    if mode == AutoresetMode.NEXT_STEP:
        again = over
        taken = _chosen(over, carry, taken)  # with the key that its reset begins with
        reward = jnp.where(over, 0, reward)
        terminated, truncated = terminated & ~over, truncated & ~over
    taken, obs = jax.lax.cond(
        jnp.any(again),
        lambda: _reset(env, again, taken, last, taken[0], tasks),
        lambda: (taken, last),
    )
    num_steps = jnp.where(again, 0, num_steps)
    return taken, obs, num_steps, (reward, terminated, truncated), last


class GymnasiumTasks(gymnasium.vector.VectorEnv):
    """Tasks behind Gymnasium's vector interface; `as_gymnasium_vector` makes one."""

    def __init__(
        self,
        tasks: TaskDistribution,
        task_batch: Task,
        num_envs: int,
        seed: int,
        autoreset_mode: AutoresetMode,
    ):
        super().__init__()
        self._env, self._tasks, self._horizon = tasks.env, task_batch, tasks.horizon
        self.num_envs = num_envs
        self.metadata = {"autoreset_mode": autoreset_mode}
        first = jax.tree.map(lambda leaf: leaf[0], task_batch)
        env = tasks.env
        self.single_action_space = spaces.to_gymnasium(env.action_space(first))
        self.single_observation_space = spaces.to_gymnasium(
            env.observation_space(first)
        )
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._mode = autoreset_mode
        self._keys = self._keys_of([seed + i for i in range(num_envs)])
        self._carry: Any = None
        self._obs: Any = None
        self._num_steps = jnp.zeros(num_envs, jnp.int32)
        self._over = np.ones(num_envs, bool)

    def _keys_of(self, seeds: list[int]) -> jax.Array:
        for seed in seeds:
            check_seed(seed)
        return jax.vmap(jax.random.key)(np.asarray(seeds, np.uint32))

    def reset(
        self,
        *,
        seed: int | list[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Begins an episode in every copy, or in those of `options["reset_mask"]`.

        Args:
          seed: of the first copy, the others' counted on from it, or a list of one for
            each; None to go on with the random streams.
          options: `reset_mask`, `[N]` booleans.

        Raises:
          ValueError: if the seeds or the mask do not fit the copies.
        """
        bridge._check_process()
        num = self.num_envs
        mask = np.asarray((options or {}).get("reset_mask", np.ones(num, bool)))
        if mask.shape != (num,) or mask.dtype != bool or not mask.any():
            raise ValueError(
                f"reset_mask must be {num} booleans, one of them true; got {mask!r}"
            )
        if self._carry is None and not mask.all():
            raise ResetNeeded("nothing has begun; a reset without a mask is required")
        keys = self._keys if self._carry is None else self._carry[0]
        if seed is not None:
            seeds: Any = seed
            if np.ndim(seeds) == 0:
                seeds = [int(seeds) + i for i in range(num)]
            if len(seeds) != num:
                raise ValueError(f"seeds must be {num}; got {len(seeds)}")
            given = np.array([s is not None for s in seeds])
            keys = _chosen(given, self._keys_of([s or 0 for s in seeds]), keys)
        if self._carry is None or mask.all():
            self._carry, self._obs = _begin(self._env, keys, self._tasks)
        else:
            self._carry, self._obs = _reset(
                self._env, mask, self._carry, self._obs, keys, self._tasks
            )
        self._num_steps = jnp.where(mask, 0, self._num_steps)
        self._over = self._over & ~mask
        return spaces.to_numpy(self.observation_space, self._obs), {}

    def step(
        self, actions: Any
    ) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Takes a step in every copy, as Gymnasium's `SyncVectorEnv` does.

        Raises:
          ValueError: if an action is none of the space; those outside of a `Box` are
            clipped.
          ResetNeeded: if an episode has ended, or none has begun, that is not begun
            anew by itself.
        """
        waits = self._mode == AutoresetMode.DISABLED and self._over.any()
        if self._carry is None or waits:
            raise ResetNeeded("an episode has ended or not begun; reset() is required")
        actions = bridge._drawn(self.single_action_space, actions, (self.num_envs,))
        self._carry, self._obs, self._num_steps, outcome, last = _step(
            self._env,
            self._mode,
            self._horizon,
            self._carry,
            self._over,
            self._num_steps,
            actions,
            self._tasks,
        )
        reward, terminated, truncated = map(np.asarray, outcome)
        over, infos = terminated | truncated, {}
        if self._mode == AutoresetMode.SAME_STEP and over.any():
            ended = spaces.to_numpy(self.observation_space, last)
            for i in map(int, np.flatnonzero(over)):
                one = {"final_obs": _copy_of(ended, i), "final_info": {}}
                infos = self._add_info(infos, one, i)
        self._over = over & (self._mode != AutoresetMode.SAME_STEP)
        obs = spaces.to_numpy(self.observation_space, self._obs)
        return obs, reward.astype(float), terminated, truncated, infos


def _copy_of(obs: Any, i: int) -> Any:
    """Returns what one copy shows."""
    return jax.tree.map(lambda part: part[i], obs)


def as_gymnasium_vector(
    tasks: TaskDistribution,
    task: Task,
    *,
    num_envs: int | None = None,
    seed: int = 0,
    autoreset_mode: str = "NextStep",
) -> GymnasiumTasks:
    """Makes copies of a task, or a batch of tasks, one Gymnasium vector environment.

    Copy i does what `as_gymnasium` of its task does with the seed `seed + i`.

    Args:
      tasks: the family; its horizon T truncates an episode.
      task: one task with `num_envs`, or N tasks along a leading axis without.
      num_envs: N, copies of the one task.
      seed: of the first copy's random stream; the others' are counted on from it.
      autoreset_mode: what follows an episode's end: `"NextStep"`, Gymnasium's default,
        `"SameStep"` or `"Disabled"` (`gymnasium.vector.AutoresetMode`).

    Returns:
      An environment with the actions, rewards and observations of `as_gymnasium`.

    Raises:
      ValueError: if `task` is not of the family, a count or the mode is not one, the
        tasks have spaces that differ, or the simulator is stepped on the host: it has
        Gymnasium's own vector environments.
      RuntimeError: in a forked process.
    """
    bridge._check_process()
    check_tasks(tasks)
    check_seed(seed)
    modes = tuple(mode.value for mode in AutoresetMode)
    check_choice(modes, autoreset_mode=autoreset_mode)
    if isinstance(tasks.env, HostEnvironment):
        raise ValueError(
            f"{tasks.env.name} is stepped on the host; a world inside the compiled "
            "step is required. Gymnasium's own vector environments step its simulator"
        )
    if num_envs is None:
        sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(task)}
        if len(sizes) != 1 or sizes == {()}:
            raise ValueError(
                "without num_envs task must be tasks along a leading axis; its leaves "
                f"have {sorted(sizes)} of them"
            )
        ((num,),) = sizes
        check_at_least(1, num_envs=num)
    else:
        check_at_least(1, num_envs=num_envs)
        num = num_envs
        bridge._check_task(tasks, task)
        task = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (num, *jnp.shape(leaf))), task
        )
    bridge._check_task(tasks, jax.tree.map(lambda leaf: leaf[0], task))
    for kind in ("action", "observation"):
        _check_bounds(kind, getattr(tasks.env, f"{kind}_space"), task)
    mode = AutoresetMode(autoreset_mode)
    return GymnasiumTasks(tasks, task, num, seed, mode)


def _check_bounds(kind: str, space_of: Any, task_batch: Task) -> None:
    """Refuses tasks whose spaces have other bounds than the first one's."""

    def bounds(task):
        space = space_of(task)
        ends = [getattr(space, end, 0) for end in ("low", "high")]
        return jax.tree.map(jnp.asarray, ends)

    for end in jax.vmap(bounds)(task_batch):
        if not np.array_equal(end, np.broadcast_to(end[:1], end.shape)):
            raise ValueError(
                f"tasks of one vector must share their {kind} space; some have other "
                "bounds"
            )
