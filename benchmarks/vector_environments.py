"""Times copies of a task behind other libraries' interfaces, side by side.

    python benchmarks/vector_environments.py [--num-envs 64] [--output FILE.json]

Random actions on CartPole with its own task for each copy: Gymnasium's and
Stable-Baselines3's vectors of single environments, and the one compiled step of all.
Alternating runs; medians of steps a second of all copies. Needs the extra `[peers]`.
"""

# pyright: reportMissingImports=false

import argparse
import json
import statistics
import time
from datetime import date
from functools import partial
from pathlib import Path

import jax
import numpy as np
from gymnasium.vector import SyncVectorEnv
from stable_baselines3.common.vec_env import DummyVecEnv

from metarl_jax.envs.classic_control import cartpole
from metarl_jax.envs.gymnasium_bridge import as_gymnasium
from metarl_jax.envs.gymnasium_vector import as_gymnasium_vector
from metarl_jax.envs.stable_baselines import as_stable_baselines
from metarl_jax.runs.machine import device_name, versions

NUM_ROUNDS = 5


def rate(env, num_envs: int, num_steps: int) -> float:
    """Returns steps a second of all copies, resets among them."""
    actions = np.random.default_rng(0).integers(0, 2, (num_steps, num_envs))
    env.reset()
    env.step(actions[0])
    start = time.perf_counter()
    for action in actions:
        env.step(action)
    return num_envs * num_steps / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--num-envs", type=int, default=64)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    num, tasks = args.num_envs, cartpole(horizon=200)
    batch = jax.vmap(tasks.sample)(jax.random.split(jax.random.key(0), num))

    def single(i):
        return as_gymnasium(tasks, jax.tree.map(lambda x: x[i], batch), seed=i)

    makers = [partial(single, i) for i in range(num)]
    envs = {
        "gymnasium SyncVectorEnv": (SyncVectorEnv(makers), 50),
        "as_gymnasium_vector": (as_gymnasium_vector(tasks, batch), 1000),
        "stable-baselines3 DummyVecEnv": (DummyVecEnv(makers), 50),
        "as_stable_baselines": (as_stable_baselines(tasks, batch), 1000),
    }
    rates = {name: [] for name in envs}
    for _ in range(NUM_ROUNDS):
        for name, (env, num_steps) in envs.items():
            rates[name].append(rate(env, num, num_steps))
    medians = {name: round(statistics.median(x)) for name, x in rates.items()}
    ratios = {
        "gymnasium": medians["as_gymnasium_vector"]
        / medians["gymnasium SyncVectorEnv"],
        "stable-baselines3": medians["as_stable_baselines"]
        / medians["stable-baselines3 DummyVecEnv"],
    }
    for name, value in medians.items():
        print(f"{name:32} {value:>10,} steps/s")
    print({name: round(value, 1) for name, value in ratios.items()})
    if args.output:
        record = {
            "date": date.today().isoformat(),
            "device": device_name(),
            "versions": versions(),
            "num_envs": num,
            "steps_per_second": medians,
            "all_rounds": {k: [round(x) for x in v] for k, v in rates.items()},
            "ratios": {name: round(value, 1) for name, value in ratios.items()},
        }
        args.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
