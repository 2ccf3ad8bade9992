"""Returns against meta-training steps, adaptation steps or interaction."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from metarl_jax import differences
from metarl_jax.plotting.style import (
    GREY,
    PALETTE,
    finite_or_nan,
    legend_below,
    new_figure,
    plain,
    set_title,
)
from metarl_jax.runs import protocol

# What learning is drawn against: the field of a row, and the axis' name.
_ALONG = {
    "steps": ("step", "meta-training step"),
    "environment-steps": ("environment_steps", "environment steps"),
    "seconds": ("seconds", "seconds of training"),
}


def learning_curve(
    metrics: Mapping[str, Sequence[Mapping[str, Any]]], *, x: str = "steps"
) -> Figure:
    """Draws the return before and after adaptation against what was spent on it.

    Args:
      metrics: the lines of `metrics.jsonl` by the run's label. Seeds that were trained
        together are drawn faintly behind their mean.
      x: `"steps"` of meta-training, `"environment-steps"` (`environment_steps` of each
        line; episodes that end early counted as whole ones) or `"seconds"`.

    Raises:
      ValueError: if `x` is none of these, or a run does not say it.
    """
    if x not in _ALONG:
        raise ValueError(f"x must be one of {', '.join(_ALONG)}; got {x!r}")
    along, name_of_axis = _ALONG[x]
    for label, rows in metrics.items():
        if any(along not in row for row in rows):
            raise ValueError(
                f"x={x} must be recorded to be drawn against; {label} does not say it"
            )
    figure, axes = new_figure()
    alone = len(metrics) == 1
    for i, (label, rows) in enumerate(metrics.items()):
        step = np.array([row[along] for row in rows])
        for field, what in (
            ("return_after", "after adaptation"),
            ("return_before", "before adaptation"),
        ):
            after = field == "return_after"
            colour = PALETTE[(int(not after) if alone else i) % len(PALETTE)]
            style = "-" if alone or after else (0, (1.2, 1.2))
            look = {"linestyle": style, "color": colour}
            if "seeds" in rows[0]:
                members = np.array([row["seeds"][field] for row in rows], float)
                for member in members.T:
                    faint = {"alpha": 0.25, "lw": 0.8, "markersize": 2}
                    axes.plot(step, member, **look, **faint, **_lone(member))
            mean = finite_or_nan(row[field] for row in rows)
            name = what if alone else plain(f"{label}, {what}")
            axes.plot(step, mean, **look, lw=1.8, label=name, **_lone(mean))
    axes.set_xlabel(name_of_axis)
    axes.set_ylabel("mean return of an episode")
    whole = x != "seconds"
    axes.xaxis.set_major_locator(MaxNLocator(integer=whole, min_n_ticks=1))
    axes.margins(x=0.02)
    if x == "steps" and {row["step"] for rows in metrics.values() for row in rows} == {
        1
    }:
        axes.set_xlim(0.5, 1.5)
    if alone:
        ((label, rows),) = metrics.items()
        axes.set_title(plain(f"{label}: meta-training"), loc="left")
        if x == "steps":
            _seconds_axis(axes, rows)
    else:
        axes.set_title("Meta-training", loc="left")
    legend_below(figure, axes)
    return figure


def adaptation_curve(evaluations: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draws the return on held-out tasks against adaptation steps or episodes.

    Args:
      evaluations: `evaluation.json` by the run's label. A single run is drawn beside
        its reference rows, several beside the published values they share.
    """
    figure, axes = new_figure()
    alone = len(evaluations) == 1
    for i, (label, result) in enumerate(evaluations.items()):
        step = np.array(result["adaptation_step"])
        colour = PALETTE[i % len(PALETTE)]
        _row(axes, step, result, colour, "meta-learned" if alone else plain(label))
        if not alone:
            continue
        for j, (name, row) in enumerate(result["references"].items()):
            # An oracle is the same at every step: a level, not a curve.
            level = len(set(row["return_mean"])) == 1
            style = ("--", "") if level else (":", "o")
            _row(axes, step, row, PALETTE[(j + 1) % 6], plain(name), *style)
    published: dict[str, Sequence[float]] = {}
    for result in evaluations.values():
        published |= result["published"]
    last = max(max(result["adaptation_step"]) for result in evaluations.values())
    for marker, (name, values) in zip("DsP^v*X", published.items(), strict=False):
        shown = finite_or_nan(values)[: last + 1]
        axes.plot(
            np.arange(len(shown)),
            shown,
            marker,
            color="black",
            markerfacecolor="white",
            markersize=7,
            label=plain(f"{name} (published)"),
            zorder=4,
        )
    axes.set_xlabel(_unit(evaluations))
    axes.set_ylabel("mean return of an episode")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if last == 0:
        axes.set_xticks([0])
    results = list(evaluations.values())
    intervals = list(dict.fromkeys(map(protocol.interval, results)))
    counts = set(map(protocol.counts, results))
    said = [f"mean and {' or '.join(intervals)}"]
    if len(counts) == 1:
        said[0] += f", {counts.pop()}"
    if unalike := protocol.differences(results):
        said.append(f"evaluated differently: {unalike}")
    said += [
        f"no mean where returns are not finite{'' if alone else f', {label}'}: of "
        f"{result['num_seeds'] * result['num_tasks']} tasks up to {max(not_finite)}"
        for label, result in evaluations.items()
        if any(not_finite := result.get("num_not_finite", []))
    ]
    title = f"{next(iter(evaluations))}: held-out tasks" if alone else "Held-out tasks"
    set_title(axes, title, "\n".join(said))
    legend_below(figure, axes)
    return figure


