"""A task family that shows the agent its task: what there is to gain by knowing it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import environment, spaces

from metarl_jax.types import Task, TaskDistribution
from metarl_jax.validation import check_functions, check_tasks, reason


class TaskConditioned(environment.Environment):
    """An environment whose observation `[O]` is followed by features of the task `[F]`.

    Args:
      tasks: the family of the environment, by which an observation is encoded.
      features: `(task) -> [F]`.
      size: O + F.
    """

    def __init__(
        self,
        tasks: TaskDistribution,
        features: Callable[[Task], jax.Array],
        size: int,
    ):
        super().__init__()
        self.env = tasks.env
        self.encode = tasks.encode
        self.features = features
        self.size = size

    def _observe(self, obs, params):
        obs = jnp.ravel(self.encode(obs)).astype(jnp.float32)
        return jnp.concatenate([obs, self.features(params)])

    def reset_env(self, key, params):
        """Resets the environment."""
        obs, state = self.env.reset_env(key, params)
        return self._observe(obs, params), state

    def step_env(self, key, state, action, params):
        """Steps the environment."""
        obs, state, reward, terminated, info = self.env.step_env(
            key, state, action, params
        )
        return self._observe(obs, params), state, reward, terminated, info

    def is_terminated(self, state, params):
        """The environment's own end."""
        return self.env.is_terminated(state, params)

    def is_truncated(self, state, params):
        """The environment's own time limit."""
        return self.env.is_truncated(state, params)

    @property
    def name(self) -> str:
        """Environment name."""
        return f"{self.env.name}, task shown"

    @property
    def num_actions(self) -> int:
        """Number of actions."""
        return self.env.num_actions

    def action_space(self, params=None):
        """The environment's own actions."""
        return self.env.action_space(params)

    def observation_space(self, params):
        """The environment's observations and unbounded features."""
        del params
        return spaces.Box(-np.inf, np.inf, (self.size,))


def numbers(task: Task) -> jax.Array:
    """Returns all the numbers in a task but its time limit, which all tasks share."""
    if hasattr(task, "max_steps_in_episode"):
        task = task.replace(max_steps_in_episode=())
    leaves = jax.tree.leaves(task)
    if not leaves:
        raise ValueError(
            "a task that is shown must hold more than its time limit, or features be "
            f"given; got {task}"
        )
    return jnp.concatenate([jnp.ravel(x).astype(jnp.float32) for x in leaves])


def task_conditioned(
    tasks: TaskDistribution,
    features: Callable[[Task], jax.Array] | None = None,
) -> TaskDistribution:
    """Makes a family whose observations tell the task, for an upper reference.

    A policy trained on it knows from the first step what an adapting agent has to find
    out. Its tasks are the given family's, with the same keys.

    Args:
      tasks: the family; what a policy sees in it is a single array, flattened here.
      features: `(task) -> [F]`; None: all the numbers in the task but its time limit.

    Returns:
      The family; nothing but the observation is changed.

    Raises:
      ValueError: if the observation is not a single array, or `features` do not make a
        vector, or a task has no numbers but its time limit and there are none.
    """
    check_tasks(tasks)
    shows = numbers if features is None else features
    check_functions(features=shows)

    obs = tasks.observation
    task = jax.eval_shape(tasks.sample, jax.random.key(0))
    try:
        shown = jax.eval_shape(shows, task)
    except Exception as error:
        raise ValueError(
            f"features must be a function of a task of {tasks.env.name}; got "
            f"{reason(error)}"
        ) from error
    if not isinstance(obs, jax.ShapeDtypeStruct):
        raise ValueError(
            f"task_conditioned needs an observation that is one array; "
            f"{tasks.env.name} shows {jax.tree.structure(obs)}"
        )
    if not isinstance(shown, jax.ShapeDtypeStruct) or len(shown.shape) != 1:
        raise ValueError(f"features must make a vector of a task; got {shown}")
    env = TaskConditioned(tasks, shows, obs.size + shown.shape[0])
    return tasks._replace(env=env, encode=lambda obs: obs)
