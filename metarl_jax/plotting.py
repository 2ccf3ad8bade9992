"""Figures from what a run recorded: nothing is computed again, nothing is imported.

Each figure is a function of recorded JSON and can be drawn again at any time
(`metarl-jax plot RUN`). Several runs share one figure, a colour each.
"""

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.ticker import MaxNLocator

from metarl_jax.runs import drawable, files, protocol

# Okabe & Ito's palette, told apart by every kind of colour vision.
PALETTE = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
    "#000000",
)
GREY = "#6b6b6b"
STYLE: dict[Any, Any] = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.labelsize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "savefig.dpi": 150,
}


def plot_run(run_dir: str | Path, output_dir: str | Path | None = None) -> list[Path]:
    """Draws every figure that a run has the records for.

    Args:
      run_dir: the directory of the run.
      output_dir: where the figures go; None for the run's directory.

    Returns:
      The files written.

    Raises:
      ValueError: if `run_dir` is no run or has recorded nothing yet.
    """
    return plot_runs([run_dir], run_dir if output_dir is None else output_dir)


def plot_runs(run_dirs: Sequence[str | Path], output_dir: str | Path) -> list[Path]:
    """Draws the figures of one run, or compares several in one figure of each kind.

    Args:
      run_dirs: the directories of the runs.
      output_dir: where the figures go; created if there is none.

    Returns:
      The files written: `learning_curve.png`, `adaptation_curve.png` and, for a single
      run, `paths.png`, `beliefs.png` and `goal_beliefs.png` where these were recorded.

    Raises:
      ValueError: if a directory is no run or given twice, nothing was recorded yet, or
        a record is not what can be drawn.

    Warns:
      UserWarning: if runs that are compared were evaluated differently.
    """
    directories = [Path(run_dir) for run_dir in run_dirs]
    for i, directory in enumerate(directories):
        if directory.resolve() in [other.resolve() for other in directories[:i]]:
            raise ValueError(
                f"runs to compare must be different ones; got {directory} twice"
            )
    configs = [files.read_config(directory) for directory in directories]
    labels = _labels(directories, configs)
    metrics, evaluations = {}, {}
    for label, directory in zip(labels, directories, strict=True):
        if rows := drawable.read_returns(directory):
            metrics[label] = rows
        if result := drawable.read_evaluation(directory):
            evaluations[label] = result
    protocol.warn_of_differences(list(evaluations.values()))
    alone = directories[0] if len(directories) == 1 else None
    figures = {}
    with rc_context(STYLE):
        if metrics:
            figures["learning_curve.png"] = learning_curve(metrics)
        if evaluations:
            figures["adaptation_curve.png"] = adaptation_curve(evaluations)
        if alone and (recorded := drawable.read_paths(alone)):
            figures["paths.png"] = paths(recorded)
            if "beliefs" in recorded:
                figures["beliefs.png"] = beliefs(recorded)
        if alone and (recorded := drawable.read_goal_beliefs(alone)):
            figures["goal_beliefs.png"] = goal_beliefs(recorded)
        if not figures:
            raise ValueError(
                f"{', '.join(map(str, directories))}: nothing recorded to draw; a run "
                "that has trained at least one step is required"
            )
        output_dir = Path(output_dir)
        try:
            output_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"cannot write figures to {output_dir}: {error}") from None
        return [
            write_png(figure, output_dir / name) for name, figure in figures.items()
        ]


def write_png(figure: Figure, path: Path) -> Path:
    """Writes a figure whose directory exists; a link in its place is replaced.

    Returns:
      The path.

    Raises:
      ValueError: if the file cannot be written.
    """
    drawn = io.BytesIO()
    FigureCanvasAgg(figure).print_png(drawn)
    try:
        files.replace_bytes(path, drawn.getvalue())
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error}") from None
    return path


