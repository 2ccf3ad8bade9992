"""Which of several methods is better: differences with intervals, not only two means.

Returns are `[S, N]`, seeds by held-out tasks. Where all methods met the same tasks
with as many seeds, they are compared task by task, so that what makes a task hard for
all does not count; otherwise each has drawn its own.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy import special

from metarl_jax.intervals import summarise, t_half_width
from metarl_jax.validation import check_above_zero, check_flags, check_fraction

_MOST_SEEDS = 10_000


class Estimate(NamedTuple):
    """A number and what is known of it.

    Attributes:
      value: the estimate.
      ci_low: lower end of its interval.
      ci_high: upper end.
      p_value: how often as much, either way, would be seen if there were nothing; of a
        probability of improvement, if it were a half.
      standard_error: of the estimate.
      degrees_of_freedom: ν of Student's distribution.
    """

    value: float
    ci_low: float
    ci_high: float
    p_value: float
    standard_error: float
    degrees_of_freedom: float


class Pair(NamedTuple):
    """How one method stands to another.

    Attributes:
      one: the name of the method whose returns come first.
      other: of the method that is subtracted.
      difference: of the mean returns.
      improvement: the probability that the one reaches more than the other.
      p_value: of the difference, corrected for the number of pairs (Holm).
      more_seeds: how many seeds more of each would separate them if the difference and
        its spread are what was measured; 0 if they are separated, None if it cannot be
        said: of one seed, or of no difference.
      paired: whether they met the same tasks.
      num_seeds: of each, the fewer.
    """

    one: str
    other: str
    difference: Estimate
    improvement: Estimate
    p_value: float
    more_seeds: int | None
    paired: bool
    num_seeds: int


def difference(
    one: np.ndarray, other: np.ndarray, *, paired: bool, confidence: float = 0.95
) -> Estimate:
    r"""Estimates the difference of two methods' mean returns.

    Paired, of d = one - other, seed by seed and task by task: d̄ ± t_{S-1} s / √S with
    the standard deviation s of the S seeds' means. Otherwise Welch's interval, whose
    variance is s₁² / S₁ + s₂² / S₂ and whose degrees of freedom are Satterthwaite's.
    With one seed the same over tasks: it then speaks of these two agents, not of their
    methods.

    Args:
      one: `[S, N]` returns.
      other: `[S', N']` returns; of the same shape if paired.
      paired: whether entry [s, n] of both is of the same task.
      confidence: how often the interval is to hold the difference.

    Raises:
      ValueError: if a rank is wrong, something is empty, paired shapes differ, or one
        has a seed and the other several, or `confidence` is not between 0 and 1.
    """
    one, other = _returns(one, other, paired, confidence)
    if paired:
        return _of_mean(_members(one - other), confidence, nothing=0.0)
    one, other = _members(one), _members(other)
    return _of_two(one.mean() - other.mean(), one, other, confidence, nothing=0.0)


def probability_of_improvement(
    one: np.ndarray, other: np.ndarray, *, paired: bool, confidence: float = 0.95
) -> Estimate:
    """Estimates how often one method reaches more than another, P(X > Y) + P(X = Y)/2.

    Paired on the same task; otherwise on one of each (Agarwal et al. 2021, arXiv
    2108.13264; the Mann-Whitney statistic). The interval is Student's over seeds, and
    over tasks where there is one seed; unpaired of the statistic's projections, in
    which each seed stands for its mean against all of the other's (DeLong et al. 1988).
    It is taken as if one seed more had come out even: where all of few seeds win on all
    tasks, they differ in nothing, and yet do not make it certain. Cut at 0 and 1.

    Args:
      one: as in `difference`.
      other: likewise.
      paired: likewise.
      confidence: likewise.

    Raises:
      ValueError: as `difference` does.
    """
    one, other = _returns(one, other, paired, confidence)
    if paired:
        wins = (one > other) + 0.5 * (one == other)
        wins = np.where(np.isnan(one - other), np.nan, wins)
        value, share = wins.mean(), np.append(_members(wins), 0.5)
        found = _of_mean(share, confidence, nothing=0.5)
    else:
        above, below = _ranks(one, other), _ranks(other, one)
        value = above.mean()
        x, y = (np.append(_members(ranks), 0.5) for ranks in (above, 1 - below))
        found = _of_two((x.mean() + y.mean()) / 2, x, y, confidence, nothing=0.5)
    low, high = np.clip([found.ci_low, found.ci_high], 0, 1)
    return found._replace(value=float(value), ci_low=float(low), ci_high=float(high))


def performance_profile(
    returns: np.ndarray, thresholds: np.ndarray, *, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Estimates of which share of seeds and tasks a return is above each threshold.

    Agarwal et al. 2021: the empirical tail distribution. Unlike a mean it shows whether
    a method is better everywhere, or on average.

    Args:
      returns: `[S, N]`.
      thresholds: `[T]`.
      confidence: of the bands, point by point, as `summarise` has them.

    Returns:
      The shares `[T]`, and the lower and upper ends of their intervals `[T]`.

    Raises:
      ValueError: if a rank is wrong, something is empty, or `confidence` is not between
        0 and 1.
    """
    returns, _ = _returns(returns, returns, False, confidence)
    thresholds = np.asarray(thresholds, float)
    if thresholds.ndim != 1 or thresholds.size == 0:
        raise ValueError(
            f"thresholds must be a list of numbers; got shape {thresholds.shape}"
        )
    above = (returns[..., None] > thresholds).astype(float)
    above[np.isnan(returns)] = np.nan
    found = summarise(above, confidence=confidence)
    low, high = np.clip([found.ci_low, found.ci_high], 0, 1)
    return found.mean, low, high


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Corrects p-values of m comparisons, so that none is false by more than it says.

    Holm's: the i-th smallest times m - i + 1, made monotone. Below .05 stands a false
    one in at most 5 % of such sets of comparisons, whichever of them are true.

    Args:
      p_values: `[m]`.

    Raises:
      ValueError: if they are no list, or one is not between 0 and 1.
    """
    p = np.asarray(p_values, float)
    if p.ndim != 1 or not np.all((p >= 0) & (p <= 1) | np.isnan(p)):
        raise ValueError(f"p_values must be a list of numbers in [0, 1]; got {p}")
    order = np.argsort(p)
    scaled = p[order] * np.arange(len(p), 0, -1)
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return corrected


def seeds_for_width(
    standard_deviation: float, half_width: float, *, confidence: float = 0.95
) -> int | None:
    """Counts the seeds whose interval of the mean is at most this wide.

    The smallest S with t_{S-1} s / √S at most the half-width.

    Args:
      standard_deviation: s of the seeds' means.
      half_width: wanted.
      confidence: of the interval.

    Returns:
      S, or None if ten thousand are too few.

    Raises:
      ValueError: if a number is not above 0, or `confidence` is not between 0 and 1.
    """
    check_above_zero(standard_deviation=standard_deviation, half_width=half_width)
    _check_confidence(confidence)

    def narrow(size):
        error = standard_deviation / np.sqrt(size)
        return t_half_width(error, size - 1, confidence) <= half_width

    sizes = range(2, _MOST_SEEDS + 1)
    found = bisect_left(sizes, True, key=narrow)
    return sizes[found] if found < len(sizes) else None


def compare_all(
    returns: Mapping[str, np.ndarray],
    tasks: Mapping[str, Sequence[str] | None] | None = None,
    *,
    worlds: Mapping[str, str | None] | None = None,
    reference: str | None = None,
    confidence: float = 0.95,
) -> list[Pair]:
    """Compares each two of several methods, with a correction for how many there are.

    Args:
      returns: `[S, N]` by name.
      tasks: what tells the held-out tasks of each method's seeds apart; those of two
        methods are paired where these are equal, and not None. None for no pairs.
      worlds: where each method acted; None where that is not known.
      reference: the method that every other is compared with, where the others are not
        to be compared among themselves: fewer pairs, and less to correct for.
      confidence: of the intervals of each difference, which are not corrected.

    Returns:
      A pair for each two that can be compared: both of one seed or both of several, in
      one world.

    Raises:
      ValueError: as `difference` does, or if `reference` is not among the methods.
    """
    if reference is not None and reference not in returns:
        raise ValueError(
            f"reference must be one of {', '.join(returns)}; got {reference}"
        )
    tasks, worlds, found = tasks or {}, worlds or {}, []
    for one, other in combinations(returns, 2):
        if reference is not None and reference not in (one, other):
            continue
        a, b = np.asarray(returns[one], float), np.asarray(returns[other], float)
        known = {worlds.get(one), worlds.get(other)} - {None}
        if (len(a) == 1) != (len(b) == 1) or len(known) > 1:
            continue
        same = tasks.get(one) is not None and tasks.get(one) == tasks.get(other)
        settings = {"paired": same and a.shape == b.shape, "confidence": confidence}
        found.append(
            Pair(
                one,
                other,
                difference(a, b, **settings),
                probability_of_improvement(a, b, **settings),
                np.nan,
                None,
                settings["paired"],
                min(len(a), len(b)),
            )
        )
    corrected = holm([pair.difference.p_value for pair in found])
    alone = 1 - (1 - confidence) / max(len(found), 1)  # Holm's first correction
    return [
        pair._replace(
            p_value=float(p),
            more_seeds=0 if p < 1 - confidence else _more_seeds(pair, alone),
        )
        for pair, p in zip(found, corrected, strict=True)
    ]


def _more_seeds(pair: Pair, confidence: float) -> int | None:
    """Counts the seeds that a pair lacks for an interval that leaves out zero."""
    gap, error = abs(pair.difference.value), pair.difference.standard_error
    if pair.num_seeds == 1 or not (gap > 0 and error > 0):
        return None
    spread = error * np.sqrt(pair.num_seeds)
    wanted = seeds_for_width(spread, gap, confidence=confidence)
    return None if wanted is None else max(wanted - pair.num_seeds, 1)


def _check_confidence(confidence: float) -> None:
    check_fraction(confidence=confidence)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1; got {confidence}")


def _returns(one, other, paired, confidence) -> tuple[np.ndarray, np.ndarray]:
    """Checks what is compared; what is not finite becomes NaN."""
    check_flags(paired=paired)
    _check_confidence(confidence)
    found = [np.asarray(x, np.float64) for x in (one, other)]
    for x in found:
        if x.ndim != 2 or x.size == 0:
            raise ValueError(
                f"returns must be [seeds, tasks] and not empty; got shape {x.shape}"
            )
    if paired and found[0].shape != found[1].shape:
        raise ValueError(
            "paired returns must be of the same seeds and tasks; got shapes "
            f"{found[0].shape} and {found[1].shape}"
        )
    if (len(found[0]) == 1) != (len(found[1]) == 1):
        raise ValueError(
            "one seed says nothing of what another would do: returns must be of one "
            f"seed each, or of several each; got {len(found[0])} and {len(found[1])}"
        )
    one, other = (np.where(np.isfinite(x), x, np.nan) for x in found)
    return one, other


def _members(x: np.ndarray) -> np.ndarray:
    """Returns what is independent: the seeds' means, or the tasks of the only seed."""
    return x[0] if len(x) == 1 else x.mean(axis=1)


