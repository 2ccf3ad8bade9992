"""Times meta-training steps on one device of the CPU and shared out over several.

    JAX_NUM_CPU_DEVICES=2 python benchmarks/devices.py [--only ROW …]

Experiments as they are, other methods in their worlds, and RL² on 512 bandits × 100
steps: the tasks of one seed are shared out, or the seeds where there are two. One
device has the threads of all cores, of several each has one; laps of the two alternate.
Writes JSON, in which `--only` leaves the other rows as they were, and lays out the
table of `docs/results/step-times.md`.
"""

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from measuring import add_record_options, finish, joined, rewrite

import metarl_jax
from metarl_jax.batching import SEED_AXIS, TASK_AXIS
from metarl_jax.runs.lowering import lower

OUTPUT = Path(__file__).parent / "results" / "devices.json"
PAGE = Path(__file__).parent.parent / "docs" / "results" / "step-times.md"
EXPERIMENTS: dict[str, tuple[str, dict[str, Any], int]] = {
    "MAML, navigation": ("point-nav-maml", {}, 1),
    "MAML, bandits": ("bandit-maml", {}, 1),
    "ES-MAML, navigation": ("point-nav", {"method": "es-maml"}, 1),
    "meta-gradients, two colours": ("two-colors", {"method": "meta-gradients"}, 1),
    "PEARL, half-circle: 16 × 120": ("half-circle-pearl", {}, 1),
    "RL², grid: 128 × 60": ("grid-rl2", {}, 1),
    "VariBAD, grid: 128 × 60": ("grid-varibad", {}, 1),
    "RL², bandits: 512 × 100": ("bandit-rl2", {"horizon": 100}, 1),
    "AMAGO, grid: 8 × 60": ("grid-navigation", {"method": "amago"}, 1),
    "two seeds of MAML, navigation": ("point-nav-maml", {}, 2),
    "two seeds of RL², grid": ("grid-rl2", {}, 2),
    "two seeds of VariBAD, grid": ("grid-varibad", {}, 2),
    "two seeds of AMAGO, grid": ("grid-navigation", {"method": "amago"}, 2),
}


def measure(name: str, repeats: int) -> dict[str, Any]:
    """Times an experiment's step by both."""
    choice, options, num_seeds = EXPERIMENTS[name]
    experiment = metarl_jax.make_experiment(choice, **options)
    num_devices = len(jax.devices())
    axis = TASK_AXIS if num_seeds == 1 else SEED_AXIS
    programs = {}
    for count in (1, num_devices):
        mesh = None if count == 1 else f"{axis}={count}"
        lowered = lower(experiment, 0, num_seeds, None, mesh)
        state = lowered.init.compile()(lowered.key_init)
        program = partial(lowered.step.compile(), lowered.key_steps, np.int32(0))
        jax.block_until_ready(program(state))
        programs[count] = program, state
    laps: dict[int, list[float]] = {count: [] for count in programs}
    for _ in range(repeats):
        for count, (program, state) in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program(state))
            laps[count].append(time.perf_counter() - start)
    seconds = {count: float(np.median(lap)) for count, lap in laps.items()}
    return {
        "num_devices": num_devices,
        "num_seeds": num_seeds,
        "step_seconds": {str(count): lap for count, lap in seconds.items()},
        "times_faster": seconds[1] / seconds[num_devices],
    }


def laid_out(rows: dict[str, dict]) -> str:
    """Returns what the page shows."""
    lines = [
        "| | one device, s a step | a device for each core | times faster |",
        "|---" * 4 + "|",
    ]
    for name, row in rows.items():
        one, several = row["step_seconds"].values()
        lines.append(
            f"| {name} | {one:.3f} | {several:.3f} | {row['times_faster']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Times steps on several devices.")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--only", nargs="+", choices=EXPERIMENTS, metavar="ROW")
    add_record_options(parser, OUTPUT)
    args = parser.parse_args()
    if len(jax.devices()) < 2:
        parser.error("one device alone has nothing to share; JAX_NUM_CPU_DEVICES=2")
    names = args.only or (["MAML, bandits"] if args.quick else list(EXPERIMENTS))
    rows = {}
    for name in names:
        rows[name] = measure(name, 3 if args.quick else args.repeats)
        print(laid_out(rows), flush=True)
    record = joined(args.output, "rows", rows) if args.only else {"rows": rows}
    finish(args, record)
    if args.output == OUTPUT and not args.quick:
        rewrite(PAGE, __file__, laid_out(record["rows"]))


if __name__ == "__main__":
    main()
