"""Learners of the 5×5 grid of Zintgraf et al. 2020, arXiv 1910.08348, that know it.

They know the map and where goals can be, and remember where this task's goal is or is
not (`metarl_jax.envs.grid_navigation`, either observation).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax.distributions import Categorical
from metarl_jax.types import Key

_SIZE = 5
_NUM_ACTIONS = 5
_UP, _RIGHT, _DOWN, _LEFT = 1, 2, 3, 4

# Where the goal is looked for. In the first episode every step but the first sees
# another of the goal cells; the seven that are left lie along the straight path of the
# second episode.
SEARCH = (
    *(_UP, _UP, _UP, _UP, _RIGHT, _RIGHT, _RIGHT),
    *(_DOWN, _DOWN, _DOWN, _LEFT, _UP, _UP, _LEFT, _DOWN),
    *(_RIGHT, _RIGHT, _RIGHT, _RIGHT, _UP, _UP, _UP, _UP),
)


def _cell(obs: jax.Array) -> jax.Array:
    """Returns the cell (x, y) int32 `[2]` of an observation."""
    if obs.shape == (2,):
        return obs.astype(jnp.int32)
    index = jnp.argmax(obs)
    return jnp.stack([index // _SIZE, index % _SIZE]).astype(jnp.int32)


def _towards(goal: jax.Array, cell: jax.Array) -> jax.Array:
    """Returns the action of a shortest path, along x first; 0 to stay at the goal."""
    dx, dy = goal - cell
    along_x = jnp.where(dx > 0, _RIGHT, _LEFT)
    along_y = jnp.where(dy > 0, _UP, _DOWN)
    return jnp.where(dx != 0, along_x, jnp.where(dy != 0, along_y, 0))


def _always(action: jax.Array) -> Categorical:
    return Categorical(jnp.log(jax.nn.one_hot(action, _NUM_ACTIONS)))


class SearchMemory(NamedTuple):
    """What the Bayes-optimal agent remembers."""

    step: jax.Array  # [] int32, steps of the trial
    goal: jax.Array  # [2] int32, once it is found
    found: jax.Array  # [] bool


class BayesOptimalGrid(NamedTuple):
    """A Bayes-optimal agent for episodes of 15 steps.

    Searches along `SEARCH`, and once it has found the goal goes there and stays. It
    has mean returns of 4, then 11.0714 in every episode, and no agent has more: step t
    of the first episode can see at most one goal cell that was not seen before, from
    t = 2 on, so its return is at most (Σ_{t=2}^{15} ((16 - t) - 0.1 (t - 1)) - 7 · 1.5)
    / 21 = 4; and 11.0714 is what an agent gets that knows the goal.
    """

    def init(self, key, memory, obs):
        """Returns no parameters."""
        del key, memory, obs
        return {}

    def initial_memory(self):
        """Returns the memory of nothing."""
        return SearchMemory(jnp.int32(0), jnp.zeros(2, jnp.int32), jnp.asarray(False))

    def apply(self, params, memory, obs):
        """Goes to the goal, or on along the search; the value is not estimated."""
        del params
        search = jnp.asarray(SEARCH)[jnp.minimum(memory.step, len(SEARCH) - 1)]
        home = _towards(memory.goal, _cell(obs))
        action = jnp.where(memory.found, home, search)
        return _always(action), jnp.zeros(()), memory._replace(step=memory.step + 1)

    def observe(self, memory, transition):
        """Remembers the cell that paid."""
        paid = transition.reward > 0
        goal = jnp.where(paid, _cell(transition.next_obs), memory.goal)
        return memory._replace(goal=goal, found=memory.found | paid)


class PosteriorMemory(NamedTuple):
    """What the posterior-sampling agent remembers."""

    possible: jax.Array  # [5, 5] bool, cells that may be the goal
    goal: jax.Array  # [2] int32, where this episode goes


class PosteriorSamplingGrid(NamedTuple):
    """Goes in each episode straight to a goal drawn from the posterior, and stays.

    The posterior is uniform over the goal cells that have not been stepped on. What is
    drawn at an episode's beginning holds to its end (Strens 2000): it walks past a goal
    that it comes across on the way.

    Attributes:
      stops: whether it stays at such a goal instead.
    """

    stops: bool = False

    def init(self, key, memory, obs):
        """Returns no parameters."""
        del key, memory, obs
        return {}

    def initial_memory(self):
        """Returns the prior; the goal is drawn before it is used."""
        possible = np.ones((_SIZE, _SIZE), bool)
        possible[:2, :2] = False
        return PosteriorMemory(jnp.asarray(possible), jnp.zeros(2, jnp.int32))

    def begin(self, key: Key, memory):
        """Draws the goal of an episode."""
        log_possible = jnp.log(memory.possible.reshape(-1).astype(jnp.float32))
        index = jax.random.categorical(key, log_possible)
        goal = jnp.stack([index // _SIZE, index % _SIZE]).astype(jnp.int32)
        return memory._replace(goal=goal)

    def apply(self, params, memory, obs):
        """Goes towards the drawn goal; the value is not estimated."""
        del params
        return _always(_towards(memory.goal, _cell(obs))), jnp.zeros(()), memory

    def observe(self, memory, transition):
        """Rules a cell out, or all the others."""
        x, y = _cell(transition.next_obs)
        here = jnp.zeros((_SIZE, _SIZE), bool).at[x, y].set(True)
        paid = transition.reward > 0
        possible = jnp.where(paid, here, memory.possible & ~here)
        stays = paid & self.stops
        goal = jnp.where(stays, jnp.stack([x, y]), memory.goal)
        return memory._replace(possible=possible, goal=goal)
