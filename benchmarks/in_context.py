"""Learns to search dark rooms in context: by distillation, beside its source and RL².

    python benchmarks/in_context.py

PPO learns goals of meta-training from nothing; its histories are written as a data set,
and algorithm distillation imitates them, every so many episodes of a history standing
in a window. DPT is shown optimal actions, RL² maximises reward. All are measured on
goals that are held out, episode after episode of a trial. Writes JSON, where learners
that are not run again stay as they were.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
import optax
from measuring import add_record_options, finish

from metarl_jax import datasets, histories, rollout
from metarl_jax.algorithms.ad import ad, policy_gradient_source
from metarl_jax.algorithms.dpt import dpt
from metarl_jax.algorithms.rl2 import rl2
from metarl_jax.envs.dark_room import dark_room
from metarl_jax.policies.memory import memory_policy
from metarl_jax.policies.recurrent import GRU
from metarl_jax.policies.transformer import Transformer
from metarl_jax.settings import decaying_adam

OUTPUT = Path(__file__).parent / "results" / "in_context.json"
NUM_EPISODES = 8  # of a window and of a trial
ROUNDS, ROUND_EPISODES = 60, 10
STRIDE = 80


def algorithms(tasks, source, folder, steps):
    """Returns what makes each learner, by name."""
    context = NUM_EPISODES * tasks.horizon
    schedule = optax.cosine_decay_schedule(3e-3, steps)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=1e-4)
    )

    def transformer():
        return memory_policy(tasks, Transformer(64, num_layers=2, context=context))

    sizes = {"num_episodes": NUM_EPISODES, "outer_optimizer": optimizer}
    return {
        "AD": lambda: ad(
            tasks,
            transformer(),
            windows=datasets.windows(
                datasets.load_dataset(folder), num_episodes=NUM_EPISODES, stride=STRIDE
            ),
            num_tasks=32,
            num_reported=1,
            **sizes,
        ),
        "DPT": lambda: dpt(tasks, transformer(), num_tasks=32, num_reported=1, **sizes),
        "RL²": lambda: rl2(
            tasks,
            memory_policy(tasks, GRU(64)),
            num_tasks=64,
            num_episodes=NUM_EPISODES,
            outer_optimizer=decaying_adam(2e-3, decay_steps=steps, updates_per_step=16),
        ),
    }


def in_context(tasks, algorithm, agent, *, num_trials, num_episodes):
    """Returns the return of each episode of trials on held-out goals, `[N, E]`."""

    def one(key):
        key_task, key_act = jax.random.split(key)
        task = tasks.sample_heldout(key_task)
        _, acted = rollout.collect(
            key_act, tasks, algorithm.policy, agent, task, num_episodes=num_episodes
        )
        return rollout.episode_returns(acted)

    keys = jax.random.split(jax.random.key(1), num_trials)
    return np.asarray(jax.jit(jax.vmap(one))(keys))


def summary(returns):
    half = 1.96 * returns.std(axis=0, ddof=1) / np.sqrt(len(returns))
    return {"mean": returns.mean(axis=0).tolist(), "half_width": half.tolist()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Learns dark rooms in context.")
    parser.add_argument("--only", nargs="+", default=["AD", "DPT", "RL²"])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--histories", type=int, default=128)
    parser.add_argument("--trials", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    add_record_options(parser, OUTPUT)
    args = parser.parse_args()
    if args.quick:
        args.steps, args.histories, args.trials = 2, 2, 2
    tasks = dark_room()
    source = policy_gradient_source(tasks, lr=0.1)

    def learn(key):
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

    keys = jax.random.split(jax.random.key(args.seed), args.trials)
    recorded = json.loads(args.output.read_text()) if args.output.exists() else {}
    rows = recorded.get("learners", {})
    rows["source"] = summary(np.asarray(jax.jit(jax.vmap(learn))(keys)))
    print("source", np.round(np.mean(rows["source"]["mean"][-60:]), 2), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        if "AD" in args.only:
            datasets.record_histories(
                folder,
                tasks,
                source,
                num_tasks=args.histories,
                num_rounds=ROUNDS,
                num_episodes=ROUND_EPISODES,
                seed=args.seed,
            )
        for name, make in algorithms(tasks, source, folder, args.steps).items():
            if name not in args.only:
                continue
            algorithm = make()
            key_init, key = jax.random.split(jax.random.key(args.seed))
            state = jax.jit(algorithm.init)(key_init)
            step = jax.jit(algorithm.step).lower(key, state).compile()
            start = time.process_time()
            for i in range(args.steps):
                state, info = step(jax.random.fold_in(key, i), state)
                if i % 50 == 0:
                    print(name, i, float(info.return_after), flush=True)
            returns = in_context(
                tasks,
                algorithm,
                state.agent,
                num_trials=args.trials,
                num_episodes=2 * NUM_EPISODES,
            )
            rows[name] = summary(returns)
            rows[name]["cpu_seconds"] = time.process_time() - start
            rows[name]["steps"] = args.steps
            print(name, np.round(rows[name]["mean"], 2), flush=True)
    finish(args, {"stride": STRIDE, "seed": args.seed, "learners": rows})


if __name__ == "__main__":
    main()
