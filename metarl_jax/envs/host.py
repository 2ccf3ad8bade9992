"""Environments whose simulator lives on the host, stepped inside the compiled program.

A step is one callback, for however many copies are mapped over: tasks, episodes and
seeds together. `jax.custom_batching` folds every mapped axis into the batch of the
callback, so that acting is written for one copy here as everywhere
(`metarl_jax.rollout`), and adaptation, gradients and recording do not know the
difference.

Why no simulator is stepped twice, skipped or overtaken, although the callbacks of a
program are not ordered among themselves:

- A callback has an effect: it is neither left out nor merged with another of the same
  arguments, and `jax.checkpoint` refuses to run it again.
- An episode's state is a ticket: the copy it is played on, its own number and its time.
  A step needs the ticket that the step before it gave, so the data hold the order; and
  the host compares all three, and raises an error instead of stepping out of turn.
- A reset takes copies that no episode is played on, and the end of one, by itself
  or by the time limit, gives its copy back. Another collection of the same program, or
  of another one, is played on other copies.

A simulator's exception ends the program with a `SimulatorError`, and with it all
episodes that were being played on its family: those that come start afresh.
"""

import heapq
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments.environment import Environment
from jax.custom_batching import custom_vmap
from jax.experimental import io_callback

from metarl_jax.errors import SimulatorError
from metarl_jax.types import Key, Observation, Task


class Outcome(NamedTuple):
    """What a step gives; of B copies with leaves `[B, ...]`.

    Attributes:
      obs: as the simulator observes, not encoded.
      reward: `[]`, the simulator's own.
      terminated: `[]` bool, the episode ended by itself.
      truncated: `[]` bool, the simulator's own time limit ended it.
      info: arrays that a reward is computed from.
    """

    obs: Observation
    reward: Any
    terminated: Any
    truncated: Any
    info: Any = ()


class Simulators(Protocol):
    """Copies of a simulator, numbered from 0 and made when they are first asked for.

    Called by one thread at a time, with NumPy arrays and never from within a trace.
    After an error all copies are closed; they are made again if they are asked for.
    """

    def reset(self, copies: np.ndarray, seeds: np.ndarray, tasks: Task) -> Observation:
        """Begins an episode on each of B copies, from a seed, of a task `[B, ...]`."""
        ...

    def step(self, copies: np.ndarray, actions: np.ndarray) -> Outcome:
        """Takes a step on each of B copies, by an action `[B, ...]` of its space."""
        ...

    def close(self) -> None:
        """Closes all copies there are."""
        ...


@struct.dataclass
class State:
    """The ticket of an episode, and how it stands."""

    copy: jax.Array  # [] int32, the simulator it is played on
    episode: jax.Array  # [] int32, its number, unlike that of any other
    time: jax.Array  # [] int32, steps taken
    ended: jax.Array  # [] bool
    truncated: jax.Array  # [] bool
    obs: Observation  # the last one, where a reward is computed from it


