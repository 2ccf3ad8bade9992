"""Which methods learn robots, and how fast: return by environment steps and seconds.

    python benchmarks/robot_learning.py [--arms WORLD/METHOD …]

Every pair trains with its defaults, its seeds in one program, in a process of its own,
and is evaluated on held-out tasks by the one protocol; intervals are over seeds. Beside
them stand an agent that draws its actions uniformly and `task-shown`, which is told the
task. A world `NAME@mujoco` is moved by MuJoCo on the host. Seconds are those of the CPU
that a seed took, without compiling. Pairs already recorded are not run again; `--arms`
without one runs none. Writes JSON, draws `docs/robot_learning.png` and lays out the
tables of `docs/results/robots.md`.
"""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from measuring import hardware, learn, run_arms
from telling_apart import by_seed, lines
from world_learning import told_of, uniform

import metarl_jax
from metarl_jax.intervals import t_half_width
from metarl_jax.plotting import PALETTE

OUTPUT = Path(__file__).parent / "results" / "robot_learning.json"
DOCS = Path(__file__).parent.parent / "docs"
FIGURE, PAGE = DOCS / "robot_learning.png", DOCS / "results" / "robots.md"
TOLD = "task-shown"
METHODS = {
    TOLD: "told the task",
    "rl2": "RL²",
    "maml": "MAML",
    "promp": "ProMP",
    "varibad": "VariBAD",
    "pearl": "PEARL",
}
ARMS = [TOLD, "rl2", "maml", "promp"]
CHEETAHS = [*ARMS, "varibad", "pearl"]
WORLDS = {
    "reacher": ARMS,
    "swimmer": ARMS,
    "half-cheetah-direction": CHEETAHS,
    "half-cheetah-velocity": CHEETAHS,
    "half-cheetah-direction@mujoco": ["rl2", "pearl"],
    "half-cheetah-velocity@mujoco": ["rl2", "pearl"],
}
NUM_POINTS = 40


def build(pair: str) -> metarl_jax.Experiment:
    """Builds the experiment of a pair."""
    world, method = pair.split("/")
    name, _, engine = world.partition("@")
    options = {"engine": engine} if engine else {}
    return metarl_jax.make_experiment(name, method=method, **options)


def measure(pair: str, num_seeds: int) -> dict[str, Any]:
    """Trains one pair and evaluates it."""
    experiment = build(pair)
    options = dict(experiment.origin.options)
    # What PEARL has in its buffer before the first step.
    start = options.get("num_initial_episodes", 0) * options.get("num_train_tasks", 0)
    start *= experiment.tasks.horizon
    trained, record = learn(
        experiment, num_seeds, first_steps=start, num_points=NUM_POINTS
    )
    curve = record["curve"]
    while_learning = np.array(curve["environment_steps"]) - start
    share = while_learning / while_learning[-1]
    curve["cpu_seconds"] = np.round(share * record["cpu_seconds"], 2).tolist()
    told, random = told_of(metarl_jax.evaluate(trained)), uniform(experiment.tasks)
    return {
        **record,
        **{name: told[name] for name in told if name not in ("measures", "references")},
        "random": {name: random[name] for name in ("mean", "half_width")},
        "hardware": hardware(),
    }


def by_world(pairs: dict[str, dict]) -> dict[str, dict[str, dict]]:
    """Sorts the records by world and method, in the order of this file."""
    return {
        world: rows
        for world, methods in WORLDS.items()
        if (
            rows := {
                m: pairs[f"{world}/{m}"] for m in methods if f"{world}/{m}" in pairs
            }
        )
    }


