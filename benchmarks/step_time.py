"""Times the compiled meta-training step of every algorithm.

    python benchmarks/step_time.py [--only METHOD …]

On 2-D navigation, 20 tasks × 20 episodes × 100 steps before and after one inner step:
MAML with the trust region and with Adam, hidden layers of 64 and of 100, and every
other method of the experiment `point-nav` with layers of 64. Of the algorithms that
remember, infer or replay: their experiments as they are, and RL² on 512 bandits × 100
steps. Every configuration runs in a process of its own, so that its peak memory is its
own. Writes JSON, in which `--only` leaves the other rows as they were, and prints a
table.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from measuring import (
    add_record_options,
    compiled,
    finish,
    gradient_methods,
    joined,
    matmul_flops,
    matmul_flops_per_second,
    peak_memory_mib,
    rounds,
    seconds,
)

from metarl_jax import rollout
from metarl_jax.choice import Choice
from metarl_jax.envs.point_navigation import point_navigation
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.types import Agent, MetaAlgorithm, Policy, TaskDistribution

NUM_TASKS, NUM_EPISODES = 20, 20
# Experiments of the others, or a world and a method of it: options, and environment
# steps in a meta-training step.
OTHERS: dict[str, tuple[Choice, dict[str, Any], int]] = {
    "rl2/bandit": (Choice("bandit-rl2"), {"horizon": 100}, 512 * 100),
    # What goes through a trial at once, in few of a minibatch or in all of it.
    **{
        f"rl2/bandit, {core}{how}": (
            Choice("bandit-rl2"),
            {"horizon": 100, "core": core, **options},
            512 * 100,
        )
        for core in ("linear", "transformer")
        for how, options in {"": {}, ", whole": {"task_group_size": 512}}.items()
    },
    "rl2/grid": (Choice("grid-rl2"), {}, 128 * 4 * 15),
    "rl2/grid, hypernetwork": (
        Choice("grid-rl2", policy="hypernetwork"),
        {},
        128 * 4 * 15,
    ),
    "varibad": (Choice("grid-varibad"), {}, 128 * 4 * 15),
    "pearl": (Choice("half-circle-pearl"), {}, 16 * 6 * 20),
    "dpt": (Choice("bandit-dpt"), {}, 64 * 100),
    "amago": (Choice("grid-navigation", "amago"), {}, 8 * 4 * 15),
    "hyperx": (Choice("rooms", "hyperx"), {}, 128 * 50),
}
OUTER = ("trust-region", "adam")
OUTPUT = Path(__file__).parent / "results" / "step_time.json"


def problem(width: int, activation: str) -> tuple[TaskDistribution, Policy]:
    """Makes the family and the policy of the published setting."""
    tasks = point_navigation()
    policy = mlp_policy(
        tasks, hidden_sizes=(width, width), activation=getattr(nn, activation)
    )
    return tasks, policy


def built(what: str, width: int, activation: Any) -> tuple[MetaAlgorithm, int]:
    """Returns an algorithm and the environment steps of its meta-training step."""
    if what in OTHERS:
        choice, options, env_steps = OTHERS[what]
        return choice.load()(**options).algorithm, env_steps
    method, _, outer = what.partition("/")
    update = {"outer_optimizer": "adam"} if outer == "adam" else {}
    experiment = Choice("point-nav", method).load()(
        **update,
        hidden_sizes=(width, width),
        activation=activation,
    )
    steps = rounds(method) * NUM_TASKS * NUM_EPISODES * experiment.tasks.horizon
    return experiment.algorithm, steps


def time_step(what: str, width: int, activation: Any, repeats: int) -> dict:
    """Measures one configuration of the meta-training step."""
    algorithm, env_steps = built(what, width, activation)
    key = jax.random.key(0)
    state = jax.jit(algorithm.init)(key)
    program, trace_seconds, compile_seconds = compiled(algorithm.step, key, state)

    # Training goes on from lap to lap, so the line search works as it does in use.
    keys = iter(jax.random.split(jax.random.key(1), repeats + 1))

    def step():
        nonlocal state
        state, info = program(next(keys), state)
        return state, info

    lap = seconds(step, repeats=repeats)
    flops = matmul_flops(algorithm.step, key, state)
    peak = peak_memory_mib()
    limit = matmul_flops_per_second()
    cost = program.cost_analysis() or {}
    memory = program.memory_analysis()
    return {
        "method": what,
        "width": width,
        "activation": activation,
        "trace_seconds": trace_seconds,
        "compile_seconds": compile_seconds,
        "step_seconds": lap,
        "env_steps_per_second": env_steps / lap["median"],
        "matmul_flops": flops,
        "flops_per_second": flops / lap["median"],
        "matmul_limit_flops_per_second": limit,
        "fraction_of_limit": flops / lap["median"] / limit,
        "xla_flops_loop_bodies_once": cost.get("flops"),
        "xla_bytes_loop_bodies_once": cost.get("bytes accessed"),
        "temporaries_mib": memory.temp_size_in_bytes / 2**20,
        "peak_memory_mib": peak,
    }


def time_rollout(width: int, activation: str, repeats: int) -> dict:
    """Measures collecting against a bare scan written by hand."""
    tasks, policy = problem(width, activation)
    env, horizon = tasks.env, tasks.horizon
    key = jax.random.key(0)
    batch = jax.vmap(tasks.sample)(jax.random.split(key, NUM_TASKS))
    params = policy.init(key, (), jnp.zeros(2))

    copies = jax.tree.map(lambda x: jnp.repeat(x, NUM_EPISODES, axis=0), batch)

    def collect(key, params):
        return jax.vmap(
            lambda key, task: rollout.episode(key, tasks, policy, Agent(params), task)[
                1
            ]
        )(jax.random.split(key, NUM_TASKS * NUM_EPISODES), copies)

    def nested(key, params):
        """Collects as the meta-step does: each task with an agent of its own."""
        agents = jax.tree.map(
            lambda x: jnp.broadcast_to(x, (NUM_TASKS, *x.shape)), Agent(params)
        )
        return rollout.collect_tasks(
            key, tasks, policy, agents, batch, num_episodes=NUM_EPISODES
        )

    def bare(key, params):
        obs, state = jax.vmap(env.reset_env)(
            jax.random.split(key, NUM_TASKS * NUM_EPISODES), copies
        )

        def step(carry, key):
            obs, state = carry
            distribution, _, _ = policy.apply(params, (), obs)
            action = distribution.sample(key)
            keys = jax.random.split(key, NUM_TASKS * NUM_EPISODES)
            next_obs, state, reward, _, _ = jax.vmap(env.step_env)(
                keys, state, action, copies
            )
            return (next_obs, state), (obs, action, reward)

        state = jax.tree.map(jnp.asarray, state)
        return jax.lax.scan(step, (obs, state), jax.random.split(key, horizon))[1]

    steps = NUM_TASKS * NUM_EPISODES * horizon
    # Turn by turn, so that whatever else the machine does falls on both.
    ours, meta, hand = jax.jit(collect), jax.jit(nested), jax.jit(bare)
    laps = [
        [
            seconds(function, key, params, repeats=5)["median"]
            for function in (ours, meta, hand)
        ]
        for _ in range(max(3, repeats // 5))
    ]
    return {
        "width": width,
        "env_steps_per_second": steps / median(a for a, _, _ in laps),
        "bare_scan_steps_per_second": steps / median(c for _, _, c in laps),
        "fraction_of_bare_scan": median(c / a for a, _, c in laps),
        "in_meta_step_fraction_of_bare_scan": median(c / b for _, b, c in laps),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Times the compiled step.")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--activation", default="relu", choices=["relu", "tanh"])
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 100])
    add_record_options(parser, OUTPUT)
    parser.add_argument("--only", nargs="+", metavar="METHOD", default=[])
    parser.add_argument("--one", help=argparse.SUPPRESS)  # one configuration, as JSON
    args = parser.parse_args()
    if args.one:
        what, width = args.one.split(":")
        if what == "rollout":
            result = time_rollout(int(width), args.activation, args.repeats)
        else:
            result = time_step(what, int(width), args.activation, args.repeats)
        print(json.dumps(result))
        return

    def run(what, width):
        command = [sys.executable, __file__, "--one", f"{what}:{width}"]
        command += ["--repeats", str(3 if args.quick else args.repeats)]
        command += ["--activation", args.activation]
        output = subprocess.run(command, check=True, capture_output=True, text=True)
        return json.loads(output.stdout.splitlines()[-1])

    configurations = [(f"maml/{outer}", w) for outer in OUTER for w in args.widths]
    others = [*(name for name in gradient_methods() if name != "maml"), *OTHERS]
    configurations += [(name, args.widths[0]) for name in others]
    if args.only:
        names = list(dict.fromkeys(name for name, _ in configurations))
        unknown = [name for name in args.only if name not in names]
        if unknown:
            parser.error(f"no method {unknown[0]}; there are {'; '.join(names)}")
        configurations = [row for row in configurations if row[0] in args.only]
        args.widths = []
    elif args.quick:
        configurations, args.widths = configurations[-1:], args.widths[:1]
    print(
        f"{'method':24}{'width':>6}{'comp s':>7}{'step s':>9}"
        f"{'env steps/s':>13}{'of matmul':>11}{'temp MiB':>10}{'peak MiB':>10}"
    )
    steps, rollouts = {}, {}
    for what, width in configurations:
        row = run(what, width)
        steps[f"{what}:{width}"] = row
        print(
            f"{what:24}{width:6}{row['compile_seconds']:7.1f}"
            f"{row['step_seconds']['median']:9.3f}"
            f"{row['env_steps_per_second']:13,.0f}"
            f"{row['fraction_of_limit']:11.0%}"
            f"{row['temporaries_mib']:10.1f}{row['peak_memory_mib']:10.0f}",
            flush=True,
        )
    for width in args.widths:
        row = rollouts[str(width)] = run("rollout", width)
        print(
            f"{'rollout alone':20}{width:6}{'':20}"
            f"{row['env_steps_per_second']:13,.0f}   "
            f"{row['fraction_of_bare_scan']:.0%} of a bare scan; with an agent for "
            f"each task {row['in_meta_step_fraction_of_bare_scan']:.0%}"
        )
    record = {"steps": steps, "rollouts": rollouts}
    finish(args, joined(args.output, "steps", steps) if args.only else record)


if __name__ == "__main__":
    main()
