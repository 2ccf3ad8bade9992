"""Compares entropies that are fixed, meta-learned and bootstrapped, on two colours.

    python benchmarks/two_colors.py
    python benchmarks/two_colors.py --learner slow

An actor-critic lives for millions of steps in a grid whose two colours change their
parts every 100,000 (Flennerhag et al. 2022, arXiv 2109.04504, section 5.1). Its entropy
weight is the best of some that stay; or made by a network of its latest rewards, which
is moved by meta-gradients through 15 updates, or by bootstrapped ones through 7, whose
target is 9 further on. Each has its one number chosen out of as many by as many seeds
which take no part in the comparison: the weight, or Adam's rate. The fast learner is
done long before the colours swap again, the slow one only just.

Writes JSON and prints a table.
"""

import argparse
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from measuring import hardware, write

from metarl_jax.algorithms.meta_gradients import meta_gradients
from metarl_jax.envs.two_colors import two_colors
from metarl_jax.intervals import summarise
from metarl_jax.policies.separate import separate_policy

RESULTS = Path(__file__).parent / "results"
# Activation of the hidden layers and the rate of gradient descent; and its record.
LEARNERS: dict[str, tuple[Any, float, str]] = {
    "fast": (nn.tanh, 0.4, "two-colors.json"),
    "slow": (nn.relu, 0.2, "two-colors-slow.json"),
}
SWAP_PERIOD, ROLLOUT, WINDOW = 100_000, 16, 16
FIXED, MG, BMG = "fixed", "meta-gradient", "bootstrapped"
RATES = (3e-5, 1e-4, 3e-4, 1e-3)
# What is chosen: the entropy's weight, or the rate at which its network learns.
CHOICES = {FIXED: (0.1, 0.15, 0.2, 0.3), MG: RATES, BMG: RATES}
# The bootstrapped ones' last update is down the objective.
LEARNED: dict[str, dict[str, Any]] = {
    MG: {"outer_entropy_coeff": 0.12},
    BMG: {"num_inner_steps": 7, "num_bootstrap_steps": 8},
}
NUM_TO_CHOOSE = 6
BINS = 20  # of the steps between two swaps


def live(
    learner: str, method: str, num_windows: int, chosen: jax.Array, key: jax.Array
) -> Any:
    """Lives once; the mean reward and the entropy's weight of every window."""
    activation, learning_rate, _ = LEARNERS[learner]
    tasks = two_colors(horizon=2**30, swap_period=SWAP_PERIOD)
    policy = separate_policy(tasks, hidden_sizes=(64, 64), activation=activation)
    options: dict[str, Any] = {"num_inner_steps": 15, "num_bootstrap_steps": None}
    if method == FIXED:
        options |= {"entropy_coeff": chosen, "outer_optimizer": optax.set_to_zero()}
    else:
        options |= {**LEARNED[method], "outer_optimizer": optax.adam(chosen)}
        options |= {"entropy_coeff": 0.15, "reactive_sizes": (32,)}
    algorithm = meta_gradients(
        tasks,
        policy,
        num_tasks=1,
        rollout_length=ROLLOUT,
        learning_rate=learning_rate,
        gae_lambda=0.0,
        value_coeff=1.0,
        **options,
    )
    key_init, key_steps = jax.random.split(key)

    def step(state, key):
        state, info = algorithm.step(key, state)
        return state, (info.reward[0], info.hyperparameters.entropy_coeff)

    keys = jax.random.split(key_steps, num_windows)
    reward, weight = jax.lax.scan(step, algorithm.init(key_init), keys)[1]
    return reward, weight.reshape(num_windows)


def run(
    learner: str, method: str, num_steps: int, choices: Any, seeds: range
) -> dict[str, Any]:
    """Lives with every choice and seed; `[C, S, windows]` of each, and the seconds."""
    num_windows = num_steps // (ROLLOUT * WINDOW)
    keys = jax.vmap(jax.random.key)(jnp.arange(seeds.start, seeds.stop))
    one = partial(live, learner, method, num_windows)
    lives = jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))
    choices = jnp.asarray(choices, jnp.float32)
    start = time.process_time()
    program = lives.lower(choices, keys).compile()
    built = time.process_time()
    reward, weight = jax.block_until_ready(program(choices, keys))
    return {
        "reward": np.asarray(reward, np.float64),
        "weight": np.asarray(weight, np.float64),
        "compile_s": built - start,
        "run_s": time.process_time() - built,
    }


def after_swaps(series: np.ndarray) -> np.ndarray:
    """Averages windows by the steps since the last swap, `[S, windows] -> [S, BINS]`.

    The time before the first swap is left out.
    """
    time_of = (np.arange(series.shape[1]) + 0.5) * ROLLOUT * WINDOW
    since = (time_of % SWAP_PERIOD * BINS // SWAP_PERIOD).astype(int)
    later = time_of >= SWAP_PERIOD
    return np.stack(
        [series[:, later & (since == i)].mean(axis=1) for i in range(BINS)], axis=1
    )


def main() -> None:
    """Chooses, compares and writes."""
    parser = argparse.ArgumentParser(description="two colours")
    parser.add_argument("--steps", type=int, default=1_600_000)
    parser.add_argument("--seeds", type=int, default=32)
    parser.add_argument("--learner", choices=LEARNERS, default="fast")
    parser.add_argument("--output", type=Path, help="made by the learner if not given")
    args = parser.parse_args()
    output = args.output or RESULTS / LEARNERS[args.learner][-1]
    record: dict[str, Any] = {
        "command": " ".join(["python benchmarks/two_colors.py", *sys.argv[1:]]),
        "hardware": hardware(),
        "steps_of_a_life": args.steps,
        "swap_period": SWAP_PERIOD,
        "num_seeds": args.seeds,
        "num_seeds_to_choose": NUM_TO_CHOOSE,
        "choices": CHOICES,
        "rows": {},
    }
    for method, choices in CHOICES.items():
        # Other seeds choose, and take no part in the comparison.
        others = range(args.seeds, args.seeds + NUM_TO_CHOOSE)
        tried = run(args.learner, method, args.steps, choices, others)
        score = tried["reward"].mean(axis=(1, 2))
        chosen = choices[int(np.argmax(score))]
        lived = run(args.learner, method, args.steps, [chosen], range(args.seeds))
        reward, weight = lived["reward"][0], lived["weight"][0]
        later = reward[:, SWAP_PERIOD // (ROLLOUT * WINDOW) :]
        summary = summarise(later.mean(axis=1)[:, None, None])
        low, high = (round(float(x[0]), 4) for x in (summary.ci_low, summary.ci_high))
        record["rows"][method] = {
            "tried": dict(zip(map(str, choices), score.round(4).tolist(), strict=True)),
            "chosen": chosen,
            "reward": round(float(later.mean()), 4),
            "interval": [low, high],
            "seeds": later.mean(axis=1).round(4).tolist(),
            "reward_after_swap": after_swaps(reward).mean(axis=0).round(4).tolist(),
            "weight_after_swap": after_swaps(weight).mean(axis=0).round(4).tolist(),
            "weight_tried": tried["weight"][:, :, -100:]
            .mean(axis=(1, 2))
            .round(3)
            .tolist(),
            "cpu_seconds": round(lived["run_s"] / args.seeds, 1),
            "compile_cpu_seconds": round(lived["compile_s"], 1),
        }
        row = record["rows"][method]
        print(method, row["tried"], row["chosen"], row["seeds"], row["interval"])
        print(row["reward_after_swap"], row["weight_after_swap"], row["cpu_seconds"])
        write(output, record)


if __name__ == "__main__":
    main()
