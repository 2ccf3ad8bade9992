"""Tables of adaptation, from `evaluation.json`, as markdown, CSV and LaTeX."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from metarl_jax import differences
from metarl_jax.runs import protocol

Results = Mapping[str, Mapping[str, Any]]  # by the run's label

_COLUMNS = (
    *("run", "row", "adaptation_step", "mean", "ci_low", "ci_high"),
    *("iqm", "iqm_ci_low", "iqm_ci_high", "interval"),
    *("num_seeds", "num_tasks", "num_episodes"),
)


def markdown(results: Results) -> str:
    """Returns means and intervals after 0…K adaptation steps, a row for each run."""
    steps = _steps(results)
    rows = [
        "| run | " + " | ".join(f"after {step}" for step in steps) + " | interval |",
        "|---" * (len(steps) + 2) + "|",
    ]
    for label, result in results.items():
        cells = [
            f"{_number(mean)} [{_number(low)}, {_number(high)}]"
            for mean, (low, high) in zip(
                result["return_mean"], result["return_ci"], strict=True
            )
        ]
        cells += [""] * (len(steps) - len(cells))
        rows.append(f"| {label} | {' | '.join(cells)} | {protocol.interval(result)} |")
    return "\n".join(rows)


def pairs(results: Results) -> list[differences.Pair]:
    """Compares each two of several runs after the last step that all have.

    Those of which the returns were not recorded are left out, and two that acted in
    different worlds.
    """
    step = min(max(result["adaptation_step"]) for result in results.values())
    returns, met, worlds = {}, {}, {}
    for label, result in results.items():
        if "returns" in result:
            returns[label] = np.array(result["returns"], float)[:, :, step]
            met[label] = result.get("heldout_tasks")
            worlds[label] = result.get("world")
    return differences.compare_all(returns, met, worlds=worlds)


def differences_markdown(results: Results) -> str:
    """Returns which differences of several runs are real, a row for each two.

    Empty where there are no two that can be compared.
    """
    head, rows, said = differences_cells(results)
    if not rows:
        return ""
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:], "", said])


def differences_cells(results: Results) -> tuple[list[str], list[list[str]], str]:
    """Returns head and rows of the table of differences, and what it means."""
    if len(results) < 2:
        return [], [], ""
    step = min(max(result["adaptation_step"]) for result in results.values())
    head = [f"after {step}", "difference", "better on", "p", "more seeds needed"]
    rows, found = [], pairs(results)
    for pair in found:
        gap, odds = pair.difference, pair.improvement
        percent = [_percent(x) for x in (odds.value, odds.ci_low, odds.ci_high)]
        rows.append(
            [
                f"{pair.one} - {pair.other}",
                f"{_number(gap.value)} [{_number(gap.ci_low)}, {_number(gap.ci_high)}]",
                "{} % [{}, {}]".format(*percent),
                _number(pair.p_value, digits=3),
                "–" if pair.more_seeds is None else str(pair.more_seeds),
            ]
        )
    return head, rows, said_of(found) if found else ""


def said_of(found: Sequence[differences.Pair]) -> str:
    """Says what a table of differences means."""
    alike = "Compared task by task"
    if not all(pair.paired for pair in found):
        alike += " where the tasks are the same"
    over = "seeds" if all(pair.num_seeds > 1 for pair in found) else "tasks"
    alone = "" if over == "seeds" else ", of one seed: another training may differ"
    count = f"{len(found)} pair{'s' * (len(found) > 1)}"
    return (
        f"{alike}; 95 % intervals over {over}{alone}; p corrected for {count} (Holm): "
        "below .05 is real, but for one such table in twenty. More seeds of each would "
        "tell two apart if they differ, and seeds vary, as measured here."
    )


def as_csv(results: Results) -> str:
    """Returns a line for each run, row and adaptation step, references among them.

    What was not measured, or is not finite, is empty.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for label, result in results.items():
        counts = {key: result[key] for key in _COLUMNS[-3:]}
        for name, row in rows_of(result).items():
            said = {} if name in result["published"] else counts
            if said:
                said = {**said, "interval": protocol.interval(result)}
            for step, values in enumerate(row):
                cells = dict(zip(_COLUMNS[3:9], values, strict=True))
                where = {"run": label, "row": name, "adaptation_step": step}
                writer.writerow({**where, **cells, **said})
    return text.getvalue()


def as_latex(results: Results) -> str:
    r"""Returns a `tabular` of the package booktabs, to be put into a paper.

    A single run stands beside its references and published values, several beside one
    another. What the intervals are is said in a comment, for the caption.
    """
    steps = _steps(results)
    alone = len(results) == 1
    lines: list[tuple[str, Sequence[Any]]] = []
    for label, result in results.items():
        rows = rows_of(result)
        if not alone:
            lines.append((label, rows["meta-learned"]))
            continue
        lines += rows.items()
    units = dict.fromkeys(
        result.get("adaptation_unit", "adaptation steps") for result in results.values()
    )
    said = dict.fromkeys(
        f"{protocol.interval(result)}, {protocol.counts(result)}"
        for result in results.values()
    )
    body = []
    for name, row in lines:
        cells = [_latex_cell(values) for values in row[: len(steps)]]
        cells += [""] * (len(steps) - len(cells))
        body.append(" & ".join([_escaped(name), *cells]) + r" \\")
    return "\n".join(
        [
            *(f"% mean and {_escaped(text)}" for text in said),
            rf"\begin{{tabular}}{{l{'r' * len(steps)}}}",
            r"\toprule",
            rf" & \multicolumn{{{len(steps)}}}{{c}}{{return after "
            rf"{_escaped(' or '.join(units))}}} \\",
            " & ".join(["", *map(str, steps)]) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _steps(results: Results) -> range:
    last = max(max(result["adaptation_step"]) for result in results.values())
    return range(last + 1)


def rows_of(result: Mapping[str, Any]) -> dict[str, list[list[float | None]]]:
    """Returns mean, interval, interquartile mean and its interval, step by step."""
    rows = {}
    for name, row in {"meta-learned": result, **result["references"]}.items():
        nothing = [None] * len(row["return_mean"])
        pairs = row.get("return_iqm_ci", [[None, None]] * len(nothing))
        rows[name] = [
            [mean, *ci, iqm, *pair]
            for mean, ci, iqm, pair in zip(
                row["return_mean"],
                row["return_ci"],
                row.get("return_iqm", nothing),
                pairs,
                strict=True,
            )
        ]
    for name, values in result["published"].items():
        rows[name] = [[value, *[None] * 5] for value in values]
    return rows


def _number(x: float | None, digits: int = 2) -> str:
    return "–" if x is None or not np.isfinite(x) else f"{x:.{digits}f}"


def _percent(x: float) -> str:
    return "–" if not np.isfinite(x) else f"{100 * x:.0f}"


def _latex_cell(values: Sequence[float | None]) -> str:
    mean, low, high = values[:3]
    if mean is None:
        return "--"
    if low is None or high is None or low == high:
        return f"${mean:.2f}$"
    return f"${mean:.2f}$ {{\\small $[{low:.2f}, {high:.2f}]$}}"


def _escaped(text: str) -> str:
    """Makes LaTeX show a name as it is."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}"}
    special |= {"^": r"\textasciicircum{}"} | {c: f"\\{c}" for c in "&%$#_{}"}
    return "".join(special.get(letter, letter) for letter in text)
