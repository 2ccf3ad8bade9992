"""Krazy World: boards of goals, death, ice, energy and a pair of transporters."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from metarl_jax.envs.grids import MOVES
from metarl_jax.envs.gymnax_family import gymnax_family
from metarl_jax.memory import check_fits
from metarl_jax.types import TaskDistribution
from metarl_jax.validation import (
    check_at_least,
    check_choice,
    check_flags,
    check_positive,
)

Observation = Literal["window", "board"]

KINDS = ("normal", "goal", "death", "ice", "energy", "transporter")
NORMAL, GOAL, DEATH, ICE, ENERGY, TRANSPORTER = range(len(KINDS))
_NUM_MOVES = len(MOVES) - 1
_AROUND = 3  # squares along a side of the window
# So many goals and energy squares are searched in every order, not more.
_MOST_TAKEN = 12


@struct.dataclass(kw_only=True)
class EnvState(environment.EnvState):
    """What time changes."""

    cell: jax.Array  # [2] int32, (x, y)
    board: jax.Array  # [size, size] int32, the kinds at (x, y)
    energy: jax.Array  # [] int32, moves that are left


@struct.dataclass(kw_only=True)
class EnvParams(environment.EnvParams):
    """The task."""

    start: jax.Array  # [2] int32, (x, y)
    board: jax.Array  # [size, size] int32, the kinds at (x, y), as an episode begins
    transporters: jax.Array  # [2, 2] int32, the cells of the two
    moves: jax.Array  # [4] int32, which move each action makes
    channels: jax.Array  # [6] int32, which number shows each kind


class KrazyWorld(environment.Environment[EnvState, EnvParams]):
    """A board of squares; see `krazy_world`.

    Args:
      size: squares along a side.
      energy: moves that an episode begins with.
      energy_gain: moves that an energy square adds.
      observation: what is shown.
    """

    def __init__(
        self, *, size: int, energy: int, energy_gain: int, observation: Observation
    ):
        super().__init__()
        self.size = size
        self.energy = energy
        self.energy_gain = energy_gain
        self.observation = observation

    def reset_env(self, key, params):
        """Returns to the task's start, its board and all energy."""
        del key
        energy = jnp.full((), self.energy, jnp.int32)
        board = jnp.asarray(params.board)
        state = EnvState(time=0, cell=params.start, board=board, energy=energy)
        return self._observe(state, params), state

    def step_env(self, key, state, action, params):
        """Moves to where the move leads, and takes what is there."""
        del key
        move = jnp.asarray(MOVES[1:])[params.moves[action]]
        x, y = cell = landing(state.board, params.transporters, state.cell, move)
        kind = state.board[x, y]
        is_goal, is_energy = kind == GOAL, kind == ENERGY
        energy = state.energy - 1 + jnp.where(is_energy, self.energy_gain, 0)
        left = jnp.where(is_goal | is_energy, NORMAL, kind)
        board = state.board.at[x, y].set(left)
        state = EnvState(time=state.time + 1, cell=cell, board=board, energy=energy)
        ended = (kind == DEATH) | (energy < 1)
        reward = jnp.where(is_goal, 1.0, 0.0)
        return self._observe(state, params), state, reward, ended, {}

    def _observe(self, state, params):
        channels = params.channels[state.board]
        if self.observation == "window":
            # What is beyond the walls is of no kind.
            beyond = jnp.pad(channels, _AROUND // 2, constant_values=-1)
            channels = jax.lax.dynamic_slice(beyond, state.cell, (_AROUND, _AROUND))
        kinds = jax.nn.one_hot(channels, len(KINDS), dtype=jnp.float32)
        index = state.cell[0] * self.size + state.cell[1]
        where = jax.nn.one_hot(index, self.size**2, dtype=jnp.float32)
        return jnp.append(kinds, where)

    @property
    def name(self) -> str:
        """Environment name."""
        return "KrazyWorld"

    @property
    def num_actions(self) -> int:
        """Number of actions."""
        return _NUM_MOVES

    def action_space(self, params=None):
        """Up, right, down, left, in the task's order."""
        del params
        return spaces.Discrete(_NUM_MOVES)

    def observation_space(self, params):
        """Kinds of squares, and the cell."""
        del params
        seen = _AROUND**2 if self.observation == "window" else self.size**2
        return spaces.Box(0.0, 1.0, (seen * len(KINDS) + self.size**2,))


def landing(
    board: jax.Array, transporters: jax.Array, cell: jax.Array, move: jax.Array
) -> jax.Array:
    """Computes where a move ends: past the ice, and where a transporter leads.

    Args:
      board: `[N, N]` kinds.
      transporters: `[2, 2]` cells.
      cell: `[2]` where one is.
      move: `[2]`, a neighbour's offset.

    Returns:
      `[2]`, the cell; the same one where a wall is in the way.
    """
    size = board.shape[0]
    ahead = cell[None] + jnp.arange(1, size, dtype=jnp.int32)[:, None] * move[None]
    inside = jnp.all((ahead >= 0) & (ahead < size), axis=-1)
    x, y = jnp.clip(ahead, 0, size - 1).T
    # From ice one slides on, as long as there is a next square.
    stops = (board[x, y] != ICE) | ~jnp.append(inside[1:], False)
    further = jnp.argmax(stops).astype(jnp.int32)
    x, y = cell = cell + jnp.where(inside[0], 1 + further, 0) * move
    other = transporters[0] + transporters[1] - cell
    return jnp.where(board[x, y] == TRANSPORTER, other, cell)


def moves_to_squares(
    board: jax.Array, transporters: jax.Array, squares: jax.Array
) -> jax.Array:
    """Computes how many moves it takes from everywhere to some squares, alive.

    Args:
      board: `[N, N]` kinds.
      transporters: `[2, 2]` cells.
      squares: `[K]` int32, as N x + y; N² for none.

    Returns:
      `[N², K]` int32; N² where there is no way.
    """
    size = board.shape[0]
    never = size**2
    cells = jnp.asarray(np.stack(np.divmod(np.arange(never), size), -1), jnp.int32)
    land = jax.vmap(landing, (None, None, None, 0))
    places = jax.vmap(land, (None, None, 0, None))(
        board, transporters, cells, jnp.asarray(MOVES[1:])
    )
    after = places[..., 0] * size + places[..., 1]  # [N², 4]
    dead = (board == DEATH).reshape(-1, 1)
    columns = jnp.arange(squares.shape[0])
    start = jnp.full((never, squares.shape[0]), never, jnp.int32)
    start = start.at[squares, columns].set(0, mode="drop")

    def nearer(carry):
        _, distance = carry
        around = jnp.min(distance[after], axis=1) + 1
        closer = jnp.where(dead, never, jnp.minimum(distance, around))
        return distance, closer

    def changes(carry):
        return jnp.any(carry[0] != carry[1])

    return jax.lax.while_loop(changes, nearer, nearer((start, start)))[1]


def most_goals(
    params: EnvParams,
    *,
    num_goals: int,
    num_energy: int,
    energy: int,
    energy_gain: int,
    horizon: int,
) -> jax.Array:
    """Computes how many goals can be had in an episode by who knows the board.

    Exact: over all orders in which goals and energy squares can be taken (Held and
    Karp), with the fewest moves between them. Who has taken the squares m and goes on
    to k is there at

        t(m ∪ k) = min_j t(m; j) + d(j, k)  ≤  min(energy + gain |m ∩ energy|, horizon),

    and to be there earlier never hurts. What lies on the way is taken in another of
    the orders.

    Args:
      params: the task.
      num_goals: on the board, at most.
      num_energy: energy squares on the board, at most.
      energy: moves at first.
      energy_gain: moves that an energy square adds.
      horizon: T.

    Returns:
      `[]`.
    """
    size = params.board.shape[0]
    kinds, never = params.board.reshape(-1), size**2
    squares = [
        jnp.flatnonzero(kinds == kind, size=count, fill_value=never)
        for kind, count in ((GOAL, num_goals), (ENERGY, num_energy))
    ]
    squares = jnp.concatenate(squares).astype(jnp.int32)
    count = num_goals + num_energy
    late = count * never  # later than anybody who has a way
    moves = moves_to_squares(params.board, params.transporters, squares)
    moves = jnp.where(moves < never, moves, late)
    between = moves.at[squares].get(mode="fill", fill_value=late)  # [K, K], from, to
    first = moves[params.start[0] * size + params.start[1]]  # [K]
    # By what is taken, as bits, the last of it and what was taken before.
    masks, bits = np.arange(2**count)[:, None], np.arange(count)
    taken, before = masks >> bits & 1, masks & ~(1 << bits)  # [M, K]
    gained = taken[:, num_goals:].sum(axis=-1)[before]
    limit = np.minimum(energy + energy_gain * gained, min(horizon, late - 1))
    limit = np.where(taken, limit, -1)
    time = jnp.full(taken.shape, late, jnp.int32)

    def longer(time, _):
        arrived = jnp.min(time[before] + between.T[None], axis=-1)
        arrived = jnp.where(before == 0, first[None], arrived)
        return jnp.where(arrived <= limit, arrived, late), None

    time = jax.lax.scan(longer, time, length=count)[0]
    goals = jnp.asarray(taken[:, :num_goals].sum(axis=-1), jnp.int32)
    had = jnp.any(time < late, axis=-1)
    return jnp.max(jnp.where(had, goals, 0)).astype(jnp.float32)


def krazy_world(
    *,
    size: int = 10,
    horizon: int = 90,
    num_goals: int = 3,
    min_goal_distance: int = 2,
    num_death: int = 8,
    num_ice: int = 5,
    num_energy: int = 5,
    energy: int = 50,
    energy_gain: int = 8,
    random_actions: bool = False,
    random_kinds: bool = False,
    observation: Observation = "window",
) -> TaskDistribution:
    """Builds Krazy World of Stadie et al. 2018, arXiv 1803.01118.

    A move takes one of `energy` moves, and an episode ends when none is left or on a
    death square. A goal pays 1 and an energy square gives `energy_gain` more moves,
    each once in an episode. Over ice one slides in the direction of the move, at no
    cost, to the first square that is none or to a wall; a move that ends on a
    transporter ends on the other one. The board, the start, and, if they are random,
    the order of the actions and of the numbers that show kinds of squares are the
    task; held-out tasks are new draws.

    The authors' code, version 2.0 (bstadie/krazyworld), has these numbers. It is ours
    that

    - all squares are drawn alike: there, none is put in the last row or column, and
      what is drawn twice is fewer;
    - the start is a normal square, and between it and the goals, and between two
      goals, are at least `min_goal_distance` moves on an empty board: there, the goals
      keep more than so many from a start that is drawn anew afterwards, anywhere;
    - sliding is free, as a comment of the code has it, which takes a move a square;
    - the agent's cell is shown beside the kind of its square, not in its place, and
      the kinds that are shuffled are what is shown one-hot, not colours of a picture.

    The energy that is left is not shown. A goal may be out of reach.

    The oracle `"known board"` is exact (`most_goals`); it is there for up to 12 goals
    and energy squares.

    Args:
      size: squares along a side.
      horizon: T, time limit of an episode in steps; 90 is all the energy there is.
      num_goals: goals.
      min_goal_distance: fewest moves between the start and each goal, and two goals.
      num_death: death squares, 8 % of the board.
      num_ice: squares of ice, 5 %.
      num_energy: energy squares, 5 %.
      energy: moves that an episode begins with.
      energy_gain: moves that an energy square adds.
      random_actions: whether what an action does is drawn for every task.
      random_kinds: whether which number shows which kind is.
      observation: the kinds of the 3 × 3 squares around the agent, or of the whole
        board, one-hot; its cell with either.

    Returns:
      The family.

    Raises:
      ValueError: if a count is below its least, the observation is unknown, or the
        board has no room.
    """
    check_at_least(2, size=size)
    check_positive(horizon=horizon, num_goals=num_goals, energy=energy)
    check_positive(min_goal_distance=min_goal_distance, energy_gain=energy_gain)
    check_at_least(0, num_death=num_death, num_ice=num_ice, num_energy=num_energy)
    check_flags(random_actions=random_actions, random_kinds=random_kinds)
    check_choice(get_args(Observation), observation=observation)
    check_positive(energy_of_all_squares=energy + energy_gain * num_energy)
    num_cells, others = size**2, num_death + num_ice + num_energy + 2
    check_fits(f"the kind and the place of each square of size={size}", 64 * num_cells)
    cells = np.stack(np.divmod(np.arange(num_cells), size), axis=-1).astype(np.int32)
    # However the start and the other goals lie, the last has to find a square.
    near = np.abs(cells - size // 2).sum(axis=-1) < min_goal_distance
    if num_goals * int(near.sum()) >= num_cells:
        raise ValueError(
            f"num_goals and min_goal_distance must leave every goal a square of "
            f"{num_cells}; got {num_goals} and {min_goal_distance}"
        )
    if 1 + num_goals + others > num_cells:
        raise ValueError(
            f"a start, two transporters, num_goals, num_death, num_ice and num_energy "
            f"must fit on {num_cells} squares; got {1 + num_goals + others}"
        )
    env = KrazyWorld(
        size=size, energy=energy, energy_gain=energy_gain, observation=observation
    )
    # In the order in which they are dealt.
    dealt = np.repeat([DEATH, ICE, ENERGY], [num_death, num_ice, num_energy])

    def sample(key):
        key_start, key_goals, key_others, key_moves, key_channels = jax.random.split(
            key, 5
        )
        places = jnp.asarray(cells)
        start = jax.random.randint(key_start, (), 0, num_cells, jnp.int32)

        def far(cell):
            moves = jnp.sum(jnp.abs(places - places[cell][None]), axis=-1)
            return moves >= min_goal_distance

        def goal(free, key):
            drawn = jax.random.categorical(key, jnp.where(free, 0.0, -jnp.inf))
            return free & far(drawn), drawn

        _, goals = jax.lax.scan(
            goal, far(start), jax.random.split(key_goals, num_goals)
        )
        used = jnp.zeros(num_cells, bool).at[start].set(True).at[goals].set(True)
        order = jax.random.uniform(key_others, (num_cells,))
        rest = jnp.argsort(jnp.where(used, 1.0, order))[:others]
        board = jnp.zeros(num_cells, jnp.int32).at[goals].set(GOAL)
        board = board.at[rest[2:]].set(jnp.asarray(dealt, jnp.int32))
        board = board.at[rest[:2]].set(TRANSPORTER)
        moves = jnp.arange(_NUM_MOVES, dtype=jnp.int32)
        channels = jnp.arange(len(KINDS), dtype=jnp.int32)
        if random_actions:
            moves = jax.random.permutation(key_moves, moves)
        if random_kinds:
            channels = jax.random.permutation(key_channels, channels)
        return EnvParams(
            start=places[start],
            board=board.reshape(size, size),
            transporters=places[rest[:2]],
            moves=moves,
            channels=channels,
        )

    def known_board(key, task):
        del key
        return most_goals(
            task,
            num_goals=num_goals,
            num_energy=num_energy,
            energy=energy,
            energy_gain=energy_gain,
            horizon=horizon,
        )

    searched = num_goals + num_energy <= _MOST_TAKEN
    return gymnax_family(
        env,
        sample,
        horizon=horizon,
        oracles={"known board": known_board} if searched else {},
        measures={"killed": lambda task, episode: _killed(task, episode, size)},
    )


def _killed(task, episode, size: int) -> jax.Array:
    """Tells whether a death square ended the episode, 0 or 1."""
    last = jnp.argmax(episode.next_obs[..., -(size**2) :], axis=-1)
    dead = task.board.reshape(-1)[last] == DEATH
    return jnp.any(episode.mask & episode.terminated & dead).astype(jnp.float32)
