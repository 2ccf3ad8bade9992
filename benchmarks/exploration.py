"""Who finds the goals of three rooms: HyperX, VariBAD and RL².

    python benchmarks/exploration.py [--arms AGENT …]

All train on as many steps, their seeds in one program, in a process of their own, with
the world's defaults but for what stands here, and meet held-out tasks by the one
protocol; intervals are over seeds. After every meta-training step further trials, which
nothing is learned from, tell in which share the second and the third goal is found.
Seconds are those of the CPU that a seed took, without compiling. Arms already recorded
are not run again; `--arms` without one runs none. Writes JSON, draws
`docs/results/exploration.png` and lays out the table of `exploration.md` beside it.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from measuring import hardware, learn, run_arms
from telling_apart import by_seed, lines
from world_learning import build, told_of, uniform

import metarl_jax
from metarl_jax import rollout
from metarl_jax.plotting import GREY, PALETTE
from metarl_jax.runs.experiment import Experiment
from metarl_jax.strategies.rooms import bayes_optimal_return

OUTPUT = Path(__file__).parent / "results" / "exploration.json"
FIGURE = Path(__file__).parent.parent / "docs" / "results" / "exploration.png"
AGENTS = {"hyperx": "HyperX", "varibad": "VariBAD", "rl2": "RL²"}
NUM_STEPS, NUM_POINTS, NUM_WATCHED = 1600, 50, 32
OPTIONS: dict[str, Any] = {
    **{"num_steps": NUM_STEPS, "decay_steps": NUM_STEPS, "num_tasks": 64},
    "entropy_coeff": 0.05,
    # A network that learns within as few steps has to be smaller, what it predicts too.
    "hyperx": {
        **{"bonus_steps": NUM_STEPS, "num_epochs": 4, "clip_range": 0.2},
        **{"novelty_hidden_sizes": (64, 64), "novelty_output_size": 16},
        **{"novelty_scale": 1.0, "novelty_coeff": 30.0, "novelty_lr": 3e-4},
    },
}


class Watched(NamedTuple):
    """What is plotted; of further trials what they found."""

    return_before: jax.Array
    return_after: jax.Array
    second: jax.Array
    third: jax.Array
    skipped: jax.Array


def watched(experiment: Experiment) -> Experiment:
    """Lets every step be followed by trials of the agent that it began with."""
    algorithm, tasks = experiment.algorithm, experiment.tasks

    def found(key, agent):
        key_task, key_act = jax.random.split(key)
        task = tasks.sample(key_task)
        _, trial = rollout.collect(
            key_act, tasks, algorithm.policy, agent, task, num_episodes=1
        )
        episode = jax.tree.map(lambda x: x[0], trial)
        return [measure(task, episode) for measure in tasks.measures.values()]

    def step(key, state):
        keys = jax.random.split(jax.random.fold_in(key, 1), NUM_WATCHED)
        second, third = jax.vmap(found, (0, None))(keys, state.agent)
        state, info = algorithm.step(key, state)
        shares = jnp.mean(second), jnp.mean(third)
        before, after = info.return_before, info.return_after
        return state, Watched(before, after, *shares, info.skipped)

    return experiment._replace(algorithm=algorithm._replace(step=step))


def measure(agent: str, num_seeds: int) -> dict[str, Any]:
    """Trains an arm and evaluates it."""
    experiment = watched(build("rooms", agent, **OPTIONS))
    trained, record = learn(
        experiment,
        num_seeds,
        ("return_after", "second", "third"),
        # Not those of the trials that are watched.
        steps_each=OPTIONS["num_tasks"] * experiment.tasks.horizon,
        digits=4,
        num_points=NUM_POINTS,
    )
    return {
        **record,
        **told_of(metarl_jax.evaluate(trained)),
        "random": uniform(experiment.tasks),
        "hardware": hardware(),
    }


def draw(arms: dict[str, dict]) -> Figure:
    """Draws return and what is found while learning, each seed and their mean."""
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    panels = figure.subplots(1, 3)
    named = {
        "return_after": "return of an episode",
        "second": "share that finds the second goal",
        "third": "share that finds the third goal",
    }
    for axes, (name, title) in zip(panels, named.items(), strict=True):
        for number, (agent, label) in enumerate(AGENTS.items()):
            if agent not in arms:
                continue
            look: dict[str, Any] = {"color": PALETTE[number]}
            seeds = np.array(arms[agent]["curve"][name])
            at = np.array(arms[agent]["curve"]["environment_steps"]) / 1e6
            axes.plot(at, seeds.mean(axis=1), lw=1.8, label=label, **look)
            axes.plot(at, seeds, lw=0.5, alpha=0.6, **look)
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("environment steps a seed, millions")
        if name != "return_after":
            axes.set_ylim(-0.03, 1.03)
    # All that can be got without the third goal.
    panels[0].axhline(10 * 50, color=GREY, lw=1, ls=":", label="10 in every step")
    panels[0].legend(fontsize=8)
    return figure


def table(arms: dict[str, dict]) -> str:
    """Lays out the arms as a markdown table."""
    lines = [
        "| agent | return (95 % interval) | by seed | second goal | third goal | "
        "million steps | CPU s a seed |",
        "|---|---|---|---|---|---|---|",
    ]
    found = [AGENTS[a] for a in AGENTS if a in arms]
    if found:
        record = next(iter(arms.values()))
        known = record["references"]["known goals"][0]
        lines += [
            f"| random actions | {record['random']['mean']:.2f} | | "
            f"{record['random']['measures']['second goal found']['mean']:.3f} | "
            f"{record['random']['measures']['third goal found']['mean']:.4f} | | |",
            f"| who knows the goals | {known:,.0f} | | 1 | 1 | | |",
            f"| Bayes-optimal | {bayes_optimal_return():,.0f} | | | | | |",
        ]
    for agent, label in AGENTS.items():
        if agent not in arms:
            continue
        record = arms[agent]
        low, high = record["return_ci"][0]
        seeds = [np.ravel(x)[0] for x in record["return_mean_by_seed"]]
        shares = [
            np.ravel(record["measures"][f"{which} goal found"]["mean"])[0]
            for which in ("second", "third")
        ]
        lines.append(
            f"| {label} | {record['return_mean'][0]:.1f} ({low:.1f} to {high:.1f}) | "
            f"{', '.join(f'{x:.1f}' for x in seeds)} | {shares[0]:.3f} | "
            f"{shares[1]:.4f} | {record['environment_steps'] / 1e6:.2f} | "
            f"{record['cpu_seconds']:.0f} |"
        )
    return "\n".join(lines)


def laid_out(arms: dict[str, dict]) -> str:
    """Returns what the page shows of the arms: a table, and what it tells apart."""
    returns = {AGENTS[agent]: by_seed(arms[agent]) for agent in AGENTS if agent in arms}
    return f"{table(arms)}\n\n{lines({'rooms': returns})}"


def main() -> None:
    run_arms(
        __file__,
        AGENTS,
        measure,
        {"exploration.py": laid_out},
        output=OUTPUT,
        page=FIGURE.with_suffix(".md"),
        draw=draw,
        figure=FIGURE,
    )


if __name__ == "__main__":
    main()
