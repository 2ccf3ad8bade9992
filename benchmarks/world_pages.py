"""Writes what is measured and counted of every world into its page, and draws it.

    python benchmarks/world_pages.py [--figures]

A page is `docs/worlds/NAME.md`. What it says of the task is written by hand; what
stands between two marks is made here, from the world itself and from
`benchmarks/results/`: `worlds.json` (`worlds.py`), `references.json`
(`references.py`), and what was seen to learn in it, in `robot_learning.json`,
`world_learning.json` or else `matrix.json`. A world without a page gets one.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon
from measuring import rewritten

from metarl_jax import catalogue, spaces
from metarl_jax.envs import locomotion, robots, treasure_hunt
from metarl_jax.envs.mujoco import ALL_ROBOTS, Positions, is_installed
from metarl_jax.envs.planar.files import planar_robot
from metarl_jax.options import options_of
from metarl_jax.plotting import robots as drawing
from metarl_jax.plotting.boards import krazy_of, lakes_of, rooms_of
from metarl_jax.plotting.style import GREY, PALETTE
from metarl_jax.types import TaskDistribution

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "worlds"
RESULTS = Path(__file__).parent / "results"
BEGIN = "<!-- made by benchmarks/world_pages.py -->"
END = "<!-- to here -->"
AGENTS = {
    "task-shown": "told the task",
    "told": "told the task",
    "memoryless": "no memory",
    "e-rl2": "E-RL²",
}
BODIES = {
    "half-cheetah": "half-cheetah",
    "walker": "walker",
    "hopper": "hopper",
    "swimmer-velocity": "swimmer",
    "ant": "ant",
    "humanoid": "humanoid",
}


def number(x: float) -> str:
    return f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.4g}"


def acts(space: Any) -> str:
    choices = spaces.num_choices(space)
    if choices is not None:
        return f"one of {choices}"
    low, high = np.min(space.low), np.max(space.high)
    size = "×".join(map(str, space.shape))
    return f"{size} numbers within {number(low)} and {number(high)}"


def record(name: str, part: str = "worlds") -> dict[str, Any]:
    path = RESULTS / name
    return json.loads(path.read_text())[part] if path.exists() else {}


def learned(name: str) -> list[str]:
    """Returns a table of what was trained in a world, and what came of it."""
    long = record("robot_learning.json", "arms")
    long |= record("world_learning.json", "arms")
    short = record("matrix.json", "pairs")
    rows = {}
    for pair in (*long, *short):
        world, _, method = pair.partition("/")
        if world != name or method in rows:
            continue
        page = PAGES.parent / "algorithms" / f"{method.replace('-', '_')}.md"
        who = AGENTS.get(method, method)
        who = f"[{who}](../algorithms/{page.name})" if page.exists() else who
        if pair in long:
            row = long[pair]
            first, last = row["return_mean"][0], row["return_mean"][-1]
            low, high = row["return_ci"][-1]
            told = f"({number(low)} to {number(high)}, {row['num_seeds']} seeds)"
            seconds = row["cpu_seconds"]
        else:
            row = short[pair]
            first, last, gain = row["before"], row["after"], row["difference"]
            told = f"(gain {number(gain)} ± {number(row['half_width'])}, one seed)"
            seconds = row["seconds"]
        rows[method] = (
            f"| {who} | {number(first)} | {number(last)} {told} | {seconds:.0f} |"
        )
    if not rows:
        return []
    head = "| trained here | first round | last round | seconds of training |"
    return ["", head, "|---|---|---|---|", *rows.values()]


def facts(name: str) -> str:
    """Returns the part of a page that is made."""
    world = catalogue.load(name, "worlds")
    tasks = world.tasks()
    shapes = [x.shape for x in jax.tree.leaves(tasks.observation)]
    seen = ", ".join(f"`{list(shape)}`" for shape in shapes)
    rows = [
        ("an agent sees", f"{seen} numbers"),
        ("it acts by", acts(tasks.action_space)),
        ("an episode", f"at most {tasks.horizon} steps"),
    ]
    timed = record("worlds.json").get(name)
    if timed:
        speed, compiled = timed["steps_per_second"], timed["compile_seconds"]
        machine = timed.get("hardware") or record("worlds.json", "hardware")
        rows.append(
            (
                "steps a second of one CPU core",
                f"{speed:,.0f}, after {compiled:.1f} s of compiling "
                f"({machine['device']}, {machine['date']})",
            )
        )
    for who, row in record("references.json").get(name, {}).items():
        if who == "hardware":
            continue
        told = f"{number(row['mean'])} ± {row['half_width']:.2g}"
        if "num_tasks" in row:
            told += f", of {row['num_tasks']} tasks"
        rows.append((f"return of an episode: {who}", told))
    lines = ["| | |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows)]
    options = options_of(world.tasks)
    if options:
        lines += ["", "| option | default | |", "|---|---|---|"]
        for option in options:
            flag = f"`--{option.name.replace('_', '-')}`"
            told = " ".join(option.help.split())
            lines.append(f"| {flag} | `{option.default}` | {told} |")
    lines += learned(name)
    return "\n".join(lines)


def written(name: str, page: str) -> str:
    """Returns a page with its made part made anew, if it has one."""
    return rewritten(page, "world_pages.py", facts(name)) if BEGIN in page else page


INDEX = """# Worlds

