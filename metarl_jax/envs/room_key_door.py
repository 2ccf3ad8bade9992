"""A dark room with a key that pays, and a door that pays who has it."""

from typing import get_args

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

from metarl_jax.envs import grids
from metarl_jax.envs.gymnax_family import gymnax_family
from metarl_jax.memory import check_fits
from metarl_jax.types import TaskDistribution
from metarl_jax.validation import (
    check_at_least,
    check_choice,
    check_flags,
    check_positive,
)


@struct.dataclass(kw_only=True)
class EnvState(environment.EnvState):
    """What time changes."""

    cell: jax.Array  # [2] int32, (x, y)
    has_key: jax.Array  # [] bool


@struct.dataclass(kw_only=True)
class EnvParams(environment.EnvParams):
    """The task."""

    start: jax.Array  # [2] int32, (x, y)
    key: jax.Array  # [2] int32
    door: jax.Array  # [2] int32
    moves: jax.Array  # [5] int32, which move each action makes


class RoomKeyDoor(environment.Environment[EnvState, EnvParams]):
    """A square room; see `room_key_door`.

    Args:
      size: cells along a side.
      horizon: steps of an episode, in which time is shown.
      observation: `"one_hot"` of the cell, whether one has the key and the time
        `[size² + 2]`, or with the cell's `"coordinates"`, divided by the size, `[4]`.
    """

    def __init__(
        self,
        *,
        size: int,
        horizon: int,
        observation: grids.CellObservation,
    ):
        super().__init__()
        self.size = size
        self.horizon = horizon
        self.observation: grids.CellObservation = observation

    def reset_env(self, key, params):
        """Returns to the task's start, without the key."""
        del key
        state = EnvState(time=0, cell=params.start, has_key=jnp.zeros((), bool))
        return self._observe(state), state

    def step_env(self, key, state, action, params):
        """Moves by one cell; the key pays once, and the door then."""
        del key
        cell = grids.moved(state.cell, params.moves[action], self.size)
        opened = state.has_key & jnp.all(cell == params.door)
        taken = ~state.has_key & jnp.all(cell == params.key)
        reward = jnp.where(opened | taken, 1.0, 0.0)
        state = EnvState(time=state.time + 1, cell=cell, has_key=state.has_key | taken)
        return self._observe(state), state, reward, opened, {}

    def _observe(self, state):
        time = jnp.asarray(state.time, jnp.float32) / self.horizon
        rest = jnp.stack([state.has_key.astype(jnp.float32), time])
        where = grids.shown(state.cell, self.size, self.observation)
        if self.observation == "coordinates":
            where /= self.size
        return jnp.concatenate([where, rest])

    @property
    def name(self) -> str:
        """Environment name."""
        return "RoomKeyDoor"

    @property
    def num_actions(self) -> int:
        """Number of actions."""
        return len(grids.MOVES)

    def action_space(self, params=None):
        """Stay, up, right, down, left, in the task's order."""
        del params
        return spaces.Discrete(len(grids.MOVES))

    def observation_space(self, params):
        """The cell, the key and the time."""
        del params
        where = 2 if self.observation == "coordinates" else self.size**2
        return spaces.Box(0.0, 1.0, (where + 2,))


def room_key_door(
    *,
    size: int = 9,
    horizon: int = 50,
    random_actions: bool = False,
    observation: grids.CellObservation = "one_hot",
) -> TaskDistribution:
    """Builds the dark room with a key and a door of Laskin et al. 2022, 2210.14215.

    A step that ends on the key's cell pays 1, once in an episode; the next that ends on
    the door's pays 1 too and ends the episode. Nothing shows either. Start, key and
    door are uniform over the cells, the same ones as may be, and with the order of the
    actions they are the task; held-out tasks are new draws. As in Grigsby et al. 2024,
    arXiv 2310.09971, every episode of a task begins at the same cell, and one sees
    whether one has the key and what time it is. A trial is a number of episodes here
    and a number of steps there.

    The oracle `"known places"` is exact: who knows where both are walks there.

    Args:
      size: cells along a side.
      horizon: T, time limit of an episode in steps.
      random_actions: whether what an action does is drawn for every task.
      observation: the cell as `"one_hot"`, or as `"coordinates"`, as the authors have
        it.

    Returns:
      The family.

    Raises:
      ValueError: if the horizon is below 1, the room smaller than 2 × 2, or the
        observation unknown.
    """
    check_positive(horizon=horizon)
    check_at_least(2, size=size)
    check_flags(random_actions=random_actions)
    check_choice(get_args(grids.CellObservation), observation=observation)
    check_fits(f"a row for each cell of size={size}", 8 * size**2)
    env = RoomKeyDoor(size=size, horizon=horizon, observation=observation)

    def sample(key):
        key_places, key_moves = jax.random.split(key)
        places = jax.random.randint(key_places, (3, 2), 0, size, jnp.int32)
        moves = jnp.arange(len(grids.MOVES), dtype=jnp.int32)
        if random_actions:
            moves = jax.random.permutation(key_moves, moves)
        start, place_of_key, door = places
        return EnvParams(start=start, key=place_of_key, door=door, moves=moves)

    def optimal_action(task, obs):
        where, has_key = obs[:-2], obs[-2] > 0.5
        if observation == "coordinates":
            where = jnp.round(where * size)
        cell = grids.cell_of(where, size, observation)
        move = grids.towards(cell, jnp.where(has_key, task.door, task.key))
        return jnp.argmax(task.moves == move).astype(jnp.int32)

    def known_places(key, task):
        del key

        def away(a, b):
            # Where one is already, one has to stay for a step.
            return jnp.maximum(jnp.sum(jnp.abs(a - b)), 1)

        to_key = away(task.start, task.key)
        both = to_key + away(task.key, task.door)
        paid = (to_key <= horizon).astype(jnp.int32) + (both <= horizon)
        return paid.astype(jnp.float32)

    return gymnax_family(
        env,
        sample,
        horizon=horizon,
        oracles={"known places": known_places},
        optimal_action=optimal_action,
        measures={"door opened": lambda task, episode: _ended(episode)},
    )


def _ended(episode) -> jax.Array:
    """Tells whether an episode ended by itself, 0 or 1."""
    return jnp.any(episode.mask & episode.terminated).astype(jnp.float32)