def performance_profiles(evaluations: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draws which share of the held-out tasks each run reaches a return on.

    After the last adaptation step that all runs have.

    Args:
      evaluations: `evaluation.json` by the run's label, with `returns`.
    """
    figure, axes = new_figure()
    step = min(max(result["adaptation_step"]) for result in evaluations.values())
    returns = {
        label: np.array(result["returns"], float)[:, :, step]
        for label, result in evaluations.items()
    }
    ends = [f(x) for x in returns.values() for f in (np.nanmin, np.nanmax)]
    thresholds = np.linspace(min(ends), max(ends), 200)
    for i, (label, values) in enumerate(returns.items()):
        share, low, high = differences.performance_profile(values, thresholds)
        colour = PALETTE[i % len(PALETTE)]
        axes.plot(thresholds, share, color=colour, label=plain(label))
        axes.fill_between(thresholds, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_xlabel(f"return on a task after {step} {_unit(evaluations)}, τ")
    axes.set_ylabel("share of tasks above τ")
    axes.set_ylim(-0.02, 1.02)
    found = list(dict.fromkeys(map(protocol.interval, evaluations.values())))
    set_title(axes, "Performance profiles", f"share and {' or '.join(found)}")
    legend_below(figure, axes)
    return figure


def _unit(evaluations: Mapping[str, Mapping[str, Any]]) -> str:
    """Says what adaptation is counted in."""
    units = dict.fromkeys(
        result.get("adaptation_unit", "adaptation steps")  # older records lack it
        for result in evaluations.values()
    )
    return plain(" or ".join(units))


def sample_efficiency(record: Mapping[str, Any]) -> Figure:
    """Draws the return against the steps of interaction that each learner has taken.

    Args:
      record: `learners`, by name, with the `return_mean` and `return_ci` at each of
        `steps`; the return `level` to reach; the number of `tasks`.
    """
    figure, axes = new_figure()
    steps = np.array(record["steps"], float)
    for i, (label, row) in enumerate(record["learners"].items()):
        _row(axes, steps, row, PALETTE[i % len(PALETTE)], plain(label), marker="")
    axes.axhline(record["level"], color=GREY, lw=1, linestyle=(0, (4, 3)))
    axes.annotate(
        f"{record['level']:g}",
        (1, record["level"]),
        xycoords=("axes fraction", "data"),
        xytext=(4, 0),
        textcoords="offset points",
        color=GREY,
        va="center",
    )
    axes.set_xscale("log")
    axes.set_xlim(steps[0], steps[-1])
    axes.set_xlabel("steps of interaction with a new task")
    axes.set_ylabel("mean return of an episode")
    interval = record.get("interval", "95 % bootstrap interval over tasks")
    said = f"mean and {interval}, {record['num_tasks']} held-out tasks"
    set_title(axes, "Learning a new task", said)
    legend_below(figure, axes)
    return figure


def _row(
    axes: Axes,
    step: np.ndarray,
    row: Mapping[str, Any],
    colour: str,
    label: str,
    style: str = "-",
    marker: str = "o",
) -> None:
    """Draws one mean with its interval."""
    mean = finite_or_nan(row["return_mean"])
    low, high = np.array(row["return_ci"], float).T
    if len(step) == 1:
        # Nothing to go along: what has a marker is a point, a level crosses the axes.
        step = step[[0, 0]] + (np.zeros(2) if marker else np.array([-0.5, 0.5]))
        mean, low, high = (np.repeat(x, 2) for x in (mean, low, high))
        axes.set_xlim(-0.5, 0.5)
    axes.fill_between(step, low, high, color=colour, alpha=0.15, lw=0)
    axes.plot(
        step,
        mean,
        linestyle=style,
        marker=marker,
        color=colour,
        lw=2 if style == "-" else 1.5,
        markersize=5,
        label=label,
    )


def _seconds_axis(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Adds the seconds of training as a second axis on top."""
    step = np.array([row["step"] for row in rows], float)
    seconds = np.array([row["seconds"] for row in rows], float)
    if len(step) < 2 or not np.all(np.diff(seconds) > 0):
        return

    def linear(x, known, values):
        """Interpolates, and extrapolates at the mean rate."""
        rate = (values[-1] - values[0]) / (known[-1] - known[0])
        inside = np.interp(x, known, values)
        below = np.minimum(x - known[0], 0) * rate
        return inside + below + np.maximum(x - known[-1], 0) * rate

    top = axes.secondary_xaxis(
        "top",
        functions=(
            lambda x: linear(np.asarray(x), step, seconds),
            lambda x: linear(np.asarray(x), seconds, step),
        ),
    )
    top.xaxis.set_major_locator(MaxNLocator(6))
    top.set_xlabel("seconds of training", color=GREY)
    top.tick_params(colors=GREY)
    top.spines["top"].set_visible(False)


def _lone(y: np.ndarray) -> dict[str, Any]:
    """Marks finite values without one beside them, which no line shows."""
    there = np.isfinite(np.pad(y, 1, constant_values=np.nan))
    lone = np.flatnonzero(there[1:-1] & ~there[:-2] & ~there[2:])
    return {"marker": "o", "markevery": lone.tolist()} if lone.size else {}
