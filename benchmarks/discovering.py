"""Meta-trains rules of Disco103's kind: what is learned, and what a step costs.

    python benchmarks/discovering.py [--arms ARM …]

`learned`: a rule of 32 is learned in random MDPs of five states and three actions, by
gradients through three updates of 16 lives. Then fresh agents live in MDPs that were
held out, each learning by the rule as it began and as it became; beside them advantage
actor-critic, evaluated after each round of a life, whose learning rate and weight of
the entropy are the best of twelve on as many MDPs of meta-training.

`authors' sizes`: a step at the sizes of the public harness of DiscoRL (5 × 5 Catch, two
agents, 32 streams of 16 steps, two updates, the whole rule), which takes 2.08 s and
4.65 GB, two minutes to compile.

`--num-seeds` are those of what is learned. An arm that is recorded is not run again.
Lays out the tables of `docs/discovered-rule.md`.
"""

import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from measuring import (
    compiled,
    hardware,
    mean_and_half_width,
    peak_memory_mib,
    run_arms,
    seconds,
)

from metarl_jax import actor_critic
from metarl_jax.actor_critic import Hyperparameters
from metarl_jax.envs.catch import catch
from metarl_jax.envs.tabular_mdp import tabular_mdp
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.sample_efficiency import life_curve
from metarl_jax.types import Agent
from metarl_jax.update_rules.disco_learner import disco_learner
from metarl_jax.update_rules.meta_training import disco_meta_training
from metarl_jax.update_rules.update_network import UpdateNetwork

OUTPUT = Path(__file__).parent / "results" / "discovering.json"
PAGE = Path(__file__).parent.parent / "docs" / "discovered-rule.md"
AUTHORS = {"seconds": 2.08, "compile_seconds": 120.0, "memory_mib": 4650.0}

TASKS = tabular_mdp(num_states=5, num_actions=3)
NETWORK = UpdateNetwork(size=32, prediction_size=16, lifetime_size=16)
AGENT: dict[str, Any] = {"hidden_sizes": (32,), "model_size": 32, "head_size": 32}
STREAMS, STEPS, LIFETIME = 8, 20, 60
META_STEPS, CHUNK = 200, 20
RATES, ENTROPIES = (3e-3, 1e-2, 3e-2, 1e-1), (0.0, 0.01, 0.03)
NUM_MDPS, ROUNDS = 64, 6


def lives(rule: Any, seed: int) -> np.ndarray:
    """Lives once in each of the held-out MDPs, `[NUM_MDPS, ROUNDS]` mean returns."""
    learner = disco_learner(
        TASKS,
        rule,
        network=NETWORK,
        **AGENT,
        num_envs=STREAMS,
        num_steps=STEPS,
        replay_size=STREAMS,
        batch_size=STREAMS,
    )

    def life(key):
        key_task, key_init, key = jax.random.split(key, 3)
        task = TASKS.sample_heldout(key_task)

        def step(state, key):
            state, info = learner.step(key, task, state)
            over = ~jnp.isnan(info.episode_return)
            total = jnp.sum(jnp.where(over, info.episode_return, 0.0))
            return state, (total, jnp.sum(over))

        _, (total, count) = jax.lax.scan(
            step, learner.init(key_init, task), jax.random.split(key, LIFETIME)
        )
        total, count = (jnp.sum(x.reshape(ROUNDS, -1), axis=1) for x in (total, count))
        return total / count

    keys = jax.random.split(jax.random.key(2026 + seed), NUM_MDPS)
    return np.asarray(jax.jit(jax.vmap(life))(keys))


def by_actor_critic(sample: Any, rate: Any, entropy: Any) -> jax.Array:
    """Lives once in each of some MDPs by a hand-made rule, `[NUM_MDPS, ROUNDS]`."""
    policy = mlp_policy(TASKS, hidden_sizes=(32,), value_head=True)
    numbers = Hyperparameters(rate, entropy_coeff=entropy)

    def adapt(key, agent, trajectories):
        del key
        update = partial(actor_critic.update, optimizer=optax.adam)
        return update(policy, agent, trajectories, numbers)

    def life(key):
        key_task, key_init, key = jax.random.split(key, 3)
        params = policy.init(key_init, (), TASKS.blank())
        agent = Agent(params, (), optax.adam(1.0).init(params))
        return life_curve(
            key,
            TASKS,
            policy,
            adapt,
            agent,
            sample(key_task),
            num_rounds=ROUNDS,
            num_updates=LIFETIME // ROUNDS,
            num_streams=STREAMS,
            num_steps=STEPS,
            num_eval_episodes=8,
        ).returns[1:]

    return jax.vmap(life)(jax.random.split(jax.random.key(2026), NUM_MDPS))


def tuned() -> tuple[list[float], list[float]]:
    """Returns the best setting of actor-critic, and its returns on held-out MDPs."""
    grid = [(rate, entropy) for rate in RATES for entropy in ENTROPIES]
    tried = jax.jit(jax.vmap(partial(by_actor_critic, TASKS.sample)))(
        *jnp.asarray(grid).T
    )
    best = grid[int(np.argmax(np.asarray(tried).mean(axis=(1, 2))))]
    returns = jax.jit(partial(by_actor_critic, TASKS.sample_heldout))(*best)
    return list(best), np.asarray(returns).mean(axis=0).tolist()


