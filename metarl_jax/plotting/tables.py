"""Tables of adaptation, from `evaluation.json`, as markdown, CSV and LaTeX."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

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


def _number(x: float | None) -> str:
    return "–" if x is None or not np.isfinite(x) else f"{x:.2f}"


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
