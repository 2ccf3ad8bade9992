"""Figures of what was seen inside an agent, from `inspection.json`."""

import textwrap
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from metarl_jax.plotting.style import GREY, PALETTE, plain

Record = Mapping[str, Any]


def layers(record: Record) -> Figure:
    """Draws how far layers moved, how alike they stayed, and what that was worth."""
    names = list(record["distance"])
    moved = {
        name: np.array(record["relative"][name] or record["distance"][name], float)
        for name in names
    }
    alike = {name: np.array(x, float) for name, x in record["similarity"].items()}
    parts = record["return_of"]
    figure, panels = _figure(record, 3 if parts else 2, height=1.9 + 0.3 * len(names))
    absolute = [name for name in names if record["relative"][name] is None]
    labels = [f"{name} (not relative)" if name in absolute else name for name in names]
    _bars(panels[0], labels, moved.values(), PALETTE[0])
    panels[0].set(title="how far it moved", xlabel="‖θ' − θ‖ / ‖θ‖")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center")
    _bars(panels[1], list(alike), alike.values(), PALETTE[2])
    panels[1].set(title="how alike it stayed", xlabel="linear CKA of its outputs")
    panels[1].set_xlim(0, 1)
    if parts:
        values = [np.array(x, float) for x in parts.values()]
        colours = [GREY, PALETTE[1], PALETTE[0], "black"]
        _bars(panels[2], list(parts), values, colours)
        panels[2].set(title="adapting only …", xlabel="mean return of an episode")
    return figure


def plane(record: Record) -> Figure:
    """Draws the return over the plane through three agents, and along its line."""
    figure, panels = _figure(record, 3, height=3.5)
    axis = np.array(record["axis"], float)
    for axes, task in zip(panels[:2], "ab", strict=True):
        values = np.array(record[f"return_{task}"], float)
        mesh = axes.pcolormesh(axis, axis, values.T, shading="nearest", cmap="viridis")
        bar = figure.colorbar(mesh, ax=axes, location="bottom", aspect=30)
        bar.set_label("mean return of an episode")
        axes.plot([1, 0], [0, 1], color="white", lw=1, linestyle=":")
        for (x, y), name in {(0, 0): "start", (1, 0): "A", (0, 1): "B"}.items():
            axes.plot(x, y, "o", color="white", markeredgecolor="black")
            axes.annotate(
                name,
                (x, y),
                color="white",
                xytext=(6, 6),
                textcoords="offset points",
                weight="bold",
            )
        numbers = ", ".join(f"{x:.2g}" for x in record[f"task_{task}"][:3])
        axes.set(title=f"on task {task.upper()} ({numbers})", aspect="equal")
        axes.set(xlabel="share of the step to A", ylabel="share of the step to B")
        axes.grid(visible=False)
    line = np.array(record["line"], float)
    for i, task in enumerate("ab"):
        values = np.array(record[f"line_{task}"], float)
        label = f"on task {task.upper()}"
        panels[2].plot(line, values, "o-", color=PALETTE[i], label=label, markersize=4)
    panels[2].set(title="from A to B", xlabel="share of B (0: agent of A)")
    panels[2].set_ylabel("mean return of an episode")
    for x in (0, 1):
        panels[2].axvline(x, color=GREY, lw=0.8, linestyle=":")
    panels[2].legend()
    return figure


def memory(record: Record) -> Figure:
    """Draws what can be read of the task out of a memory, as the trial goes on."""
    steps = np.array(record["steps"], float)
    entropy = record["entropy"]
    rows = record.get("main_directions")  # older inspections have none
    count = 1 + bool(rows) + bool(entropy)
    figure, panels = _figure(record, count, height=3.6)
    looks = {
        "exact posterior": {"color": "black", "lw": 2.5, "alpha": 0.5},
        "linear probe": {"color": PALETTE[0], "marker": "o"},
        "nearest neighbours": {"color": PALETTE[2], "marker": "s"},
        "untrained network": {"color": PALETTE[1], "linestyle": "--"},
        "tasks dealt anew": {"color": GREY, "linestyle": ":"},
    }
    for name, row in record["r_squared"].items():
        look = {"markersize": 4, **looks.get(name, {})}
        values = np.clip(np.array(row, float), -0.25, 1)
        panels[0].plot(steps, values, label=plain(name), **look)
    panels[0].set(ylim=(-0.27, 1.02), title="what it knows of the task")
    panels[0].set_ylabel("share of the task's variance, R²")
    if rows:
        _directions(panels[1], record)
    if entropy:
        panels[-1].plot(steps, np.array(entropy, float), color=PALETTE[3], lw=1.8)
        panels[-1].set(title="how undecided it is", ylim=(None, None))
        panels[-1].set_ylabel("entropy of the action in nats")
    for axes in (panels[0], *(panels[-1:] if entropy else [])):
        axes.set_xlabel(record["unit"])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        for i, end in enumerate(record["episode_ends"]):
            if end <= steps[-1]:
                label = "an episode's end" if i == 0 and axes is panels[0] else None
                axes.axvline(end, color=GREY, lw=0.7, alpha=0.6, label=label)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def _directions(axes: Axes, record: Record) -> None:
    """Draws what main directions tell, of this network and of an untrained one."""
    colours = {"exact posterior": "#999999", "trained": PALETTE[0]}
    colours["untrained"] = PALETTE[1]
    rows = record["main_directions"]
    for i, (who, colour) in enumerate(colours.items()):
        shares = [row.get(who) for row in rows.values()]
        if None in shares:
            continue
        at = np.arange(len(rows)) + 0.27 * (i - 1)
        shown = np.clip(np.array(shares, float), 0, 1)
        bars = axes.barh(at, shown, height=0.25, color=colour)
        axes.bar_label(bars, [plain(f"{who} {x:.0%}") for x in shown], padding=2)
    axes.set_yticks(
        range(len(rows)), [name.replace(" trials", "\ntrials") for name in rows]
    )
    axes.invert_yaxis()
    count = record["num_directions"]
    title = "main direction tells" if count == 1 else "main directions tell"
    axes.set(title=f"what its {count} {title}", xlim=(0, 1.55), xlabel="R²")
    axes.set_xticks([0, 0.5, 1])


