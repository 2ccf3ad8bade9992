"""Differences of methods: their intervals, their errors, and what corrects for many."""

import numpy as np
import pytest
from scipy import stats

from metarl_jax import differences, plotting
from metarl_jax.differences import compare_all, difference, holm
from metarl_jax.differences import probability_of_improvement as improvement

RNG = np.random.default_rng(0)
FIRST = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def draws():
    """What a test draws is the same whatever ran before it."""
    RNG.bit_generator.state = FIRST


def simulated(num, num_methods, num_seeds, num_tasks=8, gap=0.0, shared=1.0):
    """Returns `[num, M, S, N]`: effects of training, of tasks, and what is left."""
    shape = (num, num_methods, num_seeds, num_tasks)
    training = RNG.normal(size=(*shape[:3], 1))
    tasks = shared * RNG.normal(size=(num, 1, *shape[2:])) * 3
    returns = training + tasks + RNG.normal(size=shape)
    returns[:, 0] += gap
    return returns


def test_paired_is_the_one_sample_t_test_and_unpaired_is_welch_s():
    one, other = RNG.normal(size=(2, 5, 7))
    found = difference(one, other, paired=True)
    theirs = stats.ttest_1samp((one - other).mean(axis=1), 0)
    low, high = theirs.confidence_interval(0.95)
    expected = (one.mean() - other.mean(), low, high, theirs.pvalue)
    np.testing.assert_allclose(found[:4], expected, rtol=1e-12)
    few = other[:3, :4]
    found = difference(one, few, paired=False, confidence=0.9)
    theirs = stats.ttest_ind(one.mean(axis=1), few.mean(axis=1), equal_var=False)
    low, high = theirs.confidence_interval(0.9)
    expected = (one.mean() - few.mean(), low, high, theirs.pvalue)
    np.testing.assert_allclose(found[:4], expected, rtol=1e-12)
    # Of one seed each, over tasks.
    found = difference(one[:1], other[:1], paired=True)
    expected = stats.ttest_rel(one[0], other[0]).pvalue
    assert found.p_value == pytest.approx(expected)


def test_improvement_is_counted():
    one, other = np.array([[0.0, 3.0], [5.0, 1.0]]), np.array([[0.0, 2.0], [6.0, 0.0]])
    found = improvement(one, other, paired=True)
    assert found.value == (0.5 + 1 + 0 + 1) / 4
    found = improvement(one, other, paired=False)
    x, y = one.reshape(4, 1), other.reshape(4)
    wins = (x > y) + 0.5 * (x == y)
    assert found.value == pytest.approx(wins.mean())
    # DeLong's variance: of the seeds' shares above the other's values, and below, with
    # an even one more.
    above = [*wins.reshape(2, 2, 4).mean(axis=(1, 2)), 0.5]
    below = [*wins.reshape(4, 2, 2).mean(axis=(0, 2)), 0.5]
    variance = np.var(above, ddof=1) / 3 + np.var(below, ddof=1) / 3
    assert found.standard_error == pytest.approx(np.sqrt(variance))
    sure = improvement(one + 100, other, paired=True)
    assert sure.value == sure.ci_high == 1
    assert 0 < sure.ci_low < 0.5  # of two seeds


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("num_seeds", [3, 10])
def test_equal_methods_are_told_apart_in_one_of_twenty(paired, num_seeds):
    """And where they differ, the interval holds the difference in 95 %."""
    returns = simulated(2000, 2, num_seeds, gap=0.7, shared=float(paired))
    found = [difference(one, other, paired=paired) for one, other in returns]
    held = np.mean([f.ci_low < 0.7 < f.ci_high for f in found])
    assert 0.935 < held < 0.985
    equal = simulated(2000, 2, num_seeds, shared=float(paired))
    for function in (difference, improvement):
        p = [function(one, other, paired=paired).p_value for one, other in equal]
        assert np.mean(np.array(p) < 0.05) < 0.065, function


def test_pairing_makes_the_interval_narrower():
    """Tasks that are hard for both say nothing of the difference."""
    widths = {}
    for paired in (True, False):
        found = [
            difference(one, other, paired=paired)
            for one, other in simulated(200, 2, 5, num_tasks=1)
        ]
        widths[paired] = np.median([f.ci_high - f.ci_low for f in found])
    assert widths[True] < 0.6 * widths[False]


def test_of_many_equal_methods_none_is_told_apart_in_nineteen_of_twenty():
    false = corrected = 0
    num = 400
    for returns in simulated(num, 5, 4):
        pairs = compare_all(
            {str(i): x for i, x in enumerate(returns)},
            {str(i): ["a"] for i in range(5)},
        )
        assert len(pairs) == 10
        assert all(pair.paired for pair in pairs)
        false += min(pair.difference.p_value for pair in pairs) < 0.05
        corrected += min(pair.p_value for pair in pairs) < 0.05
    assert false / num > 0.15
    assert corrected / num < 0.075


