"""What an agent can get in three rooms that has to find their goals.

Dynamic programming over the cell, the goals that were found and the corners that may
still hold the next: the belief is uniform over those that were not stepped on, and what
is looked for next is independent of all that was seen before.
"""

from collections.abc import Iterator

import numpy as np

from metarl_jax.envs.rooms import BESIDE, CELLS, COST, MIDDLE, NEXT, REWARDS, START
from metarl_jax.validation import check_positive

# What is known: the goals that were found, and the corners that may be the next one.
_Belief = tuple[tuple[int, ...], frozenset[int]]


def bayes_optimal_return(horizon: int = 50) -> float:
    """Computes the expected return of a Bayes-optimal agent's first episode.

    Args:
      horizon: T, steps in the episode.

    Returns:
      The return, exactly, in the family's prior.

    Raises:
      ValueError: if the horizon is below 1.
    """
    check_positive(horizon=horizon)
    start: _Belief = ((), frozenset(MIDDLE.tolist()))
    beliefs: dict[_Belief, int] = {start: 0}
    # For every belief and cell the outcomes: chance, reward, belief afterwards.
    outcomes: list[list[list[tuple[float, float, int]]]] = []
    waiting: list[_Belief] = [start]
    for belief in waiting:
        found, left = belief
        rows = []
        for cell in range(len(CELLS)):
            row = []
            for chance, reward, after in _arrive(found, left, cell):
                if after not in beliefs:
                    beliefs[after] = len(beliefs)
                    waiting.append(after)
                row.append((chance, reward, beliefs[after]))
            rows.append(row)
        outcomes.append(rows)
    # [2, beliefs, cells]: at most two outcomes.
    padded = [[[*row, (0.0, 0.0, 0)][:2] for row in rows] for rows in outcomes]
    chance, reward, after = np.moveaxis(np.array(padded), (2, 3), (1, 0))
    cells, after = np.arange(len(CELLS)), after.astype(int)
    value = np.zeros((len(beliefs), len(CELLS)))
    for _ in range(horizon):
        worth = np.sum(chance * (reward + value[after, cells]), axis=0)
        value = worth[:, NEXT].max(axis=-1)
    return float(value[0, START])


def _arrive(
    found: tuple[int, ...], left: frozenset[int], cell: int
) -> Iterator[tuple[float, float, _Belief]]:
    """Yields what may happen at a cell: its chance, the reward, the belief after it."""
    if cell in found:
        yield 1.0, REWARDS[found.index(cell)], (found, left)
        return
    if cell not in left:
        yield 1.0, COST, (found, left)
        return
    chance = 1 / len(left)
    yield chance, REWARDS[len(found)], ((*found, cell), _next(*found, cell))
    if len(left) > 1:
        yield 1 - chance, COST, (found, left - {cell})


def _next(*found: int) -> frozenset[int]:
    """Returns the corners that may be the goal after those that were found."""
    middle = MIDDLE.tolist()
    if len(found) == 1:
        return frozenset(BESIDE[middle.index(found[0])].tolist())
    return frozenset(middle) - {found[0]} if len(found) == 2 else frozenset()
