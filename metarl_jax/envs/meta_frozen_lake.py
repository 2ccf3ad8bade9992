"""Lakes with holes in the ice, one a task."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from metarl_jax.envs.gymnax_family import gymnax_family
from metarl_jax.memory import check_fits
from metarl_jax.types import TaskDistribution
from metarl_jax.validation import (
    check_at_least,
    check_flags,
    check_fraction,
    check_positive,
)

# Stay, along x and back, along y and back.
_MOVES = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]], np.int32)
_FALL = -0.1
# Of the hard lakes: how often what one sees may be off by a cell in either direction,
# and how often the cell that one leaves breaks.
_BLURRED, _BREAKS = 0.25, 0.33


@struct.dataclass(kw_only=True)
class EnvState(environment.EnvState):
    """What time changes."""

    cell: jax.Array  # [2] int32, (x, y)
    seen: jax.Array  # [2] int32, the cell that is shown
    holes: jax.Array  # [size, size] bool


@struct.dataclass(kw_only=True)
class EnvParams(environment.EnvParams):
    """The task."""

    holes: jax.Array  # [size, size] bool, at (x, y)
    swapped: jax.Array  # [] bool, whether the ways along x and y are swapped


class MetaFrozenLake(environment.Environment[EnvState, EnvParams]):
    """A square lake; see `meta_frozen_lake`.

    Args:
      size: cells along a side.
      hard: whether what is seen is blurred and cells that are left break.
      recover: whether who falls is put back.
    """

    def __init__(self, *, size: int, hard: bool, recover: bool):
        super().__init__()
        self.size = size
        self.hard = hard
        self.recover = recover

    def reset_env(self, key, params):
        """Returns to (0, 0), all cells as the task has them."""
        cell = jnp.zeros(2, jnp.int32)
        seen = self._seen(key, cell)
        state = EnvState(time=0, cell=cell, seen=seen, holes=params.holes)
        return self._observe(state), state

    def step_env(self, key, state, action, params):
        """Moves by one cell, falls, arrives or does neither."""
        key_seen, key_breaks = jax.random.split(key)
        turned = jnp.asarray([0, 3, 2, 1, 4])[action]
        chosen = jnp.where(params.swapped, turned, action)
        move = jnp.asarray(_MOVES)[chosen]
        there = jnp.clip(state.cell + move, 0, self.size - 1)
        holes = state.holes
        if self.hard:
            left = jnp.any(there != state.cell)
            breaks = left & jax.random.bernoulli(key_breaks, _BREAKS)
            x, y = state.cell
            holes = holes.at[x, y].set(holes[x, y] | breaks)
        arrived = jnp.all(there == self.size - 1)
        falls = holes[there[0], there[1]]
        pays = _FALL if self.recover else 0.0
        reward = jnp.where(arrived, 1.0, jnp.where(falls, pays, 0.0))
        if self.recover:
            there, ended = jnp.where(falls, state.cell, there), arrived
        else:
            ended = arrived | falls
        seen = self._seen(key_seen, there)
        state = EnvState(time=state.time + 1, cell=there, seen=seen, holes=holes)
        return self._observe(state), state, reward, ended, {}

    def _seen(self, key, cell):
        if not self.hard:
            return cell
        key_whether, key_where = jax.random.split(key)
        off = jax.random.randint(key_where, (2,), -1, 2, jnp.int32)
        off = jnp.where(jax.random.bernoulli(key_whether, _BLURRED), off, 0)
        return jnp.clip(cell + off, 0, self.size - 1)

    def _observe(self, state):
        index = state.seen[0] * self.size + state.seen[1]
        return jax.nn.one_hot(index, self.size**2, dtype=jnp.float32)

    @property
    def name(self) -> str:
        """Environment name."""
        return "MetaFrozenLake"

    @property
    def num_actions(self) -> int:
        """Number of actions."""
        return len(_MOVES)

    def action_space(self, params=None):
        """Stay, and along both axes."""
        del params
        return spaces.Discrete(len(_MOVES))

    def observation_space(self, params):
        """The cell."""
        del params
        return spaces.Box(0.0, 1.0, (self.size**2,))


def steps_to_goal(holes: jax.Array) -> jax.Array:
    """Computes how many moves it takes from every cell to the last one, on the ice.

    Args:
      holes: `[N, N]` bool.

    Returns:
      `[N, N]` int32; N² where there is no way.
    """
    size = holes.shape[0]
    never = size**2
    cells = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"), -1)
    beside = np.clip(cells[None] + _MOVES[1:, None, None], 0, size - 1)
    start = jnp.full((size, size), never, jnp.int32).at[-1, -1].set(0)

    def nearer(distance, _):
        around = jnp.min(distance[beside[..., 0], beside[..., 1]], axis=0)
        closer = jnp.minimum(distance, jnp.minimum(around + 1, never))
        return jnp.where(holes, never, closer), None

    return jax.lax.scan(nearer, start, length=size**2)[0]


def meta_frozen_lake(
    *,
    size: int = 5,
    horizon: int = 20,
    frozen: float = 0.8,
    hard: bool = False,
    recover: bool = False,
) -> TaskDistribution:
    """Builds the unknown frozen lakes of Grigsby et al. 2024, arXiv 2310.09971.

    From one corner to the opposite one, which pays 1 and ends the episode. So does a
    hole, which pays nothing; with `recover` it costs 0.1 and one is put back. Cells are
    ice with a probability, but for the two corners, drawn anew until there is a way, as
    gymnasium does it. The lake is the task, and held-out tasks are new draws. In hard
    lakes the actions that go along x and y may be swapped, a quarter of what is seen
    may be off by a cell, and a third of the cells that are left break until the episode
    ends. (In the authors' code a cell may break that is not left, too: the comparison
    that was to tell compares y with y.) The cell is shown one-hot; who remembers is
    told when an episode begins.

    The oracle `"known lake"` is exact: the way is walked in the fewest moves, of which
    none leads back.

    Args:
      size: cells along a side.
      horizon: T, time limit of an episode in steps.
      frozen: probability of ice.
      hard: whether lakes are hard.
      recover: whether who falls is put back.

    Returns:
      The family.

    Raises:
      ValueError: if the horizon is below 1, the lake smaller than 2 × 2, or `frozen`
        not in [0.3, 1], below which a way is hardly ever drawn.
    """
    check_positive(horizon=horizon)
    check_at_least(2, size=size)
    check_fraction(frozen=frozen)
    if frozen < 0.3:
        raise ValueError(
            f"frozen must be at least 0.3, so that there is a way; got {frozen}"
        )
    check_flags(hard=hard, recover=recover)
    check_fits(f"the distances of size={size}", 16 * size**2)
    env = MetaFrozenLake(size=size, hard=hard, recover=recover)

    def sample(key):
        key_lake, key_swapped = jax.random.split(key)

        def draw(key):
            holes = ~jax.random.bernoulli(key, frozen, (size, size))
            return holes.at[0, 0].set(False).at[-1, -1].set(False)

        def closed(carry):
            return steps_to_goal(carry[1])[0, 0] >= size**2

        def again(carry):
            key, key_draw = jax.random.split(carry[0])
            return key, draw(key_draw)

        _, holes = jax.lax.while_loop(closed, again, again((key_lake, None)))
        swapped = jax.random.bernoulli(key_swapped) if hard else jnp.zeros((), bool)
        return EnvParams(holes=holes, swapped=swapped)

    def known_lake(key, task):
        del key
        return (steps_to_goal(task.holes)[0, 0] <= horizon).astype(jnp.float32)

    def optimal_action(task, obs):
        cell = jnp.stack(jnp.divmod(jnp.argmax(obs), size))
        there = jnp.clip(cell[None] + jnp.asarray(_MOVES), 0, size - 1)
        distance = steps_to_goal(task.holes)[there[:, 0], there[:, 1]]
        return jnp.argmin(distance).astype(jnp.int32)

    return gymnax_family(
        env,
        sample,
        horizon=horizon,
        oracles={"known lake": known_lake},
        # In hard lakes what is seen does not tell where one is.
        optimal_action=None if hard else optimal_action,
        measures={"arrived": lambda task, episode: _arrived(episode)},
    )


def _arrived(episode) -> jax.Array:
    """Tells whether the goal was reached, 0 or 1."""
    return jnp.any(episode.mask & (episode.reward > 0.5)).astype(jnp.float32)
