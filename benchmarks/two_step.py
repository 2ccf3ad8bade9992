"""When learners of the two-step task stay: RL² beside the optimal and a model-free one.

    python benchmarks/two_step.py RUN …

A run is one of `two-step-rl2`, such as those that `metarl-jax reproduce wang-bandits`
keeps of its seeds. The share of episodes whose first action is that of the episode
before, by whether that was rewarded and whether its transition was the common one, in
the first episodes of trials on held-out tasks: later a trial's good state is known, and
everybody stays. Intervals are over seeds. Writes JSON, draws
`docs/results/two-step.png` and lays out the table beside it.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure
from measuring import hardware, mean_and_half_width, picture, rewrite, write

import metarl_jax
from metarl_jax import rollout
from metarl_jax.envs.two_step import two_step
from metarl_jax.plotting import PALETTE
from metarl_jax.strategies.two_step import (
    BayesOptimalTwoStep,
    ModelFreeTwoStep,
    stay_probabilities,
)
from metarl_jax.types import Agent

OUTPUT = Path(__file__).parent / "results" / "two_step.json"
FIGURE = Path(__file__).parent.parent / "docs" / "results" / "two-step.png"
PAGE = FIGURE.with_name("dependent-arms.md")
RL2, OPTIMAL, MODEL_FREE = "RL²", "Bayes-optimal", "model-free"
NUM_EPISODES, NUM_TRIALS = 10, 20_000


def stays(policy: Any, agent: Agent) -> list[list[float]]:
    """Returns the shares `[2, 2]`: without and with a reward, rare and common."""
    tasks = two_step()

    def trial(key):
        key_task, key_act = jax.random.split(key)
        task = tasks.sample_heldout(key_task)
        acted = rollout.collect(
            key_act, tasks, policy, agent, task, num_episodes=NUM_EPISODES
        )
        return acted[1]

    keys = jax.random.split(jax.random.key(0), NUM_TRIALS)
    shares = jax.jit(lambda keys: stay_probabilities(jax.vmap(trial)(keys)))(keys)
    return np.asarray(shares, float).round(5).tolist()


def measure(runs: list[str]) -> dict[str, Any]:
    """Returns the shares of every learner, `[S, 2, 2]`."""
    shares: dict[str, Any] = {RL2: []}
    for path in runs:
        run = metarl_jax.load_run(path)
        shares[RL2].append(stays(run.algorithm.policy, run.agent))
    for name, learner in (
        (OPTIMAL, BayesOptimalTwoStep()),
        (MODEL_FREE, ModelFreeTwoStep()),
    ):
        shares[name] = [stays(learner, Agent({}, learner.initial_memory()))]
    return {
        "num_episodes": NUM_EPISODES,
        "num_trials": NUM_TRIALS,
        "stays": shares,
        "hardware": hardware(),
    }


def draw(record: dict[str, Any]) -> Figure:
    """Draws a panel a learner, in pairs as Wang et al. 2016 do."""
    figure = Figure(figsize=(9.0, 2.8), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    for axes, (name, values) in zip(panels, record["stays"].items(), strict=True):
        seeds = np.array(values)
        for common, label in ((1, "common transition"), (0, "rare transition")):
            # The rewarded first.
            at = np.arange(2) + (0.2 - 0.4 * common)
            column = seeds[:, ::-1, common]
            axes.bar(
                at, column.mean(axis=0), 0.36, color=PALETTE[1 - common], label=label
            )
            if len(seeds) > 1:
                dots = np.broadcast_to(at, column.shape)
                axes.plot(dots, column, ".", color="black", ms=4)
        axes.set_xticks([0, 1], ["rewarded", "not rewarded"])
        axes.set_title(name, loc="left")
        axes.grid(visible=False, axis="x")
    panels[0].set_ylabel("share that stays")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def laid_out(record: dict[str, Any]) -> str:
    """Returns the shares as a markdown table."""
    lines = [
        "| stays after | reward, common | reward, rare | none, common | none, rare |",
        "|---|---|---|---|---|",
    ]
    for name, values in record["stays"].items():
        seeds = np.array(values)
        cells = []
        for rewarded, common in ((1, 1), (1, 0), (0, 1), (0, 0)):
            column = seeds[:, rewarded, common]
            cells.append(f"{column.mean():.3f}")
            if len(column) > 1:
                cells[-1] += f" ± {mean_and_half_width(column)[1]:.3f}"
        label = f"{name}, {len(seeds)} seeds" if len(seeds) > 1 else name
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="When do learners stay?")
    parser.add_argument("runs", nargs="*", help="none: draw what is recorded")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    if args.runs:
        write(args.output, measure(args.runs))
    record = json.loads(args.output.read_text())
    beside = FIGURE if args.output == OUTPUT else args.output.with_suffix(".png")
    picture(lambda: draw(record), beside)
    if args.output == OUTPUT:
        rewrite(PAGE, __file__, laid_out(record))
    print(laid_out(record))


if __name__ == "__main__":
    main()
