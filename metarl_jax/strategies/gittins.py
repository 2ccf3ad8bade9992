"""The finite-horizon Gittins index of a Bernoulli arm, and the learner that follows it.

The index of an arm is the best reward per pull that can be had from it alone, over all
the rules for when to stop pulling:

    γ(s, f, n) = max_{1 ≤ τ ≤ n} E[Σ_{t<τ} r_t] / E[τ],

after s successes and f failures under a uniform prior, with n pulls left (Gittins 1979;
the finite horizon: Kaufmann 2018, arXiv 1601.01190). Pulling the arm of the largest
index is not exactly Bayes optimal when the horizon is finite, but falls short by well
under one percent.
"""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax.validation import check_at_least, check_positive


@functools.lru_cache(maxsize=8)
def gittins_indices(horizon: int) -> np.ndarray:
    """Computes every index that can arise within a number of pulls.

    Exact up to rounding, in float64. For a charge λ per pull let v(λ) be the value of
    an arm that must be pulled once and may then be abandoned. It is convex, piecewise
    linear and decreasing with slope -E[τ], and the index is its root: Newton's method
    from below (Dinkelbach's, for a ratio) climbs to the root along finitely many pieces
    and stops there. All arms with n pulls left are solved together, starting from their
    indices with n - 1, which are lower bounds. It takes O(horizon⁵) operations: 3 ms
    for 10 pulls, seconds for 100.

    Args:
      horizon: T, pulls in all.

    Returns:
      `[T + 1, T, T]` float64, read-only: `indices[n, s, f]`, with NaN where n pulls
      cannot be left after s + f of them.

    Raises:
      ValueError: if the horizon is below 1.
    """
    check_positive(horizon=horizon)
    indices = np.full((horizon + 1, horizon, horizon), np.nan)
    counts = np.arange(horizon)
    index = (1.0 + counts[:, None]) / (2.0 + counts[:, None] + counts[None, :])
    for num_left in range(1, horizon + 1):
        # With n pulls left at most T - n have been made.
        s, f = np.nonzero(counts[:, None] + counts[None, :] <= horizon - num_left)
        index[s, f] = _solve(s, f, index[s, f], num_left)
        indices[num_left, s, f] = index[s, f]
    indices.flags.writeable = False
    return indices


def _solve(
    s: np.ndarray, f: np.ndarray, charge: np.ndarray, num_left: int
) -> np.ndarray:
    """Climbs from lower bounds `charge` `[M]` to the indices of arms `(s, f)` `[M]`."""
    charge = charge.copy()
    climbing = np.arange(len(charge))
    while climbing.size:
        net, pulls = _must_pull(s[climbing], f[climbing], charge[climbing], num_left)
        step = net / pulls
        charge[climbing] += np.maximum(step, 0.0)
        # Near the root v(λ) is nothing but rounding, of relative size about n ε.
        climbing = climbing[step > 1e-14 * num_left]
    return charge


def _must_pull(
    s: np.ndarray, f: np.ndarray, charge: np.ndarray, num_left: int
) -> tuple[np.ndarray, np.ndarray]:
    """Evaluates v(λ) `[M]` and E[τ] `[M]` by backward induction over further pulls."""
    successes, pulls_made, charge = s[:, None], (s + f)[:, None], charge[:, None]
    net = pulls = np.zeros((len(s), num_left + 1))
    for further in range(num_left - 1, -1, -1):
        gained = np.arange(further + 1)[None, :]
        p = (1.0 + successes + gained) / (2.0 + pulls_made + further)
        net = p - charge + p * net[:, 1:] + (1.0 - p) * net[:, :-1]
        pulls = 1.0 + p * pulls[:, 1:] + (1.0 - p) * pulls[:, :-1]
        if further:
            stop = net <= 0.0
            net[stop] = 0.0
            pulls[stop] = 0.0
    return net[:, 0], pulls[:, 0]


class GittinsTable(NamedTuple):
    """Indices at some numbers of pulls left; between two, linear in the logarithm."""

    num_left: np.ndarray  # [L] int, from 1 to the horizon
    indices: np.ndarray  # [L, T, T], by successes and failures


MAX_EXACT_HORIZON = 100


