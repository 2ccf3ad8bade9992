"""Compares every gradient-based method on 2-D navigation with the same budget.

    python benchmarks/comparison.py

Trains `point-nav` with each method, five seeds in one compiled program, and evaluates
them on the same held-out goals: 20 tasks × 20 episodes × 100 steps a round, 8 million
environment steps a seed. Every method runs in a process of its own, so that its peak
memory is its own. Its seconds are its steps times the median step that `step_time.py`
has recorded of it, alone on the machine: run that first.

`--tuned` tunes each method alike before: a sweep of sixteen settings, four of its step
in adaptation and four of its step in meta-training, a quarter to twice its defaults,
each one other seed for half of the steps; then the four that return most after
adaptation to held-out goals, each three more seeds for all of them, the mean of which
decides. It is then evaluated on goals that no sweep has seen. For what is no
meta-learner, the sweep decides.

Methods already recorded with the same settings are not run again, nor a sweep that is
recorded or in `--sweeps`; `--methods` without one runs none. Writes JSON, draws
`docs/comparison.png` or `docs/comparison-tuned.png` and lays out the tables of
`docs/results/methods.md`.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from measuring import hardware, picture, rewrite, rounds, write
from telling_apart import by_seed, lines

import metarl_jax
from metarl_jax.intervals import interquartile_mean, summarise
from metarl_jax.options import written
from metarl_jax.plotting import PALETTE

CLI = [sys.executable, "-m", "metarl_jax.cli"]
ROOT = Path(__file__).parent.parent
RECORD = Path(__file__).parent / "results" / "comparison.json"
TUNED = RECORD.with_stem("comparison-tuned")
PAGE = ROOT / "docs" / "results" / "methods.md"
STEP_TIMES = Path(__file__).parent / "results" / "step_time.json"
WORLD = "point-nav"
REFERENCE = "maml"
SCRATCH = "from scratch"
GROUPS = {
    "derivatives through adaptation": [
        "maml",
        "maml-dice",
        "emaml",
        "promp",
        "maml-ppo",
    ],
    "of step sizes, or of a part of the network": [
        "meta-sgd",
        "anil",
        "boil",
        "cavia",
    ],
    "no second derivatives": [
        "fomaml",
        "reptile",
        "es-maml",
        "pretraining",
        "task-shown",
    ],
}
NAMES = {
    "maml": "MAML",
    "maml-dice": "MAML, Loaded DiCE",
    "maml-ppo": "MAML, PPO outer step",
    "fomaml": "FOMAML",
    "promp": "ProMP",
    "emaml": "E-MAML",
    "meta-sgd": "Meta-SGD",
    "anil": "ANIL",
    "boil": "BOIL",
    "cavia": "CAVIA",
    "reptile": "Reptile",
    "es-maml": "ES-MAML",
    "pretraining": "pretrained, fine-tuned",
    "task-shown": "told the goal",
    SCRATCH: "PPO from scratch",
}
SYMBOLS = {"inner_lr": "α", "outer_lr": "β", "max_kl": "δ", "clip_range": "ε"}
FACTORS = (0.25, 0.5, 1.0, 2.0)  # of the defaults, of either of two options
SEARCH_SEED, GOALS = 100, 1
NUM_FINALISTS, FINAL_SEEDS = 4, 3
NOT_META = ("pretraining", "task-shown")  # their sweeps decide alone
# Metrics of so many environment steps (in rounds of one seed) are averaged.
SMOOTHED_ROUNDS = 12


def varied(method: str) -> dict[str, list[float]]:
    """Returns what is searched: the steps of adaptation and of meta-training."""
    options = metarl_jax.make_experiment(WORLD, method=method).origin.options
    outer = "max_kl" if "max_kl" in options else "outer_lr"
    # Who does not adapt has a range of ratios to choose instead.
    inner = "inner_lr" if options.get("fine_tuning", True) else "clip_range"
    # Six digits: of a float32, and in the names of runs.
    return {
        name: [float(f"{factor * options[name]:.6g}") for factor in FACTORS]
        for name in (inner, outer)
    }


def search(method: str, directory: Path, options: list[str], known: dict) -> dict:
    """Tunes a method as a user would, and returns what was found.

    Args:
      method: its name.
      directory: of sweeps and of what they trained.
      options: of the command line.
      known: what was found before; its sweep is taken where it is of the same settings.
    """
    whole = metarl_jax.make_experiment(WORLD, method=method).num_steps
    sweep = {
        "vary": varied(method),
        "num_steps": max(1, whole // 2),
        "seed": SEARCH_SEED,
    }
    same = {name: known.get(name) for name in sweep} == sweep
    runs = known["runs"] if same else _swept(method, directory, options, sweep)
    if method in NOT_META:
        best = {name: runs[0][name] for name in sweep["vary"]}
        return {**sweep, "runs": runs, "chosen": best}
    finalists = []
    for i, row in enumerate(runs[:NUM_FINALISTS]):
        setting = {name: row[name] for name in sweep["vary"]}
        run_dir = directory / f"{method}-finalists" / str(i)
        seeds = ["--seed", str(SEARCH_SEED + 1), *written(setting)]
        train(method, FINAL_SEEDS, [*options, *seeds], run_dir)
        found = json.loads((run_dir / "evaluation.json").read_text())
        names = ("return_mean", "return_mean_by_seed")
        finalists.append({"options": setting, **{name: found[name] for name in names}})
    finalists.sort(key=lambda row: -row["return_mean"][-1])
    return {
        **sweep,
        "runs": runs,
        "finalists": finalists,
        "chosen": finalists[0]["options"],
    }


def _swept(method, directory, options, sweep):
    """Returns the settings of a sweep and what each returned, best first."""
    command = [*CLI, "sweep", WORLD, "--method", method, *options]
    command += ["--num-steps", str(sweep["num_steps"]), "--seed", str(sweep["seed"])]
    command += ["--output-dir", str(directory / method)]
    for name, values in sweep["vary"].items():
        command += ["--vary", name.replace("_", "-"), *map(str, values)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found = json.loads((directory / method / "sweep.json").read_text())
    return [
        {**row["options"], "return_mean": row.get("return_mean")}
        for row in found["runs"]
    ]


def train(method: str, num_seeds: int, options: list[str], run_dir: Path) -> None:
    """Trains and evaluates a method as a user would; one that was stopped goes on."""
    if (run_dir / "config.json").exists():
        command = ["--resume", str(run_dir)]
    else:  # killed before its first record, there is nothing to go on with
        shutil.rmtree(run_dir, ignore_errors=True)
        command = [WORLD, "--method", method, *options]
        command += ["--num-seeds", str(num_seeds), "--output-dir", str(run_dir)]
    command = [*CLI, "train", *command]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def run(method: str, num_seeds: int, options: list[str], found: dict | None) -> dict:
    """Trains and evaluates one method as a user would, and reads its records.

    Args:
      method: its name.
      num_seeds: in one program.
      options: of the command line.
      found: by the search that tuned it, which is then evaluated on other goals; None
        takes the defaults.
    """
    chosen = [] if found is None else written(found["chosen"])
    with tempfile.TemporaryDirectory() as directory:
        run_dir = Path(directory) / method
        train(method, num_seeds, [*options, *chosen], run_dir)
        if found is not None:
            command = [*CLI, "evaluate", str(run_dir), "--seed", str(GOALS)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        evaluation = json.loads((run_dir / "evaluation.json").read_text())
        lines = (run_dir / "metrics.jsonl").read_text().splitlines()
        config = json.loads((run_dir / "config.json").read_text())
    metrics = [json.loads(line) for line in lines]
    settings = config["options"]
    num_rounds = rounds(method)
    steps = settings["num_tasks"] * settings["num_episodes"] * settings["horizon"]
    after = np.array([row["seeds"]["return_after"] for row in metrics], float)  # [n, S]
    width = max(1, round(SMOOTHED_ROUNDS / num_rounds))
    kernel = np.ones(width) / width
    smoothed = np.stack([np.convolve(x, kernel, "valid") for x in after.T], axis=-1)
    # A few dozen points are all that can be seen of a curve.
    kept = np.unique(np.linspace(0, len(smoothed) - 1, 40).round().astype(int))
    return {
        **({} if found is None else {"search": found}),
        "options": settings,
        "environment_steps": num_rounds * steps * len(metrics),
        "curve": {
            "environment_steps": [
                int((i + width) * num_rounds * steps) for i in kept.tolist()
            ],
            "return_after": np.round(smoothed[kept], 3).tolist(),
        },
        **{
            name: evaluation[name]
            for name in (
                "return_mean",
                "return_iqm",
                "return_ci",
                "return_iqm_ci",
                "return_mean_by_seed",
                "interval",
                "references",
                "num_tasks",
                "num_episodes",
                "num_seeds",
                "training_steps",
                "training_seconds",
                "compile_seconds",
                "training_peak_memory_mib",
            )
        },
        "hardware": hardware(),
    }


def training_seconds(records: dict[str, dict]) -> dict[str, float]:
    """Returns the seconds that each method's steps take for one seed, by themselves."""
    if not STEP_TIMES.exists():
        raise SystemExit("no step times are recorded; run benchmarks/step_time.py")
    rows = json.loads(STEP_TIMES.read_text())["steps"]
    # The same network; MAML itself is timed with several outer steps.
    medians = {
        row["method"].removesuffix("/trust-region"): row["step_seconds"]["median"]
        for row in reversed(rows.values())
    }
    return {
        name: record["training_steps"] * medians[name]
        for name, record in records.items()
    }


