"""Which memory should a policy have? Four cores on four tables, steps or seconds equal.

    python benchmarks/memories.py [--arms WORLD/CORE …]

RL² with its world's defaults, but for what stands here, and every core. Each trains
twice: for the same few steps of the environment, and for the same seconds of a CPU, as
many meta-training steps as it takes in them; learning rates fall over these. All its
seeds are trained in one program, in a process of its own, and meet held-out tasks by
the one protocol; intervals are over seeds. Seconds leave compiling out. Arms already
recorded are not run again; `--arms` without one runs none. Writes JSON, draws
`docs/results/memories.png` and lays out the table of `docs/results/memories.md`.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from measuring import apart, hardware, learn, rewritten, write
from telling_apart import lines
from world_learning import told_of

import metarl_jax
from metarl_jax.intervals import t_half_width
from metarl_jax.plotting import PALETTE, STYLE

OUTPUT = Path(__file__).parent / "results" / "memories.json"
FIGURE = Path(__file__).parent.parent / "docs" / "results" / "memories.png"
PAGE = FIGURE.with_suffix(".md")
NUM_POINTS = 30
CORES = {
    "gru": "GRU",
    "lstm": "LSTM",
    "transformer": "transformer",
    "linear": "linear recurrence",
}
# By the world: the table's name, options, and meta-training steps where they are equal.
WORLDS: dict[str, tuple[str, dict[str, Any], int]] = {
    "bandit": ("bandits, 10 pulls of 5", {"num_tasks": 256}, 200),
    "correlated-bandit": (
        "dependent arms, 100 pulls",
        {"core": "gru", "size": 64, "num_tasks": 64},
        80,
    ),
    "tabular-mdp": (
        "random MDPs, 10 episodes",
        {"num_tasks": 128, "num_minibatches": 4, "gae_lambda": 0.9, "discount": 1.0},
        40,
    ),
    "grid-navigation": ("a hidden goal on a grid", {"num_tasks": 64}, 80),
}


def train(world: str, core: str, num_steps: int, num_seeds: int) -> Any:
    """Trains a core in a world, for so many steps."""
    options = {**WORLDS[world][1], "core": core}
    options |= {"num_steps": num_steps, "decay_steps": num_steps}
    experiment = metarl_jax.make_experiment(world, method="rl2", **options)
    return learn(experiment, num_seeds, num_points=NUM_POINTS)


def measure(world: str, core: str, num_seeds: int, seconds: float) -> dict[str, Any]:
    """Trains an arm for equal steps and for equal seconds, and evaluates both."""

    def trained(num_steps):
        learned, record = train(world, core, num_steps, num_seeds)
        return {**record, **told_of(metarl_jax.evaluate(learned))}

    few = trained(WORLDS[world][2])
    within = round(seconds * few["num_steps"] / few["cpu_seconds"])
    return {
        "steps": few,
        "seconds": trained(max(1, within)),
        "hardware": hardware(),
    }


def sums(record: dict[str, Any]) -> np.ndarray:
    """Returns what a trial's rounds return in all, `[S]`."""
    return np.sum(record["return_mean_by_seed"], axis=1)


def said(record: dict[str, Any]) -> str:
    """Returns the mean over seeds and its interval."""
    seeds = sums(record)
    half = t_half_width(seeds.std(ddof=1) / len(seeds) ** 0.5, len(seeds) - 1)
    return f"{seeds.mean():.2f} ± {half:.2f}"


def laid_out(arms: dict[str, dict]) -> str:
    """Returns what the page shows: a table, and what it tells apart."""
    rows = [
        "| table | memory | return, equal steps | thousand steps | CPU s | "
        "return, equal seconds | thousand steps | CPU s |",
        "|---" * 8 + "|",
    ]
    worlds: dict[str, dict[str, np.ndarray]] = {}
    for world, (title, _, _) in WORLDS.items():
        for core, label in CORES.items():
            if (arm := arms.get(f"{world}/{core}")) is None:
                continue
            cells = []
            for equal in ("steps", "seconds"):
                record = arm[equal]
                name = f"{title}, equal {equal}"
                worlds.setdefault(name, {})[label] = sums(record)
                cells += [
                    said(record),
                    f"{record['environment_steps'] / 1e3:,.0f}",
                    f"{record['cpu_seconds']:.1f}",
                ]
            rows.append(f"| {title} | {label} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n\n" + lines(worlds, digits=2)


def draw(arms: dict[str, dict]) -> Figure:
    """Draws a table a column: the last round's return by steps and by seconds."""
    figure = Figure(figsize=(12.0, 5.2), layout="constrained")
    grid = figure.subplots(2, len(WORLDS), sharey="col")
    for column, (world, (title, _, _)) in enumerate(WORLDS.items()):
        for number, (core, label) in enumerate(CORES.items()):
            if (arm := arms.get(f"{world}/{core}")) is None:
                continue
            for axes, equal in zip(grid[:, column], ("steps", "seconds"), strict=True):
                curve = arm[equal]["curve"]
                at = np.array(curve["environment_steps"]) / 1e3
                if equal == "seconds":
                    at = at / at[-1] * arm[equal]["cpu_seconds"]
                seeds = np.array(curve["return_after"])
                look: dict[str, Any] = {"color": PALETTE[number]}
                axes.plot(at, seeds.mean(axis=1), label=label, lw=1.8, **look)
                axes.plot(at, seeds, lw=0.5, alpha=0.6, **look)
        grid[0, column].set_title(title, loc="left", fontsize=10)
        grid[0, column].set_xlabel("thousand environment steps a seed")
        grid[1, column].set_xlabel("CPU seconds a seed")
    for axes in grid[:, 0]:
        axes.set_ylabel("return of the last episode")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(CORES))
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description="Tries four memories.")
    parser.add_argument("--arms", nargs="*", metavar="WORLD/CORE")
    parser.add_argument("--num-seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        world, _, core = args.only.partition("/")
        print(json.dumps(measure(world, core, args.num_seeds, args.seconds)))
        return
    arms = json.loads(args.output.read_text())["arms"] if args.output.exists() else {}
    wanted = args.arms
    if wanted is None:
        wanted = [f"{world}/{core}" for world in WORLDS for core in CORES]
    options = ("--num-seeds", str(args.num_seeds), "--seconds", str(args.seconds))
    for arm in apart(__file__, wanted, arms, *options):
        write(args.output, {"seconds": args.seconds, "arms": arms})
        print("\n".join(laid_out({arm: arms[arm]}).splitlines()[2:3]), flush=True)
    beside = FIGURE if args.output == OUTPUT else args.output.with_suffix(".png")
    with rc_context(STYLE):
        FigureCanvasAgg(draw(arms)).print_png(beside)
    if args.output == OUTPUT:
        page = rewritten(PAGE.read_text(), Path(__file__).name, laid_out(arms))
        PAGE.write_text(page)
    print(laid_out(arms))


if __name__ == "__main__":
    main()
