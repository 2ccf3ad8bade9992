"""Times what a user would run instead, on the same work and in the same run.

    pip install -e ".[peers]"
    python benchmarks/peers.py

- PPO on CartPole: Stable-Baselines3 with settings tuned for it, on Gymnasium's
  environment, and `metarl_jax.algorithms.pretraining` on the one task with the same
  physics. Steps a second, and seconds until the last hundred episodes of training
  return 450 on average.
- MAML with Adam on 2-D navigation, second derivatives included: written for PyTorch
  (`torch_maml.py`) and `metarl_jax.algorithms.maml`. Seconds a meta-iteration, divided
  into sampling, with the adaptation that it needs, and the update.

The seconds that ours takes to compile are given beside the others. Writes JSON and
prints a table.
"""
# What it compares with are extras.
# pyright: reportMissingImports=false

import argparse
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from measuring import add_record_options, compiled, finish

from metarl_jax import rollout
from metarl_jax.algorithms.maml import maml
from metarl_jax.algorithms.pretraining import pretraining
from metarl_jax.batching import map_tasks
from metarl_jax.envs.classic_control import cartpole
from metarl_jax.envs.point_navigation import point_navigation
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.settings import group_size_for_device

OUTPUT = Path(__file__).parent / "results" / "peers.json"
LEVEL, WINDOW = 450.0, 100  # return, and the episodes over which it is averaged
OUTER_LR = 1e-3


class Size(NamedTuple):
    """How much is done."""

    cartpole_seeds: int = 5
    cartpole_steps: int = 500_000  # environment steps at most
    num_tasks: int = 20
    num_episodes: int = 20
    horizon: int = 100
    laps: int = 15


QUICK = Size(1, 300, 2, 2, 5, 2)


def their_cartpole(size: Size, seed: int) -> dict[str, float | None]:
    """Trains the PPO of Stable-Baselines3 until it balances."""
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env

    torch.set_num_threads(1)  # faster for networks of this size

    class UntilBalanced(BaseCallback):
        reached: float | None = None

        def _on_rollout_end(self):
            episodes = self.model.ep_info_buffer or ()
            returns = [episode["r"] for episode in episodes]
            if len(returns) == WINDOW and np.mean(returns) >= LEVEL:
                self.reached = time.perf_counter() - start

        def _on_step(self):
            return self.reached is None

    # The settings that Stable-Baselines3's collection of tuned ones has for it, which
    # fall to zero over as many steps.
    most_steps = min(size.cartpole_steps, 100_000)
    model = PPO(
        "MlpPolicy",
        make_vec_env("CartPole-v1", n_envs=8, seed=seed),
        n_steps=32,
        batch_size=256,
        gae_lambda=0.8,
        gamma=0.98,
        n_epochs=20,
        ent_coef=0.0,
        learning_rate=lambda left: 1e-3 * left,
        clip_range=lambda left: 0.2 * left,
        seed=seed,
        device="cpu",
    )
    callback = UntilBalanced()
    start = time.perf_counter()
    model.learn(most_steps, callback=callback)
    taken = time.perf_counter() - start
    return {
        "steps_per_second": model.num_timesteps / taken,
        "seconds_to_level": callback.reached,
        "steps_to_level": float(model.num_timesteps) if callback.reached else None,
        "compile_seconds": 0.0,
    }


