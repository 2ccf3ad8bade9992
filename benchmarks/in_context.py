"""Learns to search dark rooms in context: by distillation, beside its source and RL².

    python benchmarks/in_context.py [--only AD DPT RL²] [--stride 80]

PPO learns goals of meta-training from nothing; its histories are written as a data set,
and algorithm distillation imitates them, every so many episodes of a history standing
in a window. DPT is shown optimal actions, RL² maximises reward. All are measured on
goals that are held out, episode after episode of a trial which is longer than what was
learned from; intervals are over seeds, of which each has histories of its own. They see
the two coordinates of their cell, of which cells beside one another have nearly the
same; the source, which learns one goal at a time, sees the number of its cell. Writes
JSON, where learners that are not run again stay as they were.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from measuring import add_record_options, finish, hardware, rewrite

from metarl_jax import datasets, histories, rollout
from metarl_jax.algorithms.ad import ad, policy_gradient_source
from metarl_jax.algorithms.dpt import dpt
from metarl_jax.algorithms.rl2 import rl2
from metarl_jax.envs.dark_room import dark_room
from metarl_jax.intervals import summarise
from metarl_jax.policies.memory import memory_policy
from metarl_jax.policies.recurrent import GRU
from metarl_jax.policies.transformer import Transformer
from metarl_jax.settings import decaying_adam

OUTPUT = Path(__file__).parent / "results" / "in_context.json"
PAGE = Path(__file__).parent.parent / "docs" / "datasets.md"
SIZE = 9  # of a room, in cells
NUM_EPISODES = 8  # of a window, and of a trial of meta-training
TRIAL_EPISODES = 32  # of a trial on a held-out goal
ROUNDS, ROUND_EPISODES = 60, 10
# Meta-training steps by default.
STEPS = {"AD": 1000, "DPT": 1000, "RL²": 400}


def seen_as_coordinates(windows):
    """Shows what was recorded of numbered cells as the learners see it."""

    def shown(key, num_windows):
        data = windows(key, num_windows)
        cell = jnp.stack(jnp.divmod(jnp.argmax(data.obs, axis=-1), SIZE), axis=-1)
        return data._replace(obs=cell.astype(data.obs.dtype))

    return shown


def algorithms(tasks, folder, stride, steps):
    """Returns what makes each learner, by name."""
    context = NUM_EPISODES * tasks.horizon

    def supervised(name):
        schedule = optax.cosine_decay_schedule(3e-3, steps[name])
        return {
            "num_tasks": 32,
            "num_reported": 1,
            "num_episodes": NUM_EPISODES,
            "outer_optimizer": optax.chain(
                optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=1e-4)
            ),
        }

    def transformer():
        return memory_policy(tasks, Transformer(64, num_layers=2, context=context))

    return {
        "AD": lambda: ad(
            tasks,
            transformer(),
            windows=seen_as_coordinates(
                datasets.windows(
                    datasets.load_dataset(folder),
                    num_episodes=NUM_EPISODES,
                    stride=stride,
                )
            ),
            **supervised("AD"),
        ),
        "DPT": lambda: dpt(tasks, transformer(), **supervised("DPT")),
        "RL²": lambda: rl2(
            tasks,
            memory_policy(tasks, GRU(64)),
            num_tasks=64,
            num_episodes=NUM_EPISODES,
            outer_optimizer=decaying_adam(
                2e-3, decay_steps=steps["RL²"], updates_per_step=16
            ),
        ),
    }


def in_context(key, tasks, algorithm, agent, *, num_trials):
    """Returns the return of each episode of trials on held-out goals, `[N, E]`."""

    def one(key):
        key_task, key_act = jax.random.split(key)
        task = tasks.sample_heldout(key_task)
        _, acted = rollout.collect(
            key_act, tasks, algorithm.policy, agent, task, num_episodes=TRIAL_EPISODES
        )
        return rollout.episode_returns(acted)

    return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(key, num_trials)))


def learned(key, tasks, algorithm, steps, *, num_trials):
    """Trains one agent; returns `[N, E]` and the CPU seconds of training."""
    key_init, key_learn, key_trials = jax.random.split(key, 3)
    state = jax.jit(algorithm.init)(key_init)
    step = jax.jit(algorithm.step).lower(key_learn, state).compile()
    start = time.process_time()
    for i in range(steps):
        state, info = step(jax.random.fold_in(key_learn, i), state)
        if i % 200 == 0:
            print(i, float(info.return_after), flush=True)
    seconds = time.process_time() - start
    agent = state.agent
    return in_context(
        key_trials, tasks, algorithm, agent, num_trials=num_trials
    ), seconds


def source_returns(key, tasks, source, *, num_trials):
    """Returns what the source gets in each episode of its learning, `[N, E]`."""

    def one(key):
        key_task, key_init, key_learn = jax.random.split(key, 3)
        whole = histories.history(
            key_learn,
            tasks,
            source,
            source.init(key_init).agent,
            tasks.sample_heldout(key_task),
            num_rounds=ROUNDS,
            num_episodes=ROUND_EPISODES,
        )
        return rollout.episode_returns(whole)

    return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(key, num_trials)))


def summary(returns: Sequence[np.ndarray]) -> dict[str, Any]:
    """Summarises `[S][N, E]`: means and intervals of each episode, and the seeds'."""
    found = summarise(np.stack(returns))
    return {
        "num_seeds": len(returns),
        "return_mean": found.mean.tolist(),
        "return_ci": np.stack((found.ci_low, found.ci_high), axis=-1).tolist(),
        "return_mean_by_seed": np.mean(returns, axis=1).tolist(),
    }


