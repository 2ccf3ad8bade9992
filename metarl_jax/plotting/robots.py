"""Planar robots as figures: poses in a row, and an animation."""

from pathlib import Path

import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon

from metarl_jax.envs.planar.model import Physics, Tree
from metarl_jax.plotting.style import GREY, PALETTE


def link_frames(tree: Tree, physics: Physics, position: np.ndarray):
    """Computes where every link's joint is and how it is turned.

    Args:
      tree: the robot.
      physics: its lengths.
      position: `[N + 2]`.

    Returns:
      Places `[N, 2]` and angles `[N]`, anticlockwise.
    """
    places, angles = [], []
    for i, parent in enumerate(tree.parents):
        angle = tree.signs[i] * (position[i + 2] - tree.at_rest[i + 2])
        anchor = np.asarray(physics.anchor[i])
        if parent < 0:
            place = anchor + position[:2] - np.asarray(tree.at_rest[:2])
        else:
            place = places[parent] + _turned(angles[parent], anchor)
            angle += angles[parent]
        places.append(place)
        angles.append(angle)
    return np.stack(places), np.asarray(angles)


def draw_pose(
    axes: Axes, tree: Tree, physics: Physics, position: np.ndarray, *, alpha: float = 1
) -> None:
    """Draws one pose, every link in a colour of its own.

    Args:
      axes: drawn on.
      tree: the robot.
      physics: its lengths.
      position: `[N + 2]`.
      alpha: how solid it is.
    """
    capsules = _capsules(tree, physics, position)
    for (link, _, _), (first, second, radius) in zip(
        tree.shapes, capsules, strict=True
    ):
        along = second - first
        across = np.array([-along[1], along[0]]) / max(np.linalg.norm(along), 1e-9)
        across *= radius
        corners = [first + across, second + across, second - across, first - across]
        color = PALETTE[link % len(PALETTE)]
        look = {"color": color, "alpha": alpha, "linewidth": 0}
        axes.add_patch(Polygon(corners, **look))
        for end in (first, second):
            axes.add_patch(Circle(tuple(end), radius, **look))


def _capsules(tree: Tree, physics: Physics, position: np.ndarray) -> list:
    """Returns both ends `[2]` of every capsule in the world, and its radius."""
    places, angles = link_frames(tree, physics, position)
    return [
        (
            *(
                places[link] + _turned(angles[link], np.asarray(end))
                for end in (ends[:2], ends[2:])
            ),
            radius,
        )
        for link, ends, radius in tree.shapes
    ]


def _turned(angle: float, vector: np.ndarray) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([c * vector[0] - s * vector[1], s * vector[0] + c * vector[1]])


def show_all(axes: Axes, tree: Tree, physics: Physics, positions: np.ndarray) -> None:
    """Shows all that the robot passes, true to scale."""
    ends = [
        end
        for position in positions
        for *both, _ in _capsules(tree, physics, position)
        for end in both
    ]
    low, high = np.min(ends, axis=0) - 0.2, np.max(ends, axis=0) + 0.2
    if tree.contacts:
        ground = float(physics.floor)
        axes.axhline(ground, color=GREY, linewidth=1)
        low[1] = ground - 0.15
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    axes.set_aspect("equal")
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("metres")


def strip(
    robots: dict[str, tuple[Tree, Physics, np.ndarray]], path: str | Path
) -> None:
    """Draws poses of robots, a panel each, later ones more solid.

    Args:
      robots: by the title of the panel: the robot, and positions `[P, N + 2]`.
      path: of the figure.
    """
    num_rows = (len(robots) + 1) // 2
    figure = Figure(figsize=(9, 2.6 * num_rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(num_rows, min(2, len(robots)), squeeze=False).ravel()
    for axes in panels[len(robots) :]:
        axes.remove()
    for axes, (title, robot) in zip(panels, robots.items(), strict=False):
        tree, physics, positions = robot
        show_all(axes, tree, physics, positions)
        for i, position in enumerate(positions):
            alpha = 0.25 + 0.75 * (i + 1) / len(positions)
            draw_pose(axes, tree, physics, position, alpha=alpha)
        axes.set_title(title, loc="left", fontsize=11)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def animate(
    tree: Tree,
    physics: Physics,
    positions: np.ndarray,
    path: str | Path,
    *,
    seconds: float,
) -> None:
    """Writes an animation, a GIF.

    Args:
      tree: the robot.
      physics: its lengths.
      positions: `[P, N + 2]`.
      path: of the file.
      seconds: from one position to the next.
    """
    figure = Figure(figsize=(7, 2.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    show_all(axes, tree, physics, positions)

    def frame(i):
        for patch in list(axes.patches):
            patch.remove()
        draw_pose(axes, tree, physics, positions[i])
        return list(axes.patches)

    animation = FuncAnimation(figure, frame, frames=len(positions))
    animation.save(path, writer=PillowWriter(fps=max(1, round(1 / seconds))), dpi=70)
