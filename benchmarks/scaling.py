"""Times a meta-training step as what it is made of grows, and what it takes of memory.

    python benchmarks/scaling.py

One thing grows at a time, from 20 tasks × 20 episodes × 100 steps and layers of 64:

- tasks, episodes, width: of MAML with a trust region;
- inner-steps: of MAML with Adam and 5 tasks, for each way of differentiating through
  them; and inner-steps-at-once: of 20 tasks under one `vmap`;
- gradients: of the meta-gradient alone, through inner steps on recorded data of one
  task, without what it takes to collect and hold the data;
- context: steps of a trial, of RL² on 64 bandits, with a GRU and with a transformer.

Every measurement is made in a process of its own, so that its peak memory is its own,
and against the rate of a large matrix product in that process. A slope is that of the
last doublings on logarithmic axes, which is 1 where cost is in proportion. Writes JSON
and prints a table.
"""

import argparse
import json
import math
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import optax
from measuring import (
    add_record_options,
    compiled,
    finish,
    limits,
    matmul_flops,
    peak_memory_mib,
    seconds,
)

from metarl_jax import inner_loop, policy_gradient, rollout, surrogates
from metarl_jax.algorithms.maml import maml
from metarl_jax.envs.point_navigation import point_navigation
from metarl_jax.experiments.bandit_rl2 import bandit_rl2
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.settings import OuterUpdate, group_size_for_device
from metarl_jax.types import Agent

OUTPUT = Path(__file__).parent / "results" / "scaling.json"
DIFFERENTIATIONS = ("plain", "rematerialised", "mixed")
# By what grows: the variants that are measured, and how far.
AXES: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
    "tasks": (("trust-region",), (5, 10, 20, 40, 80, 160, 320)),
    "episodes": (("trust-region",), (5, 10, 20, 40, 80)),
    "width": (("trust-region",), (32, 64, 128, 256)),
    "inner-steps": (DIFFERENTIATIONS, (1, 5, 20, 50, 100)),
    "inner-steps-at-once": (("plain", "mixed"), (1, 50)),
    "gradients": (DIFFERENTIATIONS, (1, 5, 20, 50, 100)),
    "context": (("gru", "transformer"), (25, 50, 100, 200, 400)),
}
QUICK: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
    "tasks": (("trust-region",), (1, 2)),
    "gradients": (("plain", "mixed"), (1, 2)),
}


def maml_step(
    *,
    num_tasks: int = 20,
    num_episodes: int = 20,
    width: int = 64,
    outer: Any = "trust-region",
    task_group_size: int | None = None,
    **settings: Any,
) -> tuple[Any, tuple]:
    """Returns MAML's meta-training step and its arguments."""
    tasks = point_navigation()
    algorithm = maml(
        tasks,
        mlp_policy(tasks, hidden_sizes=(width, width)),
        num_tasks=num_tasks,
        num_episodes=num_episodes,
        inner_surrogate=surrogates.likelihood_ratio,
        outer_optimizer=OuterUpdate(outer).make(),
        task_group_size=group_size_for_device(task_group_size, num_tasks),
        **settings,
    )
    key = jax.random.key(0)
    return algorithm.step, (key, jax.jit(algorithm.init)(key))


def meta_gradient(num_inner_steps: int, differentiation: Any) -> tuple[Any, tuple]:
    """Returns the gradient through K inner steps of one task, and its arguments."""
    tasks = point_navigation()
    policy = mlp_policy(tasks, hidden_sizes=(64, 64))
    optimizer = optax.sgd(0.1)
    surrogate_mean = partial(
        policy_gradient.surrogate_mean, policy, surrogates.likelihood_ratio
    )
    step = inner_loop.gradient_step(
        lambda params, batch: -surrogate_mean(params, batch),
        optimizer,
        differentiation=differentiation,
    )
    key = jax.random.key(0)
    task = tasks.sample(key)
    obs, _ = tasks.reset(key, task)
    params = policy.init(key, (), obs)
    start = Agent(params, (), optimizer.init(params))

    def collect(key):
        _, trajectories = rollout.collect(
            key, tasks, policy, start, task, num_episodes=20
        )
        return policy_gradient.prepare(trajectories, discount=0.99, gae_lambda=1.0)

    batches = jax.jit(lambda keys: jax.lax.map(collect, keys))(
        jax.random.split(key, num_inner_steps + 1)
    )
    before = jax.tree.map(lambda x: x[:-1], batches)
    after = jax.tree.map(lambda x: x[-1], batches)

    def objective(params, before, after):
        agent = inner_loop.adapt(step, start._replace(params=params), before)
        return surrogate_mean(agent.params, after)

    return jax.grad(objective), (params, before, after)