def learning_curve(metrics: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Draws the return before and after adaptation against meta-training steps.

    Args:
      metrics: the lines of `metrics.jsonl` by the run's label. Seeds that were trained
        together are drawn faintly behind their mean.
    """
    figure, axes = _figure()
    alone = len(metrics) == 1
    for i, (label, rows) in enumerate(metrics.items()):
        step = np.array([row["step"] for row in rows])
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
            mean = _floats(row[field] for row in rows)
            name = what if alone else plain(f"{label}, {what}")
            axes.plot(step, mean, **look, lw=1.8, label=name, **_lone(mean))
    axes.set_xlabel("meta-training step")
    axes.set_ylabel("mean return of an episode")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.margins(x=0.02)
    if {row["step"] for rows in metrics.values() for row in rows} == {1}:
        axes.set_xlim(0.5, 1.5)
    if alone:
        ((label, rows),) = metrics.items()
        axes.set_title(plain(f"{label}: meta-training"), loc="left")
        _seconds_axis(axes, rows)
    else:
        axes.set_title("Meta-training", loc="left")
    _legend(figure, axes)
    return figure


def adaptation_curve(evaluations: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draws the return on held-out tasks against adaptation steps or episodes.

    Args:
      evaluations: `evaluation.json` by the run's label. A single run is drawn beside
        its reference rows, several beside the published values they share.
    """
    figure, axes = _figure()
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
        shown = _floats(values)[: last + 1]
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
    units = dict.fromkeys(
        result.get("adaptation_unit", "adaptation steps")  # older records lack it
        for result in evaluations.values()
    )
    axes.set_xlabel(plain(" or ".join(units)))
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
    if differences := protocol.differences(results):
        said.append(f"evaluated differently: {differences}")
    said += [
        f"no mean where returns are not finite{'' if alone else f', {label}'}: of "
        f"{result['num_seeds'] * result['num_tasks']} tasks up to {max(not_finite)}"
        for label, result in evaluations.items()
        if any(not_finite := result.get("num_not_finite", []))
    ]
    title = f"{next(iter(evaluations))}: held-out tasks" if alone else "Held-out tasks"
    set_title(axes, title, "\n".join(said))
    _legend(figure, axes)
    return figure


def sample_efficiency(record: Mapping[str, Any]) -> Figure:
    """Draws the return against the steps of interaction that each learner has taken.

    Args:
      record: `learners`, by name, with the `return_mean` and `return_ci` at each of
        `steps`; the return `level` to reach; the number of `tasks`.
    """
    figure, axes = _figure()
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
    _legend(figure, axes)
    return figure


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
    legend, num_lines = _legend(figure, all_axes[0, 0])
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


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    return figure, figure.subplots()


def set_title(axes: Axes, title: str, said: str, *, width: float = 6.2) -> None:
    """Sets a title and says below it what is drawn, in lines of so many inches."""
    num = int(13 * width)
    wrapper = textwrap.TextWrapper(num, break_on_hyphens=False)
    lines = [part for line in said.split("\n") for part in wrapper.wrap(line)]
    said, title = "\n".join(lines), textwrap.fill(title, num * 3 // 4)
    axes.set_title(plain(title), loc="left", pad=8 + 14 * len(lines))
    axes.text(
        *(0, 1.02, plain(said)),
        **{"transform": axes.transAxes, "color": GREY, "fontsize": 9.5, "va": "bottom"},
    )


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
    mean = _floats(row["return_mean"])
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


def _legend(figure: Figure, axes: Axes) -> tuple[Legend, int]:
    """Puts the legend below the axes, where no curve can be, as wide as there is room.

    Returns:
      The legend, and of how many lines it is.
    """
    handles, labels = axes.get_legend_handles_labels()
    widest = max(map(len, labels))
    room = figure.get_figwidth() * 80 / 7
    ncols = max(1, min(len(labels), int(room / (widest + 8))))
    loc = "outside lower center" if figure.get_layout_engine() else "lower center"
    legend = figure.legend(handles, labels, loc=loc, ncols=ncols)
    return legend, -(-len(labels) // ncols)


def plain(text: str) -> str:
    """Makes matplotlib show a name as it is: no formula, no entry left out."""
    text = text.encode("utf-8", "replace").decode().replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def _lone(y: np.ndarray) -> dict[str, Any]:
    """Marks finite values without one beside them, which no line shows."""
    there = np.isfinite(np.pad(y, 1, constant_values=np.nan))
    lone = np.flatnonzero(there[1:-1] & ~there[:-2] & ~there[2:])
    return {"marker": "o", "markevery": lone.tolist()} if lone.size else {}


def _floats(values: Any) -> np.ndarray:
    """Returns an array in which what was not finite, and so not JSON, is NaN."""
    return np.array(list(values), float)


def _labels(
    directories: Sequence[Path], configs: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Names runs by experiment, or by directory where that is not enough."""
    labels = [str(config["experiment"]) for config in configs]
    if len(set(labels)) < len(labels):
        labels = [directory.resolve().name for directory in directories]
    if len(set(labels)) < len(labels):
        labels = [str(directory) for directory in directories]
    return labels
