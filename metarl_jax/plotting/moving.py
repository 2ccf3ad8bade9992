"""Agents that move: an animation of episodes before and after adaptation.

What is drawn of a world is a function `(axes, film, films) -> (t) -> None`: it draws
what stays and returns what shows step t. There is one by the name of the environment;
any other world is shown by the return as it comes in.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.animation import FFMpegWriter, FuncAnimation, PillowWriter
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

from metarl_jax.envs.rooms import CELLS
from metarl_jax.envs.treasure_hunt import MOUNTAIN_RADIUS
from metarl_jax.plotting.boards import draw_krazy, draw_maze, draw_rooms
from metarl_jax.plotting.roads import draw_moment
from metarl_jax.plotting.robots import draw_pose, show_all
from metarl_jax.plotting.style import GREY, PALETTE, plain

SECONDS = 6.0
MAX_FRAMES = 60
Draw = Callable[[Axes, Any, Sequence[Any]], Callable[[int], None]]


def animate(films: Sequence[Sequence[Any]], env: Any) -> FuncAnimation:
    """Makes an animation: a row for each task, a column for each time in adaptation.

    Args:
      films: by task, of `metarl_jax.inspection.filming.film`.
      env: the environment.
    """
    flat = [film for row in films for film in row]
    drawn = drawing(env, flat)
    longest = max(film.num_steps for film in flat)
    rows, columns = len(films), len(films[0])
    figure = Figure(figsize=(3.6 * columns, 3.0 * rows + 0.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False)
    updates, titles = [], []
    for row, axes_row in zip(films, panels, strict=True):
        for film, axes in zip(row, axes_row, strict=True):
            updates.append(drawn(axes, _with_env(film, env), flat))
            titles.append(axes.set_title("", fontsize=10, loc="left"))
    earned = [np.append(0, np.cumsum(film.episode.reward)) for film in flat]
    steps = np.unique(np.linspace(0, longest, min(MAX_FRAMES, longest + 1)).astype(int))

    def frame(i):
        for film, update, title, total in zip(
            flat, updates, titles, earned, strict=True
        ):
            t = min(int(steps[i]), film.num_steps)
            update(t)
            title.set_text(plain(f"{film.title}\nstep {t}, return {total[t]:.2f}"))
        return []

    # Laid out once: to do so for every frame takes longer than to draw it.
    frame(len(steps) - 1)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    # The last picture stays for a while before it begins again.
    order = [*range(len(steps)), *[len(steps) - 1] * max(1, len(steps) // 6)]
    interval = 1000 * SECONDS / len(order)
    return FuncAnimation(figure, frame, frames=order, interval=interval, blit=False)


def drawing(env: Any, films: Sequence[Any]) -> Draw:
    """Returns what draws an environment: `gains` where there is no picture of it."""
    if any(film.states is None for film in films):
        return gains
    other = robot if hasattr(env, "tree") else board if hasattr(env, "game") else gains
    return DRAWN.get(env.name, other)


def write(animation: FuncAnimation, path: Path) -> Path:
    """Writes an animation as `.gif`, or as `.mp4` where ffmpeg is installed.

    Raises:
      ValueError: if the suffix is another one, ffmpeg is missing or the file cannot be
        written.
    """
    check_suffix(path)
    fps = max(1, round(1000 / animation._interval))  # pyright: ignore
    writer: Any = {".gif": PillowWriter, ".mp4": FFMpegWriter}[path.suffix](fps=fps)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        animation.save(path, writer=writer, dpi=72)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error}") from None
    return path


def check_suffix(path: Path) -> None:
    """Raises a `ValueError` unless an animation can be written to such a file."""
    if path.suffix not in (".gif", ".mp4"):
        raise ValueError(f"an animation must end in .gif or .mp4; got {path}")
    if path.suffix == ".mp4" and not FFMpegWriter.isAvailable():
        raise ValueError(f"{path} needs ffmpeg, which is not installed; .gif does not")


class _Shot:
    """A film and the environment it was taken in."""

    def __init__(self, film: Any, env: Any):
        self.task, self.states, self.episode = film.task, film.states, film.episode
        self.num_steps, self.env = film.num_steps, env


def _with_env(film: Any, env: Any) -> _Shot:
    return _Shot(film, env)


def gains(axes: Axes, film: Any, others: Sequence[Any]) -> Callable[[int], None]:
    """Draws the return as it comes in, of a world that has no picture of its own."""
    totals = [np.append(0, np.cumsum(other.episode.reward)) for other in others]
    own = np.append(0, np.cumsum(film.episode.reward))
    (line,) = axes.plot([], [], color=PALETTE[0], lw=1.8)
    (dot,) = axes.plot([], [], "o", color=PALETTE[1])
    low, high = min(map(np.min, totals)), max(map(np.max, totals))
    room = 0.05 * (high - low or 1.0)
    axes.set(xlim=(0, max(o.num_steps for o in others)), ylim=(low - room, high + room))
    axes.set(xlabel="step", ylabel="return so far")

    def update(t):
        line.set_data(np.arange(t + 1), own[: t + 1])
        dot.set_data([t], [own[t]])

    return update


def plane(axes: Axes, film: Any, others: Sequence[Any]) -> Callable[[int], None]:
    """Draws a point on its way to a goal, and what to keep away from in grey."""

    def places(film):
        return _field(film.states, "position", "xy")

    def goal(film):
        found = getattr(film.task, "goal", None)
        return np.asarray(_field(film.states, "goal_xy")[0] if found is None else found)

    own = places(film)
    seen = np.concatenate(
        [*(places(o) for o in others), *(goal(o)[None] for o in others)]
    )
    low, high = seen.min(axis=0), seen.max(axis=0)
    half, centre = 0.56 * max(np.max(high - low), 1e-3), (low + high) / 2
    axes.set(xlim=(centre[0] - half, centre[0] + half), xlabel="x", ylabel="y")
    axes.set(ylim=(centre[1] - half, centre[1] + half), aspect="equal")
    axes.plot(
        *goal(film), "*", color=PALETTE[5], markeredgecolor="black", markersize=15
    )
    urchins = _field(film.states, "urchin_xys", missing=None)
    if urchins is not None:
        axes.plot(*urchins[0].T, "X", color=GREY, markersize=8)
    (way,) = axes.plot([], [], color=PALETTE[0], lw=1.2)
    (dot,) = axes.plot([], [], "o", color=PALETTE[1], markersize=7)

    def update(t):
        way.set_data(*own[: t + 1].T)
        dot.set_data(*own[t : t + 1].T)

    return update


def treasure(axes: Axes, film: Any, others: Sequence[Any]) -> Callable[[int], None]:
    """Draws a point on its way to a treasure, and the mountain."""
    axes.add_patch(Circle((0, 0), MOUNTAIN_RADIUS, color=GREY, alpha=0.3, lw=0))
    axes.plot(0, 0, "^", color=GREY, markersize=7)
    update = plane(axes, film, others)
    axes.set(xlim=(-1.55, 1.55), ylim=(-1.55, 1.55))
    return update


def grid(axes: Axes, film: Any, others: Sequence[Any]) -> Callable[[int], None]:
    """Draws the agent's cell, the cells it has seen, and the goal."""
    del others
    size, cells = film.env.size, np.asarray(film.states.cell)
    axes.set(xlim=(-0.5, size - 0.5), ylim=(-0.5, size - 0.5), aspect="equal")
    axes.set(xticks=range(size), yticks=range(size), xlabel="x", ylabel="y")
    axes.plot(
        *film.task.goal, "*", color=PALETTE[5], markeredgecolor="k", markersize=20
    )
    seen = np.full((size, size), np.nan)
    picture = axes.imshow(seen, origin="lower", cmap="Blues", vmin=0, vmax=2)
    (dot,) = axes.plot([], [], "o", color=PALETTE[1], markersize=11)

    def update(t):
        shown = seen.copy()
        shown[cells[: t + 1, 1], cells[: t + 1, 0]] = 0.6
        picture.set_data(shown)
        dot.set_data(*cells[t : t + 1].T)

    return update