def learned(num_seeds: int) -> dict[str, Any]:
    """Learns a rule with every seed, and tries it before and after."""
    learning = disco_meta_training(
        TASKS,
        network=NETWORK,
        **AGENT,
        num_tasks=16,
        num_episodes=STREAMS,
        rollout_length=STEPS,
        num_inner_steps=3,
        lifetime=LIFETIME,
        inner_optimizer=optax.adam(0.01, b1=0.0, eps_root=1e-10),
        outer_optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3)),
        entropy_coeff=0.02,
    )

    def chunk(state, keys):
        return jax.lax.scan(lambda s, k: learning.step(k, s), state, keys)

    program, building = None, 0.0
    rows: dict[str, list] = {"as it began": [], "as it became": []}
    curves, spent, key = [], [], jax.random.key(0)
    for seed in range(num_seeds):
        key_init, key_steps = jax.random.split(jax.random.key(seed))
        state = jax.jit(learning.init)(key_init)
        rows["as it began"].append(lives(state.rule, seed).mean(axis=0).tolist())
        keys = jax.random.split(key_steps, META_STEPS)
        if program is None:
            program, *times = compiled(chunk, state, keys[:CHUNK])
            building = sum(times)
        start, curve = time.process_time(), []
        for i in range(0, META_STEPS, CHUNK):
            state, info = jax.block_until_ready(program(state, keys[i : i + CHUNK]))
            assert not info.skipped.any()
            curve.append(round(float(info.return_after.mean()), 3))
        spent.append(time.process_time() - start)
        curves.append(curve)
        rows["as it became"].append(lives(state.rule, seed).mean(axis=0).tolist())
    setting, by_hand = tuned()
    optimum = jax.vmap(
        lambda key: TASKS.oracles["value iteration"](key, TASKS.sample_heldout(key))
    )
    return {
        "hardware": hardware(),
        "num_seeds": num_seeds,
        "meta_steps": META_STEPS,
        "num_parameters": sum(
            x.size for x in jax.tree.leaves(jax.eval_shape(learning.init, key).rule)
        ),
        "environment_steps": [
            (i + 1) * LIFETIME // ROUNDS * STREAMS * STEPS for i in range(ROUNDS)
        ],
        "returns": rows,
        "return_while_learning": curves,
        "cpu_seconds": float(np.mean(spent)),
        "compile_seconds": building,
        "actor_critic": {"learning_rate": setting[0], "entropy_coeff": setting[1]},
        "returns_of_actor_critic": by_hand,
        "optimum": float(np.mean(jax.jit(optimum)(jax.random.split(key, 1000)))),
    }


def authors_sizes(_: int) -> dict[str, Any]:
    """Times a step."""
    learning = disco_meta_training(
        catch(rows=5, columns=5, permuted_buttons=False),
        network=UpdateNetwork(),
        hidden_sizes=(512, 512),
        model_size=256,
        head_size=256,
        num_tasks=2,
        num_episodes=32,
        rollout_length=16,
        num_inner_steps=2,
    )
    state = jax.jit(learning.init)(jax.random.key(0))
    step, traced, built = compiled(learning.step, jax.random.key(1), state)
    return {
        "hardware": hardware(),
        "seconds": seconds(step, jax.random.key(1), state, repeats=10),
        "compile_seconds": traced + built,
        "temporary_mib": step.memory_analysis().temp_size_in_bytes / 2**20,
        "memory_mib": peak_memory_mib(),
    }


ARMS = {"learned": learned, "authors' sizes": authors_sizes}


def laid_out(arms: dict[str, dict]) -> str:
    """Returns what the page shows."""
    text = []
    if (found := arms.get("learned")) is not None:
        steps = " | ".join(f"{n:,}" for n in found["environment_steps"])
        text += [f"| return until step | {steps} | the last (95 %) |"]
        text += ["|---" * (ROUNDS + 2) + "|"]
        for name, seeds in found["returns"].items():
            curve = " | ".join(f"{x:.2f}" for x in np.mean(seeds, axis=0))
            mean, half = mean_and_half_width(np.array(seeds)[:, -1])
            text += [f"| {name} | {curve} | {mean - half:.2f} … {mean + half:.2f} |"]
        curve = " | ".join(f"{x:.2f}" for x in found["returns_of_actor_critic"])
        text += [f"| actor-critic, tuned | {curve} | |", ""]
    if (found := arms.get("authors' sizes")) is not None:
        text += ["| a step at the authors' sizes | s | s to compile | memory, MiB |"]
        text += ["|---|---|---|---|"]
        rows = {
            "here": {**found, "seconds": found["seconds"]["median"]},
            "the authors' code": AUTHORS,
        }
        for name, row in rows.items():
            text += [
                f"| {name} | {row['seconds']:.2f} | {row['compile_seconds']:.0f} | "
                f"{row['memory_mib']:,.0f} |"
            ]
    return "\n".join(text).rstrip()


def main() -> None:
    run_arms(
        __file__,
        ARMS,
        lambda arm, num_seeds: ARMS[arm](num_seeds),
        {"discovering.py": laid_out},
        output=OUTPUT,
        page=PAGE,
    )


if __name__ == "__main__":
    main()
