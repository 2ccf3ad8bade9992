"""Mazes whose walls and goal are the task.

A maze of m × m cells is a random spanning tree of the grid, of independent edge
weights (Prim's algorithm), with some of the other walls opened: every cell is reached
from every other. The agent starts in a corner, sees its cell and which of its four
sides are open, and neither the map nor the goal.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from metarl_jax.envs.grids import MOVES
from metarl_jax.envs.gymnax_family import gymnax_family
from metarl_jax.memory import check_fits
from metarl_jax.types import Key, TaskDistribution
from metarl_jax.validation import check_at_least, check_fraction, check_positive


@struct.dataclass(kw_only=True)
class EnvState(environment.EnvState):
    """What time changes."""

    cell: jax.Array  # [] int32, m x + y


@struct.dataclass(kw_only=True)
class EnvParams(environment.EnvParams):
    """The task."""

    open: jax.Array  # [m², 4] bool, upwards, to the right, downwards, to the left
    goal: jax.Array  # [] int32, the cell


class Maze(environment.Environment[EnvState, EnvParams]):
    """A maze; see the module.

    Actions: stay, up, right, down, left; a move into a wall leaves the cell as it is.
    The reward is 1 where the move ends on the goal and -0.1 elsewhere; reaching the
    goal does not end the episode.

    Args:
      size: m, cells along a side.
    """

    def __init__(self, *, size: int):
        super().__init__()
        self.size = size

    def reset_env(self, key, params):
        """Returns to the corner (0, 0)."""
        del key
        state = EnvState(time=0, cell=jnp.zeros((), jnp.int32))
        return self._observe(state, params), state

    def step_env(self, key, state, action, params):
        """Moves by one cell, if that side is open."""
        del key
        passable = jnp.append(True, params.open[state.cell])[action]
        step = jnp.asarray(MOVES @ np.array([self.size, 1], np.int32))[action]
        cell = state.cell + jnp.where(passable, step, 0)
        state = EnvState(time=state.time + 1, cell=cell)
        reward = jnp.where(cell == params.goal, 1.0, -0.1)
        return self._observe(state, params), state, reward, jnp.asarray(False), {}

    def _observe(self, state, params):
        cell = jax.nn.one_hot(state.cell, self.size**2)
        return jnp.concatenate([cell, params.open[state.cell].astype(jnp.float32)])

    def is_terminated(self, state, params):
        """Returns False: only the horizon ends an episode."""
        del state, params
        return jnp.asarray(False)

    @property
    def name(self) -> str:
        """Environment name."""
        return "Maze"

    @property
    def num_actions(self) -> int:
        """Number of actions."""
        return len(MOVES)

    def action_space(self, params=None):
        """Stay, up, right, down, left."""
        del params
        return spaces.Discrete(len(MOVES))

    def observation_space(self, params):
        """The cell, and its open sides."""
        del params
        return spaces.Box(0.0, 1.0, (self.size**2 + 4,))


def edges(size: int) -> np.ndarray:
    """Lists pairs of neighbouring cells, `[2 m (m - 1), 2]`: upwards, then across."""
    cells = np.arange(size**2).reshape(size, size)
    up = np.stack([cells[:, :-1].ravel(), cells[:, 1:].ravel()], axis=-1)
    right = np.stack([cells[:-1].ravel(), cells[1:].ravel()], axis=-1)
    return np.concatenate([up, right]).astype(np.int32)


def spanning_tree(key: Key, size: int) -> jax.Array:
    """Draws a spanning tree of a grid of m × m cells.

    Args:
      key: decides the edges' weights, of which the tree is the least.
      size: m.

    Returns:
      `[2 m (m - 1)]` bool, which of `edges` are in it.
    """
    ends = jnp.asarray(edges(size))
    weight = jax.random.uniform(key, (len(ends),))

    def grow(carry, _):
        inside, tree = carry
        both = inside[ends]
        # The lightest edge with one end inside.
        edge = jnp.argmin(jnp.where(both[:, 0] != both[:, 1], weight, jnp.inf))
        return (inside.at[ends[edge]].set(True), tree.at[edge].set(True)), None

    start = jnp.zeros(size**2, bool).at[0].set(True)
    none = jnp.zeros(len(ends), bool)
    return jax.lax.scan(grow, (start, none), length=size**2 - 1)[0][1]


def open_sides(passable: jax.Array, size: int) -> jax.Array:
    """Turns open edges `[2 m (m - 1)]` into open sides of cells `[m², 4]`."""
    ends, num = edges(size), size * (size - 1)
    up, right = ends[:num], ends[num:]
    sides = jnp.zeros((size**2, 4), bool)
    sides = sides.at[up[:, 0], 0].set(passable[:num])
    sides = sides.at[right[:, 0], 1].set(passable[num:])
    sides = sides.at[up[:, 1], 2].set(passable[:num])
    return sides.at[right[:, 1], 3].set(passable[num:])


def distances(open_: jax.Array, cell: jax.Array, size: int) -> jax.Array:
    """Computes the length of the shortest path from a cell to each, by relaxation.

    Args:
      open_: `[m², 4]` open sides.
      cell: `[]` where it begins.
      size: m.

    Returns:
      `[m²]` int32; m² where no path leads.
    """
    steps = MOVES[1:] @ np.array([size, 1], np.int32)
    beside = np.clip(np.arange(size**2)[:, None] + steps, 0, size**2 - 1)

    def relax(distance, _):
        through = jnp.where(open_, distance[beside] + 1, size**2)
        return jnp.minimum(distance, jnp.min(through, axis=-1)), None

    start = jnp.full(size**2, size**2, jnp.int32).at[cell].set(0)
    return jax.lax.scan(relax, start, length=size**2 - 1)[0]


def maze(*, horizon: int = 25, size: int = 5, opened: float = 0.1) -> TaskDistribution:
    """Builds mazes with hidden walls and goals.

    The goal is uniform over the cells that the start is at least m moves away from,
    half of them: a fixed random half of all walls' patterns belongs to goals on the
    black cells of a chequerboard in meta-training and to those on white ones among
    held-out tasks, and the other half the other way round. So no maze with its goal is
    met in both, and new ones are drawn without end.

    The oracle `"shortest path"` walks straight to the goal and stays.

    Args:
      horizon: T, steps in an episode.
      size: m, cells along a side.
      opened: share of the walls that are left by the tree and opened after all.

    Returns:
      The family.

    Raises:
      ValueError: if the horizon is below 1, the size below 3 or the share outside of
        [0, 1].
    """
    check_positive(horizon=horizon)
    check_at_least(3, size=size)
    check_fraction(opened=opened)
    check_fits(f"a row for each wall of size={size}", 32 * size**4)
    chosen = jnp.asarray(np.random.default_rng(0).integers(2, size=len(edges(size))))
    colour = jnp.asarray(np.indices((size, size)).sum(0).ravel() % 2)

    def sampler(heldout):
        def sample(key):
            key_tree, key_open, key_goal = jax.random.split(key, 3)
            tree = spanning_tree(key_tree, size)
            passable = tree | jax.random.bernoulli(key_open, opened, tree.shape)
            sides = open_sides(passable, size)
            # The longest of shortest paths has 2 (m - 1) moves or more, and all lengths
            # below occur: there is a goal of either colour.
            far = distances(sides, jnp.zeros((), jnp.int32), size) >= size
            belongs = (jnp.sum(chosen * passable) + colour) % 2 == heldout
            chances = (far & belongs).astype(jnp.float32)
            goal = jax.random.choice(key_goal, size**2, p=chances / jnp.sum(chances))
            return EnvParams(open=sides, goal=goal.astype(jnp.int32))

        return sample

    def shortest_path(key, task):
        del key
        distance = distances(task.open, task.goal, size)[0]
        num_rewarded = jnp.maximum(horizon - distance + 1, 0)
        return 1.0 * num_rewarded - 0.1 * (horizon - num_rewarded)

    return gymnax_family(
        Maze(size=size),
        sampler(0),
        sample_heldout_params=sampler(1),
        horizon=horizon,
        oracles={"shortest path": shortest_path},
        measures={"goal reached": reached},
    )


def reached(task, episode) -> jax.Array:
    """Tells whether an episode came to the goal, 0 or 1."""
    del task
    return jnp.any(episode.mask & (episode.reward > 0)).astype(jnp.float32)
