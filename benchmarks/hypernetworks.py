"""Does a memory that produces a policy's weights learn more than one that is read?

    python benchmarks/hypernetworks.py [--arms WORLD/NETWORK …]

RL² on the three grids of Beck et al. 2023 and in the dark room, with a GRU whose state
the policy reads and with hypernetworks that begin in different ways (Beck et al. 2022).
Every network has its own learning rate: of those that are tried on two seeds, doubled
until they return less, it takes the one whose trials return most in the last training
steps, all episodes together. Then other seeds are trained with it, all in one program,
in a process of their own, and meet held-out tasks: the sum of a trial's episodes, with
intervals over seeds. Seconds are those of the CPU that a seed took, without compiling.
Arms already recorded are not run again; `--arms` without one runs none. Writes JSON and
lays out the table of `docs/results/hypernetworks.md`.
"""

from pathlib import Path
from typing import Any

import numpy as np
from measuring import hardware, learn, mean_and_half_width, run_arms
from telling_apart import lines
from world_learning import told_of

import metarl_jax

OUTPUT = Path(__file__).parent / "results" / "hypernetworks.json"
PAGE = Path(__file__).parent.parent / "docs" / "results" / "hypernetworks.md"
LOWEST_RATE, NUM_RATES = 1e-3, 3  # as many at least
NUM_TUNED, FIRST_TUNED = 2, 1000
NUM_POINTS = 25

HYPERNETWORK = {"policy": "hypernetwork"}
NETWORKS: dict[str, dict[str, Any]] = {
    "GRU": {},
    "Bias-HyperInit": HYPERNETWORK,
    "Kaiming": {**HYPERNETWORK, "initialisation": "kaiming"},
    "normc": {**HYPERNETWORK, "initialisation": "normc"},
    "hyperfan-in": {**HYPERNETWORK, "initialisation": "hyperfan-in"},
}
GRID: dict[str, Any] = {"num_steps": 250, "decay_steps": 250, "entropy_coeff": 0.03}
# By what the table calls it: the world, its options, and which networks are tried.
WORLDS: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "grid-navigation": ("grid-navigation", GRID, list(NETWORKS)),
    "goal-first": (
        "grid-navigation",
        {**GRID, "goal_first": True},
        ["GRU", "Bias-HyperInit"],
    ),
    # Returns are of tens; a value may be learned in units of ten, or of one.
    **{
        f"dense-reward{unit}": (
            "grid-navigation",
            {**GRID, "dense_reward": True, "value_scale": scale},
            ["GRU", "Bias-HyperInit"],
        )
        for unit, scale in {"": 10.0, ", value-scale 1": 1.0}.items()
    },
    "dark-room": (
        "dark-room",
        {
            **{"num_steps": 250, "decay_steps": 250, "num_tasks": 64},
            **{"num_episodes": 4, "num_adaptation_steps": 3},
            "observation": "coordinates",
        },
        ["GRU", "Bias-HyperInit"],
    ),
}


def measure(arm: str, num_seeds: int) -> dict[str, Any]:
    """Chooses a learning rate, trains an arm with it and evaluates it."""
    name, _, network = arm.partition("/")
    world, options, _ = WORLDS[name]

    def train(lr, seeds, first, *also):
        experiment = metarl_jax.make_experiment(
            world, method="rl2", **options, **NETWORKS[network], lr=lr
        )
        names = ("return_before", "return_after", *also)
        return learn(experiment, seeds, names, num_points=NUM_POINTS, seed=first)

    tried, best = {}, LOWEST_RATE
    while len(tried) < NUM_RATES or best == max(tried):
        lr = LOWEST_RATE * 2 ** len(tried)
        record = train(lr, NUM_TUNED, FIRST_TUNED, "episode_returns")[1]
        of_trial = np.sum(record["curve"]["episode_returns"][-1], axis=-1)  # [S]
        tried[lr] = float(np.mean(of_trial))
        best = max(tried, key=lambda lr: tried[lr])
    trained, record = train(best, num_seeds, 0)
    told = told_of(metarl_jax.evaluate(trained))
    return {
        **record,
        **told,
        "learning_rates": {f"{lr:g}": value for lr, value in tried.items()},
        "learning_rate": best,
        "hardware": hardware(),
    }


def laid_out(arms: dict[str, dict]) -> str:
    """Returns what the page shows: a table, and what it tells apart."""
    rows = [
        "| world | network | rate | a trial's episodes in all (95 % over seeds) | "
        "by seed | last episode | seeds | CPU s a seed |",
        "|---" * 8 + "|",
    ]
    worlds: dict[str, dict[str, np.ndarray]] = {}
    for world, (*_, networks) in WORLDS.items():
        for network in networks:
            record = arms.get(f"{world}/{network}")
            if record is None:
                continue
            seeds = np.sum(record["return_mean_by_seed"], axis=1)
            worlds.setdefault(world, {})[network] = seeds
            mean, half = mean_and_half_width(seeds)
            rows.append(
                f"| {world} | {network} | {record['learning_rate']:g} | "
                f"{mean:.2f} ({mean - half:.2f} to {mean + half:.2f}) | "
                f"{', '.join(f'{seed:.1f}' for seed in seeds)} | "
                f"{record['return_mean'][-1]:.2f} | {len(seeds)} | "
                f"{record['cpu_seconds']:.0f} |"
            )
    return "\n".join(rows) + "\n\n" + lines(worlds, digits=2)


def main() -> None:
    run_arms(
        __file__,
        [f"{world}/{one}" for world, (*_, all_) in WORLDS.items() for one in all_],
        measure,
        {"hypernetworks.py": laid_out},
        output=OUTPUT,
        page=PAGE,
        num_seeds=5,
    )


if __name__ == "__main__":
    main()
