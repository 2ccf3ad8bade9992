"""Measures what lies on the line between the models of two tasks, and when it helps.

    python benchmarks/aggregation.py

For pairs of goals in the plane two models are made, θ₁ and θ₂, one for each goal, and
θ = α θ₁ + (1 - α) θ₂ is tried on three goals: that of the first model, one halfway
between the two, and an unrelated one; as it is, and as the start of one adaptation
step. The two models are made in two ways: adapted from one meta-learned initialisation,
and trained apart from initialisations of their own. Writes JSON and draws
`docs/aggregation.png`.
"""

import argparse
import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from measuring import hardware, picture, write

from metarl_jax import aggregation, evaluation, intervals, rollout, surrogates
from metarl_jax.algorithms.maml import maml
from metarl_jax.algorithms.pretraining import pretraining
from metarl_jax.envs.point_navigation import point_navigation
from metarl_jax.plotting import GREY, PALETTE
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.settings import group_size_for_device
from metarl_jax.types import Agent

ROOT = Path(__file__).parent.parent
RECORD = Path(__file__).parent / "results" / "aggregation.json"
FIGURE = ROOT / "docs" / "aggregation.png"
TASKS = {
    "first": "goal of θ₁",
    "halfway": "goal halfway",
    "unrelated": "unrelated goal",
}
STYLES = ("-", (0, (5, 1.5)), (0, (5, 1.5, 1, 1.5)))
ORIGINS = {
    "shared": "adapted from one initialisation",
    "apart": "trained apart",
}


def train(algorithm, key, num_steps):
    """Meta-trains and returns the agent."""
    key_init, key_steps = jax.random.split(key)

    def step(state, key):
        return algorithm.step(key, state)[0], None

    def run():
        keys = jax.random.split(key_steps, num_steps)
        return jax.lax.scan(step, algorithm.init(key_init), keys)[0].agent

    return jax.jit(run)()


def specialise(key, tasks, algorithm, agent, task, *, num_episodes, num_rounds):
    """Adapts an agent to one task, round after round, and returns its parameters."""

    def one_round(agent, key):
        key_collect, key_adapt = jax.random.split(key)
        _, trajectories = rollout.collect(
            key_collect, tasks, algorithm.policy, agent, task, num_episodes=num_episodes
        )
        return algorithm.adapt(key_adapt, agent, trajectories), None

    keys = jax.random.split(key, num_rounds)
    return jax.lax.scan(one_round, agent, keys)[0].params


def measure(args) -> dict:
    """Returns mean returns `[P, 3, A, 2]` of pairs × goals × α × adaptation steps."""
    tasks = point_navigation()
    policy = mlp_policy(tasks, hidden_sizes=(64, 64))
    episodes = args.num_episodes
    learner = maml(
        tasks,
        policy,
        num_episodes=episodes,
        inner_optimizer=optax.sgd(0.1),
        inner_surrogate=surrogates.likelihood_ratio,
        outer_optimizer=optax.adam(5e-3),
        task_group_size=group_size_for_device(None, 20),
    )
    alone = pretraining(tasks, policy, inner_optimizer=optax.adam(1e-3))
    key_train, key_pairs = jax.random.split(jax.random.key(args.seed))
    meta_learned = train(learner, key_train, args.num_steps)
    alpha = jnp.linspace(-0.25, 1.25, 13)

    def one_pair(key):
        key_tasks, key_models, key_init, key_eval = jax.random.split(key, 4)
        first, second, unrelated = (
            tasks.sample(k) for k in jax.random.split(key_tasks, 3)
        )
        halfway = first.replace(goal=(first.goal + second.goal) / 2)
        keys = jax.random.split(key_models, 4)
        shared = [
            specialise(
                k,
                tasks,
                learner,
                meta_learned,
                task,
                num_episodes=episodes,
                num_rounds=args.num_adaptation_steps,
            )
            for k, task in zip(keys[:2], (first, second), strict=True)
        ]
        apart = [
            specialise(
                k,
                tasks,
                alone,
                alone.init(k_init).agent,
                task,
                num_episodes=episodes,
                num_rounds=args.num_rounds,
            )
            for k, k_init, task in zip(
                keys[2:], jax.random.split(key_init), (first, second), strict=True
            )
        ]

        def returns(params, task):
            rounds = evaluation.adaptation_rounds(
                key_eval,
                tasks,
                policy,
                learner.adapt,
                Agent(params, (), meta_learned.inner_state),
                task,
                num_episodes=episodes,
                num_adaptation_steps=1,
            )
            return jnp.mean(rounds, axis=-1)

        def along(models, task):
            line = jax.vmap(partial(aggregation.interpolate, *models))(alpha)
            return jax.lax.map(lambda params: returns(params, task), line)

        goals = (first, halfway, unrelated)
        lines = {
            name: jnp.stack([along(models, task) for task in goals])
            for name, models in (("shared", shared), ("apart", apart))
        }
        return lines, jnp.stack([returns(meta_learned.params, task) for task in goals])

    keys = jax.random.split(key_pairs, args.num_pairs)
    lines, start = jax.jit(lambda keys: jax.lax.map(one_pair, keys))(keys)
    return {
        "alpha": np.asarray(alpha).round(4).tolist(),
        "returns": {k: np.asarray(v).round(3).tolist() for k, v in lines.items()},
        "meta_learned": np.asarray(start).round(3).tolist(),  # [P, 3, 2]
    }