What each asks for, what differs between its tasks, and what those get who learn
nothing; [robots](../robots.md) have a page of their own, and there is one on
[published ants](published-ants.md).

| | |
|---|---|
{rows}

Returns are of 200 held-out tasks, an episode each, where a page does not say how many,
with 95 % intervals over tasks; steps a second are of a policy of two hidden layers of
64 in 64 copies. What was trained has 95 % intervals over
[seeds](../results/worlds.md), or is one seed of two minutes and its gain with an
interval over tasks ([worlds and methods](../results/matrix.md)).

```sh
python benchmarks/worlds.py
python benchmarks/references.py
python benchmarks/world_pages.py --figures
```
"""


def index() -> str:
    """Returns the page that leads to all others."""
    rows = [
        f"| [{name}]({name}.md) | {summary} |"
        for name, summary in catalogue.summaries("worlds").items()
        if (PAGES / f"{name}.md").exists()
    ]
    return INDEX.format(rows="\n".join(rows))


def blank(name: str) -> str:
    """Returns the page of a world of which nothing has been written."""
    summary = catalogue.summaries("worlds")[name]
    figure = f"![{name}]({figure_of(name)})\n\n" if figure_of(name) else ""
    return f"# {name}\n\n{summary}\n\n{figure}{BEGIN}\n{END}\n"


def figure_of(name: str) -> str | None:
    """Returns the figure of a world, where there is one."""
    for stem in (name, *(b for b in BODIES if name.startswith(b))):
        if (PAGES / f"{stem}.png").exists():
            return f"{stem}.png"
    return None


def draw_tasks(tasks: TaskDistribution, path: Path) -> None:
    """Draws what differs between a thousand tasks."""
    some = jax.vmap(tasks.sample)(jax.random.split(jax.random.key(0), 1000))
    varied = []
    for where, leaf in jax.tree_util.tree_leaves_with_path(some):
        values = np.asarray(leaf)
        if values.dtype.kind in "fiu" and (values != values[:1]).any():
            label = jax.tree_util.keystr(where, simple=True, separator=".")
            varied.append((label or "task", values))
    varied = varied[:4]
    if not varied:
        return
    figure = Figure(figsize=(2.8 * len(varied) + 0.4, 2.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(varied), squeeze=False)[0]
    for axes, (label, values) in zip(panels, varied, strict=True):
        if values.shape[1:] == (2,):
            axes.scatter(*values.T, s=6, color=PALETTE[0], alpha=0.4, lw=0)
            axes.set_aspect("equal")
        else:
            axes.hist(values.ravel(), bins=40, color=PALETTE[0])
            axes.set_yticks([])
        axes.set_title(label, loc="left", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=100)


def draw_hunts(tasks: TaskDistribution, path: Path) -> None:
    """Draws the mountain, the start and where treasures are."""
    goals = jax.vmap(tasks.sample)(jax.random.split(jax.random.key(0), 1000)).goal
    figure = Figure(figsize=(3.2, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.add_patch(
        Circle((0, 0), treasure_hunt.MOUNTAIN_RADIUS, color=GREY, alpha=0.3, lw=0)
    )
    axes.plot(0, 0, "^", color=GREY)
    axes.scatter(*np.asarray(goals).T, s=6, color=PALETTE[0], alpha=0.4, lw=0)
    axes.plot(*treasure_hunt.START, "o", color=PALETTE[1])
    axes.set(xlim=(-1.55, 1.55), ylim=(-1.55, 1.55), aspect="equal")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=100)


def draw_planar(robot: str, path: Path) -> None:
    """Draws a planar robot that acts at random, later poses more solid."""
    tree, physics = planar_robot(robot)
    tasks = robots.planar_family(DEFINITIONS[robot])

    def episode(key):
        task = tasks.sample(key)
        _, state = tasks.reset(key, task)

        def step(state, key):
            action = jax.random.uniform(key, (len(tree.motors),), minval=-1.0)
            return tasks.step(key, state, action, task)[1], state.position

        return jax.lax.scan(step, state, jax.random.split(key, 80))[1]

    positions = np.asarray(jax.jit(episode)(jax.random.key(1)))
    drawing.strip({robot: (tree, physics, positions[::20])}, path)


DEFINITIONS = {
    "half-cheetah": locomotion.half_cheetah_velocity(),
    "walker": locomotion.walker_running(),
    "hopper": locomotion.hopper_running(),
    "swimmer": locomotion.swimmer_velocity(),
}


def draw_spatial(robot: str, path: Path) -> None:
    """Draws a robot of MuJoCo from the side and from above, in its first pose."""
    host = Positions(ALL_ROBOTS[robot].environment)
    host.reset(seed=0)
    model, data = host._robot.model, host._robot.data
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    views = (("from the side", [0, 2], 1), ("from above", [0, 1], 2))
    for axes, (title, plane, depth) in zip(figure.subplots(1, 2), views, strict=True):
        geoms = [g for g in range(model.ngeom) if model.geom_bodyid[g] > 0]
        towards = -1 if depth == 1 else 1
        for g in sorted(geoms, key=lambda g: towards * data.geom_xpos[g, depth]):
            along = data.geom_xmat[g].reshape(3, 3)[:, 2] * model.geom_size[g, 1]
            ends = data.geom_xpos[g] + np.array([[1.0], [-1.0]]) * along
            color = PALETTE[model.geom_bodyid[g] % len(PALETTE)]
            capsule(axes, ends[:, plane], model.geom_size[g, 0], color)
        axes.set_aspect("equal")
        axes.autoscale_view()
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("metres")
        axes.spines[["top", "right"]].set_visible(False)
        if depth == 1:
            axes.axhline(0.0, color=GREY, linewidth=1)
    figure.savefig(path, dpi=100)
    host.close()


def capsule(axes: Axes, ends: np.ndarray, radius: float, color: str) -> None:
    """Draws a capsule between two places."""
    along = ends[1] - ends[0]
    across = np.array([-along[1], along[0]]) / max(np.linalg.norm(along), 1e-9)
    across *= radius
    corners = [ends[0] + across, ends[1] + across, ends[1] - across, ends[0] - across]
    look: dict[str, Any] = {"facecolor": color, "linewidth": 0}
    axes.add_patch(Polygon(corners, **look))
    for end in ends:
        axes.add_patch(Circle((float(end[0]), float(end[1])), radius, **look))


def draw(only: list[str]) -> None:
    """Draws every body, and what differs between the tasks of other worlds."""
    for stem, robot in BODIES.items():
        if not any(name.startswith(stem) for name in only):
            continue
        path = PAGES / f"{stem}.png"
        if robot in DEFINITIONS:
            draw_planar(robot, path)
        elif is_installed():
            draw_spatial(robot, path)
    for name in only:
        path = PAGES / f"{name}.md"
        made = not path.exists() or BEGIN in path.read_text()
        if made and not any(name.startswith(stem) for stem in BODIES):
            tasks = catalogue.load(name, "worlds").tasks()
            figure = PAGES / f"{name}.png"
            if name == "treasure-hunt":
                draw_hunts(tasks, figure)
            elif name == "rooms":
                rooms_of([tasks.sample(jax.random.key(i)) for i in (0, 1)], figure)
            elif name == "meta-frozen-lake":
                lakes_of([tasks.sample(jax.random.key(i)) for i in range(4)], figure)
            elif name == "krazy-world":
                krazy_of([tasks.sample(jax.random.key(i)) for i in range(3)], figure)
            else:
                draw_tasks(tasks, figure)


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes the pages of all worlds.")
    parser.add_argument("--only", nargs="+", default=list(catalogue.entries("worlds")))
    parser.add_argument("--figures", action="store_true", help="draw them, too")
    args = parser.parse_args()
    PAGES.mkdir(exist_ok=True)
    if args.figures:
        draw(args.only)
    for name in args.only:
        path = PAGES / f"{name}.md"
        page = path.read_text() if path.exists() else blank(name)
        try:
            path.write_text(written(name, page))
        except ValueError as error:  # an extra is not installed
            print(f"{name}: {error}")
    (PAGES / "README.md").write_text(index())


if __name__ == "__main__":
    main()
