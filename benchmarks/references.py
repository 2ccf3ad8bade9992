"""Measures what agents that learn nothing get in every world.

    python benchmarks/references.py [--only WORLD …] [--num-tasks 50]

Uniformly random actions, and every oracle that a world has, on the same 200 held-out
tasks, one episode each: means with intervals over tasks. A simulator on the host may
be given fewer. Writes JSON, in which the other worlds stay as they were, and prints a
table.
"""

import argparse
from pathlib import Path

import jax
from measuring import add_record_options, finish, joined, mean_row

from metarl_jax import catalogue, rollout
from metarl_jax.policies.random import PersistentRandomPolicy
from metarl_jax.types import Agent, TaskDistribution

OUTPUT = Path(__file__).parent / "results" / "references.json"
NUM_TASKS = 200


def measure(tasks: TaskDistribution, num_tasks: int) -> dict[str, dict[str, float]]:
    """Returns the return of an episode, by the name of who acts."""
    policy = PersistentRandomPolicy(tasks.action_space, persistence=0.0)
    keys = jax.random.split(jax.random.key(0), num_tasks)

    def at_random(key):
        agent = Agent((), policy.initial_memory())
        key_task, key_act = jax.random.split(key)
        task = tasks.sample_heldout(key_task)
        return rollout.episode(key_act, tasks, policy, agent, task)[1].reward.sum()

    rows = {"random actions": mean_row(jax.jit(jax.vmap(at_random))(keys))}
    for name, oracle in tasks.oracles.items():

        def one(key, oracle=oracle):
            key_task, key_act = jax.random.split(key)
            return oracle(key_act, tasks.sample_heldout(key_task))

        rows[name] = mean_row(jax.jit(jax.vmap(one))(keys))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures agents that learn nothing.")
    parser.add_argument("--only", nargs="+", default=list(catalogue.entries("worlds")))
    parser.add_argument("--num-tasks", type=int, default=NUM_TASKS)
    add_record_options(parser, OUTPUT)
    args = parser.parse_args()
    num_tasks = 4 if args.quick else args.num_tasks
    for name in args.only:
        try:
            tasks = catalogue.load(name, "worlds").tasks()
        except ValueError as error:  # an extra is not installed
            print(f"{name:26}{error}")
            continue
        rows = measure(tasks, num_tasks)
        if num_tasks != NUM_TASKS:
            rows = {who: {**row, "num_tasks": num_tasks} for who, row in rows.items()}
        told = ", ".join(
            f"{who} {row['mean']:.4g} ± {row['half_width']:.2g}"
            for who, row in rows.items()
        )
        print(f"{name:26}{told}", flush=True)
        record = joined(args.output, "worlds", {name: rows})
        worlds = dict(sorted(record["worlds"].items()))
        finish(args, {**record, "num_tasks": NUM_TASKS, "worlds": worlds})


if __name__ == "__main__":
    main()