class HostEnvironment(Environment):
    """A gymnax environment that is played on `simulators` on the host.

    `close()` closes them, as do the end of the process and that of the environment's
    last use. An episode that is begun and not played to its end keeps its copy till
    then.

    Args:
      simulators: the copies.
      outcome: of one step of one copy, as shapes, of types that JAX has.
      action_space: of every task.
      observation_space: of every task.
      horizon: T, after which an episode's copy is free.
      name: of the environment.
      reward: `(task, obs, action, next_obs, info) -> []`, instead of the simulators'
        own, compiled with the rest; observations and actions are the simulator's.
      ends: `(task, obs) -> []`, whether the episode is over besides, by the observation
        after a step.
    """

    def __init__(
        self,
        simulators: Simulators,
        *,
        outcome: Outcome,
        action_space: Any,
        observation_space: Any,
        horizon: int,
        name: str,
        reward: Callable[..., jax.Array] | None = None,
        ends: Callable[[Task, Observation], jax.Array] | None = None,
    ):
        super().__init__()
        self.simulators = simulators
        desk = _Desk(simulators, outcome, horizon, name)
        self.close = weakref.finalize(self, desk.close)
        self._outcome = outcome
        self._action_space, self._observation_space = action_space, observation_space
        self._horizon, self._name = horizon, name
        self._reward, self._ends = reward, ends
        ticket = jax.ShapeDtypeStruct((), np.dtype(np.int32))
        self._begin = _in_one_batch(desk.reset, (outcome.obs, ticket, ticket))
        self._advance = _in_one_batch(desk.step, outcome)

    def reset_env(self, key: Key, params: Task) -> tuple[Observation, State]:
        """Begins an episode, seeded by the key."""
        _check_one_device(self._name)
        seed = jax.random.bits(key, (), jnp.uint32) >> 1  # what every simulator takes
        obs, copy, episode = self._begin(seed, params)
        time, no = jnp.zeros((), jnp.int32), jnp.zeros((), bool)
        return obs, State(copy, episode, time, no, no, obs if self._reward else ())

    def step_env(
        self, key: Key, state: State, action: Any, params: Task
    ) -> tuple[Observation, State, jax.Array, jax.Array, dict]:
        """Takes a step; none that reaches the simulator once the episode has ended."""
        del key
        ticket = state.copy, state.episode, state.time, state.ended
        obs, reward, terminated, truncated, info = self._advance(*ticket, action)
        if self._reward:
            own = self._reward(params, state.obs, action, obs, info)
            reward = jnp.where(jnp.isnan(reward), reward, own)
        if self._ends:
            terminated |= self._ends(params, obs)
        time = state.time + 1
        ended = state.ended | terminated | truncated | (time >= self._horizon)
        seen = obs if self._reward else ()
        state = State(state.copy, state.episode, time, ended, truncated, seen)
        return obs, state, reward, terminated, {"info": info} if info else {}

    def is_truncated(self, state: State, params: Task) -> jax.Array:
        """Whether the simulator's own time limit has ended the episode."""
        del params
        return state.truncated

    def action_space(self, params: Task = None) -> Any:
        """The simulator's actions."""
        del params
        return self._action_space

    def observation_space(self, params: Task = None) -> Any:
        """The simulator's observations."""
        del params
        return self._observation_space

    @property
    def name(self) -> str:
        """Environment name."""
        return self._name


class _Desk:
    """Gives copies to episodes, and lets none be stepped but in its turn."""

    def __init__(self, simulators, outcome, horizon, name):
        self._simulators, self._outcome = simulators, outcome
        self._horizon, self._name = horizon, name
        self._lock = threading.Lock()
        self._closed = False
        self._num_episodes = 0
        self._forget()

    def _forget(self):
        """Declares all copies free and none made, so that no ticket is valid."""
        self._free: list[int] = []
        self._episode = np.zeros(0, np.int32)
        self._time = np.zeros(0, np.int32)

    def close(self):
        with self._lock:
            self._closed = True
            self._simulators.close()

    @contextmanager
    def _attending(self, doing: str) -> Iterator[None]:
        with self._lock:
            try:
                if self._closed:
                    raise SimulatorError(f"the simulators of {self._name} are closed")
                yield
            except Exception as error:
                self._forget()
                self._simulators.close()
                if not isinstance(error, SimulatorError):
                    error = SimulatorError(
                        f"{self._name} failed in {doing}: "
                        f"{type(error).__name__}: {error}"
                    ).with_traceback(error.__traceback__)
                _last_error.append(error)
                raise error from None

    def reset(self, seeds, tasks):
        with self._attending("a reset"):
            seeds, tasks = jax.tree.map(np.asarray, (seeds, tasks))
            known, missing = len(self._episode), len(seeds) - len(self._free)
            for copy in range(known, known + missing):
                heapq.heappush(self._free, copy)
            if missing > 0:
                self._episode = np.append(self._episode, np.zeros(missing, np.int32))
                self._time = np.append(self._time, np.zeros(missing, np.int32))
            copies = np.array([heapq.heappop(self._free) for _ in seeds], np.int32)
            obs = self._simulators.reset(copies, seeds, tasks)
            numbers = self._num_episodes + 1 + np.arange(len(seeds), dtype=np.int32)
            self._num_episodes += len(seeds)
            self._episode[copies], self._time[copies] = numbers, 0
            return obs, copies, numbers

    def step(self, copies, episodes, times, ended, actions):
        with self._attending("a step"):
            copies, episodes, times, ended, actions = jax.tree.map(
                np.asarray, (copies, episodes, times, ended, actions)
            )
            broken = np.zeros(len(copies), bool)
            if actions.dtype.kind == "f":  # no simulator is given what is no number
                broken = np.isnan(actions).reshape(len(copies), -1).any(1)
            playing = np.flatnonzero(~ended)
            self._check_turn(copies[playing], episodes[playing], times[playing])
            stepped = np.flatnonzero(~ended & ~broken)
            outcome = jax.tree.map(
                lambda x: np.zeros((len(copies), *x.shape), x.dtype), self._outcome
            )
            outcome.reward[broken], outcome.terminated[broken] = np.nan, True
            if stepped.size:
                taken = self._simulators.step(copies[stepped], actions[stepped])
                jax.tree.map(lambda all, x: all.__setitem__(stepped, x), outcome, taken)
            self._time[copies[playing]] += 1
            over = outcome.terminated | outcome.truncated | (times + 1 >= self._horizon)
            # Those that the program has ended, too; a free copy has episode 0.
            left = ended & (copies < len(self._episode))
            left[left] = self._episode[copies[left]] == episodes[left]
            for copy in copies[(~ended & over) | left]:
                self._episode[copy] = 0
                heapq.heappush(self._free, int(copy))
            return outcome

    def _check_turn(self, copies, episodes, times):
        """Raises an error unless all are episodes being played, each at its time."""
        known = copies < len(self._episode)
        valid = known.all() and np.array_equal(self._episode[copies], episodes)
        if not valid:
            raise SimulatorError(
                f"an episode of {self._name} was stepped that is not being played: a "
                "simulator failed, or the episode had been played to its end"
            )
        once = len(np.unique(copies)) == len(copies)
        if not once or not np.array_equal(self._time[copies], times):
            raise SimulatorError(
                f"an episode of {self._name} was stepped twice from one state; what is "
                "simulated on the host has one future alone"
            )