@functools.lru_cache(maxsize=4)
def gittins_table(
    horizon: int,
    *,
    max_exact_horizon: int = MAX_EXACT_HORIZON,
    num_charges: int = 160,
) -> GittinsTable:
    """Computes indices for any horizon: exactly where that is quick.

    Beyond `max_exact_horizon` the index is found by calibration: v(λ), the value of an
    arm that must be pulled once and then may be abandoned, is computed for each charge
    of a grid and the root taken from the line between the two around it; and only for
    numbers of pulls left that grow by a fifth. Within 2e-3 of the exact index; about a
    minute for 500 pulls.

    Args:
      horizon: T, pulls in all.
      max_exact_horizon: the largest T that is computed by `gittins_indices`.
      num_charges: of the grid.

    Returns:
      The table.

    Raises:
      ValueError: if the horizon is below 1.
    """
    check_positive(horizon=horizon, num_charges=num_charges)
    check_at_least(0, max_exact_horizon=max_exact_horizon)
    if horizon <= max_exact_horizon:
        indices = gittins_indices(horizon)[1:]
        return GittinsTable(np.arange(1, horizon + 1), indices)
    num_left = [1]
    while num_left[-1] < horizon:
        num_left.append(min(max(num_left[-1] + 1, num_left[-1] * 6 // 5), horizon))
    # With n pulls left at most T - n have been made, but the level above n is read too.
    side = horizon + max(b - a for a, b in itertools.pairwise([1, *num_left])) + 1
    s, f = np.indices((side, side), np.float32)
    p = (1.0 + s) / (2.0 + s + f)
    indices = np.full((len(num_left), horizon, horizon), np.nan, np.float32)
    # Closer to one another near 0 and 1, as the indices are.
    charges = 0.5 - 0.5 * np.cos(np.linspace(0.0, np.pi, num_charges))
    previous = np.full_like(indices, np.nan)
    steps = np.diff(charges, prepend=0.0)
    for charge, step in zip(charges.tolist(), steps.tolist(), strict=True):
        optional = np.zeros_like(p)
        level = 0
        for n in range(1, horizon + 1):
            # Values of arms that further pulls could take beyond the side drop out.
            size = side - n
            here = p[:size, :size]
            net = optional[1 : size + 1, :size] - optional[:size, 1 : size + 1]
            net *= here
            net += optional[:size, 1 : size + 1]
            net += here
            net -= charge
            if n == num_left[level]:
                value = np.full((horizon, horizon), np.nan, np.float32)
                kept = min(size, horizon)
                value[:kept, :kept] = net[:kept, :kept]
                root = (previous[level] > 0) & (value <= 0)
                fraction = previous[level][root] / (previous[level] - value)[root]
                indices[level][root] = charge + (fraction - 1.0) * step
                previous[level] = value
                level += 1
            optional = np.maximum(net, 0.0, out=net)
    return GittinsTable(np.array(num_left), indices)


def gittins_return(
    key: jax.Array, probability: jax.Array, indices: jax.Array
) -> jax.Array:
    """Simulates the learner that pulls the arm of the largest index.

    Args:
      key: draws the rewards that the learner sees.
      probability: `[K]` each arm's success probability.
      indices: `[T + 1, T, T]` from `gittins_indices(T)`, as float32.

    Returns:
      `[]` the expected reward of the pulls it made, Σ_t p_{a_t}: an unbiased estimate
      of its return with less variance than the rewards themselves.
    """
    horizon = indices.shape[1]

    def pull(counts, inputs):
        uniform, table = inputs
        successes, failures = counts
        arm = jnp.argmax(table[successes, failures])
        p = probability[arm]
        success = uniform < p
        successes = successes.at[arm].add(success)
        failures = failures.at[arm].add(~success)
        return (successes, failures), p

    counts = jnp.zeros((2, *probability.shape), jnp.int32)
    uniforms = jax.random.uniform(key, (horizon,))
    # The table is scanned over, so that each pull reads the slice of its pulls left.
    inputs = (uniforms, indices[:0:-1])
    _, expected = jax.lax.scan(pull, (counts[0], counts[1]), inputs)
    return jnp.sum(expected)
