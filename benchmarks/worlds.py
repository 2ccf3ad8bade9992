"""Times acting in every world, and host worlds beside their bare simulator.

    python benchmarks/worlds.py
    python benchmarks/worlds.py --only ant-goal half-cheetah-velocity-mujoco

A policy of two hidden layers of 64 acts in 64 copies, 8 tasks with 8 episodes each, in
one compiled program (`metarl_jax.rollout.collect_tasks`). The bare simulator is
Gymnasium's `SyncVectorEnv` of as many copies, given the very actions that were
recorded, turn by turn with ours. Steps are those that were taken before an episode's
end. Seconds are CPU seconds, which other work on the machine disturbs less. Writes JSON
and prints a table.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from measuring import add_record_options, finish, joined

from metarl_jax import catalogue, rollout, spaces
from metarl_jax.envs import highway, locomotion, metaworld, xland
from metarl_jax.envs.gymnasium_family import Copies
from metarl_jax.envs.host import HostEnvironment
from metarl_jax.envs.mujoco import is_installed, mujoco_family
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.types import Agent, TaskDistribution

OUTPUT = Path(__file__).parent / "results" / "worlds.json"
NUM_TASKS, NUM_EPISODES = 8, 8


def worlds() -> dict[str, Callable[[], TaskDistribution]]:
    """Returns the worlds of the command line, and the same robots by MuJoCo."""
    found = {
        name: catalogue.load(name, "worlds").tasks
        for name in catalogue.entries("worlds")
        if (is_installed() or not name.startswith(("ant-", "humanoid-")))
        and (xland.is_installed() or name != "xland")
        and (highway.is_installed() or name != "highway")
        and (metaworld.is_installed() or not name.startswith("metaworld-"))
    }
    if is_installed():
        cheetah = locomotion.half_cheetah_velocity()
        found["half-cheetah-velocity-mujoco"] = lambda: mujoco_family(cheetah)
    return found


def cpu_seconds(function: Callable, *args) -> tuple[float, Any]:
    """Calls a function; returns what this process took, and what came of it."""
    start = time.process_time()
    outcome = jax.block_until_ready(function(*args))
    return time.process_time() - start, outcome


def bare(simulators: Copies, actions: np.ndarray) -> Callable[[], None]:
    """Makes what steps a vector environment by actions `[B, T, ...]`."""
    vector = gymnasium.vector.SyncVectorEnv([simulators.make] * len(actions))

    def run():
        vector.reset(seed=0)
        for action in np.swapaxes(actions, 0, 1):
            vector.step(action)

    return run


def measure(tasks: TaskDistribution, repeats: int) -> dict[str, Any]:
    """Returns the steps of acting and, on the host, of the bare simulator."""
    policy = mlp_policy(tasks, hidden_sizes=(64, 64))
    key = jax.random.key(0)
    obs = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), tasks.observation)
    agent = Agent(policy.init(key, (), obs))

    def collect(key):
        keys = jax.random.split(key, NUM_TASKS)
        agents = jax.tree.map(lambda x: jnp.stack([x] * NUM_TASKS), agent)
        return rollout.collect_tasks(
            key,
            tasks,
            policy,
            agents,
            jax.vmap(tasks.sample)(keys),
            num_episodes=NUM_EPISODES,
        )

    compile_seconds, program = cpu_seconds(
        lambda: jax.jit(collect).lower(key).compile()
    )
    data = jax.block_until_ready(program(key))
    functions = [lambda: program(key)]
    on_host = isinstance(tasks.env, HostEnvironment)
    if on_host:
        given = jax.vmap(lambda action: spaces.given(tasks.action_space, action))
        actions = given(data.action.reshape(-1, *data.action.shape[3:]))
        num_copies = NUM_TASKS * NUM_EPISODES
        actions = np.asarray(actions).reshape(num_copies, tasks.horizon, -1)
        functions.append(bare(tasks.env.simulators, actions))  # pyright: ignore
    # Turn by turn, so that whatever else the machine does falls on both.
    laps = [[cpu_seconds(one)[0] for one in functions] for _ in range(repeats)]
    steps = int(data.mask.sum())
    row = {
        "horizon": tasks.horizon,
        "compile_seconds": compile_seconds,
        "steps_per_second": steps / median(lap[0] for lap in laps),
    }
    if on_host:
        every = NUM_TASKS * NUM_EPISODES * tasks.horizon
        alone = every / median(lap[1] for lap in laps)
        row |= {
            "simulator_steps_per_second": alone,
            "share_of_simulator": row["steps_per_second"] / alone,
        }
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description="Times acting in every world.")
    parser.add_argument("--only", nargs="+", default=list(worlds()))
    parser.add_argument("--repeats", type=int, default=5)
    add_record_options(parser, OUTPUT)
    args = parser.parse_args()
    print(f"{'world':32}{'compile':>9}{'steps/CPU s':>13}{'simulator':>11}{'share':>7}")
    rows = {}
    for name in args.only:
        row = measure(worlds()[name](), 1 if args.quick else args.repeats)
        rows[name] = row
        print(f"{name:32}{row['compile_seconds']:8.1f}s", end="")
        print(f"{row['steps_per_second']:13,.0f}", end="")
        if "share_of_simulator" in row:
            print(f"{row['simulator_steps_per_second']:11,.0f}", end="")
            print(f"{row['share_of_simulator']:7.0%}", end="")
        print(flush=True)
    # Worlds that are left out keep what was measured of them before.
    record = joined(args.output, "worlds", rows)
    finish(args, {**record, "num_copies": NUM_TASKS * NUM_EPISODES})


if __name__ == "__main__":
    main()
