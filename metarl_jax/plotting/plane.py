"""Tasks in the plane: paths, beliefs about goals, and where goals are."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.ticker import MaxNLocator

from metarl_jax.plotting.style import (
    GREY,
    PALETTE,
    legend_below,
)


def paths(recorded: Mapping[str, Any]) -> Figure:
    """Draws paths in the plane before and after adaptation on a few held-out tasks.

    Args:
      recorded: `paths.json`: of each task its goal and, for every number of
        adaptation steps, some episodes as lists of points.
    """
    tasks = recorded["tasks"]
    last = len(tasks[0]["paths"]) - 1
    rounds = [(0, "before adaptation", GREY)]
    if last > 0:
        rounds.append((1, "after 1 step", PALETTE[0]))
    if last > 1:
        rounds.append((last, f"after {last} steps", PALETTE[1]))
    drawn = [task["paths"][number] for task in tasks for number, *_ in rounds]
    goals = [task["goal"] for task in tasks]
    points = np.concatenate([[[0, 0]], goals, *(p for paths in drawn for p in paths)])
    low, high = _limits(points)
    width, height = 2.3 * (high - low) / np.max(high - low)
    figure = Figure()
    all_axes = figure.subplots(1, len(tasks), sharex=True, sharey=True, squeeze=False)
    for task, axes in zip(tasks, all_axes[0], strict=True):
        for number, label, colour in rounds:
            for i, path in enumerate(task["paths"][number]):
                look = {"color": colour, "lw": 0.8, "alpha": 0.75}
                x, y = np.array(path, float).T
                axes.plot(x, y, **look, label=label if i == 0 else None)
        axes.plot(
            0, 0, "o", color="black", markersize=4, label="start", linestyle="none"
        )
        _goal(axes, task["goal"], colour=PALETTE[5], size=14)
        _plane(axes, low, high)
        x, y = np.array(task["goal"], float)
        axes.set_title(f"goal ({x:.2f}, {y:.2f})", fontsize=9.5)
        axes.set_xlabel("x")
    all_axes[0][0].set_ylabel("y")
    legend = _place(figure, all_axes, [width] * len(tasks), height)
    for handle in legend.get_lines()[: len(rounds)]:
        handle.set(linewidth=2, alpha=1)
    return figure


def beliefs(recorded: Mapping[str, Any]) -> Figure:
    """Draws how the belief about a task changes from round to round on a few tasks.

    A row for each task: in the plane what samples of the belief would do and what was
    done; at its end the beliefs themselves, one standard deviation around their means,
    projected to the two directions in which beliefs differ most. The dots there are the
    last beliefs about these and other tasks, in the colours of their goals.

    Args:
      recorded: `paths.json` of a method that has beliefs.
    """
    tasks, goals = recorded["tasks"], np.array(recorded["beliefs"]["goal"], float)
    mean, std = (np.array(recorded["beliefs"][name], float) for name in ("mean", "std"))
    num_rounds = mean.shape[1]
    mean = mean - np.nan_to_num(mean).mean(axis=(0, 1))
    # Of a belief of one number the second direction is nothing.
    missing = [(0, 0), (0, 0), (0, max(0, 2 - mean.shape[-1]))]
    mean, std = np.pad(mean, missing), np.pad(std, missing)
    flat = np.nan_to_num(mean).reshape(-1, mean.shape[-1])
    directions = np.linalg.svd(flat)[2][:2]
    mean = mean @ directions.T
    angles = np.arctan2(goals[:, 1], goals[:, 0])
    share = (angles - np.nanmin(angles)) / (np.ptp(angles) or 1)
    colours = colormaps["viridis"](0.95 * share)
    drawn = [
        path
        for task in tasks
        for k in range(num_rounds)
        for path in (*task["belief_paths"][k], task["paths"][k][0])
    ]
    low, high = _limits(np.concatenate([goals, *drawn]))
    width, height = 1.9 * (high - low) / np.max(high - low)

    figure = Figure()
    all_axes = figure.subplots(len(tasks), num_rounds + 1, squeeze=False)
    for i, (task, row) in enumerate(zip(tasks, all_axes, strict=True)):
        for k, axes in enumerate(row[:-1]):
            axes.scatter(*goals.T, s=2, color="#b0b0b0", label="goals there are")
            for j, points in enumerate(task["belief_paths"][k]):
                label = None if j else "by samples of the belief"
                x, y = np.array(points, float).T
                axes.plot(x, y, color=PALETTE[4], lw=0.8, alpha=0.7, label=label)
            x, y = np.array(task["paths"][k][0], float).T
            axes.plot(x, y, color=PALETTE[1], lw=1.8, label="what was done")
            _goal(axes, task["goal"], colour=colours[i], size=11)
            _plane(axes, low, high)
            axes.set(xlabel="x", ylabel="y")
            axes.tick_params(labelsize=8)
            axes.label_outer()
            if i < len(tasks) - 1:
                axes.tick_params(labelbottom=False)
            if i == 0:
                axes.set_title(f"round {k + 1}", fontsize=10)
        axes = row[-1]
        axes.scatter(*mean[:, -1].T, s=9, color=colours, lw=0)
        for k in range(num_rounds):
            covariance = directions @ np.diag(std[i, k] ** 2) @ directions.T
            axes.plot(
                *_ellipse(mean[i, k], covariance),
                color=str(0.75 * (1 - k / max(1, num_rounds - 1))),
                lw=1.2,
            )
        axes.set_aspect("equal", adjustable="datalim")
        axes.tick_params(labelbottom=False, labelleft=False, length=0)
        axes.set_ylabel("second direction", fontsize=9)
        if i == len(tasks) - 1:
            axes.set_xlabel("first direction", fontsize=9)
        if i == 0:
            axes.set_title("belief, light to dark", fontsize=10)
    legend = _place(figure, all_axes, [width] * num_rounds + [1.9], height)
    for handle in legend.get_lines():
        handle.set(linewidth=2, alpha=1)
    return figure


def goal_beliefs(recorded: Mapping[str, Any]) -> Figure:
    """Draws where a learner on a grid believes the goal to be, beside the exact answer.

    Of each trial the start, steps of the search, the step after which the goal is
    known, and the end.

    Args:
      recorded: `goal_beliefs.json`, of N trials of L steps in episodes of T on S × S
        cells:
        `goal` `[N, 2]`; `cell` `[N, L + 1, 2]`, where the agent is before each step and
        after the last; `learned` and `exact` `[N, L + 1, S, S]`, the probability by
        (x, y) that the goal is there; and `horizon`, T.
    """
    goals, cells = np.array(recorded["goal"]), np.array(recorded["cell"])
    rows = {
        "learned belief": np.array(recorded["learned"], float),
        "exact posterior": np.array(recorded["exact"], float),
    }
    num_trials, last, horizon = len(goals), cells.shape[1] - 1, recorded["horizon"]
    figure = Figure(figsize=(11, 3.2 * num_trials + 0.5), layout="constrained")
    all_axes = figure.subplots(2 * num_trials, 7, squeeze=False)
    # Equal steps in colour for a twentieth, a fifth and a half.
    norm = PowerNorm(0.5, vmin=0, vmax=1)
    for n, pair in enumerate(np.split(all_axes, num_trials)):
        known = np.max(rows["exact posterior"][n], axis=(1, 2)) > 0.999
        found = int(np.argmax(known)) if known.any() else last
        search = np.round(np.linspace(0, found, 6)).astype(int)
        titles = ["at the start", *[f"after {t} steps" for t in search[1:]]]
        if known.any():
            titles[-1] = f"found, step {found}"
        titles.append(f"the end, step {last}")
        for title, axes in zip(titles, pair[0], strict=True):
            axes.set_title(title, fontsize=10.5)
        for (name, values), row_axes in zip(rows.items(), pair, strict=True):
            row_axes[0].set_ylabel(name)
            for t, axes in zip([*search, last], row_axes, strict=True):
                axes.imshow(values[n, t].T, origin="lower", cmap="viridis", norm=norm)
                # The steps of this episode so far; at the end, all of the last.
                first = (t - (t == last)) // horizon * horizon
                x, y = cells[n, first : t + 1].T
                axes.plot(x, y, color="white", lw=1.2, alpha=0.8)
                axes.plot(x[-1], y[-1], "o", color="white", markersize=6)
                axes.plot(
                    *goals[n],
                    "*",
                    color="none",
                    markeredgecolor=PALETTE[1],
                    markeredgewidth=1.3,
                    markersize=15,
                )
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
                axes.grid(visible=False)
    figure.colorbar(
        all_axes[0, 0].images[0],
        ax=all_axes,
        ticks=[0, 0.05, 0.2, 0.5, 1],
        aspect=40,
        pad=0.01,
    )
    figure.suptitle(
        "Probability that the goal (star) is in a cell; in white the agent and its way",
        **{"x": 0.01, "ha": "left"},
    )
    return figure


def _limits(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the corners `[2]` of a box around points `[P, 2]`, not too slim."""
    points = points[np.isfinite(points).all(axis=1)]
    low, high = points.min(axis=0), points.max(axis=0)
    size = np.max(high - low) or 1.0
    half = np.maximum(1.1 * (high - low), 0.7 * size) / 2
    return (low + high) / 2 - half, (low + high) / 2 + half