def share_until(record: dict, level: float) -> float | None:
    """Returns the share of training until the mean after one step passed a level."""
    mean = np.mean(record["curve"]["return_after"], axis=1)
    above = np.flatnonzero(mean >= level)
    steps = record["curve"]["environment_steps"]
    return steps[above[0]] / record["environment_steps"] if above.size else None


def draw(records: dict[str, dict], seconds: dict[str, float]) -> Figure:
    """Draws the return after adaptation against environment steps and seconds."""
    groups = {
        title: [name for name in names if name in records]
        for title, names in GROUPS.items()
    }
    figure = Figure(figsize=(10, 11), layout="constrained")
    grid = figure.subplots(len(groups), 2, sharex="col", sharey="row")
    for row, (title, names) in zip(grid, groups.items(), strict=True):
        for axes, scale in zip(row, ("steps", "seconds"), strict=True):
            shown = [x for x in dict.fromkeys([REFERENCE, *names]) if x in records]
            for i, name in enumerate(shown):
                curve = records[name]["curve"]
                returns = np.array(curve["return_after"])[None]  # [1, n, S]
                summary = summarise(returns.transpose(2, 0, 1))
                x = np.array(curve["environment_steps"], float) / 1e6
                if scale == "seconds":
                    x *= seconds[name] * 1e6 / records[name]["environment_steps"]
                reference = name == REFERENCE
                colour = "black" if reference else PALETTE[names.index(name)]
                # Where curves lie on one another, each one's marks are still seen.
                marks = {"marker": "osD^vP"[i], "markevery": (i, len(shown)), "ms": 5}
                axes.fill_between(
                    x,
                    summary.iqm_ci_low,
                    summary.iqm_ci_high,
                    color=colour,
                    alpha=0.15,
                    lw=0,
                )
                axes.plot(
                    x,
                    interquartile_mean(returns[0]),
                    color=colour,
                    lw=1.4,
                    linestyle="--" if reference else "-",
                    label=NAMES[name],
                    **marks,
                )
        row[0].set_title(title, loc="left")
        row[0].set_ylabel("return after adaptation")
        row[1].legend(loc="lower right")
    grid[-1][0].set_xlabel("environment steps a seed, millions")
    grid[-1][1].set_xlabel("seconds of training a seed")
    first = next(iter(records.values()))
    figure.suptitle(
        "2-D navigation, meta-training tasks: interquartile mean and 95 % interval "
        f"over {first['num_seeds']} seeds",
        x=0.01,
        ha="left",
        fontsize=12,
    )
    return figure


