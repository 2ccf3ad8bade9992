"""Reproduces the 2-D navigation of Finn et al. 2017, Table 4, and times it.

    python benchmarks/point_navigation.py

Trains `point-nav-maml` with several seeds, one process after the other, and pools their
evaluations on held-out goals. Time to return is the training time, compilation apart,
until the return after one adaptation step, averaged over the last five meta-training
steps (100 goals drawn anew), passes a level. Writes JSON and prints a markdown table.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from measuring import hardware, write

from metarl_jax.intervals import interval_name, summarise

RESULTS = Path(__file__).parent / "results"
LEVELS = (-25, -20, -16)
SMOOTHED_STEPS = 5


def train(experiment: str, seed: int, directory: Path, options: list[str]) -> Path:
    """Trains and evaluates one seed as a user would."""
    run_dir = directory / f"seed-{seed}"
    command = [sys.executable, "-m", "metarl_jax.cli", "train", experiment]
    command += ["--seed", str(seed), "--output-dir", str(run_dir), *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return run_dir


def time_to_return(run_dir: Path) -> dict[str, float | None]:
    """Reads when the smoothed return after adaptation passed each level."""
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    after = np.array([record["return_after"] for record in records], float)
    smoothed = np.convolve(after, np.ones(SMOOTHED_STEPS) / SMOOTHED_STEPS, "valid")
    seconds = [record["seconds"] for record in records[SMOOTHED_STEPS - 1 :]]
    passed = {}
    for level in LEVELS:
        above = np.flatnonzero(smoothed >= level)
        passed[str(level)] = seconds[above[0]] if above.size else None
    return passed


def main() -> None:
    """Runs the seeds and pools them."""
    parser = argparse.ArgumentParser(
        description="Reproduces Finn et al. 2017, Table 4."
    )
    parser.add_argument("--experiment", default="point-nav-maml")
    parser.add_argument("--num-seeds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    args, options = parser.parse_known_args()

    runs, machine = [], hardware()
    with tempfile.TemporaryDirectory() as directory:
        for seed in range(args.num_seeds):
            run_dir = train(args.experiment, seed, Path(directory), options)
            evaluation = json.loads((run_dir / "evaluation.json").read_text())
            runs.append(
                {"seed": seed, "time_to": time_to_return(run_dir), **evaluation}
            )
            curve = ", ".join(f"{x:.2f}" for x in evaluation["return_mean"])
            print(
                f"seed {seed}: {curve}; {evaluation['training_seconds']:.0f} s, "
                f"-16 after {runs[-1]['time_to']['-16']} s",
                flush=True,
            )
    returns = np.concatenate([run["returns"] for run in runs])  # [S, N, K + 1]
    summary = summarise(returns)
    record = {
        "command": " ".join(["python benchmarks/point_navigation.py", *sys.argv[1:]]),
        "hardware": machine,
        "experiment": args.experiment,
        "options": options,
        "num_seeds": args.num_seeds,
        "num_tasks": runs[0]["num_tasks"],
        "num_episodes": runs[0]["num_episodes"],
        "return_mean": summary.mean.tolist(),
        "return_iqm": summary.iqm.tolist(),
        "return_ci": np.stack([summary.ci_low, summary.ci_high], -1).tolist(),
        "interval": interval_name(len(returns)),
        "published": runs[0]["published"],
        "return_mean_by_seed": [run["return_mean"] for run in runs],
        "training_steps": runs[0]["training_steps"],
        "training_seconds": [run["training_seconds"] for run in runs],
        "compile_seconds": [run["compile_seconds"] for run in runs],
        "peak_memory_mib": [run["peak_memory_mib"] for run in runs],
        "seconds_to_return": [run["time_to"] for run in runs],
    }
    path = args.output or RESULTS / f"{args.experiment}.json"
    write(path, record)

    def row(name, values, form="{:.2f}"):
        return f"| {name} | " + " | ".join(form.format(x) for x in values) + " |"

    steps = range(len(summary.mean))
    print(row("return after adaptation steps", steps, "{}"))
    print("|---|" + "---|" * len(steps))
    for name, values in record["published"].items():
        print(row(f"{name} (published)", values))
    print(row("mean", summary.mean))
    intervals = [f"{a:.2f} … {b:.2f}" for a, b in record["return_ci"]]
    print(row(record["interval"], intervals, "{}"))
    print(row("interquartile mean", summary.iqm))
    print(f"training seconds a seed: {np.mean(record['training_seconds']):.1f}")
    for level in LEVELS:
        times = [times[str(level)] for times in record["seconds_to_return"]]
        print(f"seconds to {level}: {times}")


if __name__ == "__main__":
    main()
