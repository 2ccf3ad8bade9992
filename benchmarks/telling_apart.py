"""Says under a table of several methods which of their differences are real.

    python benchmarks/telling_apart.py

All is had from the records, which hold what every seed reached: nothing is trained.
By itself writes it for the rules of `docs/results/rules.md`; the other benchmarks
write it where they lay out their tables.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measuring import rewritten

from metarl_jax.differences import Pair, compare_all
from metarl_jax.intervals import t_half_width

RESULTS = Path(__file__).parent / "results"
PAGES = Path(__file__).parent.parent / "docs" / "results"
LEGEND = (
    "Which differences are real, of the last return where a line does not say "
    "otherwise: with Welch's 95 % interval over seeds, where it stands after Holm's "
    "correction for all pairs of the line. Of pairs that are *not* told apart, in "
    "brackets the further seeds of each that would do it, if they differ, and vary, as "
    "measured here."
)


def told_apart(
    returns: Mapping[str, Sequence[float]],
    *,
    digits: int = 1,
    reference: str | None = None,
) -> str:
    """Says in a line which of several methods reach more in one world.

    Records keep means by seed, and not of which tasks: nothing is paired.

    Args:
      returns: what each seed reached, `[S]` by the method's name.
      digits: of a difference.
      reference: what all others are compared with; None compares each two.
    """
    seeds = {name: np.reshape(values, (-1, 1)) for name, values in returns.items()}
    found = compare_all(seeds, reference=reference)
    better: dict[str, list[str]] = {}
    for pair in found:
        if pair.more_seeds != 0:
            continue
        gap, names = pair.difference, [pair.one, pair.other]
        ends = [gap.ci_low, gap.ci_high]
        if gap.value < 0:
            names, ends = names[::-1], [-gap.ci_high, -gap.ci_low]
        low, high = ends
        better.setdefault(names[0], []).append(
            f"{names[1]} {abs(gap.value):.{digits}f} ({low:.{digits}f} to "
            f"{high:.{digits}f})"
        )
    said = [
        f"{name} over {', '.join(better[name])}" for name in seeds if name in better
    ]
    alike = [pair for pair in found if pair.more_seeds != 0]
    if alike:
        whom = "" if reference is None else f" from {reference}"
        pairs = ", ".join(_named(pair, reference) for pair in alike)
        said.append(f"not told apart{whom}: {pairs}")
    return "; ".join(said)


def _named(pair: Pair, reference: str | None) -> str:
    names = [name for name in (pair.one, pair.other) if name != reference]
    more = "" if pair.more_seeds is None else f" ({pair.more_seeds:,})"
    return f"{' and '.join(names)}{more}"


def lines(
    worlds: Mapping[str, Mapping[str, Any]], *, legend: str = LEGEND, **settings: Any
) -> str:
    """Lays out what can be told apart, a line a world of several methods."""
    told = [
        f"- {world}: {told_apart(returns, **settings)}."
        for world, returns in worlds.items()
        if len(returns) > 1
    ]
    return "\n".join([legend, "", *told])


def by_seed(record: Mapping[str, Any], at: int = -1) -> list[float]:
    """Returns what each seed of a record reached in the last round, or in another."""
    return [np.ravel(seed)[at] for seed in record["return_mean_by_seed"]]


def seeds_like(mean: float, low: float, high: float, num_seeds: int) -> np.ndarray:
    """Returns seeds of which a record kept no more than the mean and its t-interval.

    Welch's interval knows seeds by their mean, deviation and number alone; these are
    the same for what is returned.
    """
    spread = np.linspace(-1.0, 1.0, num_seeds)
    deviation = (high - low) / 2 / t_half_width(num_seeds**-0.5, num_seeds - 1)
    return mean + deviation * spread / spread.std(ddof=1)


def of_rules() -> dict[str, str]:
    """Returns what can be told apart among rules that are learned, by the script."""
    found = {}
    for script, leave in (("lpg", "a2c, tuned"), ("lpo", "")):
        # The interval of the actor-critic is over layouts: it has not learned a rule.
        record = json.loads((RESULTS / f"{script}.json").read_text())
        rows = {name: row for name, row in record["rows"].items() if name != leave}
        found[script] = {"at the end": _ends(rows, record["num_seeds"])}, 1
    record = json.loads((RESULTS / "open_optimizer.json").read_text())
    names = {"breakout": "Breakout", "catch": "Catch", "cartpole": "CartPole"}
    worlds = {
        names[world]: _ends(result["rows"], record["num_seeds"])
        for world, result in record["worlds"].items()
    }
    found["open_optimizer"] = worlds, 2
    record = json.loads((RESULTS / "two-colors.json").read_text())
    rewards = {name: row["seeds"] for name, row in record["rows"].items()}
    found["two_colors"] = {"reward of a step": rewards}, 3
    again = "Which differences are real, as above:"
    return {
        script: lines(worlds, digits=digits, legend=again if number else LEGEND)
        for number, (script, (worlds, digits)) in enumerate(found.items())
    }


def _ends(rows: Mapping[str, Any], num_seeds: int) -> dict[str, np.ndarray]:
    return {
        name.replace(",", ""): seeds_like(
            *(row[part][-1] for part in ("return", "low", "high")), num_seeds
        )
        for name, row in rows.items()
    }


def main() -> None:
    path = PAGES / "rules.md"
    page = path.read_text()
    for script, told in of_rules().items():
        page = rewritten(page, f"{script}.py", told)
        print(script, told.partition("\n\n")[2], sep="\n")
    path.write_text(page)


if __name__ == "__main__":
    main()
