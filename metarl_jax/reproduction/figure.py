"""The figure of a reproduced table, from what was recorded of it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from metarl_jax.plotting import GREY, PALETTE, STYLE, write_png
from metarl_jax.reproduction.table import intervals

# By whether a cell agrees with what was published; None where nothing was.
OURS: dict[bool | None, dict[str, Any]] = {
    verdict: {
        "color": colour,
        "marker": "o",
        "markersize": 5,
        "linestyle": "none",
        "zorder": 4,
        "label": label,
    }
    for verdict, colour, label in (
        (True, PALETTE[0], "ours, agrees with the published"),
        (False, PALETTE[1], "ours, differs"),
        (None, GREY, "ours, nothing published"),
    )
}
PUBLISHED: dict[str, Any] = {
    "color": "black",
    "marker": "D",
    "markerfacecolor": "white",
    "linestyle": "none",
    "zorder": 2,
    "label": "published",
}


def draw(result: Mapping[str, Any], path: Path) -> Path:
    """Draws the measured means with their intervals beside the published values.

    Args:
      result: what `reproduce` returned.
      path: of the PNG.

    Returns:
      The path.

    Raises:
      ValueError: if nothing was measured, or the file cannot be written.
    """
    if not result["cells"]:
        raise ValueError(f"{result['table']}: no cell has been computed yet")
    with rc_context(STYLE):
        return write_png(table_figure(result), path)


def draw_curves(result: Mapping[str, Any], path: Path) -> Path | None:
    """Draws how the cells that were trained have learned, a panel each.

    Args:
      result: what `reproduce` returned.
      path: of the PNG.

    Returns:
      The path; None if no cell has a curve.

    Raises:
      ValueError: if the file cannot be written.
    """
    cells = [cell for cell in result["cells"] if cell.get("curve")]
    if not cells:
        return None
    with rc_context(STYLE):
        return write_png(curves_figure(result, cells), path)


def curves_figure(
    result: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]
) -> Figure:
    """Draws the return of a trial against environment steps, a line each seed.

    Cells that are of the same runs, such as those of a trial's episodes, share a panel.
    """
    panels: dict[str, list[Mapping[str, Any]]] = {}
    for cell in cells:
        panels.setdefault(json.dumps(cell["curve"]), []).append(cell)
    width = min(3, len(panels))
    height = -(-len(panels) // width)
    figure = Figure(figsize=(4 * width, 3 * height + 0.6), layout="constrained")
    all_axes = figure.subplots(height, width, squeeze=False)
    for axes in all_axes.flat[len(panels) :]:
        axes.set_visible(False)
    for axes, (cell, *others) in zip(all_axes.flat, panels.values(), strict=False):
        steps = np.array(cell["curve"]["environment_steps"]) / 1e6
        for seed, returns in enumerate(np.transpose(cell["curve"]["return"])):
            label = "a seed, while training" if seed == 0 else None
            axes.plot(steps, returns, color=PALETTE[0], lw=1, label=label)
        levels = {"published": (PALETTE[1], "-"), "mean": ("black", "--")}
        for name, (colour, style) in levels.items():
            # A regret is not a return, nor is an episode's one a trial's.
            of_trial = not (others or result.get("lower_is_better"))
            if cell[name] is not None and of_trial:
                label = "when trained" if name == "mean" else name
                axes.axhline(cell[name], color=colour, ls=style, lw=1.4, label=label)
        title = cell["row"] if others else f"{cell['row']}, {cell['column']}"
        axes.set_title(title, loc="left")
        axes.set_xlabel("environment steps, millions")
    all_axes[0, 0].set_ylabel("return of a trial")
    all_axes[0, 0].legend(loc="lower right")
    figure.suptitle(result["title"], x=0.01, ha="left", fontsize=12)
    return figure


def table_figure(result: Mapping[str, Any]) -> Figure:
    """Draws one panel for each column, the rows below one another."""
    cells = {(cell["row"], cell["column"]): cell for cell in result["cells"]}
    columns = [c for c in result["columns"] if any(c == column for _, column in cells)]
    rows = [r for r in result["rows"] if any(r == row for row, _ in cells)]
    width = min(3, len(columns))
    height = -(-len(columns) // width)
    figure = Figure(
        figsize=(3.3 * width + 1.8, (0.27 * len(rows) + 0.9) * height + 0.8),
        layout="constrained",
    )
    all_axes = figure.subplots(height, width, sharey=True, squeeze=False)
    for axes in all_axes.flat[len(columns) :]:
        axes.set_visible(False)
    for axes, column in zip(all_axes.flat, columns, strict=False):
        for y, row in enumerate(rows):
            if (cell := cells.get((row, column))) is not None:
                _draw_cell(axes, y, cell)
        axes.set_title(column, loc="left")
        axes.set_yticks(np.arange(len(rows)), rows)
        axes.set_ylim(len(rows) - 0.5, -0.5)
    title = figure.suptitle(
        f"{result['title']}: {result['quantity']}\nmean and {intervals(result)}"
    )
    title.set(x=0.01, ha="left", fontsize=12)
    found = [axes.get_legend_handles_labels() for axes in all_axes.flat]
    handles = {
        label: handle for pair in found for handle, label in zip(*pair, strict=True)
    }
    labels = [look["label"] for look in (*OURS.values(), PUBLISHED)]
    labels = [label for label in labels if label in handles]
    figure.legend(
        [handles[label] for label in labels],
        labels,
        loc="outside lower center",
        ncols=min(4, width + 1),
    )
    return figure


def _draw_cell(axes: Any, y: int, cell: Mapping[str, Any]) -> None:
    if cell["published"] is not None:
        axes.plot(cell["published"], y, **PUBLISHED)
    mean, low, high = np.array([cell["mean"], *cell["ci"]], float)  # NaN for None
    look = OURS[cell.get("agrees")]
    axes.plot([low, high], [y, y], color=look["color"], lw=1.6, zorder=3)
    axes.plot(mean, y, **look)
