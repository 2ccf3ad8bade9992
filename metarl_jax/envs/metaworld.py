"""Meta-World (1910.10897, 2505.11289) on the host: an arm, its tasks' goals hidden.

A task is a class of Meta-World's and one of its fifty goals, the very ones of
`metaworld.ML1(name, seed=0)`: its training goals, or its test goals, drawn by seed 1.
"""

import functools
import importlib
import importlib.util
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from metarl_jax.envs.gymnasium_family import gymnasium_family
from metarl_jax.types import TaskDistribution, Trajectory
from metarl_jax.validation import check_choice, check_positive

NUM_GOALS = 50
HORIZON = 500  # Meta-World's own time limit


@struct.dataclass
class MetaWorldTask:
    """What the arm is to do, and where."""

    number: jax.Array  # [] int32, of the class among those of the family
    goal: jax.Array  # [] int32, of the class's goals
    heldout: jax.Array  # [] bool, of its test goals


def is_installed() -> bool:
    """Tells whether Meta-World is there."""
    return importlib.util.find_spec("metaworld") is not None


def _metaworld() -> Any:
    if not is_installed():
        raise ValueError(
            "metaworld is required for Meta-World; install it with: "
            'pip install "metarl-jax[metaworld]"'
        )
    return importlib.import_module("metaworld")


@functools.cache
def _goals(name: str) -> tuple[Sequence[Any], Sequence[Any]]:
    """Returns the training and test goals of a class, made when they are asked for."""
    benchmark = _metaworld().ML1(name, seed=0)
    return benchmark.train_tasks, benchmark.test_tasks


class Arm(gymnasium.Env):
    """An arm in the scene of any class; scenes that are not in use are shared.

    It shows Meta-World's observation without the goal's place, which is hidden, and
    whether the step before it succeeded: `[36 + 1]`.

    Args:
      names: the classes.
      idle: scenes not in use by their class, shared by all arms of a family.
    """

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (37,))
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (4,))

    def __init__(self, names: Sequence[str], idle: dict[str, list[Any]]):
        self.names, self.idle = names, idle
        self.name, self.scene, self.task = "", None, None

    def put(self, task: MetaWorldTask) -> None:
        """Takes a scene of the task's class, for the episodes from the next reset."""
        name = self.names[int(task.number)]
        if name != self.name:
            if self.scene is not None:
                self.idle[self.name].append(self.scene)
            spare = self.idle[name]
            make = _metaworld().env_dict.ALL_V3_ENVIRONMENTS[name]
            self.name, self.scene = name, spare.pop() if spare else make()
        self.task = _goals(name)[int(task.heldout)][int(task.goal)]

    def reset(self, *, seed=None, options=None):
        """Begins an episode, which nothing random is in."""
        super().reset(seed=seed, options=options)
        self.scene.set_task(self.task)  # pyright: ignore
        obs, _ = self.scene.reset()  # pyright: ignore
        return np.append(obs[:36], 0.0).astype(np.float32), {}

    def step(self, action):
        """Takes a step; the time limit truncates, success does not end an episode."""
        obs, reward, terminated, truncated, info = self.scene.step(action)  # pyright: ignore
        seen = np.append(obs[:36], info["success"]).astype(np.float32)
        return seen, float(reward), bool(terminated), bool(truncated), {}

    def close(self):
        """Closes the scene, and those that are idle."""
        scenes = [self.scene, *(one for some in self.idle.values() for one in some)]
        self.idle.clear()
        self.name, self.scene = "", None
        for scene in scenes:
            if scene is not None:
                scene.close()


def succeeded(task: MetaWorldTask, trajectory: Trajectory) -> jax.Array:
    """Returns 1 if a step of the episode succeeded, as Meta-World counts it, else 0."""
    del task
    hit = (trajectory.next_obs[:, -1] > 0.5) & trajectory.mask
    return jnp.any(hit).astype(jnp.float32)