def problem(axis: str, variant: Any, size: int) -> tuple[Any, tuple]:
    """Returns what is timed and its arguments."""
    if axis == "gradients":
        return meta_gradient(size, variant)
    if axis == "inner-steps":
        return maml_step(
            num_tasks=5, outer="adam", num_inner_steps=size, differentiation=variant
        )
    if axis == "inner-steps-at-once":
        return maml_step(
            outer="adam",
            num_inner_steps=size,
            differentiation=variant,
            task_group_size=20,
        )
    if axis == "context":
        algorithm = bandit_rl2(num_tasks=64, horizon=size, core=variant).algorithm
        key = jax.random.key(0)
        return algorithm.step, (key, jax.jit(algorithm.init)(key))
    name = {"tasks": "num_tasks", "episodes": "num_episodes", "width": "width"}[axis]
    return maml_step(**{name: size}, outer=variant)


def measure(axis: str, variant: str, size: int, repeats: int) -> dict[str, float]:
    """Measures one program in this process."""
    function, args = problem(axis, variant, size)
    program, _, compile_seconds = compiled(function, *args)
    jax.block_until_ready(program(*args))
    peak = peak_memory_mib()
    lap = seconds(program, *args, repeats=repeats)["median"]
    memory = program.memory_analysis()
    flops = matmul_flops(function, *args)
    limit = limits()["matmul_flops_per_second"]
    return {
        "seconds": lap,
        "compile_seconds": compile_seconds,
        "temporaries_mib": memory.temp_size_in_bytes / 2**20,
        "arguments_mib": memory.argument_size_in_bytes / 2**20,
        "peak_memory_mib": peak,
        "share_of_matmul_limit": flops / lap / limit,
    }


def slope(rows: dict[str, dict[str, float]], field: str) -> float:
    """Returns the exponent with which a cost grows over the last two sizes."""
    (size, row), (next_size, next_row) = list(rows.items())[-2:]
    return math.log(next_row[field] / row[field]) / math.log(int(next_size) / int(size))


def main() -> None:
    parser = argparse.ArgumentParser(description="Times steps that grow.")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--axes", nargs="+", choices=list(AXES), default=None)
    add_record_options(parser, OUTPUT)
    parser.add_argument("--only", nargs=3, help=argparse.SUPPRESS)  # one, as JSON
    args = parser.parse_args()
    if args.only:
        axis, variant, size = args.only
        print(json.dumps(measure(axis, variant, int(size), args.repeats)))
        return

    axes = QUICK if args.quick else AXES
    record: dict[str, Any] = {}
    print(
        f"{'':35}{'size':>6}{'seconds':>10}{'temp MiB':>10}{'peak MiB':>10}"
        f"{'of matmul':>11}"
    )
    for axis in args.axes or axes:
        variants, sizes = axes[axis]
        record[axis] = {}
        for variant in variants:
            rows = record[axis][variant] = {}
            for size in sizes:
                command = [sys.executable, __file__, "--repeats", str(args.repeats)]
                command += ["--only", axis, variant, str(size)]
                output = subprocess.run(
                    command, check=True, stdout=subprocess.PIPE, text=True
                )
                row = rows[str(size)] = json.loads(output.stdout.splitlines()[-1])
                print(
                    f"{axis:20}{variant:15}{size:6}{row['seconds']:10.4f}"
                    f"{row['temporaries_mib']:10.1f}{row['peak_memory_mib']:10.0f}"
                    f"{row['share_of_matmul_limit']:11.0%}",
                    flush=True,
                )
            slopes = [slope(rows, field) for field in ("seconds", "temporaries_mib")]
            print(f"{'':35}slopes{slopes[0]:10.2f}{slopes[1]:10.2f}")
    finish(args, {"axes": record})


if __name__ == "__main__":
    main()
