"""The figure of a sweep, from what was recorded of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from metarl_jax.plotting import PALETTE, STYLE, plain, set_title, write_png
from metarl_jax.sweeps.combinations import shown_option, shown_value
from metarl_jax.sweeps.table import evaluated, finished_runs

MOST_CURVES = 6
MOST_DOTS = 40


def draw(record: Mapping[str, Any], path: Path) -> Path:
    """Draws the returns of a sweep's runs.

    Args:
      record: what `metarl_jax.sweeps.sweep.sweep` returned.
      path: of the PNG.

    Returns:
      The path.

    Raises:
      ValueError: if no run is finished, or the file cannot be written.
    """
    if not finished_runs(record):
        raise ValueError("no run of the sweep is finished: nothing to draw")
    with rc_context(STYLE):
        return write_png(sweep_figure(record), path)


def sweep_figure(record: Mapping[str, Any]) -> Figure:
    """Draws the return after the last adaptation step against what was varied.

    One number varied is a curve; a second option of few values gives each of its values
    a curve; two numbers of many values are points in the plane in the colour of their
    return. Everything else is a dot for each run, the best on top.
    """
    finished, interval = finished_runs(record), evaluated(record)[-1]
    found = {
        option: list(dict.fromkeys(map(_hashable, _column(finished, option))))
        for option in record["vary"]
    }
    values = {option: several for option, several in found.items() if len(several) > 1}
    numeric = [option for option in values if _is_numeric(values[option])]
    # Along the number of most values, a curve for each of the other option's.
    along = max(numeric, key=lambda option: len(values[option]), default=None)
    others = [option for option in values if option != along]
    few = all(len(values[option]) <= MOST_CURVES for option in others)
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    if along is not None and len(others) < 2 and few:
        axes = figure.subplots()
        _curves(axes, finished, along, others[0] if others else None)
        axes.set_ylabel(_returns(record))
        _label(axes, record, f"mean and {interval}")
        if others:
            handles, labels = axes.get_legend_handles_labels()
            figure.legend(
                handles,
                labels,
                title=shown_option(others[0]),
                loc="outside lower center",
                ncols=len(labels),
            )
    elif along is not None and len(values) == len(numeric) == 2:
        axes = figure.subplots()
        bar = _plane(figure, axes, finished, along, others[0])
        bar.set_label(_returns(record))
        _label(axes, record, "mean", width=5.2)
    else:
        shown = finished[:MOST_DOTS]
        widest = max(len(run["name"]) for run in shown)
        figure.set_size_inches(5 + 0.09 * widest, 0.27 * len(shown) + 1.5)
        axes = figure.subplots()
        _dots(axes, shown)
        left_out = len(finished) - len(shown)
        best = f"the best {len(shown)} of {len(finished)}, " if left_out else ""
        _label(axes, record, f"{best}mean and {interval}", width=4)
        axes.set_xlabel(_returns(record))
    return figure


def _curves(
    axes: Axes, finished: Sequence[Mapping[str, Any]], along: str, other: str | None
) -> None:
    """Draws the return against one option, a curve for each value of another."""
    curves: dict[Any, list[Mapping[str, Any]]] = {}
    for run in finished:
        key = None if other is None else _hashable(run["options"][other])
        curves.setdefault(key, []).append(run)
    keys = sorted(curves) if other and _is_numeric(list(curves)) else list(curves)
    for i, key in enumerate(keys):
        runs = sorted(curves[key], key=lambda run: run["options"][along])
        x, mean = np.array(_column(runs, along), float), _last(runs, "return_mean")
        low, high = _last(runs, "return_ci").T
        colour = PALETTE[i]
        if _is_numeric(keys) and len(keys) > 1:
            colour = colormaps["viridis"](0.85 * i / (len(keys) - 1))
        axes.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
        axes.plot(
            x,
            mean,
            "o-",
            color=colour,
            lw=2,
            markersize=5,
            label=None if other is None else plain(shown_value(key)),
        )
    _scale(axes.xaxis, axes.set_xscale, _column(finished, along))
    axes.set_xlabel(shown_option(along))


def _plane(
    figure: Figure,
    axes: Axes,
    finished: Sequence[Mapping[str, Any]],
    along: str,
    other: str,
) -> Colorbar:
    """Draws runs as points in the plane of two options."""
    # The best are drawn last, on top.
    worst_first = finished[::-1]
    x, y = (np.array(_column(worst_first, option), float) for option in (along, other))
    points = axes.scatter(
        x,
        y,
        c=_last(worst_first, "return_mean"),
        cmap="viridis",
        s=70,
        edgecolors="white",
        linewidths=0.6,
    )
    _scale(axes.xaxis, axes.set_xscale, list(x))
    _scale(axes.yaxis, axes.set_yscale, list(y))
    axes.set_xlabel(shown_option(along))
    axes.set_ylabel(shown_option(other))
    bar = figure.colorbar(points, ax=axes, pad=0.01)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    return bar


def _dots(axes: Axes, finished: Sequence[Mapping[str, Any]]) -> None:
    """Draws runs below one another."""
    mean = _last(finished, "return_mean")
    for y, (low, high) in enumerate(_last(finished, "return_ci")):
        axes.plot([low, high], [y, y], color=PALETTE[0], lw=1.6)
    axes.plot(mean, np.arange(len(mean)), "o", color=PALETTE[0], markersize=4)
    names = [
        plain(run["name"].replace(",", "  ").replace("=", " ")) for run in finished
    ]
    axes.set_yticks(np.arange(len(mean)), names)
    axes.set_ylim(len(mean) - 0.5, -0.5)


def _returns(record: Mapping[str, Any]) -> str:
    unit, last, *_ = evaluated(record)
    if last == "1":
        unit = unit.replace("steps", "step").replace("episodes", "episode")
    return f"return after {last} {unit}"


def _label(
    axes: Axes, record: Mapping[str, Any], what: str, width: float = 6.2
) -> None:
    """Says above the axes what is drawn."""
    _, _, counts, _ = evaluated(record)
    title = f"{record['experiment']}: held-out tasks"
    set_title(axes, title, f"{what}, {counts}", width=width)


def _scale(axis: Any, set_scale: Any, values: Sequence[float]) -> None:
    """Makes an axis logarithmic where that spaces the values more evenly."""
    distinct = np.unique(np.array(values, float))
    if len(distinct) < 2 or distinct[0] <= 0:
        return

    def unevenness(x):
        gaps = np.diff(x)
        return np.std(gaps) / np.mean(gaps)

    if len(distinct) == 2:
        geometric = distinct[1] >= 5 * distinct[0]
    else:
        geometric = unevenness(np.log(distinct)) < unevenness(distinct)
    if not geometric:
        return
    set_scale("log")
    gaps = np.diff(np.log(distinct))
    if np.min(gaps) > np.sum(gaps) / 10 and all(len(f"{x:g}") < 6 for x in distinct):
        # Where there is room, the values themselves say more than powers of ten.
        axis.set_major_locator(FixedLocator(list(distinct)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(NullLocator())


def _column(runs: Sequence[Mapping[str, Any]], option: str) -> list[Any]:
    return [run["options"][option] for run in runs]


def _last(runs: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    """Returns what each run has after the last adaptation step, NaN for None."""
    return np.array([run[key][-1] for run in runs], float)


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _is_numeric(values: Sequence[Any]) -> bool:
    return all(
        isinstance(value, int | float) and not isinstance(value, bool)
        for value in values
    )
