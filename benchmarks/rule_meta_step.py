"""What a step of meta-training a rule takes, at the authors' size and with many lives.

    python benchmarks/rule_meta_step.py [--arms NAME …]

`authors` is what the public harness of DiscoRL meta-trains on Catch of 5 × 5: a rule of
Disco103's size, two agents of 512-512 with a model of 256, 32 streams of 16 steps, two
updates. The others are rules of 32, as `disco_meta_training` makes them, and as many
lives as their names say. Each is compiled and timed in a process of its own; seconds
are medians of steps, memory is the largest the process had. Writes JSON.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import jax
from measuring import (
    apart,
    compiled,
    hardware,
    matmul_flops,
    matmul_flops_per_second,
    peak_memory_mib,
    seconds,
    write,
)

from metarl_jax.envs.catch import catch
from metarl_jax.update_rules.meta_training import disco_meta_training
from metarl_jax.update_rules.update_network import UpdateNetwork

OUTPUT = Path(__file__).parent / "results" / "rule_meta_step.json"
LIVES = {"num_episodes": 8, "rollout_length": 20, "num_inner_steps": 2}
ARMS: dict[str, dict[str, Any]] = {
    "authors": {
        "network": UpdateNetwork(),
        "hidden_sizes": (512, 512),
        "model_size": 256,
        "head_size": 256,
        "num_tasks": 2,
        "num_episodes": 32,
        "rollout_length": 16,
        "num_inner_steps": 2,
    },
    **{
        f"{number} lives": {"num_tasks": number, **LIVES}
        for number in (2, 16, 128, 1024)
    },
}


def measure(arm: str, repeats: int) -> dict[str, Any]:
    """Compiles and times the step of an arm."""
    options = dict(ARMS[arm])
    # Of many lives a group at once, which holds no more of their updates than that.
    if options["num_tasks"] > 128:
        options["task_group_size"] = 128
    learning = disco_meta_training(
        catch(rows=5, columns=5, permuted_buttons=False), **options
    )
    key = jax.random.key(0)
    state = jax.jit(learning.init)(key)
    program, trace_s, compile_s = compiled(learning.step, key, state)
    took = seconds(program, key, state, repeats=repeats)
    flops = matmul_flops(learning.step, key, state)
    memory = peak_memory_mib()
    return {
        "seconds": took["median"],
        "fastest": took["min"],
        "steps_of_environment": options["num_tasks"]
        * options["num_episodes"]
        * options["rollout_length"]
        * (options["num_inner_steps"] + 1),
        "matmul_gflop": flops / 1e9,
        "share_of_matrix_rate": flops / took["median"] / matmul_flops_per_second(),
        "trace_seconds": trace_s,
        "compile_seconds": compile_s,
        "memory_mib": memory,
        "hardware": hardware(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Times meta-training of a rule.")
    parser.add_argument("--arms", nargs="*", default=list(ARMS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        print(json.dumps(measure(args.only, args.repeats)))
        return
    arms = json.loads(args.output.read_text())["arms"] if args.output.exists() else {}
    for arm in apart(__file__, args.arms, arms, "--repeats", str(args.repeats)):
        write(args.output, {"arms": arms})
        print(arm, {k: v for k, v in arms[arm].items() if k != "hardware"}, flush=True)


if __name__ == "__main__":
    main()
