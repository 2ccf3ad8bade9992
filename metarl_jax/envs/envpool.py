"""Copies of a Gymnasium environment in pools of envpool, which steps them in C++."""

import importlib
import importlib.util
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import jax
import numpy as np

from metarl_jax.envs.host import Outcome
from metarl_jax.types import Observation, Task


def is_installed() -> bool:
    """Tells whether envpool is there."""
    return importlib.util.find_spec("envpool") is not None


class Pools:
    """Copies of an environment that envpool has too, stepped all at once.

    A pool takes its seeds when it is made, not at a reset. So every batch of resets
    makes a pool of its own, which is left as its copies are reset again: an episode is
    decided by its seed. A pool's copies are stepped together; those whose episode has
    ended take a step that nobody sees.

    Args:
      make: makes a copy by Gymnasium, whose name and options envpool is given.

    Raises:
      ValueError: if envpool is not installed, or has no such environment.
    """

    def __init__(self, make: Callable[[], gymnasium.Env]):
        if not is_installed():
            raise ValueError(
                "envpool is required to step by it; install it with: "
                'pip install "metarl-jax[envpool]"'
            )
        self._envpool: Any = importlib.import_module("envpool")
        self.make, self.first = make, make()
        self.first.close()  # it is asked for its spaces alone
        self._places: dict[int, tuple[Any, int]] = {}
        self._outcome: Any = None
        self._action_type: Any = None
        spec = self.first.spec
        if spec is None or spec.id not in self._envpool.list_all_envs():
            raise ValueError(
                "envpool must have the environment that make makes; it has no "
                f"{spec.id if spec else type(self.first).__name__}"
            )
        self._name, self._options = spec.id, dict(spec.kwargs)
        self._options.pop("render_mode", None)
        if spec.max_episode_steps is not None:
            self._options["max_episode_steps"] = spec.max_episode_steps

    def probe(self, task: Task, info: Sequence[str], name: str) -> Outcome:
        """Takes one step of one copy, and returns what a step gives, as shapes.

        Raises:
          ValueError: if what is seen is no array as Gymnasium's, or an info is not
            there.
        """
        del task
        pool = self._pool([0])
        seen = pool.reset()[0]
        space = self.first.observation_space
        if not isinstance(seen, np.ndarray) or seen.shape[1:] != space.shape:
            raise ValueError(
                f"envpool's {name} must show what Gymnasium's does, {space}; got "
                f"{jax.tree.map(np.shape, seen)}"
            )
        action = np.asarray(self.first.action_space.sample())
        got = pool.step(action[None].astype(self._action_type))[4]
        missing = [key for key in info if key not in got]
        if missing:
            raise ValueError(
                f"info must name what a step of {name} tells, {sorted(got)}; got "
                f"{missing}"
            )

        def shape(x):
            dtype = jax.dtypes.canonicalize_dtype(x.dtype)
            return jax.ShapeDtypeStruct(x.shape[1:], dtype)

        number = jax.ShapeDtypeStruct((), np.dtype(np.float32))
        over = jax.ShapeDtypeStruct((), np.dtype(bool))
        infos = {key: shape(np.asarray(got[key])) for key in info}
        self._outcome = Outcome(shape(seen), number, over, over, infos)
        return self._outcome

    def reset(self, copies: np.ndarray, seeds: np.ndarray, tasks: Task) -> Observation:
        """Begins an episode on each copy."""
        del tasks
        pool = self._pool([int(seed) for seed in seeds])
        obs = pool.reset()[0]
        self._places |= {int(copy): (pool, i) for i, copy in enumerate(copies)}
        return obs.astype(self._outcome.obs.dtype)

    def step(self, copies: np.ndarray, actions: np.ndarray) -> Outcome:
        """Takes a step on each copy."""
        places = [self._places[int(copy)] for copy in copies]
        result: Any = jax.tree.map(
            lambda x: np.zeros((len(copies), *x.shape), x.dtype), self._outcome
        )
        for pool in {id(pool): pool for pool, _ in places}.values():
            here = [n for n, place in enumerate(places) if place[0] is pool]
            rows = [places[n][1] for n in here]
            every = np.zeros((len(pool), *actions.shape[1:]), actions.dtype)
            every[rows] = actions[here]
            every = every.astype(self._action_type)
            obs, reward, terminated, truncated, info = pool.step(every)
            taken = Outcome(obs, reward, terminated, truncated, self._told(info))
            jax.tree.map(
                lambda x, y, here=here, rows=rows: x.__setitem__(here, y[rows]),
                result,
                taken,
            )
        return result

    def close(self) -> None:
        """Leaves all pools; their threads end with them."""
        self._places = {}

    def _pool(self, seeds: list[int]) -> Any:
        with warnings.catch_warnings():
            # Of the bounds of some spaces, that they are rounded to float32.
            warnings.simplefilter("ignore", UserWarning)
            pool = self._envpool.make_gymnasium(
                self._name, num_envs=len(seeds), seed=seeds, **self._options
            )
            _ = pool.observation_space  # made as it is asked for
            if self._action_type is None:
                self._action_type = pool.action_space.dtype
        return pool

    def _told(self, info: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return {key: np.asarray(info[key]) for key in self._outcome.info}
