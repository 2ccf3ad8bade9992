"""A road and who drives on it, as a figure and as an animation."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from metarl_jax.envs.driving import road
from metarl_jax.envs.driving.traffic import LENGTH, WIDTH
from metarl_jax.envs.driving.world import NUM_LANES
from metarl_jax.plotting.style import GREY, PALETTE

BEHIND, AHEAD = 40.0, 110.0  # metres of road that are shown


def places(
    curvature: np.ndarray, origin: float, along: np.ndarray, offset: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Computes where something on a road is, and the road's direction there.

    Args:
      curvature: `[K]` of the road.
      origin: s that is drawn at (0, 0), in the direction of x.
      along: `[P]` s.
      offset: `[P]` to the left.

    Returns:
      `[P, 2]` in the plane and `[P]` radians.
    """
    way = np.linspace(origin - 2 * BEHIND, origin + 2 * AHEAD, 1501)
    line = road.centreline(curvature, way)
    here = [np.interp(origin, way, line[:, i]) for i in range(3)]
    x, y, angle = (np.interp(along, way, line[:, i]) - here[i] for i in range(3))
    x, y = x - np.sin(angle + here[2]) * offset, y + np.cos(angle + here[2]) * offset
    c, s = np.cos(here[2]), np.sin(here[2])
    return np.stack([c * x + s * y, c * y - s * x], axis=-1), angle


def draw_moment(axes: Axes, task: Any, state: Any) -> None:
    """Draws one moment, one's own car in a colour of its own and at (0, 0).

    Args:
      axes: drawn on.
      task: one of `metarl_jax.envs.driving`.
      state: of its environment, as arrays.
    """
    curvature, vehicles = np.asarray(task.curvature), state.vehicles
    along, offset = np.asarray(vehicles.along, float), np.asarray(vehicles.offset)
    origin = along[0]
    way = np.linspace(origin - BEHIND, origin + AHEAD, 200)
    edges = (np.arange(NUM_LANES + 1) - 0.5) * road.LANE
    low, high = np.inf, -np.inf
    for i, edge in enumerate(edges):
        points, _ = places(curvature, origin, way, np.full(way.shape, edge))
        low, high = min(low, points[:, 1].min()), max(high, points[:, 1].max())
        side = i in (0, NUM_LANES)
        look: dict = {"lw": 1.5} if side else {"lw": 1.0, "ls": (0, (8, 8))}
        axes.plot(points[:, 0], points[:, 1], color=GREY, zorder=1, **look)
    ring = (len(along) - 1) / float(task.density)
    apart = (along - origin + ring / 2) % ring - ring / 2
    near = np.flatnonzero((apart > -BEHIND) & (apart < AHEAD))
    centres, angles = places(curvature, origin, origin + apart, offset)
    angles[0] += float(state.heading)
    for i in near:
        axes.add_patch(_car(centres[i], angles[i], PALETTE[1 if i == 0 else 0]))
        speed = f"{float(vehicles.speed[i]):.0f}"
        x, y = centres[i]
        axes.text(x, y + 2.2, speed, ha="center", fontsize=7, color=GREY)
    axes.set_aspect("equal")
    axes.set_xlim(-BEHIND, AHEAD)
    axes.set_ylim(low - 2, high + 4)
    axes.axis("off")


def _car(centre: np.ndarray, angle: float, color: str) -> Polygon:
    """A rectangle of a car's size."""
    half = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]) * (LENGTH / 2, WIDTH / 2)
    c, s = np.cos(angle), np.sin(angle)
    corners = half @ np.array([[c, s], [-s, c]]) + centre
    return Polygon(corners, facecolor=color, linewidth=0, zorder=2)


def moments(scenes: dict[str, tuple[Any, Any]], path: str | Path) -> None:
    """Draws moments under one another; numbers are speeds in metres per second.

    Args:
      scenes: a task and a state, by the title.
      path: of the figure.
    """
    figure = Figure(figsize=(9, 2.2 * len(scenes)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(scenes), 1, squeeze=False).ravel()
    for axes, (title, scene) in zip(panels, scenes.items(), strict=True):
        task, state = scene
        draw_moment(axes, task, state)
        axes.set_title(title, loc="left", fontsize=10)
    figure.savefig(path, dpi=110)


def animate(task: Any, states: list[Any], path: str | Path, *, seconds: float) -> None:
    """Writes an animation, a GIF.

    Args:
      task: driven in.
      states: one after the other.
      path: of the file.
      seconds: from one to the next.
    """
    figure = Figure(figsize=(9, 2.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()

    def frame(i):
        axes.clear()
        draw_moment(axes, task, states[i])
        return [axes]

    animation = FuncAnimation(figure, frame, frames=len(states))
    animation.save(path, writer=PillowWriter(fps=max(1, round(1 / seconds))), dpi=70)