def test_holm_s_correction():
    p = [0.01, 0.04, 0.03, 0.005]
    np.testing.assert_allclose(holm(p), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.9, 0.8]), [1, 1])
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        holm([1.2])


def test_more_seeds_are_as_many_as_separate_them():
    wanted = differences.seeds_for_width(2.0, 1.0)
    widths = [stats.t.ppf(0.975, s - 1) * 2 / np.sqrt(s) for s in (wanted - 1, wanted)]
    assert widths[0] > 1 >= widths[1]
    assert differences.seeds_for_width(1e9, 1.0) is None
    one, other = np.array([[0.0], [2.0], [4.0]]), np.zeros((3, 1))
    same = dict.fromkeys(("one", "other"), "tasks")
    (pair,) = compare_all({"one": one, "other": other}, same)
    assert pair.p_value > 0.05
    assert pair.more_seeds == differences.seeds_for_width(2.0, 2.0) - 3 > 0
    (pair,) = compare_all({"one": one + 50, "other": other})
    assert (pair.more_seeds, pair.paired) == (0, False)


def test_what_cannot_be_compared():
    ones = np.ones((3, 2))
    assert compare_all({"several": ones, "one": ones[:1]}) == []
    worlds = {"one": "a maze", "other": "a road", "older": None}
    met = compare_all({name: ones + len(name) for name in worlds}, worlds=worlds)
    assert [(pair.one, pair.other) for pair in met] == [
        ("one", "older"),
        ("other", "older"),
    ]
    assert np.isnan(difference(ones * np.nan, ones, paired=True).ci_low)
    assert np.isnan(improvement(ones * np.inf, ones, paired=False).value)
    for arguments, message in [
        ((ones, ones[0]), r"\[seeds, tasks\]"),
        ((ones, np.ones((3, 3))), "same seeds and tasks"),
        ((ones, ones[:1]), "same seeds and tasks"),
    ]:
        with pytest.raises(ValueError, match=message):
            difference(*arguments, paired=True)
    with pytest.raises(ValueError, match="one seed says nothing"):
        difference(ones, ones[:1], paired=False)
    with pytest.raises(ValueError, match="thresholds"):
        differences.performance_profile(ones, 3.0)


def test_profiles_are_tail_distributions():
    returns = RNG.normal(size=(4, 6))
    thresholds = np.linspace(-3, 3, 13)
    share, low, high = differences.performance_profile(returns, thresholds)
    np.testing.assert_allclose(share, [(returns > t).mean() for t in thresholds])
    assert np.all((low <= share) & (share <= high) & (low >= 0) & (high <= 1))
    assert share[0] == high[0] == low[0] == 1


def test_runs_are_compared_where_they_met_the_same_tasks():
    def result(returns, tasks):
        return {
            "returns": returns.tolist(),
            "heldout_tasks": tasks,
            "adaptation_step": list(range(returns.shape[2])),
        }

    one, other = RNG.normal(size=(2, 3, 4, 2))
    met = ["a", "b", "c"]
    results = {
        "one": result(one, met),
        "other": result(other[:, :, :1], met),
        "elsewhere": result(other, ["d", "e", "f"]),
        "older": {"adaptation_step": [0]},
    }
    pairs = plotting.pairs(results)
    assert [(p.one, p.other, p.paired) for p in pairs] == [
        ("one", "other", True),
        ("one", "elsewhere", False),
        ("other", "elsewhere", False),
    ]
    expected = difference(one[:, :, 0], other[:, :, 0], paired=True)
    assert pairs[0].difference == expected
    table = plotting.differences_markdown(results)
    assert f"| one - other | {expected.value:.2f} [" in table
    assert "corrected for 3 pairs" in table
    for few in ({}, {"one": results["one"]}):
        assert plotting.differences_markdown(few) == ""


def test_a_reference_is_compared_with_every_other_and_corrected_for_these_alone():
    returns = dict(zip("abcd", simulated(1, 4, 5)[0], strict=True))
    found = compare_all(returns, reference="c")
    named = [(pair.one, pair.other) for pair in found]
    assert named == [("a", "c"), ("b", "c"), ("c", "d")]
    alone = [pair.difference.p_value for pair in found]
    np.testing.assert_allclose([pair.p_value for pair in found], holm(alone))
    with pytest.raises(ValueError, match="reference must be one of a, b, c, d; got e"):
        compare_all(returns, reference="e")
