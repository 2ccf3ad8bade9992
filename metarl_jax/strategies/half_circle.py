"""Posterior sampling on the half-circle of Rakelly et al. 2019 (arXiv 1903.08254)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.policies.random import Decided
from metarl_jax.types import Key

_NUM_GOALS = 100
_GOAL_RADIUS = 0.2
_MAX_STEP = 0.1
_ACTION_SCALE = 0.1


class HalfCircleMemory(NamedTuple):
    """What the posterior-sampling agent remembers."""

    possible: jax.Array  # [100] bool, goals that fit what has been seen
    goal: jax.Array  # [2], where this episode goes


class PosteriorSamplingHalfCircle(NamedTuple):
    """Goes in each episode straight to a goal drawn from the posterior, and stays.

    It knows the hundred places where goals stand, meta-training and held-out ones alike
    (`metarl_jax.envs.point_navigation.sparse_point_navigation` with its defaults), and
    what a reward says: none, that every goal within the radius is ruled out; 1 - d,
    that the goal is at the distance d. Its goal is drawn again after every episode.
    """

    def init(self, key, memory, obs):
        """Returns no parameters."""
        del key, memory, obs
        return {}

    def initial_memory(self):
        """Returns the prior; the goal is drawn before it is used."""
        return HalfCircleMemory(jnp.ones(_NUM_GOALS, bool), jnp.zeros(2))

    def begin(self, key: Key, memory):
        """Draws the goal of an episode."""
        index = jax.random.categorical(key, jnp.log(memory.possible))
        return memory._replace(goal=_goals()[index])

    def apply(self, params, memory, obs):
        """Goes towards the drawn goal; the value is not estimated."""
        del params
        step = jnp.clip(memory.goal - obs, -_MAX_STEP, _MAX_STEP)
        return Decided(step / _ACTION_SCALE), jnp.zeros(()), memory

    def observe(self, memory, transition):
        """Rules goals out by the sparse reward."""
        distance = jnp.linalg.norm(_goals() - transition.next_obs, axis=-1)
        seen, reward = distance <= _GOAL_RADIUS, transition.reward
        # Goals are three hundredths apart; two of them may be as far from a point.
        as_far = jnp.abs(distance - (1.0 - reward)) < 1e-4
        fits = jnp.where(reward > 0, seen & as_far, ~seen)
        return memory._replace(possible=memory.possible & fits)


def _goals() -> jax.Array:
    """Returns where goals stand, `[100, 2]`."""
    angle = jnp.linspace(0.0, jnp.pi, _NUM_GOALS)
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
