"""What an experiment is, and how its seeds become keys and states."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from metarl_jax.evaluation import check_protocol
from metarl_jax.types import Agent, Key, MetaAlgorithm, State, Task, TaskDistribution
from metarl_jax.validation import check_positive, check_tasks, shown


class Evaluation(NamedTuple):
    """How an experiment is evaluated on held-out tasks."""

    num_tasks: int
    num_episodes: int  # of each task, after each number of adaptation steps
    num_adaptation_steps: int  # K


class Origin(NamedTuple):
    """What an experiment was built of, for the records of its runs.

    Attributes:
      label: what its runs are called; one component of a path.
      chosen: its names (`metarl_jax.choice`), so that it can be built again.
      options: what it was built with.
    """

    label: str = "experiment"
    chosen: Mapping[str, Any] = {}
    options: Mapping[str, Any] = {}


class Experiment(NamedTuple):
    """What is trained and how it is evaluated.

    Attributes:
      tasks: the task distribution.
      algorithm: what learns.
      num_steps: meta-training steps.
      evaluation: the protocol on held-out tasks.
      published: returns after 0…K adaptation steps as printed in a paper, by method.
      goal: `(task) -> [2]`, for families whose observation is a position in the
        plane: where the goal is, so that paths can be drawn.
      belief: `(agent) -> (mean [C], standard deviation [C])`, for methods that hold a
        Gaussian belief about the task and act by samples of it: with a goal, it is
        drawn how the belief and what would be done by its samples change.
      goal_beliefs: `(key, state) -> pytree`, for methods that hold a belief about the
        goal on a grid: what it is along a few trials, in the shape that
        `metarl_jax.plotting.goal_beliefs` draws.
      adaptation_unit: what a curve counts: `"adaptation steps"`, or `"episodes of
        experience"` where a memory adapts in every episode.
      origin: what it was built of, if it was built by names.
      shown: `(task) -> [F]`, what tells a task from others; None for all its numbers.
      device_counts: numbers of devices of a CPU that the tasks of a meta-training step
        are shared out over where that pays and nothing else is asked for.
    """

    tasks: TaskDistribution
    algorithm: MetaAlgorithm
    num_steps: int
    evaluation: Evaluation
    published: Mapping[str, tuple[float, ...]] = {}
    goal: Callable[[Task], jax.Array] | None = None
    belief: Callable[[Agent], tuple[jax.Array, jax.Array]] | None = None
    goal_beliefs: Callable[[Key, State], Any] | None = None
    adaptation_unit: str = "adaptation steps"
    origin: Origin = Origin()
    shown: Callable[[Task], jax.Array] | None = None
    device_counts: Sequence[int] = (1,)


def check_experiment(experiment: Experiment) -> None:
    """Raises a `ValueError` unless it is what `train` and its evaluation take."""
    if not isinstance(experiment, Experiment):
        raise ValueError(f"experiment must be an Experiment; got {shown(experiment)}")
    check_tasks(experiment.tasks)
    if not isinstance(experiment.algorithm, MetaAlgorithm):
        raise ValueError(
            "algorithm of the experiment must be a MetaAlgorithm, as the functions of "
            f"metarl_jax.algorithms make; got {shown(experiment.algorithm)}"
        )
    check_positive(num_steps=experiment.num_steps)
    check_evaluation(experiment, experiment.evaluation)


def check_evaluation(experiment: Experiment, protocol: Evaluation) -> None:
    """Raises a `ValueError` if a protocol cannot be run on this machine."""
    if not isinstance(protocol, Evaluation):
        raise ValueError(f"evaluation must be an Evaluation; got {shown(protocol)}")
    check_protocol(
        experiment.tasks,
        experiment.algorithm.policy,
        **protocol._asdict(),
        task_group_size=task_group_size(),
    )


def task_group_size() -> int | None:
    """Returns how many tasks are evaluated at once, on the default device.

    One by one they stay in a CPU's cache; elsewhere all at once fill the device.
    """
    return 1 if jax.default_backend() == "cpu" else None


def seed_keys(seed: int, num_seeds: int) -> tuple[jax.Array, jax.Array]:
    """Returns the keys of initialisation and of the steps, `[]` or `[S]` for S > 1."""
    if num_seeds == 1:
        key_init, key_steps = jax.random.split(jax.random.key(seed))
        return key_init, key_steps
    seeds = np.arange(seed, seed + num_seeds, dtype=np.uint32)
    keys = jax.vmap(lambda s: jax.random.split(jax.random.key(s)))(seeds)
    return keys[:, 0], keys[:, 1]


def state_template(algorithm: MetaAlgorithm, num_seeds: int) -> State:
    """Returns the shapes and dtypes of the state that `train` keeps."""
    init = algorithm.init if num_seeds == 1 else jax.vmap(algorithm.init)
    return jax.eval_shape(init, seed_keys(0, num_seeds)[0])
