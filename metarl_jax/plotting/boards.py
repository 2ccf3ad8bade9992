"""Mazes, rooms and boards of games as figures."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from metarl_jax.envs import krazy_world, rooms
from metarl_jax.envs.maze import edges
from metarl_jax.plotting.style import GREY, PALETTE


def draw_maze(axes: Axes, task: Any, path: list[int] = ()) -> None:  # pyright: ignore
    """Draws a maze, its start, its goal and a path.

    Args:
      axes: drawn on.
      task: one of `metarl_jax.envs.maze`.
      path: cells one after the other.
    """
    open_ = np.asarray(task.open)
    size = int(len(open_) ** 0.5)
    look = {"color": "black", "lw": 2, "solid_capstyle": "round"}
    for a, b in edges(size):
        x, y = divmod(int(b), size)
        up = b == a + 1
        if not open_[a, 0 if up else 1]:
            ends = ([x, x + 1], [y, y]) if up else ([x, x], [y, y + 1])
            axes.plot(*ends, **look)
    axes.plot([0, size, size, 0, 0], [0, 0, size, size, 0], **look)
    if len(path):
        x, y = np.divmod(np.asarray(path), size)
        axes.plot(x + 0.5, y + 0.5, color=PALETTE[0], lw=2)
    goal = divmod(int(task.goal), size)
    axes.plot(0.5, 0.5, "o", color=GREY, ms=7)
    axes.plot(goal[0] + 0.5, goal[1] + 0.5, "*", color=PALETTE[1], ms=14)
    axes.set_aspect("equal")
    axes.axis("off")


def shortest_path(task: Any) -> list[int]:
    """Walks from the start to the goal by the fewest moves."""
    open_ = np.asarray(task.open)
    size = int(len(open_) ** 0.5)
    steps = (1, size, -1, -size)  # upwards, to the right, downwards, to the left
    before: dict[int, Any] = {int(task.goal): None}
    queue = [int(task.goal)]
    for cell in queue:
        for side in np.flatnonzero(open_[cell]):
            if (there := cell + steps[side]) not in before:
                before[there] = cell
                queue.append(there)
    path: list[Any] = [0]
    while before[path[-1]] is not None:
        path.append(before[path[-1]])
    return path


def mazes(tasks: list[Any], path: str | Path) -> None:
    """Draws mazes in a row, with their shortest paths."""
    figure = Figure(figsize=(2.4 * len(tasks), 2.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(tasks), squeeze=False).ravel()
    for axes, task in zip(panels, tasks, strict=True):
        draw_maze(axes, task, shortest_path(task))
    figure.savefig(path, dpi=110)


def draw_rooms(axes: Axes, task: Any) -> None:
    """Draws three rooms, the start and what each of the goals pays.

    Args:
      axes: drawn on.
      task: one of `metarl_jax.envs.rooms`.
    """
    for x, y in rooms.CELLS:
        axes.fill(
            x + np.array([-0.5, 0.5, 0.5, -0.5]),
            y + np.array([-0.5, -0.5, 0.5, 0.5]),
            facecolor="white",
            edgecolor=GREY,
        )
    axes.plot(*rooms.CELLS[rooms.START], "o", color=GREY, ms=7)
    goals = rooms.CELLS[np.asarray(task.goals)]
    for (x, y), reward in zip(goals, rooms.REWARDS, strict=True):
        axes.text(x, y, f"{reward:.0f}", ha="center", va="center", color=PALETTE[1])
    axes.set_aspect("equal")
    axes.axis("off")


def rooms_of(tasks: list[Any], path: str | Path) -> None:
    """Draws rooms, a row for each task."""
    figure = Figure(figsize=(6.4, 1.5 * len(tasks)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, task in zip(np.ravel(figure.subplots(len(tasks))), tasks, strict=True):
        draw_rooms(axes, task)
    figure.savefig(path, dpi=100)


def lakes_of(tasks: list[Any], path: str | Path) -> None:
    """Draws frozen lakes in a row: ice, holes, start and goal."""
    figure = Figure(figsize=(1.9 * len(tasks), 1.9), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(tasks), squeeze=False).ravel()
    for axes, task in zip(panels, tasks, strict=True):
        holes = np.asarray(task.holes)
        axes.imshow(holes.T, origin="lower", cmap="Blues", vmin=-0.1, vmax=1.2)
        axes.plot(0, 0, "o", color=GREY, ms=7)
        axes.plot(len(holes) - 1, len(holes) - 1, "*", color=PALETTE[1], ms=14)
        axes.axis("off")
    figure.savefig(path, dpi=100)


# Of each kind in the order of their numbers: nothing of a normal square.
KRAZY_COLORS = ("white", "#f2b84b", "#c0392b", "#a9cbe8", "#58a86b", "#b39ddb")


def draw_krazy(axes: Axes, board: np.ndarray) -> Any:
    """Draws the kinds `[N, N]` of the squares of a Krazy World; returns the image."""
    look: Any = {"cmap": ListedColormap(KRAZY_COLORS), "vmin": -0.5, "vmax": 5.5}
    image = axes.imshow(np.asarray(board).T, origin="lower", **look)
    edges = np.arange(len(board) + 1) - 0.5
    axes.set_xticks(edges, minor=True)
    axes.set_yticks(edges, minor=True)
    axes.grid(which="minor", color=GREY, lw=0.4)
    axes.tick_params(which="both", length=0)
    axes.set(xticks=[], yticks=[])
    return image


def krazy_of(tasks: list[Any], path: str | Path) -> None:
    """Draws Krazy Worlds in a row, with what their colours mean."""
    figure = Figure(figsize=(2.3 * len(tasks), 2.7), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(tasks), squeeze=False).ravel()
    for axes, task in zip(panels, tasks, strict=True):
        draw_krazy(axes, task.board)
        axes.plot(*np.asarray(task.start), "o", color=GREY, ms=7)
    kinds = zip(krazy_world.KINDS, KRAZY_COLORS, strict=True)
    squares = [Patch(facecolor=color, label=kind) for kind, color in kinds]
    figure.legend(handles=squares[1:], loc="outside lower center", ncols=5, fontsize=8)
    figure.savefig(path, dpi=100)


def images(panels: dict[str, np.ndarray], path: str | Path) -> None:
    """Draws images `[H, W, 3]` in a row, with their titles."""
    figure = Figure(figsize=(2.2 * len(panels), 2.5), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(1, len(panels), squeeze=False).ravel()
    for axes, (title, image) in zip(grid, panels.items(), strict=True):
        axes.imshow(image, interpolation="nearest")
        axes.set_title(title, fontsize=10)
        axes.axis("off")
    figure.savefig(path, dpi=110)
