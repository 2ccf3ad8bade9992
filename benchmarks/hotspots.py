"""Shows where the time of a meta-training step goes.

    python benchmarks/hotspots.py

For methods in the world `point-nav`, and for other experiments by their own names
(bandits are pulled a hundred times):
the shares of the step's operations by function, by line and by primitive; what XLA
counts of the step, loop bodies once; and how much of the machine's limits, measured in
the same run, the step reaches. Writes JSON and prints a table.
"""

import argparse
from pathlib import Path
from typing import Any

import jax
from measuring import (
    add_record_options,
    finish,
    gradient_methods,
    limits,
    matmul_flops,
    seconds,
)
from profiling import compile_with_names, hotspots, shares

from metarl_jax.choice import Choice

OUTPUT = Path(__file__).parent / "results" / "hotspots.json"
NAMES = ("maml", "promp", "bandit-rl2", "grid-rl2")
OPTIONS = {"bandit-rl2": {"horizon": 100}}
FIELDS = ("function", "line", "primitive")


def measure(name: str, options: dict[str, Any], repeats: int) -> dict[str, Any]:
    """Profiles the step of one experiment."""
    method = name in gradient_methods()
    factory = Choice("point-nav", name).load() if method else Choice(name).load()
    options = {**OPTIONS.get(name, {}), **options}
    algorithm = factory(**options).algorithm
    key = jax.random.key(0)
    state = jax.jit(algorithm.init)(key)
    program = compile_with_names(algorithm.step, key, state)

    def run():
        return program(key, state)

    lap = seconds(run, repeats=repeats)["median"]
    spots = hotspots(program, run, repeats=repeats)
    cost = program.cost_analysis() or {}
    flops = matmul_flops(algorithm.step, key, state)
    limit = limits()
    return {
        "step_seconds": lap,
        "operation_seconds": sum(spot.seconds for spot in spots),
        "matmul_flops": flops,
        "share_of_matmul_limit": flops / lap / limit["matmul_flops_per_second"],
        "xla_flops_loop_bodies_once": cost.get("flops"),
        "xla_bytes_loop_bodies_once": cost.get("bytes accessed"),
        "shares": {field: shares(spots, field) for field in FIELDS},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Shows where the time goes.")
    parser.add_argument("names", nargs="*", default=list(NAMES), metavar="NAME")
    parser.add_argument("--top", type=int, default=8, help="lines shown of each")
    parser.add_argument("--repeats", type=int, default=10)
    add_record_options(parser, OUTPUT)
    args = parser.parse_args()
    options = {"num_tasks": 4} if args.quick else {}
    print(", ".join(f"{name} {value:.3g}" for name, value in limits().items()))

    rows = {}
    for name in args.names:
        row = rows[name] = measure(name, options, 2 if args.quick else args.repeats)
        print(
            f"\n{name}: {row['step_seconds']:.3f} s a step, "
            f"{row['operation_seconds']:.3f} s of operations, "
            f"{row['share_of_matmul_limit']:.0%} of the matmul limit; XLA, loop bodies "
            f"once: {row['xla_flops_loop_bodies_once']:.3g} FLOP, "
            f"{row['xla_bytes_loop_bodies_once']:.3g} B"
        )
        for field, values in row["shares"].items():
            row["shares"][field] = top = dict(list(values.items())[: args.top])
            print(f"  by {field}")
            for what, share in top.items():
                print(f"{share:8.1%}  {what or '(XLA)'}", flush=True)
    finish(args, {"limits": limits(), "steps": rows})


if __name__ == "__main__":
    main()