def pieces(
    shape: Callable[[Any], tuple[int, int]],
    places: Callable[[Any, int], Sequence[np.ndarray]],
) -> Draw:
    """Makes the drawing of pieces on a board of squares.

    Args:
      shape: `(env) -> (columns, rows)`.
      places: `(film, rows) -> pieces`, the agent first, of each kind where they are,
        `[T + 1, K, 2]` (x, y); not a number where they are not.

    Returns:
      The drawing.
    """

    def draw(axes, film, others):
        del others
        columns, rows = shape(film.env)
        axes.set(xlim=(-0.5, columns - 0.5), ylim=(-0.5, rows - 0.5), aspect="equal")
        axes.set(xticks=[], yticks=[])
        wall = getattr(film.task, "wall", None)
        if wall is not None:
            shown = np.where(np.reshape(wall, (columns, rows)).T, 1.0, np.nan)
            axes.imshow(shown, origin="lower", cmap="Greys", vmin=0, vmax=2)
        kinds = [np.asarray(kind, float) for kind in places(film, rows)]
        dots = [
            axes.plot([], [], "os"[i > 0], color=PALETTE[1 - i], markersize=9)[0]
            for i in range(len(kinds))
        ]

        def update(t):
            for dot, kind in zip(dots, kinds, strict=True):
                dot.set_data(*kind[t].T)

        return update

    return draw