def _place(
    figure: Figure, all_axes: np.ndarray, widths: Sequence[float], height: float
) -> Legend:
    """Gives panels their sizes in inches, so that there is room for what is around.

    Args:
      figure: whose size is set.
      all_axes: `[R, C]` its panels, in which all is drawn.
      widths: `[C]` of the panels.
      height: of each.

    Returns:
      The legend, which is put below.
    """
    gap, left, right, top = 0.3, 0.75, 0.2, 0.35
    across = sum(widths) + gap * (len(widths) - 1)
    room = max(across, 4.2)
    figure.set_figwidth(left + room + right)
    legend, num_lines = legend_below(figure, all_axes[0, 0])
    bottom = 0.55 + 0.25 * num_lines
    figure.set_figheight(bottom + len(all_axes) * (height + gap) - gap + top)
    size = figure.get_size_inches()
    for i, row in enumerate(all_axes[::-1]):
        x, y = left + (room - across) / 2, bottom + i * (height + gap)
        for axes, width in zip(row, widths, strict=True):
            axes.set_position([*([x, y] / size), *([width, height] / size)])
            x += width + gap
    return legend


def _plane(axes: Axes, low: np.ndarray, high: np.ndarray) -> None:
    """Shows a part of the plane, both directions to one scale."""
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(3))


def _ellipse(centre: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Returns points `[2, 100]` at one standard deviation from the centre."""
    angle = np.linspace(0, 2 * np.pi, 100)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    values, vectors = np.linalg.eigh(np.nan_to_num(covariance))
    return centre[:, None] + vectors * np.sqrt(np.maximum(values, 0)) @ circle


def _goal(axes: Axes, goal: Sequence[float], *, colour: Any, size: float) -> None:
    axes.plot(
        *goal,
        "*",
        color=colour,
        markeredgecolor="black",
        markeredgewidth=0.6,
        markersize=size,
        label="goal",
        zorder=5,
    )
