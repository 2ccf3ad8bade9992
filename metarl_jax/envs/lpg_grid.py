"""Grid worlds with objects that pay, end an episode and come back."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from metarl_jax.envs.grids import MOVES, moved
from metarl_jax.envs.gymnax_family import gymnax_family
from metarl_jax.types import TaskDistribution
from metarl_jax.validation import check_choice, check_positive

LayoutName = Literal[
    "dense",
    "sparse",
    "long",
    "longer",
    "long-dense",
    "random-dense",
    "random-long",
    "random-small",
    "random-sparse",
    "random-very-dense",
    "fixed",
    "random",
]


class Layout(NamedTuple):
    """One kind of grid world.

    Attributes:
      size: cells along a side.
      limit: steps of an episode at most.
      objects: reward, probability to end the episode, and probability a step to come
        back after it was taken, of every object.
      is_random: whether objects are elsewhere in every episode, and where they come
        back; otherwise a task has places of its own.
      walls: cells that nobody enters, (x, y).
    """

    size: int
    limit: int
    objects: tuple[tuple[float, float, float], ...]
    is_random: bool = False
    walls: tuple[tuple[int, int], ...] = ()


_DENSE = ((1, 0, 0.05),) * 2 + ((-1, 0.5, 0.1), (-1, 0, 0.5))
_LONG = ((1, 0, 0.01),) * 2 + ((-1, 0.5, 1),) * 2
_WALL = tuple((4, y) for y in range(9) if y not in (2, 6))
_ROOMS = tuple(
    {cell for i in range(11) for cell in ((5, i), (i, 5))}
    - {(5, 2), (5, 8), (2, 5), (8, 5)}
)
LAYOUTS = {
    "dense": Layout(11, 500, _DENSE),
    "sparse": Layout(13, 50, ((1, 1, 0), (-1, 1, 0))),
    "long": Layout(11, 1000, _LONG),
    "longer": Layout(9, 2000, ((1, 0.1, 0.01),) * 2 + ((-1, 0.8, 1),) * 3, walls=_WALL),
    "long-dense": Layout(11, 2000, ((1, 0, 0.005),) * 4, walls=_ROOMS),
    "random-dense": Layout(11, 500, _DENSE, is_random=True),
    "random-long": Layout(11, 1000, _LONG, is_random=True),
    "random-small": Layout(
        7, 500, ((1, 0, 0.05),) * 2 + ((-1, 0.5, 0.1),) * 2, is_random=True
    ),
    "random-sparse": Layout(7, 50, ((1, 1, 1),) + ((-1, 1, 1),) * 2, is_random=True),
    "random-very-dense": Layout(11, 2000, ((1, 0, 1),), is_random=True),
}


@struct.dataclass(kw_only=True)
class EnvState(environment.EnvState):
    """What time changes."""

    cell: jax.Array  # [] int32, x·size + y of the agent
    objects: jax.Array  # [M] int32, their cells
    present: jax.Array  # [M] bool


@struct.dataclass(kw_only=True)
class EnvParams(environment.EnvParams):
    """The task."""

    objects: jax.Array  # [M] int32, their cells, unless they are random
    reward: jax.Array  # [M]
    ends: jax.Array  # [M] probability to end the episode
    returns: jax.Array  # [M] probability a step to come back
    exists: jax.Array  # [M] bool
    wall: jax.Array  # [size²] bool
    limit: jax.Array  # [] int32, steps of an episode at most


class LPGGrid(environment.Environment[EnvState, EnvParams]):
    """A grid in which objects are taken by stepping onto them.

    An episode begins on a cell drawn from those without wall or object. Actions: up,
    right, down, left; a move into a wall leaves the agent where it is. An object pays
    its reward to whoever is on its cell, may end the episode, and is gone; from the
    next step on it comes back with its probability a step.

    Args:
      size: cells along a side, of the largest layout; the cells of a smaller one beyond
        it are walls.
      num_objects: M.
      is_random: whether objects are where the state says, not the task.
      observation: `"features"`, the one-hot cell, which objects are there and, where
        they are random, the one-hot cells of those; or `"state"`, one number for the
        cell and which objects are there, for a table.
    """

    def __init__(
        self, *, size: int, num_objects: int, is_random: bool, observation: str
    ):
        super().__init__()
        self.size = size
        self.num_objects = num_objects
        self.is_random = is_random
        self.observation = observation

    def _free(self, key, taken):
        """Draws a cell that is not taken, `[size²]` bool."""
        # The inverse of the cumulative counts: one random number.
        counts = jnp.cumsum(~taken)
        drawn = jax.random.randint(key, (), 1, counts[-1] + 1)
        return jnp.searchsorted(counts, drawn).astype(jnp.int32)

    def reset_env(self, key, params):
        """Draws the agent's cell, and the objects' if they are random."""
        key_objects, key_cell = jax.random.split(key)
        objects = params.objects
        if self.is_random:
            objects = _draw_cells(key_objects, params.wall, self.num_objects)
        taken = params.wall.at[objects].max(params.exists)
        state = EnvState(
            time=0,
            cell=self._free(key_cell, taken),
            objects=objects,
            present=params.exists,
        )
        return self._observe(state), state

    def step_env(self, key, state, action, params):
        """Moves by one cell, takes what is there, and lets objects come back."""
        key_chances, key_objects = jax.random.split(key)
        # None of the actions stays.
        place = jnp.stack(jnp.divmod(state.cell, self.size))
        place = moved(place, action + 1, self.size)
        cell = place[0] * self.size + place[1]
        cell = jnp.where(params.wall[cell], state.cell, cell)
        taken = state.present & (state.objects == cell)
        reward = jnp.sum(params.reward, where=taken)
        chances = jax.random.uniform(key_chances, (self.num_objects + 1,))
        stays = jnp.prod(1.0 - params.ends, where=taken)
        terminated = chances[0] >= stays
        back = params.exists & ~state.present & (chances[1:] < params.returns)
        objects = state.objects
        if self.is_random:
            keys = jax.random.split(key_objects, self.num_objects)
            elsewhere = jax.vmap(self._free, (0, None))(keys, params.wall)
            objects = jnp.where(back, elsewhere, objects)
        state = EnvState(
            time=state.time + 1,
            cell=cell,
            objects=objects,
            present=(state.present & ~taken) | back,
        )
        return self._observe(state), state, reward, terminated, {}

    def _observe(self, state):
        if self.observation == "state":
            bits = 2 ** jnp.arange(self.num_objects, dtype=jnp.int32)
            which = jnp.sum(bits, where=state.present, dtype=jnp.int32)
            return which * self.size**2 + state.cell
        cell = jax.nn.one_hot(state.cell, self.size**2)
        present = state.present.astype(cell.dtype)
        if not self.is_random:
            return jnp.concatenate([cell, present])
        where = present[:, None] * jax.nn.one_hot(state.objects, self.size**2)
        return jnp.concatenate([cell, present, where.reshape(-1)])

    def is_truncated(self, state, params):
        """Returns whether the layout's time is over, or the family's."""
        limit = jnp.minimum(params.limit, params.max_steps_in_episode)
        return state.time >= limit

    def is_terminated(self, state, params):
        """Returns False: what a step draws ends an episode, which no state shows."""
        del state, params
        return jnp.asarray(False)

    @property
    def name(self) -> str:
        """Environment name."""
        return "LPGGrid"

    @property
    def num_actions(self) -> int:
        """Number of actions."""
        return len(MOVES) - 1

    def action_space(self, params=None):
        """Up, right, down, left."""
        del params
        return spaces.Discrete(len(MOVES) - 1)

    def observation_space(self, params):
        """Features, or the number of a state."""
        del params
        cells = self.size**2
        if self.observation == "state":
            return spaces.Discrete(cells * 2**self.num_objects)
        where = self.num_objects * cells if self.is_random else 0
        return spaces.Box(0.0, 1.0, (cells + self.num_objects + where,))


def _draw_cells(key, wall, num_cells, allowed=None):
    """Draws different cells without a wall; the first of those that are allowed."""
    score = jax.random.uniform(key, wall.shape) + 2.0 * wall
    first = jnp.argmin(score if allowed is None else score + 2.0 * ~allowed)
    order = jnp.argsort(score.at[first].set(-1.0))
    return order[:num_cells].astype(jnp.int32)


def lpg_grid(
    *,
    layout: LayoutName = "dense",
    observation: Literal["features", "state"] = "features",
    horizon: int | None = None,
) -> TaskDistribution:
    """Builds the grid worlds in which LPG was meta-trained.

    Those of Oh et al. 2020 (arXiv 2007.08794). A task of a kind of grid world has its
    objects in places of its own, drawn among the cells without walls. Meta-training
    tasks have the first object on a cell whose x + y is even, held-out ones on an odd
    one: layouts that were never seen, and as hard. In the random grids objects are
    elsewhere in every episode and wherever they come back, so that held-out tasks are
    the same.

    The numbers are those of a public reimplementation (Jackson et al. 2024); where the
    walls of `longer` and `long-dense` have their gaps, and that episodes begin on a
    random cell, is of our choosing.

    Args:
      layout: which kind; `"fixed"` and `"random"` draw one of five for every task, in
        grids of the largest one's size.
      observation: `"features"`, for networks; `"state"`, for a table, of a grid whose
        objects stay where they are.
      horizon: T, steps of an episode at most; None: the layout's, 50 to 2,000.

    Returns:
      The family.

    Raises:
      ValueError: if the horizon is below 1, there is no such layout or observation, or
        a state is to be told by a number that does not tell it.
    """
    check_choice((*LAYOUTS, "fixed", "random"), layout=layout)
    check_choice(("features", "state"), observation=observation)
    names = [layout]
    if layout in ("fixed", "random"):
        names = [n for n in LAYOUTS if LAYOUTS[n].is_random == (layout == "random")]
    chosen = [LAYOUTS[name] for name in names]
    is_random = chosen[0].is_random
    if is_random and observation == "state":
        raise ValueError(
            "observation must be features where objects are random, since their places "
            f"are many more than a table has rows; got state for layout {layout}"
        )
    if horizon is None:
        horizon = max(one.limit for one in chosen)
    check_positive(horizon=horizon)
    size = max(one.size for one in chosen)
    num_objects = max(len(one.objects) for one in chosen)
    table = [_as_arrays(one, size, num_objects) for one in chosen]
    table = {name: np.stack([row[name] for row in table]) for name in table[0]}
    parity = np.add.outer(np.arange(size), np.arange(size)).reshape(-1) % 2

    def sampler(wanted):
        allowed = np.ones(size**2, bool) if is_random else parity == wanted

        def sample(key):
            key_layout, key_objects = jax.random.split(key)
            index = jax.random.randint(key_layout, (), 0, len(names))
            numbers: Any = {name: jnp.asarray(x)[index] for name, x in table.items()}
            objects = _draw_cells(
                key_objects, numbers["wall"], num_objects, jnp.asarray(allowed)
            )
            return EnvParams(objects=objects, **numbers)

        return sample

    env = LPGGrid(
        size=size,
        num_objects=num_objects,
        is_random=is_random,
        observation=observation,
    )
    return gymnax_family(
        env,
        sampler(0),
        sample_heldout_params=sampler(1),
        horizon=horizon,
        encode=(lambda obs: obs) if observation == "state" else None,
        # Where objects begin is random on purpose.
        allow_resampling=is_random,
    )


def _as_arrays(layout, size, num_objects):
    """Returns a layout in a grid of the size, with so many objects."""
    wall = np.ones((size, size), bool)
    wall[: layout.size, : layout.size] = False
    for cell in layout.walls:
        wall[cell] = True
    missing = num_objects - len(layout.objects)
    reward, ends, returns = np.array(
        [*layout.objects, *((0, 0, 0),) * missing], np.float32
    ).T
    return {
        "reward": reward,
        "ends": ends,
        "returns": returns,
        "exists": np.arange(num_objects) < len(layout.objects),
        "wall": wall.reshape(-1),
        "limit": np.int32(layout.limit),
    }