def _of_cells(cells: Any, size: int) -> np.ndarray:
    """Turns cells x·size + y `[T + 1, K]` into places `[T + 1, K, 2]`."""
    cells = np.asarray(cells)
    return np.stack(np.divmod(cells, size), axis=-1)


def _caught(film: Any, rows: int) -> list[np.ndarray]:
    """Places of the paddle and of the ball."""
    s = film.states
    ball = np.stack([s.column, rows - 1 - np.asarray(s.row)], axis=-1)
    paddle = np.stack([s.paddle, 0 * np.asarray(s.paddle)], axis=-1)
    return [paddle[:, None], ball[:, None]]


def _objects(film: Any, rows: int) -> list[np.ndarray]:
    """Places of the agent and of the objects that are there."""
    s = film.states
    objects = _of_cells(s.objects, rows).astype(float)
    objects[~np.asarray(s.present, bool)] = np.nan
    return [_of_cells(s.cell[:, None], rows), objects]


def _colours(film: Any, rows: int) -> list[np.ndarray]:
    """Places of the agent and of the two colours."""
    at = _of_cells(film.states.cells, rows)
    return [at[:, :1], at[:, 1:2], at[:, 2:]]


def key_and_door(axes: Axes, film: Any, others: Sequence[Any]) -> Callable[[int], None]:
    """Draws the cell, the key until it is taken, and the door."""
    size, has_key = film.env.size, np.asarray(film.states.has_key, bool)
    task, cells = film.task, np.asarray(film.states.cell)
    del others
    axes.set(xlim=(-0.5, size - 0.5), ylim=(-0.5, size - 0.5), aspect="equal")
    axes.set(xticks=range(size), yticks=range(size), xlabel="x", ylabel="y")
    look: Any = {"color": PALETTE[5], "markeredgecolor": "k"}
    axes.plot(*task.door, "s", markersize=16, **look)
    (key,) = axes.plot([], [], "P", markersize=12, **look)
    (way,) = axes.plot([], [], color=PALETTE[0], lw=1.2)
    (dot,) = axes.plot([], [], "o", color=PALETTE[1], markersize=9)

    def update(t):
        key.set_data(*(np.asarray(task.key)[:, None] if not has_key[t] else ([], [])))
        way.set_data(*cells[: t + 1].T)
        dot.set_data(*cells[t : t + 1].T)

    return update


def lake(axes: Axes, film: Any, others: Sequence[Any]) -> Callable[[int], None]:
    """Draws the ice, its holes as they are now, the goal and the way."""
    del others
    size, cells = film.env.size, np.asarray(film.states.cell)
    holes = np.asarray(film.states.holes)
    axes.set(xlim=(-0.5, size - 0.5), ylim=(-0.5, size - 0.5), aspect="equal")
    axes.set(xticks=range(size), yticks=range(size), xlabel="x", ylabel="y")
    picture = axes.imshow(holes[0].T, origin="lower", cmap="Blues", vmin=0, vmax=1.2)
    look: Any = {"color": PALETTE[5], "markeredgecolor": "k", "markersize": 18}
    axes.plot(size - 1, size - 1, "*", **look)
    (way,) = axes.plot([], [], color=GREY, lw=1.2)
    (dot,) = axes.plot([], [], "o", color=PALETTE[1], markersize=11)

    def update(t):
        picture.set_data(holes[t].T)
        way.set_data(*cells[: t + 1].T)
        dot.set_data(*cells[t : t + 1].T)

    return update


