"""Whether what a run has replayed teaches more than the run had learned.

    python benchmarks/offline.py

AMAGO learns the grid for a quarter of its steps. All trials that its ring then holds
become a data set, and fresh agents learn from that alone, with the rewards that were
paid or with those of other tasks too. Everybody meets held-out tasks by the one
protocol; every seed has a run, and so a data set, of its own. Seconds are those of the
CPU, without compiling. Writes JSON and a table of `docs/algorithms/amago.md`.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
from measuring import (
    add_record_options,
    finish,
    learn,
    mean_and_half_width,
    rewrite,
)
from telling_apart import lines

import metarl_jax
from metarl_jax.datasets import save_dataset
from metarl_jax.types import Trajectory

OUTPUT = Path(__file__).parent / "results" / "offline.json"
PAGE = Path(__file__).parent.parent / "docs" / "algorithms" / "amago.md"
WORLD = "grid-navigation"
AGENTS = {
    "run": "the run itself",
    "paid": "offline, as it was paid",
    "relabelled": "offline, relabelled",
}


def replayed(state: Any) -> Trajectory:
    """Returns the trials that a run's ring holds, `[N, E, T, ...]`."""
    size = int(state.replay.size[0])
    steps = jax.tree.map(lambda x: np.asarray(x[0, :size]), state.replay.steps)
    # What nobody reads of a trial is not kept there.
    return steps._replace(log_prob=np.zeros_like(steps.reward))


def measure(seed: int, num_steps: int, num_offline: int) -> dict[str, Any]:
    """Trains and evaluates a run, and agents from its trials."""

    def trained(number: int, **options: Any) -> tuple[Any, dict[str, Any]]:
        experiment = metarl_jax.make_experiment(
            WORLD, method="amago", num_steps=number, **options
        )
        one, record = learn(experiment, 1, seed=seed, num_points=20)
        result = metarl_jax.evaluate(one)
        kept = {"return_mean": result["return_mean"], "num_steps": number}
        return one, kept | {"cpu_seconds": record["cpu_seconds"]}

    run, found = trained(num_steps)
    trials = replayed(run.state)
    returns = np.sum(trials.reward, axis=-1, where=trials.mask)  # [N, E]
    recorded = {
        "num_trials": len(returns),
        "environment_steps": int(trials.mask.sum()),
        "return_mean": returns.mean(axis=0).tolist(),
    }
    with tempfile.TemporaryDirectory() as folder:
        data = save_dataset(Path(folder) / "trials", trials)
        offline = {"dataset": str(data), "decay_steps": num_offline}
        return {
            "recorded": recorded,
            "run": found,
            "paid": trained(num_offline, relabel_fraction=0.0, **offline)[1],
            "relabelled": trained(num_offline, **offline)[1],
        }


def laid_out(seeds: list[dict[str, Any]]) -> str:
    """Returns what the page shows: a table, and what it tells apart."""
    table = [
        "| who | first episode | last (95 % interval over seeds) | CPU s a seed |",
        "|---|---|---|---|",
    ]

    def row(key: str, label: str, seconds: str) -> np.ndarray:
        returns = np.array([one[key]["return_mean"] for one in seeds])
        mean, half = mean_and_half_width(returns[:, -1])
        table.append(
            f"| {label} | {returns[:, 0].mean():.2f} | {mean:.2f} "
            f"({mean - half:.2f} to {mean + half:.2f}) | {seconds} |"
        )
        return returns[:, -1]

    row("recorded", "all trials that were replayed", "")
    ends = {
        label: row(
            key, label, f"{np.mean([one[key]['cpu_seconds'] for one in seeds]):.0f}"
        )
        for key, label in AGENTS.items()
    }
    named = {label.replace(",", ""): list(end) for label, end in ends.items()}
    return "\n".join(table) + "\n\n" + lines({WORLD: named}, digits=2)


def main() -> None:
    parser = argparse.ArgumentParser(description="Learns from a run's own replay.")
    parser.add_argument("--num-steps", type=int, default=100)
    parser.add_argument("--num-offline", type=int, default=300)
    parser.add_argument("--num-seeds", type=int, default=3)
    add_record_options(parser, OUTPUT)
    args = parser.parse_args()
    if args.quick:
        args.num_steps, args.num_offline, args.num_seeds = 2, 2, 2
    seeds = []
    for seed in range(args.num_seeds):
        seeds.append(measure(seed, args.num_steps, args.num_offline))
        print({key: one["return_mean"][-1] for key, one in seeds[-1].items()})
    finish(args, {"world": WORLD, "seeds": seeds})
    if args.output == OUTPUT:
        rewrite(PAGE, __file__, laid_out(seeds))
    print(laid_out(seeds))


if __name__ == "__main__":
    main()