def draw(record: dict) -> Figure:
    """Draws the return along the line for each goal and each origin."""
    alpha = np.array(record["alpha"])
    figure = Figure(figsize=(9.5, 7.2), layout="constrained")
    grid = figure.subplots(2, 2, sharex=True, sharey="row")
    start = np.array(record["meta_learned"]).mean(axis=0)  # [3, 2]
    for column, (origin, title) in enumerate(ORIGINS.items()):
        values = np.array(record["returns"][origin])  # [P, 3, A, 2]
        for k, what in enumerate(("as it is", "after one adaptation step")):
            axes = grid[k][column]
            for i, label in enumerate(TASKS.values()):
                row = intervals.summarise(values[None, :, i, :, k])
                look = {"color": PALETTE[i], "lw": 2, "label": label}
                band = {"color": PALETTE[i], "lw": 0, "alpha": 0.15}
                axes.fill_between(alpha, row.ci_low, row.ci_high, **band)
                axes.plot(alpha, row.mean, linestyle=STYLES[i], **look)
                axes.axhline(start[i, k], color=PALETTE[i], lw=1, linestyle=":")
            for end in (0, 1):
                axes.axvline(end, color="black", lw=0.8, alpha=0.4)
            if k == 0:
                axes.set_title(title, loc="left")
            if column == 0:
                axes.set_ylabel(f"return {what}")
    figure.suptitle(
        f"mean and 95 % interval over {len(record['meta_learned'])} pairs of tasks",
        **{"x": 0.01, "ha": "left", "fontsize": 9.5, "color": GREY},
    )
    for axes in grid[1]:
        axes.set_xlabel("α in α θ₁ + (1 - α) θ₂")
    handles, labels = grid[0][0].get_legend_handles_labels()
    dotted = grid[0][0].plot([], [], ":", color="black", lw=1)[0]
    figure.legend(
        [*handles, dotted],
        [*labels, "the meta-learned initialisation there"],
        loc="outside lower center",
        ncols=4,
    )
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description="Return between two task models.")
    parser.add_argument("--num-steps", type=int, default=80, help="of meta-training")
    parser.add_argument("--num-pairs", type=int, default=24)
    parser.add_argument("--num-episodes", type=int, default=20)
    parser.add_argument("--num-adaptation-steps", type=int, default=3)
    parser.add_argument("--num-rounds", type=int, default=60, help="trained apart")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RECORD)
    parser.add_argument("--figure", type=Path, default=FIGURE)
    args = parser.parse_args()
    settings = {k: v for k, v in vars(args).items() if not isinstance(v, Path)}
    record = {"settings": settings, "hardware": hardware(), **measure(args)}
    write(args.output, record)
    record = json.loads(args.output.read_text())
    picture(lambda: draw(record), args.figure)

    start = np.array(record["meta_learned"]).mean(axis=0)
    print(f"{'':34}{'θ₁':>9}{'α = 0.5':>9}{'θ₂':>9}{'initialisation':>16}")
    for origin, title in ORIGINS.items():
        values = np.array(record["returns"][origin]).mean(axis=0)  # [3, A, 2]
        for i, label in enumerate(TASKS.values()):
            for k in range(2):
                at = [record["alpha"].index(a) for a in (1.0, 0.5, 0.0)]
                cells = "".join(f"{values[i, j, k]:9.2f}" for j in at)
                print(f"{title[:16]:17}{label:15}+{k}{cells}{start[i, k]:16.2f}")


if __name__ == "__main__":
    main()
