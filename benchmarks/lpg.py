"""Measures rules that were learned on grids they have never seen, beside a tuned one.

    python benchmarks/lpg.py [--steps N] [--generations N] [--seeds N]

Rules are meta-learned in the `dense` grids (Oh et al. 2020, arXiv 2007.08794), by
gradients through five updates and by evolution of whole lives, of tables that begin
empty. Then a fresh agent lives in each of some layouts that were held out, learning by
the rule, and is evaluated on fresh episodes: by the rules as they began, as they
became, and by advantage actor-critic, whose learning rate and weight of the entropy are
the best of nine on as many layouts of meta-training. All act alike, and as often.

Writes JSON and prints a table. Seconds are those of the processor. What is to be
learned for 0 steps is taken from the record that is there.
"""

import argparse
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from measuring import hardware, write

from metarl_jax import actor_critic
from metarl_jax.actor_critic import Hyperparameters
from metarl_jax.algorithms.lpg import lpg
from metarl_jax.envs.lpg_grid import lpg_grid
from metarl_jax.intervals import summarise
from metarl_jax.policies.tabular import tabular_policy
from metarl_jax.sample_efficiency import life_curve
from metarl_jax.types import Agent

OUTPUT = Path(__file__).parent / "results" / "lpg.json"
TASKS = lpg_grid(layout="dense", observation="state")
POLICY = tabular_policy(TASKS, value_head=True)
INNER_LR, LIFETIME, NUM_LIVES = 40.0, 300, 32
LIFE: dict[str, Any] = {"num_streams": 8, "num_steps": 20, "num_eval_episodes": 8}
ROUNDS, NUM_LAYOUTS = 6, 16
RATES, ENTROPIES = (5.0, 20.0, 80.0), (0.003, 0.01, 0.03)


def make(sigma: float | None) -> Any:
    """Makes LPG, or its kin by evolution."""
    return lpg(
        TASKS,
        POLICY,
        num_tasks=NUM_LIVES if sigma is None else NUM_LIVES // 2,
        num_episodes=LIFE["num_streams"],
        rollout_length=LIFE["num_steps"],
        lifetime=LIFETIME,
        inner_optimizer=optax.sgd(INNER_LR),
        critic_optimizer=optax.adam(0.1),
        outer_optimizer=optax.adam(1e-3 if sigma is None else 1e-2),
        sigma=sigma,
        temporal=sigma is not None,
    )


def lives(policy: Any, adapt: Any, agent: Agent, sample: Any) -> jax.Array:
    """Lives once in each of the layouts, `[NUM_LAYOUTS, ROUNDS + 1]`."""
    keys = jax.random.split(jax.random.key(2026), NUM_LAYOUTS)

    def one(key):
        key_task, key_life = jax.random.split(key)
        return life_curve(
            key_life,
            TASKS,
            policy,
            adapt,
            agent,
            sample(key_task),
            num_rounds=ROUNDS,
            num_updates=LIFETIME // ROUNDS,
            **LIFE,
        ).returns

    return jax.vmap(one)(keys)


def by_actor_critic(rate: Any, entropy: Any, sample: Any) -> jax.Array:
    """The same by a hand-made rule."""
    numbers = Hyperparameters(rate, entropy_coeff=entropy)

    def adapt(key, agent, trajectories):
        del key
        return actor_critic.update(POLICY, agent, trajectories, numbers)

    params = POLICY.init(jax.random.key(0), (), TASKS.blank())
    state = optax.sgd(1.0).init(params)
    return lives(POLICY, adapt, Agent(params, (), state), sample)


