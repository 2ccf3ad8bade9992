"""Three rooms whose rewards follow from one another (Zintgraf et al. 2021)."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from metarl_jax.envs.grids import MOVES
from metarl_jax.envs.gymnax_family import gymnax_family
from metarl_jax.types import TaskDistribution
from metarl_jax.validation import check_positive

_CORNERS = ((-1, 1), (-1, -1), (1, 1), (1, -1))
# How far a side room's middle is from the middle.
_APART = 6


def _cells() -> list[tuple[int, int]]:
    """Lists where one can be: rooms of 3 × 3, corridors of 3 between them."""
    across = range(-_APART - 1, _APART + 2)
    return [(x, y) for x in across for y in (-1, 0, 1) if y == 0 or abs(abs(x) - 3) > 1]


CELLS = np.array(_cells(), np.int32)  # [33, 2] (x, y)
_INDEX = {cell: i for i, cell in enumerate(_cells())}
START = _INDEX[0, 0]
# Where a move leads, the cell itself where a wall is in the way.
NEXT = np.array(
    [
        [_INDEX.get((x + dx, y + dy), _INDEX[x, y]) for dx, dy in MOVES]
        for x, y in _cells()
    ],
    np.int32,
)  # [33, 5]


def _corners(middle: int) -> list[int]:
    return [_INDEX[middle + x, y] for x, y in _CORNERS]


# Corners of the middle room, and of the room that lies on the same side as each.
MIDDLE = np.array(_corners(0), np.int32)  # [4]
BESIDE = np.array([_corners(_APART * x) for x, _ in _CORNERS], np.int32)  # [4, 4]
REWARDS = (1.0, 10.0, 100.0)
COST = -0.1


@struct.dataclass(kw_only=True)
class EnvState(environment.EnvState):
    """What time changes."""

    cell: jax.Array  # [] int32, row of CELLS
    found: jax.Array  # [] int32, how many of the goals were found, in their order


@struct.dataclass(kw_only=True)
class EnvParams(environment.EnvParams):
    """The task."""

    goals: jax.Array  # [3] int32, rows of CELLS


def arrive(goals: jax.Array, found: jax.Array, cell: jax.Array):
    """Computes what it pays to come to a cell.

    Args:
      goals: `[3]` cells of the goals.
      found: `[]` how many were found before.
      cell: `[]` where one comes to.

    Returns:
      The reward, and how many are found now.
    """
    here = (cell == goals) & (jnp.arange(3) <= found)
    # A cell is no more than one of the goals.
    reward = jnp.where(jnp.any(here), here @ jnp.array(REWARDS), COST)
    return reward, jnp.maximum(found, here @ jnp.arange(1, 4, dtype=jnp.int32))


class Rooms(environment.Environment[EnvState, EnvParams]):
    """Three rooms in a row; see `rooms`."""

    def reset_env(self, key, params):
        """Returns to the middle."""
        del key, params
        zero = jnp.zeros((), jnp.int32)
        state = EnvState(time=0, cell=jnp.full((), START, jnp.int32), found=zero)
        return self._observe(state), state

    def step_env(self, key, state, action, params):
        """Moves by one cell; walls hold."""
        del key
        cell = jnp.asarray(NEXT)[state.cell, action]
        reward, found = arrive(params.goals, state.found, cell)
        state = EnvState(time=state.time + 1, cell=cell, found=found)
        terminated = self.is_terminated(state, params)
        return self._observe(state), state, reward, terminated, {}

    def _observe(self, state):
        return jax.nn.one_hot(state.cell, len(CELLS))

    def is_terminated(self, state, params):
        """Returns False: only the horizon ends an episode."""
        del state, params
        return jnp.asarray(False)

    @property
    def name(self) -> str:
        """Environment name."""
        return "Rooms"

    @property
    def num_actions(self) -> int:
        """Number of actions."""
        return len(MOVES)

    def action_space(self, params=None):
        """Stay, up, right, down, left."""
        del params
        return spaces.Discrete(len(MOVES))

    def observation_space(self, params):
        """The cell."""
        del params
        return spaces.Box(0.0, 1.0, (len(CELLS),))


def rooms(*, horizon: int = 50) -> TaskDistribution:
    """Builds `RoomNavi` of Zintgraf et al. 2021, arXiv 2010.01062, section 6.

    Rooms of 3 × 3 cells, joined in a row by corridors of 3. A corner of the middle room
    pays 1 in every step that ends there; once it was found, a corner of the room on its
    side pays 10; and once that was, another corner of the middle room 100. Every other
    step costs 0.1. An episode begins in the middle and forgets what was found; the
    three corners, 48 triples, are the task, and held-out tasks are new draws of it.

    The oracle `"known goals"` is exact: dynamic programming over what is left of an
    episode. An agent that has to find them gets in its first episode at most what
    `metarl_jax.strategies.rooms` says.

    Args:
      horizon: T, time limit of an episode in steps.

    Returns:
      The family.

    Raises:
      ValueError: if the horizon is below 1.
    """
    check_positive(horizon=horizon)

    def sample(key):
        key_first, key_second, key_third = jax.random.split(key, 3)
        first, second = (
            jax.random.randint(k, (), 0, 4, jnp.int32) for k in (key_first, key_second)
        )
        third = (first + jax.random.randint(key_third, (), 1, 4, jnp.int32)) % 4
        middle = jnp.asarray(MIDDLE)
        goals = [middle[first], jnp.asarray(BESIDE)[first, second], middle[third]]
        return EnvParams(goals=jnp.stack(goals))

    def known_goals(key, task):
        del key
        cells, found = jnp.arange(len(CELLS)), jnp.arange(3)
        come = jax.vmap(jax.vmap(arrive, (None, None, 0)), (None, 0, None))
        reward, now = come(task.goals, found, cells)
        # What is left after the second goal is the same after the third.
        now = jnp.minimum(now, 2)

        def earlier(value, _):
            worth = reward + value[now, cells]
            return jnp.max(worth[:, jnp.asarray(NEXT)], axis=-1), None

        value = jax.lax.scan(earlier, jnp.zeros_like(reward), length=horizon)[0]
        return value[0, START]

    return gymnax_family(
        Rooms(),
        sample,
        horizon=horizon,
        oracles={"known goals": known_goals},
        measures={
            "second goal found": lambda task, episode: _got(episode, REWARDS[1]),
            "third goal found": lambda task, episode: _got(episode, REWARDS[2]),
        },
    )


def _got(episode, reward: float) -> jax.Array:
    """Tells whether a reward or more was had, 0 or 1."""
    return jnp.any(episode.mask & (episode.reward >= reward)).astype(jnp.float32)
