"""Environments that draw their task when they are reset, made to keep it."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
from flax import struct
from gymnax.environments.environment import Environment, EnvParams
from gymnax.wrappers.purerl import GymnaxWrapper

from metarl_jax.types import Key, Task
from metarl_jax.validation import shown


@struct.dataclass
class DrawnParams(EnvParams):
    """The task of a `DrawnOnce` environment."""

    params: Any = None  # of the environment itself
    drawn: Any = None  # what a reset of it drew, by the name in its state
    max_steps_in_episode: int = 1


class DrawnOnce(GymnaxWrapper):
    """An environment whose resets put named fields of the task into the state.

    What such an environment shows after a reset is what its `get_obs` makes of that
    state; nothing else is changed.

    Args:
      env: draws the fields in `reset_env`.
      fields: their names in its state, such as `("goal_xy",)`.
    """

    def __init__(self, env: Environment, fields: Sequence[str]):
        super().__init__(env)
        _check_fields(env, fields)
        self.fields = tuple(fields)

    @property
    def default_params(self) -> DrawnParams:
        """A task that the environment draws by the key 0."""
        return self.draw(jax.random.key(0), self._env.default_params)

    def draw(self, key: Key, params: Any) -> DrawnParams:
        """Draws a task as a reset with these params does."""
        state = self._env.reset_env(key, params)[1]
        drawn = {name: getattr(state, name) for name in self.fields}
        limit = params.max_steps_in_episode
        return DrawnParams(params=params, drawn=drawn, max_steps_in_episode=limit)

    def sampler(
        self, sample_params: Callable[[Key], Task]
    ) -> Callable[[Key], DrawnParams]:
        """Makes a sampler of tasks of one of the environment's own params."""

        def sample(key):
            key_params, key_drawn = jax.random.split(key)
            return self.draw(key_drawn, sample_params(key_params))

        return sample

    def _own(self, params: DrawnParams) -> Any:
        """Returns the environment's own params, with the time limit of the task."""
        limit = params.max_steps_in_episode
        return dataclasses.replace(params.params, max_steps_in_episode=limit)

    def reset_env(self, key, params):
        """Resets the environment into this task."""
        own = self._own(params)
        _, state = self._env.reset_env(key, own)
        state = dataclasses.replace(state, **params.drawn)
        return self._env.get_obs(state, own), state

    def step_env(self, key, state, action, params):
        """Steps the environment."""
        return self._env.step_env(key, state, action, self._own(params))

    def is_terminated(self, state, params):
        """The environment's own end."""
        return self._env.is_terminated(state, self._own(params))

    def is_truncated(self, state, params):
        """The environment's own time limit."""
        return self._env.is_truncated(state, self._own(params))

    def action_space(self, params=None):
        """The environment's own actions."""
        return self._env.action_space(None if params is None else self._own(params))

    def observation_space(self, params):
        """The environment's own observations."""
        return self._env.observation_space(self._own(params))


def _check_fields(env: Environment, fields: Sequence[str]) -> None:
    """Raises a `ValueError` unless they are of the state, and it can be shown."""
    params = env.default_params
    obs, state = jax.eval_shape(env.reset_env, jax.random.key(0), params)
    names = [field.name for field in dataclasses.fields(state) if field.name != "time"]
    if isinstance(fields, str) or not isinstance(fields, Sequence):
        raise ValueError(
            "drawn_at_reset must be a tuple of names of fields of the state; got "
            f"{shown(fields)}"
        )
    for name in fields:
        if name not in names:
            raise ValueError(
                f"drawn_at_reset must name fields of the state of {env.name}, among "
                f"{', '.join(names)}; got {name!r}"
            )
    try:
        after: Any = jax.eval_shape(env.get_obs, state, params)
    except Exception as error:
        raise ValueError(
            f"drawn_at_reset needs a method get_obs(state, params) of {env.name}, by "
            f"which the changed state is shown; calling it got {error}"
        ) from error
    if jax.tree.map(lambda x: x.shape, after) != jax.tree.map(lambda x: x.shape, obs):
        raise ValueError(
            f"get_obs of {env.name} must make what a reset shows, {obs}; got {after}"
        )