def krazy(axes: Axes, film: Any, others: Sequence[Any]) -> Callable[[int], None]:
    """Draws the squares as they are now, the way, and the moves that are left."""
    del others
    boards, cells = np.asarray(film.states.board), np.asarray(film.states.cell)
    energy = np.asarray(film.states.energy)
    picture = draw_krazy(axes, boards[0])
    (way,) = axes.plot([], [], color=GREY, lw=1.2)
    (dot,) = axes.plot([], [], "o", color=PALETTE[0], markersize=8)

    def update(t):
        picture.set_data(boards[t].T)
        way.set_data(*cells[: t + 1].T)
        dot.set_data(*cells[t : t + 1].T)
        axes.set_xlabel(f"{energy[t]} moves left")

    return update


def square(env: Any) -> tuple[int, int]:
    """Returns the columns and rows of a square."""
    return env.size, env.size


def arms(axes: Axes, film: Any, others: Sequence[Any]) -> Callable[[int], None]:
    """Draws what each arm pays, how often it was pulled, and which is pulled."""
    del others
    mean = np.asarray(film.task.mean)
    action = np.asarray(film.episode.action)
    at = np.arange(len(mean))
    axes.bar(at, mean, color="#dddddd", label="pays on average")
    axes.set(xlabel="arm", ylabel="mean reward", xticks=at if len(at) < 12 else [])
    axes.set_ylim(min(0, mean.min()), 1.25 * max(mean.max(), 1e-3))
    counts = axes.twinx()
    counts.set(ylim=(0, max(film.num_steps, 1)), ylabel="pulls so far")
    bars = counts.bar(at, 0 * mean, width=0.3, color=PALETTE[0])
    (mark,) = axes.plot([], [], "v", color=PALETTE[1], markersize=9)

    def update(t):
        pulled = np.bincount(action[:t], minlength=len(mean))
        for bar, height in zip(bars, pulled, strict=True):
            bar.set_height(height)
        if t:
            mark.set_data([action[t - 1]], [1.18 * max(mean.max(), 1e-3)])

    return update


def circle(axes: Axes, film: Any, others: Sequence[Any]) -> Callable[[int], None]:
    """Draws states on a circle, coloured by their best mean reward, and the way."""
    del others
    index = _field(film.states, "position", "stage")
    table = getattr(film.task, "mean_reward", None)
    if table is None:
        good, count = int(film.task.good), 3
        worth = np.where(np.arange(count) == good, 1.0, 0.0)
    else:
        worth = np.asarray(table).max(axis=1)
        count = len(worth)
    angle = np.pi / 2 - 2 * np.pi * np.arange(count) / count
    places = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    axes.scatter(*places.T, s=260, c=worth, cmap="viridis", edgecolors="black")
    for i, place in enumerate(places):
        axes.annotate(str(i), 1.22 * place, ha="center", va="center", fontsize=9)
    axes.set(xlim=(-1.4, 1.4), ylim=(-1.4, 1.4), aspect="equal", xticks=[], yticks=[])
    axes.set_xlabel("states; lighter ones can pay more")
    (way,) = axes.plot([], [], color=PALETTE[1], lw=1.5, alpha=0.7)
    (dot,) = axes.plot([], [], "o", color=PALETTE[1], markersize=9)

    def update(t):
        way.set_data(*places[index[max(0, t - 3) : t + 1]].T)
        dot.set_data(*places[index[t : t + 1]].T)

    return update