def _ranks(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Returns of which share of the other's values each of one's is above, `[S, N]`."""
    ordered = np.sort(other, axis=None)
    if np.isnan(ordered[-1]):
        return np.full(one.shape, np.nan)
    below = np.searchsorted(ordered, one, "left")
    share = (below + np.searchsorted(ordered, one, "right")) / (2 * ordered.size)
    return np.where(np.isnan(one), np.nan, share)


def _of_mean(x: np.ndarray, confidence: float, *, nothing: float) -> Estimate:
    freedom = len(x) - 1
    error = x.std(ddof=1) / np.sqrt(len(x)) if freedom else np.nan
    return _estimate(x.mean(), error, freedom, confidence, nothing)


def _of_two(
    value: float, x: np.ndarray, y: np.ndarray, confidence: float, *, nothing: float
) -> Estimate:
    """Estimates what varies as a sum of two means, after Welch."""
    if min(len(x), len(y)) == 1:
        return _estimate(value, np.nan, 0, confidence, nothing)
    parts = np.array([x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)])
    freedoms = np.array([len(x) - 1, len(y) - 1])
    total = parts.sum()
    freedom = total**2 / np.sum(parts**2 / freedoms) if total > 0 else freedoms.sum()
    return _estimate(value, np.sqrt(total), freedom, confidence, nothing)


def _estimate(value, error, freedom, confidence, nothing) -> Estimate:
    if not np.isfinite(error) or freedom < 1:
        return Estimate(float(value), np.nan, np.nan, np.nan, np.nan, float(freedom))
    half = t_half_width(error, freedom, confidence)
    gap = abs(value - nothing)
    # Values that are all alike leave no doubt, or nothing to doubt.
    p_value = 2 * special.stdtr(freedom, -gap / error) if error else float(gap == 0)
    return Estimate(
        *map(float, (value, value - half, value + half, p_value, error, freedom))
    )
