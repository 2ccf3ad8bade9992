"""Times meta-training steps on one device of the CPU and shared out over several.

    JAX_NUM_CPU_DEVICES=2 python benchmarks/devices.py

Experiments as they are, other methods in their worlds, and RL² on 512 bandits × 100
steps. One device has the threads of all cores, of several each has one; laps of the two
alternate. Writes JSON and lays out the table of `docs/results/step-times.md`.
"""

import argparse
import contextlib
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from measuring import add_record_options, compiled, finish, rewrite

import metarl_jax
from metarl_jax.runs.devices import Placement, moved, place

OUTPUT = Path(__file__).parent / "results" / "devices.json"
PAGE = Path(__file__).parent.parent / "docs" / "results" / "step-times.md"
EXPERIMENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "MAML, navigation": ("point-nav-maml", {}),
    "MAML, bandits": ("bandit-maml", {}),
    "ES-MAML, navigation": ("point-nav", {"method": "es-maml"}),
    "meta-gradients, two colours": ("two-colors", {"method": "meta-gradients"}),
    "PEARL, half-circle: 16 × 120": ("half-circle-pearl", {}),
    "RL², grid: 128 × 60": ("grid-rl2", {}),
    "VariBAD, grid: 128 × 60": ("grid-varibad", {}),
    "RL², bandits: 512 × 100": ("bandit-rl2", {"horizon": 100}),
    "AMAGO, grid: 8 × 60": ("grid-navigation", {"method": "amago"}),
}


def measure(name: str, repeats: int) -> dict[str, Any]:
    """Times an experiment's step by both."""
    experiment, options = EXPERIMENTS[name]
    algorithm = metarl_jax.make_experiment(experiment, **options).algorithm
    args = jax.random.key(1), jax.jit(algorithm.init)(jax.random.key(0))
    num_devices = len(jax.devices())
    programs = {}
    for count in (1, num_devices):
        placement = Placement() if count == 1 else place(f"tasks={count}", num_seeds=1)
        mesh, placed = placement.mesh, moved(args, placement.everywhere)
        with contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh):
            program, *_ = compiled(algorithm.step, *placed)
        jax.block_until_ready(program(*placed))
        programs[count] = program, placed
    laps: dict[int, list[float]] = {count: [] for count in programs}
    for _ in range(repeats):
        for count, (program, placed) in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program(*placed))
            laps[count].append(time.perf_counter() - start)
    seconds = {count: float(np.median(lap)) for count, lap in laps.items()}
    return {
        "num_devices": num_devices,
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
    add_record_options(parser, OUTPUT)
    args = parser.parse_args()
    if len(jax.devices()) < 2:
        parser.error("one device alone has nothing to share; JAX_NUM_CPU_DEVICES=2")
    names = ["MAML, bandits"] if args.quick else list(EXPERIMENTS)
    rows = {}
    for name in names:
        rows[name] = measure(name, 3 if args.quick else args.repeats)
        print(laid_out(rows), flush=True)
    finish(args, {"rows": rows})
    if args.output == OUTPUT and not args.quick:
        rewrite(PAGE, __file__, laid_out(rows))


if __name__ == "__main__":
    main()