def cartpole(axes: Axes, film: Any, others: Sequence[Any]) -> Callable[[int], None]:
    """Draws the cart and its pole, of the task's length."""
    top = 1.15 * max(2 * float(other.task.length) for other in others)
    x: Any = np.asarray(film.states.x)
    theta = np.asarray(film.states.theta)
    length = 2 * float(film.task.length)
    axes.set(xlim=(-2.6, 2.6), ylim=(-0.6, top), aspect="equal", yticks=[])
    axes.axhline(0, color=GREY, lw=1)
    axes.set_xlabel("metres")
    cart = Rectangle((0, -0.12), 0.5, 0.24, color=PALETTE[0])
    axes.add_patch(cart)
    (pole,) = axes.plot([], [], color=PALETTE[1], lw=4)

    def update(t):
        cart.set_x(x[t] - 0.25)
        turn = np.array([np.sin(theta[t]), np.cos(theta[t])])
        foot = np.array([x[t], 0.0])
        pole.set_data(*np.stack([foot, foot + length * turn], axis=1))

    return update


def links(angles: Callable, lengths: Callable, goal: Callable | None = None) -> Draw:
    """Makes what draws an arm of links.

    Args:
      angles: `(states) -> [T + 1, L]`, each link's, anticlockwise from the x-axis.
      lengths: `(task) -> [L]`.
      goal: `(task) -> [2]` where the tip is to be.
    """

    def draw(axes, film, others):
        turned, long = angles(film.states), np.asarray(lengths(film.task), float)
        joint = np.stack([np.cos(turned), np.sin(turned)], axis=-1) * long[:, None]
        points = np.concatenate([0 * joint[:, :1], np.cumsum(joint, axis=1)], axis=1)
        reach = 1.1 * max(np.sum(lengths(other.task)) for other in others)
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
        axes.set(xlabel="x", ylabel="y")
        if goal is not None:
            look = {"color": PALETTE[5], "markeredgecolor": "black", "markersize": 15}
            axes.plot(*goal(film.task), "*", **look)
        axes.add_patch(Circle((0, 0), 0.02 * reach, color="black"))
        (arm,) = axes.plot([], [], "o-", color=PALETTE[0], lw=4, markersize=5)

        def update(t):
            arm.set_data(*points[t].T)

        return update

    return draw


def car(axes: Axes, film: Any, others: Sequence[Any]) -> Callable[[int], None]:
    """Draws the car on its mountain."""
    del others
    x = np.asarray(film.states.position)
    along = np.linspace(-1.2, 0.6, 100)
    axes.plot(along, np.sin(3 * along), color=GREY)
    top = float(film.task.goal_position)
    axes.plot(top, np.sin(3 * top), "*", color=PALETTE[5], markeredgecolor="k")
    axes.lines[-1].set_markersize(15)
    axes.set(xlabel="position", yticks=[], ylim=(-1.2, 1.3))
    (dot,) = axes.plot([], [], "o", color=PALETTE[1], markersize=9)

    def update(t):
        dot.set_data([x[t]], [np.sin(3 * x[t]) + 0.08])

    return update


def robot(axes: Axes, film: Any, others: Sequence[Any]) -> Callable[[int], None]:
    """Draws a planar robot; the picture moves along with it."""
    del others
    tree, position = film.env.tree, np.asarray(film.states.position)
    physics = film.task.physics
    show_all(axes, tree, physics, position[[0]])
    width = 1.4 * np.ptp(axes.get_xlim())
    low = axes.get_ylim()[0]
    axes.set_ylim(low, low + 0.6 * width)
    for mark in range(-60, 61):
        axes.axvline(mark, color="#cccccc", lw=0.8)

    def update(t):
        for patch in list(axes.patches):
            patch.remove()
        draw_pose(axes, tree, physics, position[t])
        axes.set_xlim(position[t, 0] - width / 2, position[t, 0] + width / 2)

    return update


def maze(axes: Axes, film: Any, others: Sequence[Any]) -> Callable[[int], None]:
    """Draws a maze, the way so far and the goal."""
    del others
    cells, size = np.asarray(film.states.cell), film.env.size
    draw_maze(axes, film.task)
    places = np.stack(np.divmod(cells, size), axis=-1) + 0.5
    (way,) = axes.plot([], [], color=PALETTE[0], lw=2)
    (dot,) = axes.plot([], [], "o", color=PALETTE[1], markersize=7)

    def update(t):
        way.set_data(*places[: t + 1].T)
        dot.set_data(*places[t : t + 1].T)

    return update


