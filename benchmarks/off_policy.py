"""A memory trained off-policy beside RL²: return by steps of the environment.

    python benchmarks/off_policy.py [--arms WORLD/AGENT …]

Every agent trains with its seeds in one program, in a process of its own, and meets
held-out tasks by the one protocol; intervals are over seeds. `amago-relabelled` replays
trials with the rewards of other tasks, as its world's defaults say. Seconds are those
of the CPU that a seed took, without compiling. Arms already recorded are not run again;
`--arms` without one runs none. Writes JSON, draws `docs/results/off-policy.png` and
lays out the table of `docs/algorithms/amago.md`.
"""

import inspect
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from measuring import hardware, learn, run_arms
from telling_apart import by_seed, lines
from world_learning import told_of

import metarl_jax
from metarl_jax.choice import Choice
from metarl_jax.plotting import PALETTE

OUTPUT = Path(__file__).parent / "results" / "off_policy.json"
DOCS = Path(__file__).parent.parent / "docs"
FIGURE, PAGE = DOCS / "results" / "off-policy.png", DOCS / "algorithms" / "amago.md"
NUM_POINTS = 60
AGENTS = {
    "rl2": "RL²",
    "amago": "AMAGO",
    "amago-relabelled": "AMAGO, relabelled",
    "rl2-longer": "RL², longer",
}


def steps(number: int) -> dict[str, Any]:
    """Returns how long is trained."""
    return {"num_steps": number, "decay_steps": number}


# Each trial is met once, in as many minibatches as four passes of four have.
LONGER = {**steps(2500), "num_epochs": 1, "num_minibatches": 16}

# By the world: what differs from its defaults for each agent.
ARMS: dict[str, dict[str, dict[str, Any]]] = {
    "grid-navigation": {
        "rl2": steps(150),
        "amago": {"relabel_fraction": 0.0},
        "amago-relabelled": {},
    },
    "half-circle": {"rl2": steps(150), "amago-relabelled": {}},
    "room-key-door": {
        "rl2": steps(150),
        "amago": {},
        "rl2-longer": LONGER,
    },
    "meta-frozen-lake": {
        "rl2": steps(150),
        "amago": {},
        "rl2-longer": {**LONGER, "size": 128, "hidden_sizes": (128,)},
    },
}


def build(world: str, agent: str, **options: Any) -> metarl_jax.Experiment:
    """Builds what an arm trains."""
    method = agent.partition("-")[0]
    options = ARMS[world][agent] | options
    known = inspect.signature(Choice(world, method).load()).parameters
    options = {name: value for name, value in options.items() if name in known}
    return metarl_jax.make_experiment(world, method=method, **options)


def measure(arm: str, num_seeds: int) -> dict[str, Any]:
    """Trains an arm and evaluates it."""
    world, _, agent = arm.partition("/")
    trained, record = learn(build(world, agent), num_seeds, num_points=NUM_POINTS)
    told = told_of(metarl_jax.evaluate(trained))
    return {**record, **told, "hardware": hardware()}


def table(arms: dict[str, dict]) -> str:
    """Lays out the arms as a markdown table."""
    lines = [
        "| world | agent | first episode | last (95 % interval over seeds) | seeds | "
        "thousand steps | CPU s a seed |",
        "|---|---|---|---|---|---|---|",
    ]
    for world, agents in ARMS.items():
        for agent in agents:
            record = arms.get(f"{world}/{agent}")
            if record is None:
                continue
            low, high = record["return_ci"][-1]
            mean = record["return_mean"]
            lines.append(
                f"| {world} | {AGENTS[agent]} | {mean[0]:.2f} | {mean[-1]:.2f} "
                f"({low:.2f} to {high:.2f}) | {record['num_seeds']} | "
                f"{record['environment_steps'] / 1e3:.0f} | "
                f"{record['cpu_seconds']:.0f} |"
            )
    return "\n".join(lines)


def laid_out(arms: dict[str, dict]) -> str:
    """Returns what the page shows of the arms: a table, and what it tells apart."""
    worlds = {
        world: {
            AGENTS[agent].replace(",", ""): by_seed(arms[f"{world}/{agent}"])
            for agent in agents
            if f"{world}/{agent}" in arms
        }
        for world, agents in ARMS.items()
    }
    return f"{table(arms)}\n\n{lines(worlds, digits=2)}"


def draw(arms: dict[str, dict]) -> Figure:
    """Draws a world a panel: the last episode's return while learning."""
    worlds = [w for w in ARMS if any(key.startswith(f"{w}/") for key in arms)]
    figure = Figure(figsize=(3.6 * len(worlds), 3.0), layout="constrained")
    panels = figure.subplots(1, len(worlds), squeeze=False).ravel()
    for axes, world in zip(panels, worlds, strict=True):
        for i, agent in enumerate(AGENTS):
            record = arms.get(f"{world}/{agent}")
            if record is None:
                continue
            at = np.array(record["curve"]["environment_steps"])
            seeds = np.array(record["curve"]["return_after"])
            axes.plot(at, seeds.mean(axis=1), color=PALETTE[i], label=AGENTS[agent])
            axes.plot(at, seeds, color=PALETTE[i], lw=0.5, alpha=0.6)
        axes.set(title=world, xlabel="environment steps", xscale="log")
        axes.legend(fontsize=8)
    panels[0].set_ylabel("return of the last episode")
    return figure


def main() -> None:
    run_arms(
        __file__,
        [f"{world}/{agent}" for world, agents in ARMS.items() for agent in agents],
        measure,
        {"off_policy.py": laid_out},
        output=OUTPUT,
        page=PAGE,
        draw=draw,
        figure=FIGURE,
    )


if __name__ == "__main__":
    main()