def learned(sigma: float | None, num_steps: int, seeds: range) -> list[dict]:
    """Meta-learns a rule with every seed, and tries it before and after."""
    algorithm = make(sigma)
    chunk = max(num_steps // 10, 1)

    @jax.jit
    def train(state, keys):
        return jax.lax.scan(lambda s, k: algorithm.step(k, s), state, keys)

    @jax.jit
    def held(agent):
        act, adapt = algorithm.policy, algorithm.adapt
        return lives(act, adapt, agent, TASKS.sample_heldout)

    init, program, runs = jax.jit(algorithm.init), None, []
    for seed in seeds:
        key_init, key_steps = jax.random.split(jax.random.key(seed))
        state = first = init(key_init)
        keys = jax.random.split(key_steps, num_steps)
        start = time.process_time()
        if program is None:
            program = train.lower(state, keys[:chunk]).compile()
        built, after = time.process_time(), []
        for i in range(0, num_steps - chunk + 1, chunk):
            state, info = jax.block_until_ready(program(state, keys[i : i + chunk]))
            assert not info.skipped.any()
            after.append(round(float(info.return_after.mean()), 2))
            print(sigma, seed, i + chunk, after[-1], flush=True)
        seconds = time.process_time() - built
        runs.append(
            {
                "before": np.asarray(held(first.agent)),
                "after": np.asarray(held(state.agent)),
                "return_while_learning": after,
                "steps_per_cpu_second": round(num_steps / seconds, 2),
                "compile_cpu_seconds": round(built - start, 1),
            }
        )
    return runs


def row(curves: np.ndarray) -> dict[str, Any]:
    """Summarises `[seeds, layouts, ROUNDS + 1]`."""
    summary = summarise(curves)
    return {
        name: [round(float(x), 2) for x in value]
        for name, value in (
            ("return", summary.mean),
            ("low", summary.ci_low),
            ("high", summary.ci_high),
        )
    }


def main() -> None:
    """Tunes, learns, compares and writes."""
    parser = argparse.ArgumentParser(description="learned rules on held-out grids")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--generations", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    start = time.process_time()
    old = json.loads(args.output.read_text()) if args.output.exists() else {}
    grid = np.array([(r, e) for r in RATES for e in ENTROPIES])
    tried = jax.jit(jax.vmap(partial(by_actor_critic, sample=TASKS.sample)))(
        *jnp.asarray(grid.T, jnp.float32)
    )
    score = np.asarray(tried).mean(axis=(1, 2))
    best = grid[np.argmax(score)]
    print(score.reshape(len(RATES), -1).round(2), best)
    hand_made = jax.jit(partial(by_actor_critic, sample=TASKS.sample_heldout))
    record: dict[str, Any] = {
        "command": "python benchmarks/lpg.py",
        "hardware": hardware(),
        "interval": "95 % t-interval over seeds of meta-training; over layouts for one",
        "environment_steps": [
            i * LIFETIME // ROUNDS * LIFE["num_streams"] * LIFE["num_steps"]
            for i in range(ROUNDS + 1)
        ],
        "num_layouts": NUM_LAYOUTS,
        "num_seeds": args.seeds,
        "meta_steps": {"lpg": args.steps, "ta-lpg": args.generations},
        "lives_side_by_side": NUM_LIVES,
        "actor_critic": {"learning_rate": best[0], "entropy_coeff": best[1]},
        "rows": {"a2c, tuned": row(np.asarray(hand_made(*map(float, best)))[None])},
        "training": {},
    }
    write(args.output, record)
    for name, sigma, steps in (
        ("lpg", None, args.steps),
        ("ta-lpg", 0.1, args.generations),
    ):
        if steps == 0 and name in old.get("training", {}):
            record["meta_steps"][name] = old["meta_steps"][name]
            record["training"][name] = old["training"][name]
            for key in (f"{name}, as it began", name):
                record["rows"][key] = old["rows"][key]
        if steps == 0:
            continue
        runs = learned(sigma, steps, range(args.seeds))
        record["rows"][f"{name}, as it began"] = row(
            np.stack([run.pop("before") for run in runs])
        )
        record["rows"][name] = row(np.stack([run.pop("after") for run in runs]))
        record["training"][name] = runs
        record["cpu_seconds"] = round(time.process_time() - start)
        write(args.output, record)
    for name, one in record["rows"].items():
        print(f"{name:24}", one["return"])


if __name__ == "__main__":
    main()