def task_map(record: Record) -> Figure:
    """Draws what adaptation made of tasks, in the colours of their numbers."""
    point, target = np.array(record["point"], float), np.array(record["target"], float)
    share, names = record["share"], record["names"]
    figure, panels = _figure(record, len(names), height=3.8)
    for i, (axes, name) in enumerate(zip(panels, names, strict=True)):
        look = {"c": target[:, i], "cmap": "viridis", "s": 22, "linewidths": 0}
        dots = axes.scatter(*point.T, **look)
        figure.colorbar(dots, ax=axes, label=plain(name))
        axes.set(xlabel=f"first direction ({share[0]:.0%} of the variance)")
        axes.set(ylabel=f"second direction ({share[1]:.0%})")
        axes.set_title(plain(f"coloured by {name}"))
    return figure


def attention(record: Record) -> Figure:
    """Draws where each layer looks along one trial."""
    weight = np.array(record["weight"], float)
    figure, panels = _figure(record, len(weight), height=3.6)
    for i, (axes, layer) in enumerate(zip(panels, weight, strict=True)):
        # What lies ahead cannot be looked at, which is another thing than not.
        seen = np.where(np.tril(np.ones_like(layer)) > 0, layer, np.nan)
        mesh = axes.imshow(seen, cmap="viridis", origin="upper", vmin=0)
        axes.set(title=f"layer {i + 1}, mean of its heads")
        axes.set(xlabel="step that is looked at", ylabel="step of the trial")
        axes.grid(visible=False)
        for which in (axes.xaxis, axes.yaxis):
            which.set_major_locator(MaxNLocator(integer=True))
        figure.colorbar(mesh, ax=axes, label="weight")
    return figure


def visits(record: Record) -> Figure:
    """Draws where the agent was in its first episodes and in its last."""
    edges = [np.array(record[f"edges_{name}"], float) for name in "xy"]
    counts = [np.array(record[name], float) for name in ("first", "last")]
    figure, panels = _figure(record, 2, height=3.4)
    top = max(float(np.max(count)) for count in counts)
    # Squares that nobody visits stay white; colours are equal steps in the root.
    for axes, count, name in zip(panels, counts, record["rounds"], strict=True):
        shown = np.where(count > 0, np.sqrt(count / top), np.nan)
        mesh = axes.pcolormesh(*edges, shown.T, vmin=0, vmax=1, cmap="viridis")
        axes.set(title=plain(name), xlabel="x", ylabel="y", aspect="equal")
        axes.grid(visible=False)
        for which in (axes.xaxis, axes.yaxis):
            which.set_major_locator(MaxNLocator(5, integer=len(edges[0]) < 12))
    bar = figure.colorbar(mesh, ax=list(panels), label="share of all steps")  # pyright: ignore
    ticks = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    bar.set_ticks(list(ticks), labels=[f"{top * tick**2:.1%}" for tick in ticks])
    return figure


DRAWN: Mapping[str, Callable[[Record], Figure]] = {
    "layers": layers,
    "plane": plane,
    "memory": memory,
    "map": task_map,
    "attention": attention,
    "visits": visits,
}


def _figure(record: Record, count: int, *, height: float) -> tuple[Figure, Any]:
    """Makes panels side by side, and says below the title what is seen."""
    width = 4.2 * count if count > 1 else 6.2
    said = textwrap.fill(plain(str(record["said"])), int(14 * width))
    figure = Figure(
        figsize=(width, height + 0.2 * (said.count("\n") + 2)), layout="constrained"
    )
    panels = figure.subplots(1, count, squeeze=False)[0]
    figure.suptitle(said, **{"x": 0.01, "ha": "left", "fontsize": 10, "color": GREY})
    return figure, panels


def _bars(axes: Axes, names: list[str], values: Any, colour: Any) -> None:
    """Draws means, and where the middle half of the tasks lies."""
    values = [np.asarray(x, float)[np.isfinite(np.asarray(x, float))] for x in values]
    mean = np.array([np.mean(x) if len(x) else np.nan for x in values])
    half = np.array(
        [np.quantile(x, [0.25, 0.75]) if len(x) else [0, 0] for x in values]
    )
    at = np.arange(len(names))
    axes.barh(at, mean, color=colour, height=0.6)
    axes.hlines(at, *half.T, color="#999999", lw=3, label="middle half of the tasks")
    axes.set_yticks(at, [plain(name) for name in names])
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MaxNLocator(4))
