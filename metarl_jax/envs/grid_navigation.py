"""Navigation of a grid to an unseen goal cell."""

from functools import partial
from typing import get_args

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


@struct.dataclass(kw_only=True)
class EnvState(environment.EnvState):
    """What time changes."""

    cell: jax.Array  # [2] int32, (x, y)


@struct.dataclass(kw_only=True)
class EnvParams(environment.EnvParams):
    """The task."""

    goal: jax.Array  # [2] int32, (x, y)


class GridNavigation(environment.Environment[EnvState, EnvParams]):
    """A square grid with walls around it and a hidden goal that stays where it is.

    Starts at (0, 0). Actions: stay, up, right, down, left; a move into a wall leaves
    the cell as it is. The reward is 1 where the move ends on the goal; reaching the
    goal does not end the episode.

    Args:
      size: cells along a side.
      observation: `"one_hot"` of the cell `[size²]`, or `"coordinates"` `[2]`, whole
        numbers as floats.
      dense_reward: elsewhere it is -d / size, for a goal that is d moves away, and not
        -0.1.
      goal_first: whether an episode's first observation is the goal's cell instead.
    """

    def __init__(
        self,
        *,
        size: int,
        observation: grids.CellObservation,
        dense_reward: bool,
        goal_first: bool,
    ):
        super().__init__()
        self.size = size
        self.observation: grids.CellObservation = observation
        self.dense_reward = dense_reward
        self.goal_first = goal_first

    def reset_env(self, key, params):
        """Returns to (0, 0)."""
        del key
        state = EnvState(time=0, cell=jnp.zeros(2, jnp.int32))
        seen = params.goal if self.goal_first else state.cell
        return self._observe(seen), state

    def step_env(self, key, state, action, params):
        """Moves by one cell."""
        del key
        cell = grids.moved(state.cell, action, self.size)
        state = EnvState(time=state.time + 1, cell=cell)
        reward = self.reward(cell, params)
        terminated = self.is_terminated(state, params)
        return self._observe(cell), state, reward, terminated, {}

    def reward(self, cell, params):
        """Returns what a move pays that ends on a cell."""
        distance = jnp.sum(jnp.abs(params.goal - cell))
        elsewhere = -distance / self.size if self.dense_reward else -0.1
        return jnp.where(distance == 0, 1.0, elsewhere)

    def _observe(self, cell):
        return grids.shown(cell, self.size, self.observation)

    def is_terminated(self, state, params):
        """Returns False: only the horizon ends an episode."""
        del state, params
        return jnp.asarray(False)

    @property
    def hides_goal(self) -> bool:
        """Whether nothing tells of the goal but to be there."""
        return not (self.dense_reward or self.goal_first)

    def which_state(self, obs):
        """Returns which of the cells is seen, one-hot `[size²]`."""
        return grids.which(obs, self.size, self.observation)

    @property
    def name(self) -> str:
        """Environment name."""
        return "GridNavigation"

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


def goal_cells(size: int = 5) -> np.ndarray:
    """Lists every possible goal, so that an evaluation can take each one once.

    Args:
      size: cells along a side.

    Returns:
      `[size² - 4, 2]` int32 (x, y): all cells but the four nearest to the start.
    """
    cells = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"), -1)
    cells = cells.reshape(-1, 2).astype(np.int32)
    return cells[np.max(cells, axis=-1) > 1]


def grid_navigation(
    *,
    horizon: int = 15,
    size: int = 5,
    observation: grids.CellObservation = "one_hot",
    dense_reward: bool = False,
    goal_first: bool = False,
) -> TaskDistribution:
    """Builds the 5×5 grid of Zintgraf et al. 2020, arXiv 1910.08348.

    The goal is uniform over the 21 cells that are not among the four nearest to the
    start. Held-out tasks are new draws of the same goals: `goal_cells` lists them, to
    evaluate without sampling.

    The paper observes the two coordinates. The default here is the one-hot cell: the
    value of a cell is no smooth function of its coordinates, and a linear baseline, or
    a small network after few updates, can tell one-hot cells apart.

    The oracle `"known goal"` walks straight there and stays: 11.0714 on average. A
    uniform policy has -1.165; over a trial of four episodes a Bayes-optimal agent that
    must find the goal has 4.0, 11.0714, 11.0714 and 11.0714.

    `goal_first` and `dense_reward` make the two others of Beck et al. 2023, arXiv
    2309.14970: Grid-World Show, whose first observation is to be remembered and allows
    11.0714 in every episode, and Grid-World Dense, where one that knows the goal has
    9.5333, and a Bayes-optimal agent 6.8762 in the first of a trial's episodes.

    Args:
      horizon: T, steps in an episode.
      size: cells along a side.
      observation: `"one_hot"` or `"coordinates"`.
      dense_reward: whether a move that does not end on the goal pays -d / size, where
        it is still d moves away, and not -0.1.
      goal_first: whether an episode's first observation is the goal's cell, in the
        place of the agent's own.

    Returns:
      The family; `relabel` and `achieved` where observations do not tell the goal.

    Raises:
      ValueError: if the horizon is below 1, the grid has no room for a goal, or the
        observation is unknown.
    """
    check_positive(horizon=horizon)
    # Smaller grids leave no room for a goal.
    check_at_least(3, size=size)
    check_choice(get_args(grids.CellObservation), observation=observation)
    check_flags(dense_reward=dense_reward, goal_first=goal_first)
    check_fits(f"a row for each cell of size={size}", 8 * size**2)
    env = GridNavigation(
        size=size,
        observation=observation,
        dense_reward=dense_reward,
        goal_first=goal_first,
    )
    goals = goal_cells(size)

    def sample(key):
        return EnvParams(goal=jax.random.choice(key, goals))

    def known_goal(key, task):
        del key
        # The distance in moves; the last of them already ends on the goal.
        distance = jnp.sum(task.goal)
        num_rewarded = jnp.maximum(horizon - distance + 1, 0)
        num_before = horizon - num_rewarded
        # On the way the goal is distance - 1, distance - 2, … moves away.
        moves = num_before * distance - num_before * (num_before + 1) / 2
        before = moves / size if dense_reward else 0.1 * num_before
        return 1.0 * num_rewarded - before

    where = partial(grids.cell_of, size=size, observation=observation)

    family = gymnax_family(
        env, sample, horizon=horizon, oracles={"known goal": known_goal}
    )
    if goal_first:
        return family
    return with_cell_goals(family, cell_of=where, goals=goals)
