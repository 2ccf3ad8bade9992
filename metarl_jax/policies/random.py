"""A policy that knows nothing, and gets somewhere all the same."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax import spaces
from metarl_jax.types import Key, Memory, Observation, Params


class Decided(NamedTuple):
    """The distribution of an action that has been chosen already."""

    action: jax.Array

    def sample(self, key: Key) -> jax.Array:
        """Returns the action."""
        del key
        return self.action

    def mode(self) -> jax.Array:
        """Returns the action."""
        return self.action

    def log_prob(self, action: jax.Array) -> jax.Array:
        """Returns 0: it was certain."""
        del action
        return jnp.zeros(())


class Intention(NamedTuple):
    """The memory of a `PersistentRandomPolicy`."""

    key: Key  # of the actions to come
    action: jax.Array  # the one that is kept up


class PersistentRandomPolicy(NamedTuple):
    """Uniformly random actions that are kept up for some steps.

    At each step the last action is repeated with probability `persistence` and drawn
    anew otherwise. Independent actions walk about the start, going √T far in T steps;
    these reach most of what is in reach (Dabney et al. 2021, arXiv 2006.01782).

    Attributes:
      space: of the actions.
      persistence: 0 for independent actions, 1 for one action in an episode.
    """

    space: Any
    persistence: float = 0.9

    def init(self, key: Key, memory: Memory, obs: Observation) -> Params:
        """Returns `()`: there is nothing to learn."""
        del key, memory, obs
        return ()

    def begin(self, key: Key, memory: Intention) -> Intention:
        """Draws the first action."""
        del memory
        key, key_action = jax.random.split(key)
        return Intention(key, spaces.draw(key_action, self.space))

    def apply(self, params: Params, memory: Intention, obs: Observation):
        """Returns the action kept up, value zero and the action to come."""
        del params, obs
        key, key_keep, key_action = jax.random.split(memory.key, 3)
        keep = jax.random.bernoulli(key_keep, self.persistence)
        new = spaces.draw(key_action, self.space)
        following = Intention(key, jnp.where(keep, memory.action, new))
        return Decided(memory.action), jnp.zeros(()), following

    def initial_memory(self) -> Intention:
        """Returns what `begin` will overwrite."""
        key = jax.random.key(0)
        return Intention(key, spaces.draw(key, self.space))