def draw(pairs: dict[str, dict]) -> Figure:
    """Draws return against environment steps and seconds, a row for each world."""
    worlds = by_world(pairs)
    figure = Figure(figsize=(10, 3.3 * len(worlds)), layout="constrained")
    grid = figure.subplots(len(worlds), 2, sharey="row", squeeze=False)
    for row, (world, methods) in zip(grid, worlds.items(), strict=True):
        for axes, x in zip(row, ("environment_steps", "cpu_seconds"), strict=True):
            floor = next(iter(methods.values()))["random"]["mean"]
            axes.axhline(floor, color="grey", lw=1, ls=":", label="random actions")
            for method, record in methods.items():
                seeds = np.array(record["curve"]["return_after"])  # [n, S]
                told = method == TOLD
                colour = "black" if told else PALETTE[list(METHODS).index(method) - 1]
                at = np.array(record["curve"][x], float)
                at = at / 1e6 if x == "environment_steps" else at
                mean = seeds.mean(axis=1)
                axes.plot(
                    at,
                    mean,
                    color=colour,
                    lw=1.6,
                    ls="--" if told else "-",
                    label=METHODS[method],
                )
                if (num := seeds.shape[1]) > 1:
                    error = seeds.std(axis=1, ddof=1) / np.sqrt(num)
                    half = t_half_width(error, num - 1)
                    axes.fill_between(
                        at, mean - half, mean + half, color=colour, alpha=0.13, lw=0
                    )
                    # Few seeds' intervals are wide: the seeds themselves, too.
                    axes.plot(at, seeds, color=colour, lw=0.4, alpha=0.6)
            low = min(np.min(r["curve"]["return_after"]) for r in methods.values())
            high = max(np.max(r["curve"]["return_after"]) for r in methods.values())
            low, high = min(low, floor), max(high, floor)
            pad = 0.08 * (high - low)
            axes.set_ylim(low - pad, high + pad)
            axes.set_xlim(left=0)
        row[0].set_title(world.replace("@mujoco", ", MuJoCo on the host"), loc="left")
        row[0].set_ylabel("return after adaptation")
        row[1].legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    grid[-1][0].set_xlabel("environment steps a seed, millions")
    grid[-1][1].set_xlabel("CPU seconds a seed")
    figure.suptitle(
        "Mean over seeds, each seed (thin) and the mean's 95 % t-interval; tasks drawn "
        "anew in every step",
        x=0.01,
        ha="left",
        fontsize=11,
    )
    return figure


def table(pairs: dict[str, dict]) -> str:
    """Lays out the pairs as a markdown table."""
    lines = [
        "| world | agent | first round | last round (95 % interval) | seeds | "
        "million steps | CPU s a seed |",
        "|---|---|---|---|---|---|---|",
    ]
    for world, methods in by_world(pairs).items():
        floor = next(iter(methods.values()))["random"]
        label = world.replace("@mujoco", ", MuJoCo")
        span = (
            f"{floor['mean'] - floor['half_width']:.1f} to "
            f"{floor['mean'] + floor['half_width']:.1f}"
        )
        lines.append(
            f"| {label} | random actions | {floor['mean']:.1f} ({span}) | | | | |"
        )
        for method, row in methods.items():
            low, high = row["return_ci"][-1]
            lines.append(
                f"| | {METHODS[method]} | {row['return_mean'][0]:.1f} | "
                f"{row['return_mean'][-1]:.1f} ({low:.1f} to {high:.1f}) | "
                f"{row['num_seeds']} | {row['environment_steps'] / 1e6:.2f} | "
                f"{row['cpu_seconds']:.0f} |"
            )
    return "\n".join(lines)


def laid_out(pairs: dict[str, dict]) -> str:
    """Returns what the page shows of the pairs: a table, and what it tells apart."""
    worlds = {
        world.replace("@mujoco", ", MuJoCo"): {
            METHODS[method]: by_seed(row) for method, row in methods.items()
        }
        for world, methods in by_world(pairs).items()
    }
    return f"{table(pairs)}\n\n{lines(worlds)}"


def main() -> None:
    run_arms(
        __file__,
        [f"{world}/{method}" for world in WORLDS for method in WORLDS[world]],
        measure,
        {"robot_learning.py": laid_out},
        output=OUTPUT,
        page=PAGE,
        draw=draw,
        figure=FIGURE,
    )


if __name__ == "__main__":
    main()
