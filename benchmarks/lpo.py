"""Compares PPO's clip with a drift that was discovered and one that is learned here.

    python benchmarks/lpo.py [--generations N] [--seeds N]

Fresh agents live for 10,240 steps on CartPoles whose physics is drawn, and are
evaluated on fresh episodes: by the clip, by the closed form of Lu et al. 2022 (arXiv
2210.05639), and by a drift that evolution has made of the clip in as many lives as
generations times pairs times two. Adam's learning rate is the best of three for the
clip, and the same for all.

Writes JSON and prints a table. Seconds are those of the processor.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from measuring import hardware, write

from metarl_jax import actor_critic, surrogates
from metarl_jax.algorithms.lpo import lpo
from metarl_jax.envs.classic_control import cartpole
from metarl_jax.intervals import summarise
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.sample_efficiency import life_curve
from metarl_jax.types import Agent

OUTPUT = Path(__file__).parent / "results" / "lpo.json"
TASKS = cartpole(horizon=200)
POLICY = mlp_policy(TASKS, hidden_sizes=(32,), activation=jnp.tanh, value_head=True)
LIFETIME, ROUNDS, NUM_PAIRS, NUM_LIVES = 20, 5, 16, 32
LIFE: dict[str, Any] = {"num_streams": 8, "num_steps": 64, "num_eval_episodes": 10}
EPOCHS: dict[str, Any] = {"num_epochs": 4, "num_minibatches": 4}
RATES = (1e-3, 3e-3, 1e-2)


def lives(adapt: Any, key: jax.Array, state_of: Any, sample: Any) -> jax.Array:
    """Lives of fresh agents, each in a task of its own, `[NUM_LIVES, ROUNDS + 1]`."""

    def one(key):
        key_task, key_agent, key_life = jax.random.split(key, 3)
        params = POLICY.init(key_agent, (), TASKS.blank())
        return life_curve(
            key_life,
            TASKS,
            POLICY,
            adapt,
            Agent(params, (), state_of(params)),
            sample(key_task),
            num_rounds=ROUNDS,
            num_updates=LIFETIME // ROUNDS,
            **LIFE,
        ).returns

    return jax.vmap(one)(jax.random.split(key, NUM_LIVES))


def by_surrogate(surrogate: Any, rate: Any, key: jax.Array, sample: Any) -> jax.Array:
    """Lives by a surrogate of ratios."""
    optimizer = optax.adam(rate)

    def adapt(key, agent, trajectories):
        return actor_critic.update_in_epochs(
            key,
            POLICY,
            agent,
            trajectories,
            surrogate,
            optimizer=optimizer,
            entropy_coeff=0.0,
            **EPOCHS,
        )

    return lives(adapt, key, optimizer.init, sample)


def main() -> None:
    """Tunes, learns, compares and writes."""
    parser = argparse.ArgumentParser(description="drifts on CartPoles")
    parser.add_argument("--generations", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    start = time.process_time()
    clip = surrogates.clipped(0.2)
    tried = jax.jit(
        jax.vmap(lambda r: by_surrogate(clip, r, jax.random.key(1000), TASKS.sample))
    )(jnp.asarray(RATES))
    score = np.asarray(tried)[..., 1:].mean(axis=(1, 2))
    rate = RATES[int(np.argmax(score))]
    print(dict(zip(RATES, score.round(1).tolist(), strict=True)), rate, flush=True)

    # The same keys for all rules: the same tasks and the same fresh agents.
    keys = [jax.random.key(2026 + seed) for seed in range(args.seeds)]
    curves = {}
    for name, surrogate in (("clip", clip), ("discovered", surrogates.discovered())):
        run = jax.jit(
            lambda key, s=surrogate: by_surrogate(s, rate, key, TASKS.sample_heldout)
        )
        curves[name] = np.stack([np.asarray(run(key)) for key in keys])

    algorithm = lpo(
        TASKS,
        POLICY,
        num_tasks=NUM_PAIRS,
        num_episodes=LIFE["num_streams"],
        rollout_length=LIFE["num_steps"],
        lifetime=LIFETIME,
        inner_optimizer=optax.adam(rate),
        **EPOCHS,
    )

    @jax.jit
    def train(state, keys):
        return jax.lax.scan(lambda s, k: algorithm.step(k, s), state, keys)

    @jax.jit
    def held(key, rule):
        def state_of(params):
            state = optax.adam(rate).init(params)
            return first.agent.inner_state._replace(optimizer_state=state, rule=rule)

        return lives(algorithm.adapt, key, state_of, TASKS.sample_heldout)

    init, found, told, seconds = jax.jit(algorithm.init), [], [], 0.0
    for seed, key in enumerate(keys):
        state = first = init(jax.random.key(seed))
        begun, after = time.process_time(), []
        steps = jax.random.split(jax.random.key(100 + seed), args.generations)
        chunk = max(args.generations // 4, 1)
        for i in range(0, args.generations - chunk + 1, chunk):
            state, info = jax.block_until_ready(train(state, steps[i : i + chunk]))
            after.append(round(float(info.return_after.mean()), 3))
            print(seed, i + chunk, after[-1], flush=True)
        seconds += time.process_time() - begun
        found.append(np.asarray(held(key, state.agent.inner_state.rule)))
        told.append(after)
    curves["learned"] = np.stack(found)

    rows = {}
    for name, curve in curves.items():
        summary = summarise(curve)
        # Over the whole life, against the clip's, by pairs of lives.
        whole = curve[..., 1:].mean(axis=-1)
        gain = whole - curves["clip"][..., 1:].mean(axis=-1)
        paired = summarise(gain[..., None])
        rows[name] = {
            "return": summary.mean.round(1).tolist(),
            "low": summary.ci_low.round(1).tolist(),
            "high": summary.ci_high.round(1).tolist(),
            "mean_over_life": round(float(whole.mean()), 1),
            "gain_over_clip": [
                round(float(x[0]), 2)
                for x in (paired.mean, paired.ci_low, paired.ci_high)
            ],
        }
        print(name, rows[name], flush=True)
    steps_taken = LIFETIME // ROUNDS * LIFE["num_streams"] * LIFE["num_steps"]
    write(
        args.output,
        {
            "command": "python benchmarks/lpo.py",
            "hardware": hardware(),
            "interval": "95 % t-interval over seeds",
            "num_seeds": args.seeds,
            "lives_a_seed": NUM_LIVES,
            "environment_steps": [i * steps_taken for i in range(ROUNDS + 1)],
            "learning_rate": rate,
            "generations": args.generations,
            "pairs_a_generation": NUM_PAIRS,
            "return_while_learning": told,
            "generations_per_cpu_second": round(
                args.generations * args.seeds / seconds, 3
            ),
            "cpu_seconds": round(time.process_time() - start),
            "rows": rows,
        },
    )


if __name__ == "__main__":
    main()