def laid_out(learners: dict[str, Any]) -> str:
    """Returns what the page shows: two tables."""
    shown = [1, 2, 4, 8, 16, 24, 32]
    table = [
        "| return of episode | "
        + " | ".join(map(str, shown))
        + " | meta-training steps | CPU s a seed |",
        "|---" * (len(shown) + 3) + "|",
    ]
    for name, label in {"AD": "AD, in context", "DPT": "DPT", "RL²": "RL²"}.items():
        if name not in learners:
            continue
        row = learners[name]
        cells = [
            f"{row['return_mean'][i - 1]:.2f} ({{:.2f}} to {{:.2f}})".format(
                *row["return_ci"][i - 1]
            )
            for i in shown
        ]
        seconds = np.mean(row["cpu_seconds"])
        table.append(
            f"| {label} | {' | '.join(cells)} | {row['steps']} | {seconds:.0f} |"
        )
    mean = np.array(learners["source"]["return_mean"])
    firsts = [1, 81, 241, 401, 561]
    table += [
        "",
        "| return of episodes | "
        + " | ".join(f"{i} to {i + 9}" for i in firsts)
        + " |",
        "|---" * (len(firsts) + 1) + "|",
        "| PPO, learning | "
        + " | ".join(f"{mean[i - 1 : i + 9].mean():.2f}" for i in firsts)
        + " |",
    ]
    return "\n".join(table)


def main() -> None:
    parser = argparse.ArgumentParser(description="Learns dark rooms in context.")
    parser.add_argument("--only", nargs="*", choices=STEPS, default=list(STEPS))
    parser.add_argument("--steps", type=int, help="of meta-training, of all")
    parser.add_argument("--stride", type=int, default=80)
    parser.add_argument("--histories", type=int, default=128)
    parser.add_argument("--trials", type=int, default=128)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add_record_options(parser, OUTPUT)
    args = parser.parse_args()
    if args.quick:
        args.steps, args.histories, args.trials = 2, 2, 2
    tasks, numbered = (
        dark_room(size=SIZE, observation=shown) for shown in ("coordinates", "one_hot")
    )
    source = policy_gradient_source(numbered, lr=0.1)
    steps = {name: args.steps or number for name, number in STEPS.items()}
    recorded = json.loads(args.output.read_text()) if args.output.exists() else {}
    rows = recorded.get("learners", {})
    found: dict[str, list] = {name: [] for name in ("source", *args.only)}
    for seed in args.seeds:
        key = jax.random.key(seed)
        key_source, key_learn = jax.random.split(key)
        found["source"].append(
            source_returns(key_source, numbered, source, num_trials=args.trials)
        )
        with tempfile.TemporaryDirectory() as folder:
            if "AD" in args.only:
                datasets.record_histories(
                    folder,
                    numbered,
                    source,
                    num_tasks=args.histories,
                    num_rounds=ROUNDS,
                    num_episodes=ROUND_EPISODES,
                    seed=seed,
                )
            for name, make in algorithms(tasks, folder, args.stride, steps).items():
                if name in args.only:
                    found[name].append(
                        learned(
                            key_learn,
                            tasks,
                            make(),
                            steps[name],
                            num_trials=args.trials,
                        )
                    )
                    returns = found[name][-1][0].mean(axis=0)
                    print(name, seed, np.round(returns, 2), flush=True)
    rows["source"] = summary(found.pop("source"))
    for name, runs in found.items():
        returns, seconds = zip(*runs, strict=True)
        rows[name] = {
            **summary(returns),
            "cpu_seconds": seconds,
            "steps": steps[name],
            "hardware": hardware(),
        }
        if name == "AD":
            rows[name]["stride"] = args.stride
    finish(args, {"learners": rows})
    if args.output == OUTPUT:
        rewrite(PAGE, __file__, laid_out(rows))
    print(laid_out(rows))


if __name__ == "__main__":
    main()
