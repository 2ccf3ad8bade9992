"""Says under a table of several methods which of their differences are real.

    python benchmarks/telling_apart.py

All is had from the records, which hold what every seed reached: nothing is trained.
By itself writes it for rules that are learned and for published tables; the other
benchmarks write it where they lay out their own.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from measuring import rewritten

from metarl_jax.differences import Pair, compare_all
from metarl_jax.intervals import t_half_width

Seeds: TypeAlias = Sequence[float] | np.ndarray

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
    returns: Mapping[str, Seeds],
    *,
    digits: int = 1,
    reference: str | None = None,
    same_tasks: bool = False,
) -> str:
    """Says in a line which of several methods reach more in one world.

    Records keep means by seed, and not of which tasks: seeds are not paired.

    Args:
      returns: what each seed reached, `[S]` by the method's name.
      digits: of a difference.
      reference: what all others are compared with; None compares each two.
      same_tasks: that the numbers are not of seeds but of tasks, which one agent of
        each method met, the same ones, in the same order: then they are paired.
    """
    shape = (1, -1) if same_tasks else (-1, 1)
    seeds = {name: np.reshape(values, shape) for name, values in returns.items()}
    tasks = dict.fromkeys(returns, ("the same",)) if same_tasks else None
    found = compare_all(seeds, tasks, reference=reference)
    better: dict[str, list[str]] = {}
    for pair in found:
        if pair.p_value < 0.05:
            name, worse, gap = _ordered(pair, digits)
            better.setdefault(name, []).append(f"{worse} {gap}")
    said = [
        f"{name} over {', '.join(better[name])}" for name in seeds if name in better
    ]
    alike = [pair for pair in found if not pair.p_value < 0.05]
    if alike:
        whom = "" if reference is None else f" from {reference}"
        pairs = ", ".join(_named(pair, reference) for pair in alike)
        said.append(f"not told apart{whom}: {pairs}")
    return "; ".join(said)


def columns_apart(
    table: Mapping[str, Mapping[str, Seeds]],
    one: str,
    others: Sequence[str],
    *,
    digits: int,
) -> str:
    """Says in which columns of a table one row differs from which others.

    Holm's correction is for all of them together.

    Args:
      table: by column and row what each seed reached; a row may lack columns.
      one: the row.
      others: what it is compared with, each in every column.
      digits: of a difference.
    """
    returns, worlds, where = {}, {}, {}
    for other in others:
        for column, rows in table.items():
            if one in rows and other in rows:
                for row in (one, other):
                    label = f"{row} ({other}, {column})"
                    returns[label] = np.reshape(rows[row], (-1, 1))
                    worlds[label], where[label] = f"{other}, {column}", (row, column)
    apart: dict[str, list[str]] = {}
    alike: dict[str, list[str]] = {}
    for pair in compare_all(returns, worlds=worlds):
        (row, column), (other, _) = where[pair.one], where[pair.other]
        pair = pair._replace(one=row, other=other)
        if pair.more_seeds == 0:
            better, worse, gap = _ordered(pair, digits)
            apart.setdefault(f"{better} over {worse}", []).append(f"{column} {gap}")
        else:
            more = "" if pair.more_seeds is None else f" ({pair.more_seeds:,})"
            alike.setdefault(f"{row} and {other}", []).append(f"{column}{more}")
    said = [f"{who}: {', '.join(told)}" for who, told in apart.items()]
    said += [f"{who} not told apart: {', '.join(told)}" for who, told in alike.items()]
    return "; ".join(said)


def _ordered(pair: Pair, digits: int) -> tuple[str, str, str]:
    """Returns who is better, who is worse, and by how much."""
    gap, better, worse = pair.difference, pair.one, pair.other
    ends = gap.ci_low, gap.ci_high
    if gap.value < 0:
        better, worse, ends = worse, better, (-gap.ci_high, -gap.ci_low)
    low, high = (f"{end:.{digits}f}" for end in ends)
    return better, worse, f"{abs(gap.value):.{digits}f} ({low} to {high})"


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
    names = {
        **{"breakout": "Breakout", "catch": "Catch", "cartpole": "CartPole"},
        "small": "CartPole, small agents",
    }
    worlds = {
        names[world]: _ends(result["rows"], result["num_seeds"])
        for world, result in record["worlds"].items()
    }
    found["open_optimizer"] = worlds, 2
    learners = {}
    for learner, name in (("fast", "two-colors"), ("slow", "two-colors-slow")):
        record = json.loads((RESULTS / f"{name}.json").read_text())
        rewards = {name: row["seeds"] for name, row in record["rows"].items()}
        learners[f"{learner} learner"] = rewards
    found["two_colors"] = learners, 3
    again = "Which differences are real, as above:"
    return {
        script: lines(worlds, digits=digits, legend=again if number else LEGEND)
        for number, (script, (worlds, digits)) in enumerate(found.items())
    }


def _ends(rows: Mapping[str, Any], num_seeds: int) -> dict[str, np.ndarray]:
    found = {}
    for name, row in rows.items():
        mean, low, high = (row[part][-1] for part in ("return", "low", "high"))
        found[name.replace(",", "")] = seeds_like(mean, low, high, num_seeds)
    return found


def of_tables() -> dict[str, str]:
    """Returns what can be told apart in published tables, by page."""
    pulls = [f"n={n} k={k}" for n in (10, 100, 500) for k in (5, 10, 50)]
    families = ["independent", "uniform", "easy", "medium", "hard"]
    episodes = [f"episode {i}" for i in range(1, 7)]
    sampling = "exact posterior sampling"
    met = ", goal met in %"
    told = {
        "bandits": columns_apart(
            _cells("rl2-bandits", pulls), "RL²", ["Gittins index"], digits=2
        ),
        "mdps": columns_apart(
            _cells("rl2-mdps", ["n=10", "n=25"]),
            "RL²",
            ["greedy", "PSRL", "OPSRL", "UCRL2", "BEB", "BEB, true prior"],
            digits=1,
        ),
        "dependent-arms": "less regret: "
        + columns_apart(
            _cells("wang-bandits", families, sign=-1),
            "RL²",
            ["Thompson sampling", "UCB1", "Gittins index"],
            digits=2,
        ),
        "grid": columns_apart(
            _cells("varibad-gridworld", episodes), "VariBAD", ["RL²"], digits=2
        ),
        "half-circle": columns_apart(
            _cells("pearl-half-circle", episodes), "PEARL", [sampling], digits=2
        )
        + ".\n- in how many the goal is met, %: "
        + columns_apart(
            _cells("pearl-half-circle", episodes, suffix=met),
            "PEARL",
            [sampling],
            digits=1,
        ),
    }
    legend = LEGEND.replace("over seeds,", "over seeds, of one over instances,")
    return {page: f"{legend}\n\n- {text}." for page, text in told.items()}


def _cells(
    table: str, columns: Sequence[str], *, sign: int = 1, suffix: str = ""
) -> dict[str, dict[str, np.ndarray]]:
    """Returns a reproduced table by column and row, seeds or else instances."""
    path = RESULTS / "reproductions" / table / "table.json"
    found: dict[str, dict[str, np.ndarray]] = {column: {} for column in columns}
    for cell in json.loads(path.read_text())["cells"]:
        column, row = cell["column"], cell["row"]
        seeds = cell["num_seeds"] if cell["num_seeds"] > 1 else cell["num_instances"]
        if column in found and row.endswith(suffix) and seeds > 1:
            low, high = cell["ci"]
            like = sign * seeds_like(cell["mean"], low, high, seeds)
            found[column][row.removesuffix(suffix)] = like
    return found


def main() -> None:
    made = {("rules", f"{script}.py"): told for script, told in of_rules().items()}
    made |= {(name, "telling_apart.py"): told for name, told in of_tables().items()}
    for (name, script), told in made.items():
        path = PAGES / f"{name}.md"
        path.write_text(rewritten(path.read_text(), script, told))
        print(name, told.partition("\n\n")[2], sep="\n")


if __name__ == "__main__":
    main()
