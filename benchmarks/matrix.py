"""Tries methods in worlds that no published experiment puts together.

    python benchmarks/matrix.py [--seconds 120] [--pairs WORLD/METHOD …]

Each pair trains with its defaults, in a process of its own, for as many meta-training
steps as the seconds allow, compilation and evaluation included, but no more than its
default; learning rates decay over these. Then held-out tasks are met before and after
adaptation, all by the same agent, and what is recorded of each is the difference. A
pair has learned to adapt where the 95 % interval of the mean difference over tasks is
above zero. Pairs already recorded are not run again. Writes JSON, draws
`docs/matrix.png` and prints a markdown table.
"""

import argparse
import inspect
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from measuring import apart, hardware, mean_and_half_width, picture, write

import metarl_jax
from metarl_jax import catalogue
from metarl_jax.choice import Choice

OUTPUT = Path(__file__).parent / "results" / "matrix.json"
FIGURE = Path(__file__).parent.parent / "docs" / "matrix.png"
NUM_TIMED = 3


def unpublished() -> list[tuple[str, str]]:
    """Returns the pairs that work, are no published experiment and adapt in rounds."""
    published = set()
    for name in catalogue.entries("experiments"):
        recipe = catalogue.load(name, "experiments")
        for world in catalogue.entries("worlds"):
            if catalogue.load(world, "worlds") is recipe.world:
                published.add((world, recipe.method.name))
    pairs = []
    for world in catalogue.entries("worlds"):
        for method in catalogue.entries("methods"):
            try:
                experiment = Choice(world, method).load()()
            except ValueError:
                continue  # refused: they do not go together
            adapts = experiment.evaluation.num_adaptation_steps > 0
            adapts &= method != "task-shown"
            if adapts and (world, method) not in published:
                pairs.append((world, method))
    return pairs


def measure(world: str, method: str, seconds: float) -> dict[str, Any]:
    """Trains one pair and measures it."""
    start = time.perf_counter()
    build = Choice(world, method).load()
    experiment = build()
    times: list[float] = []
    metarl_jax.train(
        experiment._replace(num_steps=NUM_TIMED + 1),
        callback=lambda step, info: times.append(time.perf_counter()),
        quiet=True,
    )
    ready = times[0] - start
    # Compiling again takes its time from the cache, the evaluation a part of the rest.
    left = seconds - 2 * ready - 15
    per_step = max((times[-1] - times[0]) / NUM_TIMED, 1e-4)
    num_steps = int(np.clip(0.9 * left / per_step, NUM_TIMED, experiment.num_steps))
    options = {"num_steps": num_steps}
    known = inspect.signature(build).parameters
    if "decay_steps" in known:
        decay_steps = known["decay_steps"].default * num_steps
        options["decay_steps"] = max(1, decay_steps // experiment.num_steps)
    experiment = build(**options)
    trained = metarl_jax.train(experiment, quiet=True)
    result = metarl_jax.evaluate(trained)
    returns = np.asarray(result["returns"])[0]  # [N, K + 1]
    mean, half = mean_and_half_width(returns[:, -1] - returns[:, 0])
    return {
        "num_steps": num_steps,
        "before": result["return_mean"][0],
        "after": result["return_mean"][-1],
        "adaptation_steps": returns.shape[1] - 1,
        "unit": result["adaptation_unit"],
        "difference": mean,
        "half_width": half,
        "num_tasks": len(returns),
        "seconds": round(time.perf_counter() - start, 1),
        "hardware": hardware(),
    }


def learned(row: dict[str, Any]) -> bool:
    """Tells whether the interval of the difference is above zero."""
    return row["difference"] - row["half_width"] > 0


def draw(rows: dict[str, dict[str, Any]]) -> Figure:
    """Draws what adaptation gained, in standard errors, worlds by methods."""
    pairs = [key.split("/") for key in rows]
    worlds = list(dict.fromkeys(world for world, _ in pairs))
    methods = list(dict.fromkeys(method for _, method in pairs))
    shown = np.full((len(worlds), len(methods)), np.nan)
    for key, row in rows.items():
        world, method = key.split("/")
        gain = row["difference"] / max(row["half_width"], 1e-9)
        shown[worlds.index(world), methods.index(method)] = gain
    figure = Figure(
        figsize=(1.6 + 0.95 * len(methods), 1.4 + 0.5 * len(worlds)),
        layout="constrained",
    )
    axes = figure.subplots()
    axes.imshow(np.clip(shown, -2, 2), cmap="RdBu", vmin=-2.5, vmax=2.5, aspect="auto")
    for key, row in rows.items():
        world, method = key.split("/")
        at = methods.index(method), worlds.index(world)
        digits = 0 if max(abs(row["before"]), abs(row["after"])) >= 100 else 1
        text = f"{row['before']:.{digits}f} →\n{row['after']:.{digits}f}"
        dark = abs(shown[at[::-1]]) > 1.2
        axes.text(
            *at,
            text,
            ha="center",
            va="center",
            fontsize=8,
            color="white" if dark else "black",
        )
    axes.set_xticks(range(len(methods)), methods, rotation=35, ha="right")
    axes.set_yticks(range(len(worlds)), worlds)
    axes.grid(visible=False)
    axes.set_title(
        "Return before → after adaptation on held-out tasks; blue: it rose, "
        "the deeper the surer; white: not tried",
        loc="left",
    )
    return figure


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Lays out the pairs as a markdown table."""
    lines = [
        "| world | method | before | after | difference | steps | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for key, row in rows.items():
        world, method = key.split("/")
        low, high = (row["difference"] + s * row["half_width"] for s in (-1, 1))
        mark = "**" if learned(row) else ""
        lines.append(
            f"| {world} | {method} | {row['before']:.2f} | {row['after']:.2f} | "
            f"{mark}[{low:.2f}, {high:.2f}]{mark} | {row['num_steps']} | "
            f"{row['seconds']:.0f} |"
        )
    won = sum(map(learned, rows.values()))
    lines.append(f"\nAdaptation gains in {won} of {len(rows)} pairs.")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Tries unpublished pairs.")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--pairs", nargs="+", metavar="WORLD/METHOD")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        world, _, method = args.only.partition("/")
        row = measure(world, method, args.seconds)
        print(json.dumps(row))
        return
    recorded = json.loads(args.output.read_text()) if args.output.exists() else {}
    same = recorded.get("seconds") == args.seconds
    rows = recorded["pairs"] if same else {}
    wanted = args.pairs or ["/".join(pair) for pair in unpublished()]
    for key in apart(__file__, wanted, rows, "--seconds", str(args.seconds)):
        record = {"seconds": args.seconds, "pairs": dict(sorted(rows.items()))}
        write(args.output, record)
        print(table({key: rows[key]}).splitlines()[2], flush=True)
    rows = dict(sorted(rows.items()))
    beside = FIGURE if args.output == OUTPUT else args.output.with_suffix(".png")
    picture(lambda: draw(rows), beside)
    print(table(rows))


if __name__ == "__main__":
    main()