def _in_one_batch(host: Callable, shapes: Any) -> Callable:
    """Makes a function of one element of one on the host, of a batch `[B, ...]`.

    Args:
      host: `(*arrays [B, ...]) -> pytree [B, ...]`, with effects.
      shapes: what it returns for one element.

    Returns:
      `(*arrays) -> pytree`; under any nesting of `vmap` one call of `host`. Its
      arguments are taken for constants.
    """

    @custom_vmap
    def batch(*args):
        size = jax.tree.leaves(args)[0].shape[0]
        outputs = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((size, *x.shape), x.dtype), shapes
        )
        return io_callback(host, outputs, *args)

    @batch.def_vmap
    def fold(axis_size, in_batched, *args):
        def one_axis(x, batched):
            if not batched:
                x = jnp.broadcast_to(x, (axis_size, *x.shape))
            return x.reshape(-1, *x.shape[2:])

        outputs = batch(*jax.tree.map(one_axis, args, tuple(in_batched)))
        outputs = jax.tree.map(
            lambda x: x.reshape(axis_size, -1, *x.shape[1:]), outputs
        )
        return outputs, jax.tree.map(lambda _: True, outputs)

    def single(*args):
        args = jax.lax.stop_gradient(jax.tree.map(lambda x: jnp.asarray(x)[None], args))
        return jax.tree.map(lambda x: x[0], batch(*args))

    return single


def _check_one_device(name: str) -> None:
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.size > 1:
        raise ValueError(
            f"{name} is simulated on the host, for one device; got a mesh of "
            f"{mesh.size}"
        )


# The error whose text a compiled program passes on, for those who want itself.
_last_error: list[SimulatorError] = []


@contextmanager
def simulator_errors() -> Iterator[None]:
    """Raises a simulator's error itself, where a program passes on its text within."""
    _last_error.clear()
    try:
        yield
    except jax.errors.JaxRuntimeError:
        if not _last_error:
            raise
        raise _last_error[0] from None


def _is_news(record: logging.LogRecord) -> bool:
    """Keeps JAX from printing what it raises anyway."""
    return not (record.exc_info and isinstance(record.exc_info[1], SimulatorError))


logging.getLogger("jax._src.callback").addFilter(_is_news)
