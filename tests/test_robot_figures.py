"""Poses of robots are drawn where the robots are."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from metarl_jax.envs.planar.files import planar_robot
from metarl_jax.plotting.robots import animate, draw_pose, link_frames, strip


def test_frames_are_those_of_the_file_at_rest_and_turn_by_the_signs():
    tree, physics = planar_robot("half-cheetah")
    rest = np.asarray(tree.at_rest)
    places, angles = link_frames(tree, physics, rest)
    # Torso, rear hip and rear knee, as the file has them.
    np.testing.assert_allclose(places[:3], [[0, 0.7], [-0.5, 0.7], [-0.34, 0.45]])
    np.testing.assert_allclose(angles, 0.0)
    # MuJoCo's turn by +90 degrees about +y takes the front, +x, down.
    rest[2] = np.pi / 2
    places, angles = link_frames(tree, physics, rest)
    np.testing.assert_allclose(angles, -np.pi / 2)
    front = places[tree.names.index("fthigh")]
    np.testing.assert_allclose(front, [0.0, 0.2], atol=1e-12)


def test_every_capsule_is_drawn_at_its_ends():
    tree, physics = planar_robot("hopper")
    figure = Figure()
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    draw_pose(axes, tree, physics, np.asarray(tree.at_rest))
    circles = [patch for patch in axes.patches if hasattr(patch, "radius")]
    assert len(circles) == 2 * len(tree.shapes) == 8
    # A hopper at rest stands with its foot on the ground.
    low = min(circle.center[1] - circle.radius for circle in circles)
    np.testing.assert_allclose(low, 0.04, atol=1e-9)


def test_figures_and_animations_are_written(tmp_path):
    tree, physics = planar_robot("swimmer")
    positions = np.linspace(0, 1, 4)[:, None] * np.ones(5)
    strip({"a": (tree, physics, positions)}, tmp_path / "a.png")
    animate(tree, physics, positions, tmp_path / "a.gif", seconds=0.1)
    with Image.open(tmp_path / "a.png") as image:
        assert image.size[0] > 100
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 4
