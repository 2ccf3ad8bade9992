"""What must a memory be shown? The last action and reward, or whole transitions.

    python benchmarks/transitions.py [--arms CORE/SHOWN …]

RL² on random MDPs, ten episodes of one in a trial: what an action paid in a state is to
be found again when the agent is next in that state. The input of the paper says what
the last action was and what it paid; where that was is in the input before. Shown whole
transitions (`whole_transitions`), a memory has all of it in one. Four agents, the same
in all else, train for the same steps; all seeds of one in one program, in a process of
its own; intervals are over seeds. Seconds leave compiling out. Arms already recorded
are not run again; `--arms` without one runs none. Writes JSON, draws
`docs/results/transitions.png` and lays out the table of `docs/results/mdps.md`.
"""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from measuring import hardware, learn, mean_and_half_width, run_arms
from telling_apart import lines
from world_learning import told_of

import metarl_jax
from metarl_jax.plotting import PALETTE

OUTPUT = Path(__file__).parent / "results" / "transitions.json"
FIGURE = Path(__file__).parent.parent / "docs" / "results" / "transitions.png"
PAGE = FIGURE.with_name("mdps.md")
NUM_STEPS, NUM_POINTS = 60, 30
CORES = {"gru": "GRU", "transformer": "transformer"}
SHOWN = {"last": "last action and reward", "whole": "whole transitions"}
ARMS = [f"{core}/{shown}" for core in CORES for shown in SHOWN]
OPTIONS = {
    **{"hidden_sizes": (64,), "num_tasks": 512, "num_epochs": 1, "lr": 1e-3},
    **{"num_steps": NUM_STEPS, "decay_steps": NUM_STEPS},
}


def measure(arm: str, num_seeds: int) -> dict[str, Any]:
    """Trains an arm and evaluates it."""
    core, _, shown = arm.partition("/")
    options = {**OPTIONS, "core": core, "whole_transitions": shown == "whole"}
    experiment = metarl_jax.make_experiment("tabular-mdp", method="rl2", **options)
    trained, record = learn(experiment, num_seeds, num_points=NUM_POINTS)
    told = told_of(metarl_jax.evaluate(trained))
    return {**record, **told, "hardware": hardware()}


def label(arm: str) -> str:
    """Returns what an arm is called."""
    core, _, shown = arm.partition("/")
    return f"{CORES[core]} of {SHOWN[shown]}"


def laid_out(arms: dict[str, dict]) -> str:
    """Returns what the page shows: a table, and what it tells apart."""
    rows = [
        "| memory | shown | return of ten episodes | first | last | "
        "million steps | CPU s a seed |",
        "|---" * 7 + "|",
    ]
    totals = {}
    for arm in (arm for arm in ARMS if arm in arms):
        found = arms[arm]
        seeds = np.array(found["return_mean_by_seed"])
        totals[label(arm)] = seeds.sum(axis=1)
        mean, half = mean_and_half_width(totals[label(arm)])
        first, last = seeds.mean(axis=0)[[0, -1]]
        core, _, shown = arm.partition("/")
        rows.append(
            f"| {CORES[core]} | {SHOWN[shown]} | {mean:.1f} ± {half:.1f} | "
            f"{first:.2f} | {last:.2f} | {found['environment_steps'] / 1e6:.2f} | "
            f"{found['cpu_seconds']:.0f} |"
        )
    return "\n".join(rows) + "\n\n" + lines({"random MDPs": totals}, digits=1)


def draw(arms: dict[str, dict]) -> Figure:
    """Draws the last episode's return while learning."""
    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    axes = figure.subplots()
    for number, arm in enumerate(arm for arm in ARMS if arm in arms):
        curve = arms[arm]["curve"]
        at = np.array(curve["environment_steps"]) / 1e6
        seeds = np.array(curve["return_after"])
        color = PALETTE[number]
        axes.plot(at, seeds.mean(axis=1), label=label(arm), lw=1.8, color=color)
        axes.plot(at, seeds, lw=0.5, alpha=0.6, color=color)
    axes.set_xlabel("million environment steps")
    axes.set_ylabel("return of the tenth episode")
    axes.legend()
    return figure


def main() -> None:
    run_arms(
        __file__,
        ARMS,
        measure,
        {"transitions.py": laid_out},
        output=OUTPUT,
        page=PAGE,
        draw=draw,
        figure=FIGURE,
    )


if __name__ == "__main__":
    main()