def _check_horizon(horizon: int) -> None:
    check_positive(horizon=horizon)
    if horizon > HORIZON:
        raise ValueError(f"horizon must be at most {HORIZON}; got {horizon}")


def metaworld_family(
    train: Sequence[str], test: Sequence[str], *, horizon: int = HORIZON
) -> TaskDistribution:
    """Makes a family of Meta-World's classes, goals hidden.

    A class is drawn uniformly, and one of its fifty goals. Where a class is for
    training and for testing it is tested on its test goals, and otherwise on its
    training goals, as in Meta-World's benchmarks.

    Args:
      train: names of the classes for meta-training, such as `"reach-v3"`.
      test: of those for meta-testing.
      horizon: T, up to Meta-World's 500.

    Returns:
      The family; `"success"` is among its measures.

    Raises:
      ValueError: if Meta-World is not installed, has no such class, or the horizon is
        not from 1 to 500.
    """
    _check_horizon(horizon)
    _metaworld()
    known = importlib.import_module("metaworld.env_dict").ALL_V3_ENVIRONMENTS
    for name in (*train, *test):
        check_choice(tuple(known), task_name=name)
    names = tuple(dict.fromkeys((*train, *test)))
    idle: dict[str, list[Any]] = defaultdict(list)

    def sampler(classes: Sequence[str], test_goals: bool):
        numbers = np.array([names.index(name) for name in classes], np.int32)

        def sample(key):
            key_class, key_goal = jax.random.split(key)
            number = jax.random.choice(key_class, jnp.asarray(numbers))
            goal = jax.random.randint(key_goal, (), 0, NUM_GOALS, jnp.int32)
            return MetaWorldTask(number, goal, jnp.asarray(test_goals))

        return sample

    return gymnasium_family(
        lambda: Arm(names, idle),
        sampler(train, False),
        lambda arm, task: arm.put(task),
        sample_heldout_task=sampler(test, set(train) == set(test)),
        horizon=horizon,
    )._replace(measures={"success": succeeded})


def ml1(*, task_name: str = "reach", horizon: int = HORIZON) -> TaskDistribution:
    """Builds one class of Meta-World with goals that are to be found out.

    Args:
      task_name: the class, without its version: any of the 50.
      horizon: control steps of an episode.

    Raises:
      ValueError: if Meta-World is not installed, has no such class, or the horizon is
        not from 1 to 500.
    """
    name = task_name + "-v3"
    return metaworld_family([name], [name], horizon=horizon)


def _benchmark(name: str, heldout_task: str, horizon: int) -> TaskDistribution:
    _check_horizon(horizon)
    _metaworld()
    classes = getattr(importlib.import_module("metaworld.env_dict"), name)
    train, test = list(classes["train"]), list(classes["test"])
    if heldout_task != "all":
        check_choice(
            ("all", *(one.removesuffix("-v3") for one in test)),
            heldout_task=heldout_task,
        )
        test = [heldout_task + "-v3"]
    return metaworld_family(train, test, horizon=horizon)


def ml10(*, heldout_task: str = "all", horizon: int = HORIZON) -> TaskDistribution:
    """Builds Meta-World's ten training and five test classes.

    Args:
      heldout_task: the test class that is evaluated on, without its version, or "all".
      horizon: control steps of an episode.

    Raises:
      ValueError: if Meta-World is not installed, has no such class, or the horizon is
        not from 1 to 500.
    """
    return _benchmark("ML10_V3", heldout_task, horizon)


def ml45(*, heldout_task: str = "all", horizon: int = HORIZON) -> TaskDistribution:
    """Builds Meta-World's 45 training and five test classes.

    Args:
      heldout_task: the test class that is evaluated on, without its version, or "all".
      horizon: control steps of an episode.

    Raises:
      ValueError: if Meta-World is not installed, has no such class, or the horizon is
        not from 1 to 500.
    """
    return _benchmark("ML45_V3", heldout_task, horizon)
