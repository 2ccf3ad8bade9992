"""Which memory should a policy have? Four cores on four tables, steps or seconds equal.

    python benchmarks/memories.py [--arms WORLD/CORE …]

RL² with its world's defaults, but for what stands here, and every core of width 64.
Each trains twice: for the same steps of the environment, and for the same seconds of a
CPU, as many meta-training steps as it takes in them; learning rates fall over these.
All its seeds are trained in one program, in a process of its own, and meet held-out
tasks by the one protocol; intervals are over seeds. Seconds leave compiling out. Arms
already recorded are not run again; `--arms` without one runs none. Writes JSON, draws
`docs/results/memories.png` and lays out the table of `docs/results/memories.md`.
"""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from measuring import hardware, learn, mean_and_half_width, run_arms
from telling_apart import lines
from world_learning import told_of

import metarl_jax
from metarl_jax.plotting import PALETTE

OUTPUT = Path(__file__).parent / "results" / "memories.json"
FIGURE = Path(__file__).parent.parent / "docs" / "results" / "memories.png"
PAGE = FIGURE.with_suffix(".md")
SECONDS, NUM_POINTS = 30.0, 30
EQUAL = ("steps", "seconds")
CORES = {
    "gru": "GRU",
    "lstm": "LSTM",
    "transformer": "transformer",
    "linear": "linear recurrence",
}
# By the world: the table's name, options, and meta-training steps where they are equal.
WORLDS: dict[str, tuple[str, dict[str, Any], int]] = {
    "bandit": ("bandits, 10 pulls of 5", {"num_tasks": 256}, 300),
    "correlated-bandit": (
        "dependent arms, 100 pulls",
        {"size": 64, "num_tasks": 64, "show_time": False},
        150,
    ),
    "tabular-mdp": (
        "random MDPs, 10 episodes",
        {"num_tasks": 128, "num_minibatches": 4, "gae_lambda": 0.9, "discount": 1.0},
        60,
    ),
    "grid-navigation": ("a hidden goal on a grid", {"num_tasks": 64}, 150),
}


def train(world: str, core: str, num_steps: int, num_seeds: int) -> Any:
    """Trains a core in a world, for so many steps."""
    options = {**WORLDS[world][1], "core": core}
    options |= {"num_steps": num_steps, "decay_steps": num_steps}
    experiment = metarl_jax.make_experiment(world, method="rl2", **options)
    return learn(experiment, num_seeds, num_points=NUM_POINTS)


def measure(arm: str, num_seeds: int) -> dict[str, Any]:
    """Trains an arm for equal steps and for equal seconds, and evaluates both."""
    world, _, core = arm.partition("/")
    found: dict[str, Any] = {"hardware": hardware()}
    num_steps = WORLDS[world][2]
    for equal in EQUAL:
        trained, record = train(world, core, num_steps, num_seeds)
        found[equal] = {**record, **told_of(metarl_jax.evaluate(trained))}
        num_steps = max(1, round(SECONDS * num_steps / record["cpu_seconds"]))
    return found


def by_table(arms: dict[str, dict], equal: str) -> dict[str, dict[str, np.ndarray]]:
    """Returns what trials return in all, `[S]` by table and core."""
    return {
        title: {
            label: np.sum(arms[f"{world}/{core}"][equal]["return_mean_by_seed"], axis=1)
            for core, label in CORES.items()
            if f"{world}/{core}" in arms
        }
        for world, (title, _, _) in WORLDS.items()
    }


def laid_out(arms: dict[str, dict]) -> str:
    """Returns what the page shows: a table, and what it tells apart."""
    rows = [
        "| table | memory | return, equal steps | thousand steps | CPU s | "
        "return, equal seconds | thousand steps | CPU s |",
        "|---" * 8 + "|",
    ]
    tables = {equal: by_table(arms, equal) for equal in EQUAL}
    for world, (title, _, _) in WORLDS.items():
        for core, label in CORES.items():
            if (arm := arms.get(f"{world}/{core}")) is None:
                continue
            cells = []
            for equal in EQUAL:
                mean, half = mean_and_half_width(tables[equal][title][label])
                cells += [
                    f"{mean:.2f} ± {half:.2f}",
                    f"{arm[equal]['environment_steps'] / 1e3:,.0f}",
                    f"{arm[equal]['cpu_seconds']:.0f}",
                ]
            rows.append(f"| {title} | {label} | {' | '.join(cells)} |")
    apart = {
        f"{title}, equal {equal}": cores
        for equal in EQUAL
        for title, cores in tables[equal].items()
    }
    return "\n".join(rows) + "\n\n" + lines(apart, digits=2)


def draw(arms: dict[str, dict]) -> Figure:
    """Draws a table a column: the last round's return by steps and by seconds."""
    figure = Figure(figsize=(12.0, 5.2), layout="constrained")
    grid = figure.subplots(2, len(WORLDS), sharey="col")
    for column, (world, (title, _, _)) in enumerate(WORLDS.items()):
        for number, (core, label) in enumerate(CORES.items()):
            if (arm := arms.get(f"{world}/{core}")) is None:
                continue
            for axes, equal in zip(grid[:, column], EQUAL, strict=True):
                curve = arm[equal]["curve"]
                at = np.array(curve["environment_steps"]) / 1e3
                if equal == "seconds":
                    at = at / at[-1] * arm[equal]["cpu_seconds"]
                seeds = np.array(curve["return_after"])
                color = PALETTE[number]
                axes.plot(at, seeds.mean(axis=1), label=label, lw=1.8, color=color)
                axes.plot(at, seeds, lw=0.5, alpha=0.6, color=color)
        grid[0, column].set_title(title, loc="left", fontsize=10)
        grid[0, column].set_xlabel("thousand environment steps a seed")
        grid[1, column].set_xlabel("CPU seconds a seed")
    for axes in grid[:, 0]:
        axes.set_ylabel("return of the last episode")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(CORES))
    return figure


def main() -> None:
    run_arms(
        __file__,
        [f"{world}/{core}" for world in WORLDS for core in CORES],
        measure,
        {"memories.py": laid_out},
        output=OUTPUT,
        page=PAGE,
        draw=draw,
        figure=FIGURE,
    )


if __name__ == "__main__":
    main()
