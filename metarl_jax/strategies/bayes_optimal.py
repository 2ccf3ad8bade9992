"""Exact Bayes-optimal returns: what no learner of a family can exceed on average.

Each is a dynamic program over what can be known, backwards from the last decision, in
float64.
"""

import functools
from typing import Literal

import numpy as np

from metarl_jax.validation import (
    check_above_zero,
    check_at_least,
    check_choice,
    check_fraction,
    check_positive,
)

# How far the better arm of Wang et al.'s correlated families is from certain.
CORRELATED_FAMILIES = {"easy": 0.1, "medium": 0.25, "hard": 0.4}


def bernoulli_bandit_optimum(num_arms: int, horizon: int) -> float:
    """Computes the optimum of K independent Bernoulli arms with uniform priors.

    V(n, {(s_a, f_a)}) = max_a p_a (1 + V(…, s_a + 1, …)) + (1 - p_a) V(…, f_a + 1, …)
    with p_a = (1 + s_a) / (2 + s_a + f_a). The state is a multiset, as equal arms are
    the same, and holds only arms that have been pulled: seconds for 10 pulls, however
    many the arms.

    Args:
      num_arms: K.
      horizon: T, pulls in all.

    Returns:
      The expected sum of rewards: 6.6600 for 10 pulls of 5 arms.

    Raises:
      ValueError: if a count is below 1.
    """
    check_positive(num_arms=num_arms, horizon=horizon)

    @functools.cache
    def value(num_left: int, pulled: tuple[tuple[int, int], ...]) -> float:
        if num_left == 0:
            return 0.0
        best = 0.0
        fresh = ((0, 0),) if len(pulled) < num_arms else ()
        for arm in {*pulled, *fresh}:
            others = list(pulled)
            if arm in others:
                others.remove(arm)
            s, f = arm
            p = (1 + s) / (2 + s + f)
            after_success = tuple(sorted([*others, (s + 1, f)]))
            after_failure = tuple(sorted([*others, (s, f + 1)]))
            best = max(
                best,
                p * (1.0 + value(num_left - 1, after_success))
                + (1.0 - p) * value(num_left - 1, after_failure),
            )
        return best

    return value(horizon, ())


def two_armed_bandit_optimum(horizon: int = 100) -> float:
    """Computes the optimum of two independent Bernoulli arms with uniform priors.

    The recursion of `bernoulli_bandit_optimum` over dense arrays of (s₁, f₁, s₂), all
    states after the same number of pulls at once: a second for 100 pulls.

    Args:
      horizon: T, pulls in all.

    Returns:
      The expected sum of rewards.

    Raises:
      ValueError: if the horizon is below 1.
    """
    check_positive(horizon=horizon)
    # V[n₁, s₁, s₂] after m = n₁ + n₂ pulls; entries with s > n mean nothing.
    value = np.zeros((horizon + 1,) * 3)
    for m in range(horizon - 1, -1, -1):
        pulls = np.arange(m + 1)
        p = (1.0 + pulls[None, :]) / (2.0 + pulls[:, None])  # [n, s]
        first, second = p[:, :, None], p[::-1, None, :]
        # Impossible entries have p > 1; they are read by none that is possible.
        n = m + 1
        pull_first = first * (1.0 + value[1:, 1:, :n]) + (1 - first) * value[1:, :n, :n]
        pull_second = second * (1.0 + value[:n, :n, 1:])
        pull_second += (1 - second) * value[:n, :n, :n]
        value = np.maximum(pull_first, pull_second)
    return float(value[0, 0, 0])


