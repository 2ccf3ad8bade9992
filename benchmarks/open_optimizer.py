"""Compares published learned optimisers (OPEN) with Adam, tuned, inside one PPO.

    python benchmarks/open_optimizer.py --optimizers FOLDER --world breakout

Fresh agents, an actor and a critic of 64-64, learn by epochs of minibatches and are
evaluated on fresh episodes; only what moves the parameters differs. Adam's learning
rate is the best of four on another seed, with the budget it is then tried with. The
optimisers are files of Goldie et al. 2024 (arXiv 2407.07082) in FOLDER: one learned on
MinAtar's Breakout, and one on several environments at once.

Writes JSON, a world at a time, and prints a table. Seconds are those of the processor.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from measuring import hardware, joined, write

from metarl_jax import actor_critic, surrogates
from metarl_jax.algorithms.learned_optimizer import learned_optimizer
from metarl_jax.envs.catch import catch
from metarl_jax.envs.classic_control import cartpole
from metarl_jax.envs.minatar import minatar
from metarl_jax.intervals import summarise
from metarl_jax.policies.separate import separate_policy
from metarl_jax.published import open_optimizer
from metarl_jax.sample_efficiency import life_curve
from metarl_jax.types import Agent

OUTPUT = Path(__file__).parent / "results" / "open_optimizer.json"
WORLDS: dict[str, Any] = {
    # The game as it is, each action done.
    "breakout": lambda: minatar(
        game="breakout",
        horizon=1000,
        permuted_buttons=False,
        permuted_channels=False,
        mirrored=False,
        most_sticky=0.0,
        most_frames=1,
    ),
    "catch": lambda: catch(permuted_buttons=False),
    "cartpole": lambda: cartpole(horizon=200),
}
# What differs from world to world: streams, steps, minibatches, updates in a round.
SIZES = {
    "breakout": (64, 128, 8, 5),
    "catch": (16, 32, 4, 20),
    "cartpole": (16, 64, 4, 20),
}
RATES = (3e-4, 1e-3, 3e-3, 1e-2)
ROUNDS, NUM_EPOCHS, ENTROPY_COEFF, NORM, EVAL_EPISODES = 6, 4, 0.01, 0.5, 64


class Trial:
    """A world, its agents, and their lives."""

    def __init__(self, world: str):
        """Builds them."""
        streams, steps, minibatches, updates = SIZES[world]
        self.tasks = WORLDS[world]()
        self.policy = separate_policy(self.tasks, hidden_sizes=(64, 64))
        self.acting = {"num_streams": streams, "num_steps": steps}
        self.num_updates, self.num_minibatches = updates, minibatches
        self.steps = updates * streams * steps

    def life(self, key: Any, adapt: Any, state_of: Any) -> Any:
        """One life of a fresh agent, `[ROUNDS + 1]`."""
        key_task, key_agent, key_life = jax.random.split(key, 3)
        params = self.policy.init(key_agent, (), self.tasks.blank())
        return life_curve(
            key_life,
            self.tasks,
            self.policy,
            adapt,
            Agent(params, (), state_of(params)),
            self.tasks.sample_heldout(key_task),
            num_rounds=ROUNDS,
            num_updates=self.num_updates,
            num_eval_episodes=EVAL_EPISODES,
            **self.acting,
        ).returns

    def by_adam(self, rate: Any, key: Any) -> Any:
        """The same by Adam."""
        clip = optax.clip_by_global_norm(NORM)
        each: dict[Any, Any] = {"actor": clip, "critic": clip}
        optimizer = optax.chain(
            optax.partition(each, {name: name for name in each}),
            optax.adam(rate, eps=1e-5),
        )

        def adapt(key, agent, trajectories):
            return actor_critic.update_in_epochs(
                key,
                self.policy,
                agent,
                trajectories,
                surrogates.clipped(0.2),
                optimizer=optimizer,
                num_epochs=NUM_EPOCHS,
                num_minibatches=self.num_minibatches,
                entropy_coeff=ENTROPY_COEFF,
            )

        return self.life(key, adapt, optimizer.init)

    def by_network(self, network: Any) -> Any:
        """Makes `(rule, key) -> life` by a learned optimiser."""

        def one(rule, key):
            algorithm = learned_optimizer(
                self.tasks,
                self.policy,
                num_tasks=1,
                num_episodes=self.acting["num_streams"],
                rollout_length=self.acting["num_steps"],
                lifetime=ROUNDS * self.num_updates,
                num_epochs=NUM_EPOCHS,
                num_minibatches=self.num_minibatches,
                network=network,
                entropy_coeff=ENTROPY_COEFF,
                max_gradient_norm=NORM,
            )
            agent = algorithm.init(key).agent

            def state_of(params):
                zeros = jax.tree.map(jnp.zeros_like, agent.inner_state.optimizer_state)
                del params  # of the same structure
                return agent.inner_state._replace(optimizer_state=zeros, rule=rule)

            return self.life(key, algorithm.adapt, state_of)

        return one


def measured(function: Any, inputs: Any) -> tuple[np.ndarray, float]:
    """Compiles, runs for one input after another; CPU seconds of a run."""
    program = jax.jit(function).lower(*inputs[0]).compile()
    start, found = time.process_time(), []
    for one in inputs:
        found.append(np.asarray(program(*one)))
        print(found[-1].round(2), round(time.process_time() - start), flush=True)
    return np.stack(found), (time.process_time() - start) / len(found)


def main() -> None:
    """Tunes, compares and writes."""
    parser = argparse.ArgumentParser(description="learned optimisers beside Adam")
    parser.add_argument("--optimizers", type=Path, required=True)
    parser.add_argument("--world", choices=list(WORLDS), default="breakout")
    parser.add_argument("--rules", nargs="+", default=["breakout", "multi"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    start, trial = time.process_time(), Trial(args.world)
    keys = [jax.random.key(2026 + seed) for seed in range(args.seeds)]
    tried, _ = measured(trial.by_adam, [(rate, jax.random.key(7)) for rate in RATES])
    score = tried[:, 1:].mean(axis=1)
    rate = RATES[int(np.argmax(score))]
    print(dict(zip(RATES, score.round(2).tolist(), strict=True)), rate, flush=True)
    curves = {"Adam, tuned": measured(trial.by_adam, [(rate, key) for key in keys])}
    for name in args.rules:
        rule, network = open_optimizer(args.optimizers / f"{name}.npy")
        curves[f"OPEN, {name}"] = measured(
            trial.by_network(network), [(rule, key) for key in keys]
        )
    rows = {}
    for name, (curve, seconds) in curves.items():
        summary = summarise(curve[:, None])
        rows[name] = {
            "return": summary.mean.round(2).tolist(),
            "low": summary.ci_low.round(2).tolist(),
            "high": summary.ci_high.round(2).tolist(),
            "cpu_seconds_a_life": round(seconds, 1),
        }
        print(name, rows[name], flush=True)
    world = {
        "num_seeds": args.seeds,
        "environment_steps": [i * trial.steps for i in range(ROUNDS + 1)],
        "learning_rate": rate,
        "return_of_rates": dict(
            zip(map(str, RATES), score.round(2).tolist(), strict=True)
        ),
        "cpu_seconds": round(time.process_time() - start),
        "rows": rows,
    }
    write(
        args.output,
        {
            "command": "python benchmarks/open_optimizer.py --optimizers FOLDER",
            "hardware": hardware(),
            "interval": "95 % t-interval over seeds",
            **joined(args.output, "worlds", {args.world: world}),
        },
    )


if __name__ == "__main__":
    main()
