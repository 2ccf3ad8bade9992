"""Roads, mazes and boards are drawn where they are."""

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from metarl_jax.envs.driving import world
from metarl_jax.envs.driving.family import INSIDE, draw_task
from metarl_jax.envs.maze import distances, maze
from metarl_jax.plotting import boards, roads

KEY = jax.random.key(0)


def scene():
    env = world.Driving(num_vehicles=3)
    task = draw_task(KEY, INSIDE, 3).replace(density=0.03)  # a ring of 100 metres
    _, state = env.reset_env(KEY, task)
    vehicles = state.vehicles._replace(
        along=jnp.asarray([30.0, 50.0, 110.0, 75.0]),
        offset=jnp.asarray([0.0, 3.5, 7.0, 3.5]),
    )
    return task, state.replace(vehicles=vehicles)


def test_places_on_a_straight_and_on_an_arc():
    along, offset = np.array([100.0, 130.0]), np.array([3.5, 0.0])
    at, angle = roads.places(np.zeros(4), 100.0, along, offset)
    np.testing.assert_allclose(at, [[0.0, 3.5], [30.0, 0.0]], atol=1e-6)
    np.testing.assert_allclose(angle, 0.0, atol=1e-9)
    # A quarter of a circle of radius 50 to the left, and within it.
    quarter = np.full(2, 100.0 + 25 * np.pi)
    at, angle = roads.places(np.full(4, 0.02), 100.0, quarter, np.array([0.0, 10.0]))
    np.testing.assert_allclose(at, [[50.0, 50.0], [40.0, 50.0]], atol=0.02)
    np.testing.assert_allclose(angle, np.pi / 2, atol=1e-3)


def test_every_vehicle_in_sight_is_drawn_with_its_speed(tmp_path):
    task, state = scene()
    task = task.replace(curvature=jnp.zeros(12))
    figure = Figure()
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    roads.draw_moment(axes, task, state)
    centres = [patch.get_xy()[:4].mean(axis=0) for patch in axes.patches]
    # On a ring of 100 m, who is at 110 is 20 m behind who is at 30.
    expected = [[0, 0], [20, 3.5], [-20, 7], [45, 3.5]]
    np.testing.assert_allclose(centres, expected, atol=1e-3)
    speeds = [text.get_text() for text in axes.texts]
    assert speeds == [f"{v:.0f}" for v in np.asarray(state.vehicles.speed)]
    roads.moments({"a": (task, state)}, tmp_path / "a.png")
    roads.animate(task, [state] * 3, tmp_path / "a.gif", seconds=0.2)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames in (1, 3)  # equal frames may be one
        assert image.size[0] > 100


def test_a_shortest_path_is_as_long_as_it_says_and_walls_are_where_sides_are_closed(
    tmp_path,
):
    task = jax.jit(maze(size=4).sample)(KEY)
    path = boards.shortest_path(task)
    lengths = distances(task.open, jnp.asarray(0), 4)
    assert len(path) - 1 == lengths[task.goal]
    assert (path[0], path[-1]) == (0, int(task.goal))
    figure = Figure()
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    boards.draw_maze(axes, task, path)
    # A wall is closed for both of its cells, or is the outer one; start, goal, path.
    closed = np.sum(~np.asarray(task.open))
    assert len(axes.lines) == (closed - 16) / 2 + 1 + 3
    boards.mazes([task], tmp_path / "a.png")
    boards.images({"a": np.zeros((3, 3, 3))}, tmp_path / "b.png")
    for name in ("a", "b"):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert image.size[0] > 100
