"""Learns to search dark rooms in context: by distillation, beside its source and RL².

    python benchmarks/in_context.py

PPO learns goals of meta-training from nothing; its histories are written as a data set,
and algorithm distillation imitates them, every so many episodes of a history standing
in a window. DPT is shown optimal actions, RL² maximises reward. All are measured on
goals that are held out, episode after episode of trials longer than a window: means and
95 % intervals over seeds. Writes JSON, where learners that are not run again stay as
they were.
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
from metarl_jax.intervals import summarise
from metarl_jax.policies.memory import memory_policy
from metarl_jax.policies.recurrent import GRU
from metarl_jax.policies.transformer import Transformer
from metarl_jax.settings import decaying_adam

OUTPUT = Path(__file__).parent / "results" / "in_context.json"
NUM_EPISODES = 8  # of a window, and of a trial of training
TRIAL_EPISODES = 32  # of one that is measured
ROUNDS, ROUND_EPISODES = 60, 10


def algorithms(tasks, folder, *, steps, stride):
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
                datasets.load_dataset(folder), num_episodes=NUM_EPISODES, stride=stride
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


def in_context(key, tasks, algorithm, agent, *, num_trials):
    """Returns the mean return of each episode of trials on held-out goals, `[E]`."""

    def one(key):
        key_task, key_act = jax.random.split(key)
        task = tasks.sample_heldout(key_task)
        _, acted = rollout.collect(
            key_act, tasks, algorithm.policy, agent, task, num_episodes=TRIAL_EPISODES
        )
        return rollout.episode_returns(acted)

    trials = jax.jit(jax.vmap(one))(jax.random.split(key, num_trials))
    return np.asarray(trials).mean(axis=0)


def learned_alone(key, tasks, source, *, num_trials):
    """Returns the mean return of each episode of what is imitated, `[E]`."""

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

    alone = jax.jit(jax.vmap(one))(jax.random.split(key, num_trials))
    return np.asarray(alone).mean(axis=0)


def trained(key, algorithm, *, steps, name):
    """Returns the agent after training."""
    key_init, key = jax.random.split(key)
    state = jax.jit(algorithm.init)(key_init)
    step = jax.jit(algorithm.step).lower(key, state).compile()
    for i in range(steps):
        state, info = step(jax.random.fold_in(key, i), state)
        if i % max(1, steps // 10) == 0:
            print(name, i, float(info.return_after), flush=True)
    return state.agent


def row(returns, **more):
    """Returns means and intervals over seeds of `[S, E]`."""
    told = summarise(np.asarray(returns)[:, None])
    half = told.ci_high - told.mean
    print(np.round(told.mean[:: TRIAL_EPISODES // 8], 2), flush=True)
    return {
        "mean": told.mean.round(4).tolist(),
        "ci": half.round(4).tolist(),
        "num_seeds": len(returns),
        **more,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Learns dark rooms in context.")
    parser.add_argument("--only", nargs="+", default=["AD", "DPT", "RL²"])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--stride", type=int, default=20)
    parser.add_argument("--histories", type=int, default=128)
    parser.add_argument("--trials", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=3)
    add_record_options(parser, OUTPUT)
    args = parser.parse_args()
    if args.quick:
        args.steps, args.histories, args.trials, args.seeds = 2, 2, 2, 2
    tasks = dark_room()
    source = policy_gradient_source(tasks, lr=0.1)
    recorded = json.loads(args.output.read_text()) if args.output.exists() else {}
    rows = recorded.get("learners", {})
    keys = [jax.random.split(jax.random.key(i)) for i in range(args.seeds)]
    rows["source"] = row(
        [learned_alone(key, tasks, source, num_trials=args.trials) for _, key in keys]
    )
    for name in args.only:
        returns, seconds = [], []
        for seed, (key_learn, key_trials) in enumerate(keys):
            with tempfile.TemporaryDirectory() as folder:
                if name == "AD":
                    datasets.record_histories(
                        folder,
                        tasks,
                        source,
                        num_tasks=args.histories,
                        num_rounds=ROUNDS,
                        num_episodes=ROUND_EPISODES,
                        seed=seed,
                    )
                start = time.process_time()
                learners = algorithms(
                    tasks, folder, steps=args.steps, stride=args.stride
                )
                algorithm = learners[name]()
                agent = trained(key_learn, algorithm, steps=args.steps, name=name)
                seconds.append(time.process_time() - start)
            returns.append(
                in_context(key_trials, tasks, algorithm, agent, num_trials=args.trials)
            )
        rows[name] = row(
            returns,
            cpu_seconds=round(float(np.mean(seconds)), 1),
            steps=args.steps,
            **({"stride": args.stride} if name == "AD" else {}),
        )
        finish(args, {"num_trials": args.trials, "learners": rows})


if __name__ == "__main__":
    main()
