"""Compares learned optimisers (OPEN) with Adam, tuned, inside one PPO.

    python benchmarks/open_optimizer.py --optimizers FOLDER --world breakout
    python benchmarks/open_optimizer.py --optimizers FOLDER --world small --learn 80

Fresh agents, an actor and a critic of two layers each, learn by epochs of minibatches
and are evaluated on fresh episodes; only what moves the parameters differs. Adam's
learning rate is the best of five on another seed, with the budget it is then tried
with. The optimisers are files of Goldie et al. 2024 (arXiv 2407.07082) in FOLDER: one
learned on MinAtar's Breakout, and one on several environments at once; and one that is
learned here from nothing, a seed each, in so many generations of lives in the world's
tasks of meta-training.

Writes JSON, a world at a time, and prints a table. Seconds are those of the processor.
"""

import argparse
import time
from pathlib import Path
from typing import Any, NamedTuple

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
from metarl_jax.optimizer_network import OptimizerNetwork
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
    "small": lambda: cartpole(horizon=200),
}


class Size(NamedTuple):
    """What differs from world to world."""

    num_streams: int
    num_steps: int
    num_minibatches: int
    num_updates: int  # in a round
    width: int = 64  # of a layer
    num_lives: int = 1  # of a seed, each in a task of its own


SIZES = {
    "breakout": Size(64, 128, 8, 5),
    "catch": Size(16, 32, 4, 20),
    "cartpole": Size(16, 64, 4, 20),
    "small": Size(8, 64, 4, 4, width=16, num_lives=16),
}
# Pairs of lives in a generation, how far they are apart, and Adam's rate.
NUM_PAIRS, SIGMA, OUTER_LR = 16, 0.1, 0.1
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
ROUNDS, NUM_EPOCHS, ENTROPY_COEFF, NORM, EVAL_EPISODES = 6, 4, 0.01, 0.5, 64


class Trial:
    """A world, its agents, and their lives."""

    def __init__(self, world: str):
        """Builds them."""
        self.size = SIZES[world]
        self.tasks = WORLDS[world]()
        self.policy = separate_policy(self.tasks, hidden_sizes=(self.size.width,) * 2)
        self.acting = {
            "num_streams": self.size.num_streams,
            "num_steps": self.size.num_steps,
        }
        self.steps = int(np.prod(self.size[:2])) * self.size.num_updates

    def lives(self, key: Any, adapt: Any, state_of: Any) -> Any:
        """Lives of fresh agents, their mean `[ROUNDS + 1]`."""

        def life(key):
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
                num_updates=self.size.num_updates,
                num_eval_episodes=EVAL_EPISODES,
                **self.acting,
            ).returns

        if self.size.num_lives == 1:
            return life(key)
        return jnp.mean(
            jax.lax.map(life, jax.random.split(key, self.size.num_lives)), axis=0
        )

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
                num_minibatches=self.size.num_minibatches,
                entropy_coeff=ENTROPY_COEFF,
            )

        return self.lives(key, adapt, optimizer.init)

    def algorithm(self, network: Any, **kwargs: Any) -> Any:
        """Builds OPEN for these lives."""
        return learned_optimizer(
            self.tasks,
            self.policy,
            num_episodes=self.size.num_streams,
            rollout_length=self.size.num_steps,
            lifetime=ROUNDS * self.size.num_updates,
            num_epochs=NUM_EPOCHS,
            num_minibatches=self.size.num_minibatches,
            network=network,
            entropy_coeff=ENTROPY_COEFF,
            max_gradient_norm=NORM,
            **kwargs,
        )

    def by_network(self, network: Any) -> Any:
        """Makes `(rule, key) -> lives` by a learned optimiser."""

        def some(rule, key):
            algorithm = self.algorithm(network, num_tasks=1)
            agent = algorithm.init(key).agent

            def state_of(params):
                zeros = jax.tree.map(jnp.zeros_like, agent.inner_state.optimizer_state)
                del params  # of the same structure
                return agent.inner_state._replace(optimizer_state=zeros, rule=rule)

            return self.lives(key, algorithm.adapt, state_of)

        return some

    def learned(self, generations: int, keys: Any) -> tuple[list[Any], Any, float]:
        """Learns an optimiser a key; returns them, their network and CPU seconds."""
        network, rules = OptimizerNetwork(), []
        algorithm = self.algorithm(
            network,
            num_tasks=NUM_PAIRS,
            sigma=SIGMA,
            outer_optimizer=optax.adam(OUTER_LR, b1=0.99),
            task_group_size=4,
        )
        init, seconds = jax.jit(algorithm.init), 0.0
        step = jax.jit(algorithm.step).lower(keys[0], init(keys[0])).compile()
        for key in keys:
            state, start = init(key), time.process_time()
            for i in range(generations):
                state, info = step(jax.random.fold_in(key, i), state)
                if i % 10 == 9:
                    print(i + 1, round(float(info.return_after), 2), flush=True)
            rules.append(state.agent.inner_state.rule)
            seconds += time.process_time() - start
        return rules, network, seconds / len(keys)


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
    parser.add_argument("--learn", type=int, default=0, metavar="GENERATIONS")
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
    learning = {}
    if args.learn:
        rules, network, seconds = trial.learned(args.learn, keys)
        learning = {
            "generations": args.learn,
            "learning_cpu_seconds": round(seconds),
        }
        curves["OPEN, learned here"] = measured(
            trial.by_network(network), list(zip(rules, keys, strict=True))
        )
    rows = {}
    for name, (curve, seconds) in curves.items():
        summary = summarise(curve[:, None])
        rows[name] = {
            "return": summary.mean.round(2).tolist(),
            "low": summary.ci_low.round(2).tolist(),
            "high": summary.ci_high.round(2).tolist(),
            "cpu_seconds_a_life": round(seconds / trial.size.num_lives, 1),
        }
        print(name, rows[name], flush=True)
    world = {
        "num_seeds": args.seeds,
        **learning,
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