def correlated_bandit_optimum(
    family: Literal["uniform", "easy", "medium", "hard"], horizon: int = 100
) -> float:
    """Computes the optimum of two Bernoulli arms with p₂ = 1 - p₁.

    Evidence that the first arm is good is a success of the first or a failure of the
    second; after a pieces of it and b against, the first arm pays with p(a, b), its
    posterior mean, the second with 1 - p(a, b).

    Args:
      family: how p₁ is drawn, as in `metarl_jax.envs.bandit.correlated_bandit`.
      horizon: T, pulls in all.

    Returns:
      The expected sum of rewards: 89.375 for `"easy"`.

    Raises:
      ValueError: if the family is unknown or the horizon below 1.
    """
    check_positive(horizon=horizon)
    check_choice(["uniform", *CORRELATED_FAMILIES], family=family)
    value = np.zeros(horizon + 1)
    for m in range(horizon - 1, -1, -1):
        a = np.arange(m + 1.0)
        b = m - a
        if family == "uniform":
            p = (1.0 + a) / (2.0 + m)
        else:
            delta = CORRELATED_FAMILIES[family]
            good = 1.0 / (1.0 + (delta / (1.0 - delta)) ** (a - b))
            p = good * (1.0 - delta) + (1.0 - good) * delta
        following = p * value[1 : m + 2] + (1.0 - p) * value[: m + 1]
        # A success of the first arm and a failure of the second lead to the same state.
        value = np.maximum(p, 1.0 - p) + following
    return float(value[0])


def informative_bandit_optimum(num_arms: int = 11, horizon: int = 5) -> float:
    """Computes the optimum of the bandit with an informative arm.

    While the target may be any of a set of arms, a pull of the informative arm pays a
    tenth of its expected number and reveals it, a pull of one of them pays 5 and
    reveals it or pays 1 and rules it out, and a pull of one ruled out pays 1.

    Args:
      num_arms: K, as in `metarl_jax.envs.bandit.informative_bandit`.
      horizon: T, pulls in all.

    Returns:
      The expected sum of rewards: 20.55 for five pulls, the informative arm first.

    Raises:
      ValueError: if there are fewer than 3 arms, or the horizon is below 1.
    """
    check_positive(horizon=horizon)
    check_at_least(3, num_arms=num_arms)

    @functools.cache
    def value(num_left: int, candidates: frozenset[int]) -> float:
        if num_left == 0:
            return 0.0
        if len(candidates) == 1:
            return 5.0 * num_left
        known = 5.0 * (num_left - 1)
        options = [0.1 * sum(candidates) / len(candidates) + known]
        if len(candidates) < num_arms - 1:
            options.append(1.0 + value(num_left - 1, candidates))
        for arm in candidates:
            missed = 1.0 + value(num_left - 1, candidates - {arm})
            found = 5.0 + known
            options.append(missed + (found - missed) / len(candidates))
        return max(options)

    return value(horizon, frozenset(range(1, num_arms)))


def two_step_optimum(
    num_trials: int = 100,
    *,
    common: float = 0.75,
    reward_probability: float = 0.9,
) -> float:
    """Computes the optimum of the two-step task.

    A reward in one second-stage state tells as much as none in the other, so the state
    is the balance of evidence d, and the first action's reward is
    q (c h + (1 - c)(1 - h)) + (1 - q)(c (1 - h) + (1 - c) h) when its common state is
    the good one with probability q.

    Args:
      num_trials: how many times both stages are gone through.
      common: c, the probability of an action's common transition.
      reward_probability: h, of a reward in the good state; 1 - h in the other.

    Returns:
      The expected sum of rewards.

    Raises:
      ValueError: if `num_trials` is below 1.
    """
    check_positive(num_trials=num_trials)
    check_fraction(common=common, reward_probability=reward_probability)
    check_above_zero(reward_probability=reward_probability)
    c, h = common, reward_probability
    reaches_good = c * h + (1.0 - c) * (1.0 - h)
    reaches_bad = c * (1.0 - h) + (1.0 - c) * h
    value = np.zeros(2 * num_trials + 1)
    for m in range(num_trials - 1, -1, -1):
        d = np.arange(-m, m + 1)
        good = 1.0 / (1.0 + ((1.0 - h) / h) ** d)
        first = good * reaches_good + (1.0 - good) * reaches_bad
        second = (1.0 - good) * reaches_good + good * reaches_bad
        towards = good * h + (1.0 - good) * (1.0 - h)
        following = towards * value[2:] + (1.0 - towards) * value[:-2]
        value = np.maximum(first, second) + following
    return float(value[0])
