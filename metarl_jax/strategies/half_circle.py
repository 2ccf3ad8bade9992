"""Exact inference on the half-circle of Rakelly et al. 2019 (arXiv 1903.08254).

Both strategies know the hundred places where goals stand, meta-training and held-out
ones alike (`metarl_jax.envs.point_navigation.sparse_point_navigation` with its
defaults), and what a reward says: none, that every goal within the radius is ruled out;
1 - d, that the goal is at the distance d. They differ in what they do with it.
"""

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

    Its goal is drawn again after every episode.
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
        return memory._replace(goal=goals()[index])

    def apply(self, params, memory, obs):
        """Goes towards the drawn goal; the value is not estimated."""
        del params
        return _towards(memory.goal, obs), jnp.zeros(()), memory

    def observe(self, memory, transition):
        """Rules goals out by the sparse reward."""
        return memory._replace(possible=_still_possible(memory.possible, transition))


class NearestFirstHalfCircle(NamedTuple):
    """Goes to the nearest goal that fits all it has seen, and so along the half-circle.

    While posterior sampling has one goal for an episode, this one goes on to the next
    as soon as a place is ruled out. It draws nothing and is not the Bayes optimum.
    Its memory is which goals are possible, `[100]`.
    """

    def init(self, key, memory, obs):
        """Returns no parameters."""
        del key, memory, obs
        return {}

    def initial_memory(self):
        """Returns that all are."""
        return jnp.ones(_NUM_GOALS, bool)

    def apply(self, params, memory, obs):
        """Goes where the fewest steps lead; the value is not estimated."""
        del params
        offset = jnp.max(jnp.abs(goals() - obs), axis=-1)
        nearest = jnp.argmin(jnp.where(memory, offset, jnp.inf))
        return _towards(goals()[nearest], obs), jnp.zeros(()), memory

    def observe(self, memory, transition):
        """Rules goals out by the sparse reward."""
        return _still_possible(memory, transition)


def _towards(goal: jax.Array, obs: jax.Array) -> Decided:
    """Returns the action that goes straight to a goal, or stays there."""
    return Decided(jnp.clip(goal - obs, -_MAX_STEP, _MAX_STEP) / _ACTION_SCALE)


def _still_possible(possible: jax.Array, transition) -> jax.Array:
    """Returns which of the possible goals fit a transition, `[100]`."""
    distance = jnp.linalg.norm(goals() - transition.next_obs, axis=-1)
    seen, reward = distance <= _GOAL_RADIUS, transition.reward
    # Goals are three hundredths apart; two of them may be as far from a point.
    as_far = jnp.abs(distance - (1.0 - reward)) < 1e-4
    return possible & jnp.where(reward > 0, seen & as_far, ~seen)


def goals() -> jax.Array:
    """Returns where goals stand, `[100, 2]`."""
    angle = jnp.linspace(0.0, jnp.pi, _NUM_GOALS)
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