def rooms(axes: Axes, film: Any, others: Sequence[Any]) -> Callable[[int], None]:
    """Draws three rooms, what their goals pay, and the way so far."""
    del others
    draw_rooms(axes, film.task)
    places = CELLS[np.asarray(film.states.cell)]
    (way,) = axes.plot([], [], color=PALETTE[0], lw=2)
    (dot,) = axes.plot([], [], "o", color=PALETTE[1], markersize=7)

    def update(t):
        way.set_data(*places[: t + 1].T)
        dot.set_data(*places[t : t + 1].T)

    return update


def driven(axes: Axes, film: Any, others: Sequence[Any]) -> Callable[[int], None]:
    """Draws the road and who drives on it, one's own car in orange."""
    del others

    def update(t):
        for artist in [*axes.lines, *axes.patches, *axes.texts]:
            artist.remove()
        draw_moment(axes, film.task, jax.tree.map(lambda x: x[t], film.states))

    return update


def board(axes: Axes, film: Any, others: Sequence[Any]) -> Callable[[int], None]:
    """Draws a game's board: what stands on each of its squares, a colour a kind."""
    del others
    seen = np.concatenate([film.episode.obs, film.episode.next_obs[-1:]])
    seen = seen.reshape(-1, *film.env.shape)  # a policy may see it flattened
    kinds = np.where(seen.any(axis=-1), seen.argmax(axis=-1) + 1.0, np.nan)
    look = {"cmap": "tab10", "vmin": 0.5, "vmax": 10.5}
    picture = axes.imshow(kinds[0], interpolation="nearest", **look)
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)

    def update(t):
        picture.set_data(kinds[t])

    return update


def room(axes: Axes, film: Any, others: Sequence[Any]) -> Callable[[int], None]:
    """Draws the tiles of a room, a colour a kind, and where the agent is."""
    del others
    tiles = np.asarray(film.states.grid)[..., 0]
    place = np.asarray(film.states.agent.position)
    picture = axes.imshow(tiles[0], interpolation="nearest", cmap="tab20", vmax=19)
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    (dot,) = axes.plot([], [], "o", color="black", markersize=7)

    def update(t):
        picture.set_data(tiles[t])
        dot.set_data(*place[t : t + 1, ::-1].T)

    return update


def _field(states: Any, *names: str, missing: Any = ()) -> Any:
    """Returns the first field of a state, or of what it wraps, of one of the names."""
    for name in names:
        if hasattr(states, name):
            return np.asarray(getattr(states, name))
    for inner in ("state", "env_state", "inner"):
        if hasattr(states, inner):
            return _field(getattr(states, inner), *names, missing=missing)
    if missing == ():
        raise ValueError(f"a state must have {' or '.join(names)}; got {type(states)}")
    return missing


DRAWN: dict[str, Draw] = {
    "PointNavigation": plane,
    "Swimmer-misc": plane,
    "GridNavigation": grid,
    "DarkRoom": grid,
    "RoomKeyDoor": key_and_door,
    "MetaFrozenLake": lake,
    "KrazyWorld": krazy,
    "Catch": pieces(lambda env: (env.columns, env.rows), _caught),
    "LPGGrid": pieces(square, _objects),
    "TwoColors": pieces(square, _colours),
    "Bandit": arms,
    "Maze": maze,
    "Rooms": rooms,
    "TreasureHunt": treasure,
    "Driving": driven,
    "XLand-MiniGrid": room,
    "TabularMDP": circle,
    "TwoStep": circle,
    "CartPole-v1": cartpole,
    "Pendulum-v1": links(
        lambda s: np.pi / 2 + np.asarray(s.theta)[:, None], lambda p: [float(p.l)]
    ),
    "Acrobot-v1": links(
        lambda s: (
            -np.pi / 2
            + np.cumsum(np.stack([s.joint_angle1, s.joint_angle2], -1), axis=-1)
        ),
        lambda p: [float(p.link_length_1), float(p.link_length_2)],
    ),
    "MountainCar-v0": car,
    "Reacher": links(
        lambda s: np.asarray(s.angles), lambda p: p.lengths, lambda p: p.goal
    ),
}