def our_cartpole(size: Size, seed: int) -> dict[str, float | None]:
    """Trains our PPO on the one task until it balances."""
    tasks = cartpole(
        horizon=500,
        force_mag=(10.0, 10.0),
        length=(0.5, 0.5),
        masspole=(0.1, 0.1),
    )
    num_tasks, num_episodes = 10, 2  # the same task ten times
    algorithm = pretraining(
        tasks,
        mlp_policy(tasks, hidden_sizes=(64, 64)),
        num_tasks=num_tasks,
        num_episodes=num_episodes,
        num_epochs=4,
        outer_optimizer=optax.adam(1e-3),
    )
    key_init, key_steps = jax.random.split(jax.random.key(seed))
    state = jax.jit(algorithm.init)(key_init)
    step, *spent = compiled(_numbered(algorithm.step), key_steps, np.int32(0), state)
    episodes = num_tasks * num_episodes
    returns, reached, steps = [], None, 0.0
    start = time.perf_counter()
    while steps < size.cartpole_steps and reached is None:
        state, info = step(key_steps, np.int32(len(returns)), state)
        returns.append(float(info.return_before))
        steps += returns[-1] * episodes  # a reward of 1 a step
        recent = returns[-WINDOW // episodes :]
        if len(returns) * episodes >= WINDOW and np.mean(recent) >= LEVEL:
            reached = time.perf_counter() - start
    taken = time.perf_counter() - start
    return {
        "steps_per_second": steps / taken,
        "seconds_to_level": reached,
        "steps_to_level": steps if reached else None,
        "compile_seconds": sum(spent),
    }


def their_maml(size: Size) -> dict[str, float]:
    """Times meta-iterations of PyTorch, which is free to use all threads."""
    import torch
    import torch_maml

    torch.set_num_threads(os.cpu_count() or 1)
    learner = torch_maml.MAML(
        num_tasks=size.num_tasks,
        num_episodes=size.num_episodes,
        horizon=size.horizon,
        outer_lr=OUTER_LR,
    )
    learner.step()
    laps = [learner.step() for _ in range(size.laps)]
    return {name: median(lap[name] for lap in laps) for name in laps[0]}


def our_maml(size: Size) -> dict[str, float]:
    """Times our meta-step, and the part of it that samples."""
    tasks = point_navigation(horizon=size.horizon, goal_tolerance=None)
    group_size = group_size_for_device(None, size.num_tasks)
    algorithm = maml(
        tasks,
        mlp_policy(tasks, hidden_sizes=(64, 64)),
        num_tasks=size.num_tasks,
        num_episodes=size.num_episodes,
        outer_optimizer=optax.adam(OUTER_LR),
        task_group_size=group_size,
    )

    def sample(key, state):
        """Acts, adapts and acts again, as the step does before its update."""
        key_tasks, key_before, key_after = jax.random.split(key, 3)
        batch = jax.vmap(tasks.sample)(jax.random.split(key_tasks, size.num_tasks))
        agents = jax.tree.map(
            lambda x: jnp.broadcast_to(x, (size.num_tasks, *jnp.shape(x))), state.agent
        )

        def collect(key, agents):
            return rollout.collect_tasks(
                key,
                tasks,
                algorithm.policy,
                agents,
                batch,
                num_episodes=size.num_episodes,
            )

        before = collect(key_before, agents)
        adapt = map_tasks(partial(algorithm.adapt, key), group_size=group_size)
        return before, collect(key_after, adapt(agents, before))

    key_init, key_steps = jax.random.split(jax.random.key(0))
    state = jax.jit(algorithm.init)(key_init)
    step, *spent = compiled(_numbered(algorithm.step), key_steps, np.int32(0), state)
    sampler, _, _ = compiled(_numbered(sample), key_steps, np.int32(0), state)
    laps: list[dict[str, float]] = []
    for i in range(size.laps + 1):
        start = time.perf_counter()
        jax.block_until_ready(sampler(key_steps, np.int32(i), state))
        sampled = time.perf_counter()
        state, info = jax.block_until_ready(step(key_steps, np.int32(i), state))
        seconds = time.perf_counter() - sampled
        laps.append(
            {
                "seconds": seconds,
                "sampling_seconds": sampled - start,
                "update_seconds": seconds - (sampled - start),
                "return_before": float(info.return_before),
                "return_after": float(info.return_after),
            }
        )
    medians = {name: median(lap[name] for lap in laps[1:]) for name in laps[0]}
    return {**medians, "compile_seconds": sum(spent)}


def _numbered(step: Callable) -> Callable:
    """Makes `(key, state)` into `(key, i, state)`, with the key of step i."""
    return lambda key, i, state: step(jax.random.fold_in(key, i), state)


def is_missing(*packages: str) -> bool:
    """Says what is left out for want of a package."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        print(f"left out: it needs {', '.join(missing)}; pip install -e '.[peers]'")
    return bool(missing)


def main() -> None:
    parser = argparse.ArgumentParser(description="Times what others run.")
    add_record_options(parser, OUTPUT)
    args = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)  # compiling is timed
    size = QUICK if args.quick else Size()
    rows: dict[str, Any] = {}

    print(f"PPO on CartPole, medians of {size.cartpole_seeds} seeds")
    for name, learn in [("stable-baselines3", their_cartpole), ("ours", our_cartpole)]:
        if name != "ours" and is_missing("stable_baselines3", "torch"):
            continue
        runs = [learn(size, seed) for seed in range(size.cartpole_seeds)]
        row = {}
        for key in runs[0]:
            values: Any = [run[key] for run in runs if run[key] is not None]
            row[key] = median(values) if values else None
        row["seeds_at_level"] = float(sum(bool(run["steps_to_level"]) for run in runs))
        rows.setdefault("cartpole", {})[name] = row
        print(f"  {name:20}{_shown(row)}", flush=True)

    print(
        f"MAML, {size.num_tasks} tasks × {size.num_episodes} episodes × {size.horizon} "
        f"steps twice, medians of {size.laps} meta-iterations"
    )
    for name, learn in [("torch.func", their_maml), ("ours", our_maml)]:
        if name != "ours" and is_missing("torch"):
            continue
        row = rows.setdefault("maml", {})[name] = learn(size)
        print(f"  {name:20}{_shown(row)}", flush=True)
    finish(args, {"size": size._asdict(), **rows})


def _shown(row: Mapping[str, float | None]) -> str:
    cells = [
        f"{name.replace('_', ' ')} {'–' if value is None else f'{value:,.4g}'}"
        for name, value in row.items()
    ]
    return "; ".join(cells)


if __name__ == "__main__":
    main()
