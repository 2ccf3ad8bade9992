"""A grid with two colours, of which now the one pays and now the other."""

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

from metarl_jax.envs.grids import MOVES, moved
from metarl_jax.envs.gymnax_family import gymnax_family
from metarl_jax.memory import check_fits
from metarl_jax.types import TaskDistribution
from metarl_jax.validation import check_at_least, check_positive


@struct.dataclass(kw_only=True)
class EnvState(environment.EnvState):
    """What time changes."""

    cells: jax.Array  # [3] int32, x·size + y of the agent and of the two colours


@struct.dataclass(kw_only=True)
class EnvParams(environment.EnvParams):
    """The task."""

    first: jax.Array  # [] int32, the colour that pays first: 0 or 1


class TwoColors(environment.Environment[EnvState, EnvParams]):
    """A square grid with a cell of each of two colours.

    Actions: up, right, down, left; a move into a wall leaves the agent where it is. On
    one colour the reward is 1, on the other -1, elsewhere -0.04; after every
    `swap_period` steps of an episode the colours change their parts, which nothing
    shows. A colour that was stepped on moves to a cell drawn from those that are free.
    The observation is one-hot coordinates of the agent and the two colours, `[6 size]`.

    Args:
      size: cells along a side.
      swap_period: steps until the colours change their parts.
    """

    def __init__(self, *, size: int, swap_period: int):
        super().__init__()
        self.size = size
        self.swap_period = swap_period

    def reset_env(self, key, params):
        """Draws the three cells, all different."""
        del params
        cells = jax.random.permutation(key, self.size**2)[:3].astype(jnp.int32)
        state = EnvState(time=0, cells=cells)
        return self._observe(state), state

    def step_env(self, key, state, action, params):
        """Moves by one cell, and pays."""
        x, y = jnp.divmod(state.cells[0], self.size)
        # None of the actions stays.
        place = moved(jnp.stack([x, y]), action + 1, self.size)
        agent = place[0] * self.size + place[1]
        colors = state.cells[1:]
        met = colors == agent
        paying = (params.first + state.time // self.swap_period) % 2
        pays = jnp.where(jnp.arange(2) == paying, 1.0, -1.0)
        reward = jnp.where(jnp.any(met), jnp.sum(pays, where=met), -0.04)
        # The k-th of the cells that neither the agent nor the other colour has.
        low, high = jnp.sort(jnp.stack([agent, jnp.sum(colors, where=~met)]))
        free = jax.random.randint(key, (), 0, self.size**2 - 2)
        free += free >= low
        free += free >= high
        cells = jnp.append(agent, jnp.where(met, free, colors)).astype(jnp.int32)
        state = EnvState(time=state.time + 1, cells=cells)
        terminated = self.is_terminated(state, params)
        return self._observe(state), state, reward, terminated, {}

    def _observe(self, state):
        coordinates = jnp.stack(jnp.divmod(state.cells, self.size), axis=-1)
        return jax.nn.one_hot(coordinates, self.size).reshape(-1)

    def is_terminated(self, state, params):
        """Returns False: only the horizon ends an episode."""
        del state, params
        return jnp.asarray(False)

    @property
    def name(self) -> str:
        """Environment name."""
        return "TwoColors"

    @property
    def num_actions(self) -> int:
        """Number of actions."""
        return len(MOVES) - 1

    def action_space(self, params=None):
        """Up, right, down, left."""
        del params
        return spaces.Discrete(len(MOVES) - 1)

    def observation_space(self, params):
        """One-hot coordinates."""
        del params
        return spaces.Box(0.0, 1.0, (6 * self.size,))


def two_colors(
    *, horizon: int = 1000, size: int = 5, swap_period: int = 100_000
) -> TaskDistribution:
    """Builds the two colours of Flennerhag et al. 2022, arXiv 2109.04504 (section 5.1).

    Whichever colour pays first, with probability ½. The paper's agent lives in one
    episode of millions of steps, and finds out again and again that what paid costs
    now: to have that, give a horizon that no life reaches. In episodes shorter than
    `swap_period` it is another task, to be found out within an episode. Held-out tasks
    are new draws.

    Definition after a replication of the paper's (its text does not say what moves).

    Args:
      horizon: T, steps in an episode.
      size: cells along a side.
      swap_period: steps until the colours change their parts.

    Returns:
      The family.

    Raises:
      ValueError: if a count is below 1, or the grid has no room for two colours to
        move.
    """
    check_positive(horizon=horizon, swap_period=swap_period)
    check_at_least(2, size=size)
    check_fits(f"a row for each cell of size={size}", 8 * size**2)

    def sample(key):
        return EnvParams(first=jax.random.randint(key, (), 0, 2))

    env = TwoColors(size=size, swap_period=swap_period)
    return gymnax_family(env, sample, horizon=horizon)