def table(records: dict[str, dict], seconds: dict[str, float]) -> str:
    """Lays out method × return after 0, 1, 3 steps × seconds × peak memory."""
    target = records[REFERENCE]["return_mean"][1] - 2 if REFERENCE in records else None
    lines = [
        "| method | 0 steps | 1 step | 3 steps | seconds a seed | "
        f"{'' if target is None else f'to {target:.1f} '}| peak MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, record in records.items():
        share = None if target is None else share_until(record, target)
        lines.append(
            f"| {NAMES[name]} | {_returns(record)} | {seconds[name]:.0f} | "
            f"{'–' if share is None else f'{share * seconds[name]:.0f}'} | "
            f"{record['training_peak_memory_mib']:.0f} |"
        )
    if "pretraining" in records:
        scratch = records["pretraining"]["references"]["random initialisation"]
        lines.append(f"| {NAMES[SCRATCH]} | {_returns(scratch)} | 0 | – | |")
    return "\n".join(lines)


def tuned_table(records: dict[str, dict]) -> str:
    """Lays out method × chosen setting × return after 0, 1, 3 steps × weakest seed."""
    lines = [
        "| method | chosen of sixteen | 0 steps | 1 step | 3 steps | weakest seed |",
        "|---|---|---|---|---|---|",
    ]
    for name, record in records.items():
        chosen = ", ".join(
            f"{SYMBOLS[option]} = {value:g}"
            for option, value in record["search"]["chosen"].items()
        )
        weakest = min(seed[1] for seed in record["return_mean_by_seed"])
        lines.append(
            f"| {NAMES[name]} | {chosen} | {_returns(record)} | {weakest:.1f} |"
        )
    return "\n".join(lines)


def _returns(row: dict) -> str:
    """Returns three cells: the mean after 0, 1 and 3 steps and its interval."""
    cells = []
    for k in (0, 1, 3):
        low, high = row["return_ci"][k]
        cells.append(f"{row['return_mean'][k]:.1f} ({low:.1f} … {high:.1f})")
    return " | ".join(cells)


def laid_out(records: dict[str, dict]) -> str:
    """Returns what the page shows: the table, and which methods differ from MAML."""
    tuned = any("search" in record for record in records.values())
    shown = tuned_table(records) if tuned else table(records, training_seconds(records))
    if REFERENCE not in records:
        return shown
    steps = {"after one step": 1, "after three": 3}
    worlds = {
        label: {
            NAMES[name].replace(",", ""): by_seed(record, at)
            for name, record in records.items()
        }
        for label, at in steps.items()
    }
    return f"{shown}\n\n{lines(worlds, reference=NAMES[REFERENCE])}"


def main() -> None:
    methods = [name for names in GROUPS.values() for name in names]
    parser = argparse.ArgumentParser(description="Compares every method.")
    parser.add_argument("--num-seeds", type=int, default=5)
    parser.add_argument("--methods", nargs="*", default=list(methods), metavar="METHOD")
    parser.add_argument("--tuned", action="store_true", help="each by its own sweep")
    parser.add_argument("--output", type=Path, help="of the JSON")
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--sweeps", type=Path, default=Path("sweeps") / "comparison")
    parser.add_argument("--again", action="store_true", help="run what is recorded too")
    args, options = parser.parse_known_args()
    unknown = [name for name in args.methods if name not in methods]
    if unknown:
        parser.error(f"unknown method {unknown[0]}; there are {', '.join(methods)}")

    # Another record has a figure of its own, and leaves those of the page alone.
    default = TUNED if args.tuned else RECORD
    output = args.output or default
    beside = ROOT / "docs" if output == default else output.parent
    figure = args.figure or beside / output.with_suffix(".png").name

    key = {"num_seeds": args.num_seeds, "options": options}
    key |= {"tuned": True} if args.tuned else {}
    recorded = json.loads(output.read_text()) if output.exists() else {}
    same = {name: recorded.get(name) for name in key} == key and not args.again
    records = recorded["methods"] if same else {}
    for method in args.methods:
        known = records.get(method, {}).get("search", {})
        old = args.tuned and method not in NOT_META and "finalists" not in known
        if method not in records or old:
            found = search(method, args.sweeps, options, known) if args.tuned else None
            records[method] = run(method, args.num_seeds, options, found)
            write(output, {**key, "methods": records})
        curve = ", ".join(f"{x:.2f}" for x in records[method]["return_mean"])
        print(
            f"{method}: {curve}; {records[method]['training_seconds']:.0f} s for "
            f"{args.num_seeds} seeds",
            flush=True,
        )
    picture(lambda: draw(records, training_seconds(records)), figure)
    made = laid_out(records)
    if output == default:
        rewrite(PAGE, f"{__file__}{' --tuned' * args.tuned}", made)
    print(made)


if __name__ == "__main__":
    main()
