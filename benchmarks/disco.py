"""Trains fresh agents by the published rule Disco103, beside PPO on the same world.

    python benchmarks/disco.py --parameters disco_103.npz --world catch

The rule's learner is set up as its authors did on Catch. PPO is tuned there: every
learning rate is tried, and the best is that which first reaches the threshold. Returns
are means over the last 100 episodes, against steps of the environment. Lays out the
table of `docs/discovered-rule.md`.
"""

import argparse
import json
import time
from collections import deque
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from measuring import add_record_options, finish, hardware, rewrite

from metarl_jax import rollout
from metarl_jax.algorithms.pretraining import pretraining
from metarl_jax.envs.catch import catch
from metarl_jax.envs.dark_room import dark_room
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.published import disco_103
from metarl_jax.update_rules.disco_learner import disco_learner

OUTPUT = Path(__file__).parent / "results" / "disco.json"
PAGE = Path(__file__).parent.parent / "docs" / "discovered-rule.md"
AUTHORS_CODE = 46_400  # one run of it on Catch, with its own settings
WORLDS = {
    "catch": (lambda: catch(permuted_buttons=False), 0.9),
    "dark-room": (lambda: dark_room(start="centre"), 14.0),
}
SIZES = {
    "authors": {},
    "small": {"hidden_sizes": (64,), "model_size": 64, "head_size": 32},
}
LEARNING_RATES = (1e-3, 3e-3, 1e-2)
CHUNK = 20


def curve(step, state, key, *, num_steps, steps_a_call, threshold):
    """Runs until the threshold is reached or the steps are spent.

    Returns:
      `[steps, mean of the last 100 episodes]` after every chunk, and CPU seconds
      without compilation.
    """

    @jax.jit
    def chunk(key, state):
        return jax.lax.scan(
            lambda state, key: step(key, state), state, jax.random.split(key, CHUNK)
        )[0:2]

    program = chunk.lower(key, state).compile()
    last, rows, start = deque(maxlen=100), [], time.process_time()
    for done in range(1, max(1, num_steps // (CHUNK * steps_a_call)) + 1):
        state, returns = program(jax.random.fold_in(key, done), state)
        # In the order of time: chunks, then steps, then copies.
        ordered = np.asarray(returns).reshape(CHUNK, *returns.shape[1:])
        ordered = np.moveaxis(ordered, 1, -1).ravel()
        last.extend(ordered[np.isfinite(ordered)])
        mean = float(np.mean(last)) if last else float("nan")
        rows.append([done * CHUNK * steps_a_call, mean])
        print(f"{rows[-1][0]:8} {mean:7.3f}", flush=True)
        if len(last) == 100 and mean >= threshold:
            break
    return rows, time.process_time() - start


def disco(args, seed):
    tasks = WORLDS[args.world][0]()
    learner = disco_learner(tasks, disco_103(args.parameters), **SIZES[args.size])
    key_task, key_init, key = jax.random.split(jax.random.key(seed), 3)
    task = tasks.sample_heldout(key_task)

    def step(key, state):
        state, info = learner.step(key, task, state)
        return state, info.episode_return

    state = jax.jit(learner.init)(key_init, task)
    return step, state, key, learner.num_steps


def ppo(args, seed, lr):
    tasks = WORLDS[args.world][0]()
    num_episodes = 16
    algorithm = pretraining(
        tasks,
        mlp_policy(tasks, hidden_sizes=(64, 64)),
        inner_optimizer=optax.adam(lr),
        gae_lambda=0.95,
    )
    key_task, key_init, key = jax.random.split(jax.random.key(seed), 3)
    task = tasks.sample_heldout(key_task)

    def step(key, agent):
        key_act, key_adapt = jax.random.split(key)
        _, trajectories = rollout.collect(
            key_act, tasks, algorithm.policy, agent, task, num_episodes=num_episodes
        )
        agent = algorithm.adapt(key_adapt, agent, trajectories)
        return agent, rollout.episode_returns(trajectories)[:, None]

    agent = jax.jit(algorithm.init)(key_init).agent
    return step, agent, key, num_episodes * tasks.horizon


def laid_out(worlds: dict[str, dict[str, Any]]) -> str:
    """Returns what the page shows: each seed's steps until a world's threshold."""
    table = [
        "| world | learner | steps until its return, by seed | CPU s a seed |",
        "|---|---|---|---|",
    ]
    for world, found in worlds.items():
        label = f"{world}, {found['threshold']:g}"
        for name, rows in found["learners"].items():
            reached = [
                f"{row['reached']:,}"
                if row["reached"]
                else f"— ({row['curve'][-1][1]:.2f})"
                for row in rows
            ]
            seconds = np.mean([row["cpu_seconds"] for row in rows])
            table.append(f"| {label} | {name} | {'; '.join(reached)} | {seconds:.3g} |")
            if world == "catch" and name.startswith("Disco103"):
                table.append(f"| {label} | the authors' code | {AUTHORS_CODE:,} | |")
    return "\n".join(table)


def main() -> None:
    parser = argparse.ArgumentParser(description="Learns by a discovered rule.")
    parser.add_argument("--parameters", type=Path, required=True)
    parser.add_argument("--world", choices=list(WORLDS), default="catch")
    parser.add_argument("--size", choices=list(SIZES), default="authors")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=60_000)
    add_record_options(parser, OUTPUT)
    args = parser.parse_args()
    steps = 3000 if args.quick else args.steps
    threshold = WORLDS[args.world][1]
    makers: dict[str, Any] = {f"Disco103, {args.size}": lambda seed: disco(args, seed)}
    for lr in LEARNING_RATES:
        makers[f"PPO, rate {lr:g}"] = lambda seed, lr=lr: ppo(args, seed, lr)
    recorded = json.loads(args.output.read_text()) if args.output.exists() else {}
    worlds = recorded.get("worlds", {})
    learners: dict[str, list] = {}
    for name, make in makers.items():
        rows = learners[name] = []
        for seed in args.seeds:
            print(name, "seed", seed, flush=True)
            step, state, key, each = make(seed)
            points, seconds = curve(
                step,
                state,
                key,
                num_steps=steps,
                steps_a_call=each,
                threshold=threshold,
            )
            row = {"seed": seed, "curve": points, "cpu_seconds": seconds}
            row["reached"] = points[-1][0] if points[-1][1] >= threshold else None
            rows.append(row)
    worlds[args.world] = {
        "threshold": threshold,
        "num_steps": steps,
        "hardware": hardware(),
        "learners": learners,
    }
    finish(args, {"worlds": worlds})
    print(laid_out(worlds))
    if args.output == OUTPUT:
        rewrite(PAGE, __file__, laid_out(worlds))


if __name__ == "__main__":
    main()
