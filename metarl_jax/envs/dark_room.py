"""The dark room: a cell pays, and nothing shows which (Laskin et al. 2022)."""

from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from metarl_jax.envs import grids
from metarl_jax.envs.goals import with_cell_goals
from metarl_jax.envs.gymnax_family import gymnax_family
from metarl_jax.memory import check_fits
from metarl_jax.types import TaskDistribution
from metarl_jax.validation import (
    check_at_least,
    check_choice,
    check_flags,
    check_positive,
)

_HELDOUT_SHARE = 5  # a cell of so many


@struct.dataclass(kw_only=True)
class EnvState(environment.EnvState):
    """What time changes."""

    cell: jax.Array  # [2] int32, (x, y)


@struct.dataclass(kw_only=True)
class EnvParams(environment.EnvParams):
    """The task."""

    goal: jax.Array  # [2] int32, (x, y)


class DarkRoom(environment.Environment[EnvState, EnvParams]):
    """A square room; a step that ends on the hidden goal pays 1, others nothing.

    Actions: stay, up, right, down, left; a move into a wall leaves the cell as it is.
    The observation is one's own cell. Reaching the goal does not end the episode.

    Args:
      size: cells along a side.
      start: `"random"`, drawn at every reset, or `"centre"`.
      observation: `"one_hot"` of the cell `[size²]`, or `"coordinates"` `[2]`, whole
        numbers as floats.
    """

    def __init__(
        self,
        *,
        size: int,
        start: Literal["random", "centre"],
        observation: grids.CellObservation,
    ):
        super().__init__()
        self.size = size
        self.start = start
        self.observation: grids.CellObservation = observation

    def reset_env(self, key, params):
        """Goes to where episodes start."""
        del params
        cell = jnp.full(2, self.size // 2, jnp.int32)
        if self.start == "random":
            cell = jax.random.randint(key, (2,), 0, self.size, jnp.int32)
        state = EnvState(time=0, cell=cell)
        return self._observe(state), state

    def step_env(self, key, state, action, params):
        """Moves by one cell."""
        del key
        cell = grids.moved(state.cell, action, self.size)
        state = EnvState(time=state.time + 1, cell=cell)
        reward = self.reward(cell, params)
        terminated = self.is_terminated(state, params)
        return self._observe(state), state, reward, terminated, {}

    def reward(self, cell, params):
        """Returns what a move pays that ends on a cell."""
        return jnp.where(jnp.all(cell == params.goal), 1.0, 0.0)

    def _observe(self, state):
        return grids.shown(state.cell, self.size, self.observation)

    def is_terminated(self, state, params):
        """Returns False: only the horizon ends an episode."""
        del state, params
        return jnp.asarray(False)

    def which_state(self, obs):
        """Returns which of the cells is seen, one-hot `[size²]`."""
        return grids.which(obs, self.size, self.observation)

    @property
    def name(self) -> str:
        """Environment name."""
        return "DarkRoom"

    @property
    def num_actions(self) -> int:
        """Number of actions."""
        return len(grids.MOVES)

    def action_space(self, params=None):
        """Stay, up, right, down, left."""
        del params
        return spaces.Discrete(len(grids.MOVES))

    def observation_space(self, params):
        """Cells."""
        del params
        if self.observation == "coordinates":
            return spaces.Box(0.0, self.size - 1.0, (2,))
        return spaces.Box(0.0, 1.0, (self.size**2,))


def room_goals(size: int = 9, *, heldout: bool = False) -> np.ndarray:
    """Lists the goals of meta-training or those that are held out.

    Args:
      size: cells along a side.
      heldout: whether to list the fifth of the cells that is held out, spread evenly
        in an order drawn once and for all.

    Returns:
      `[G, 2]` int32 (x, y).

    Raises:
      ValueError: if the room is smaller than 3 × 3.
    """
    check_at_least(3, size=size)
    check_flags(heldout=heldout)
    cells = np.stack(np.divmod(np.arange(size**2), size), axis=-1).astype(np.int32)
    order = np.random.RandomState(0).permutation(size**2)
    num_heldout = size**2 // _HELDOUT_SHARE
    return cells[np.sort(order[:num_heldout] if heldout else order[num_heldout:])]


def dark_room(
    *,
    size: int = 9,
    horizon: int = 20,
    start: Literal["random", "centre"] = "random",
    split: bool = True,
    observation: grids.CellObservation = "one_hot",
) -> TaskDistribution:
    """Builds the dark room of Laskin et al. 2022, arXiv 2210.14215: 9 × 9, 20 steps.

    Goals are uniform over the cells. The oracle `"known goal"` walks straight there
    and stays: over all goals 15.0617 from random starts, 16.5432 from the centre.

    Args:
      size: cells along a side.
      horizon: T, steps in an episode.
      start: where episodes start: a cell drawn at random or the centre.
      split: whether a fifth of the cells (`room_goals`) is held out as goals; otherwise
        held-out tasks are new draws of the same.
      observation: the cell as `"one_hot"` or `"coordinates"`.

    Returns:
      The family.

    Raises:
      ValueError: if the horizon is below 1, the room smaller than 3 × 3, or the start
        or the observation unknown.
    """
    check_positive(horizon=horizon)
    check_at_least(3, size=size)
    check_choice(("random", "centre"), start=start)
    check_choice(get_args(grids.CellObservation), observation=observation)
    check_flags(split=split)
    check_fits(f"a row for each cell of size={size}", 8 * size**2)
    seen, heldout = room_goals(size), room_goals(size, heldout=True)
    if not split:
        seen = heldout = np.concatenate([seen, heldout])

    def sampler(goals):
        def sample(key):
            return EnvParams(goal=jax.random.choice(key, jnp.asarray(goals)))

        return sample

    where = partial(grids.cell_of, size=size, observation=observation)

    def optimal_action(task, obs):
        return grids.towards(where(obs), task.goal)

    env = DarkRoom(size=size, start=start, observation=observation)

    def known_goal(key, task):
        _, state = env.reset_env(key, task)
        distance = jnp.sum(jnp.abs(task.goal - state.cell))
        # The last move already ends on the goal.
        late = jnp.maximum(distance - 1, 0)
        return jnp.maximum(horizon - late, 0).astype(jnp.float32)

    family = gymnax_family(
        env,
        sampler(seen),
        sample_heldout_params=sampler(heldout),
        horizon=horizon,
        oracles={"known goal": known_goal},
        optimal_action=optimal_action,
    )
    return with_cell_goals(family, cell_of=where, goals=seen)
