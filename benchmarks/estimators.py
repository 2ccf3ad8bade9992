"""Measures the meta-gradient estimators against exact derivatives.

    python benchmarks/estimators.py

Two experiments on random MDPs whose derivatives can be computed exactly, in float64:
bias, deviation and cosine of the meta-gradient against the number of trajectories
(`meta_gradients.py`, after Rothfuss et al. 2019, arXiv 1810.06784), and the accuracy of
Hessians on and off policy (`hessians.py`, after Tang et al. 2021, arXiv 2106.13125).
Prints markdown tables, writes JSON and draws two figures.
"""

import argparse
import sys
import time
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import hessians
import jax
import meta_gradients
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from measuring import hardware, picture, write

from metarl_jax.plotting import GREY, PALETTE

ROOT = Path(__file__).parent.parent
# Dashes where one curve lies on another.
LOOKS: dict[str, dict[str, Any]] = {
    "first order": {"color": GREY, "ls": (0, (2, 2)), "zorder": 4},
    "score function": {"color": PALETTE[1]},
    "likelihood ratio (LVC)": {"color": PALETTE[0]},
    "DiCE": {"color": PALETTE[5]},
    "Loaded DiCE": {"color": PALETTE[2]},
    "second-order expansion": {"color": PALETTE[6], "ls": (0, (2, 2)), "zorder": 4},
    "score correction (E-MAML)": {"color": PALETTE[3]},
}


def _curve(axes: Axes, x: Any, name: str, mean: Any, interval: Any, **look) -> None:
    """Draws a curve with its interval."""
    low, high = np.array(interval).T
    axes.fill_between(x, low, high, color=LOOKS[name]["color"], alpha=0.13, lw=0)
    look = {"marker": "o", "ms": 4, "lw": 1.8, "label": name, **LOOKS[name], **look}
    axes.plot(x, mean, **look)


def _subtitle(figure: Figure, text: str) -> None:
    figure.suptitle(text, x=0.01, ha="left", fontsize=9.5, color=GREY)


def draw_meta_gradients(record: Mapping[str, Any]) -> Figure:
    """Draws bias, deviation and cosine against the number of trajectories."""
    figure = Figure(figsize=(10, 8), layout="constrained")
    panels = figure.subplots(2, 2)
    bias, deviation, one, batch = panels.flat
    sizes = np.array(record["num_trajectories"])
    end = 2 * sizes[-1]
    for name, result in record["estimators"].items():
        for axes, metric, look in (
            (bias, "bias", {}),
            (deviation, "deviation", {}),
            (deviation, "deviation_before", {"ls": ":", "label": None}),
            (one, "cosine", {}),
        ):
            if metric == "bias" and result["bias"]["iqm"][0] < 1e-9:
                continue  # unbiased, which a logarithm cannot show
            row = result[metric]
            _curve(axes, sizes, name, row["iqm"], row["ci"], **look)
        row = {k: 1 - np.array(v) for k, v in result["cosine_of_batch"].items()}
        _curve(batch, sizes, name, row["iqm"], row["ci"])
        if (last := result["limiting_bias"]["iqm"][0]) > 1e-9:
            look = {**LOOKS[name], "marker": "D", "ms": 6, "mfc": "none"}
            bias.plot(end, last, **look)
    bias.set_title("Bias (score correction: none)", loc="left")
    bias.set_ylabel("relative to the exact meta-gradient")
    deviation.set_title("Standard deviation", loc="left")
    deviation.set_ylabel("relative to the exact meta-gradient")
    deviation.plot([], [], ":", color="black", label="the data adapted on alone")
    one.set_title("Cosine of one meta-gradient with the exact one", loc="left")
    batch.set_title(f"1 - cosine of the mean of {record['meta_batch']}", loc="left")
    for axes in (bias, deviation, batch):
        axes.set_yscale("log")
    for axes in panels.flat:
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, sizes)
        axes.set_xlabel("trajectories before and after adaptation")
    bias.set_xticks([*sizes, end], [*sizes, "∞"])
    _subtitle(
        figure,
        f"interquartile mean and 95 % interval over {record['num_mdps']} random MDPs, "
        "the same for every estimator",
    )
    handles, labels = deviation.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def draw_hessians(record: Mapping[str, Any]) -> Figure:
    """Draws accuracies against ε, and against the number of trajectories."""
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    gradient, hessian, on_policy = figure.subplots(1, 3, sharey=True)
    accuracy, sizes = record["accuracy"], record["num_trajectories"]
    for axes, order in ((gradient, "gradient"), (hessian, "hessian")):
        for name in accuracy["0.0"][order]:
            last = [
                {k: v[-1] for k, v in row[order][name].items()}
                for row in accuracy.values()
            ]
            mixtures = [float(mixture) for mixture in accuracy]
            _curve(
                axes, mixtures, name, *([x[k] for x in last] for k in ("mean", "ci"))
            )
        for mixture, reference in record["reference"].items():
            for name, single in reference[order].items():
                colour = LOOKS[name]["color"]
                x = np.full(len(single), float(mixture))
                axes.plot(x, single, "x", color=colour, ms=5, zorder=5)
        axes.set_title(f"{order.capitalize()}, {sizes[-1]} trajectories", loc="left")
        axes.set_xlabel("ε, distance from the policy that acted")
    for name, row in accuracy["0.0"]["hessian"].items():
        _curve(on_policy, sizes, name, row["mean"], row["ci"])
    on_policy.set_xscale("log")
    on_policy.set_xticks(sizes, sizes)
    on_policy.minorticks_off()
    on_policy.set_title("Hessian, on policy", loc="left")
    on_policy.set_xlabel("trajectories")
    gradient.set_ylabel("correlation with the exact one")
    _subtitle(figure, f"mean and 95 % interval over {record['num_mdps']} random MDPs")
    gradient.plot([], [], "x", color=GREY, label="authors' code, single MDPs")
    handles, labels = gradient.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def _print_table(head: str, columns: Iterable[Any], rows: Mapping[str, Any]) -> None:
    columns = list(columns)
    print("\n| " + " | ".join([head, *map(str, columns)]) + " |")
    print("|---|" + "---|" * len(columns))
    for name, cells in rows.items():
        print("| " + " | ".join([name, *cells]) + " |")


def print_meta_gradients(record: Mapping[str, Any]) -> None:
    """Prints a table for each metric."""
    for metric, what in record["metrics"].items():
        rows, columns = {}, [f"N = {n}" for n in record["num_trajectories"]]
        for name, result in record["estimators"].items():
            numbers = result[metric]["iqm"]
            if metric == "bias":
                numbers = [*numbers, *result["limiting_bias"]["iqm"]]
            rows[name] = [f"{number:.3f}" for number in numbers]
        _print_table(what, columns + ["∞"] * (metric == "bias"), rows)


def print_hessians(record: Mapping[str, Any]) -> None:
    """Prints the accuracies from all trajectories beside the reference."""
    for order in ("gradient", "hessian"):
        rows: dict[str, list[str]] = {}
        for mixture, accuracy in record["accuracy"].items():
            reference = record["reference"].get(mixture, {}).get(order, {})
            for name, result in accuracy[order].items():
                low, high = result["ci"][-1]
                cell = f"{result['mean'][-1]:.3f} ({low:.2f} … {high:.2f})"
                if name in reference:
                    cell += "; " + ", ".join(f"{x:.2f}" for x in reference[name])
                rows.setdefault(name, []).append(cell)
        _print_table(
            f"accuracy of the {order} (95 % interval); reference, single MDPs",
            [f"ε = {mixture}" for mixture in record["accuracy"]],
            rows,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the estimators.")
    parser.add_argument("--num-mdps", type=int, default=50)
    parser.add_argument("--quick", action="store_true", help="small, for a smoke test")
    parser.add_argument(
        "--output-dir",
        type=Path,
        help="default benchmarks/results and docs, or scratch",
    )
    args = parser.parse_args()
    num_mdps = 3 if args.quick else args.num_mdps
    # What is quick must not stand where the measured results do.
    results, figures = args.output_dir, args.output_dir
    if results is None:
        names = ("scratch", "scratch") if args.quick else ("benchmarks/results", "docs")
        results, figures = (ROOT / name for name in names)

    machine, start = hardware(), time.perf_counter()
    with jax.enable_x64(True):
        record = {
            "command": " ".join(["python benchmarks/estimators.py", *sys.argv[1:]]),
            "hardware": machine,
            "meta_gradients": meta_gradients.experiment(
                (1, 2, 4) if args.quick else (1, 2, 4, 8, 16),
                num_mdps=num_mdps,
                num_draws=80 if args.quick else 2000,
            ),
            "hessians": hessians.experiment(
                (10, 100) if args.quick else (10, 30, 100, 300, 1000),
                num_mdps=num_mdps,
            ),
        }
    record["seconds"] = time.perf_counter() - start
    print_meta_gradients(record["meta_gradients"])
    print_hessians(record["hessians"])
    print(f"\n{record['seconds']:.0f} s")
    write(results / "estimators.json", record)
    for name, draw, part in (
        ("estimator_variance.png", draw_meta_gradients, "meta_gradients"),
        ("hessian_accuracy.png", draw_hessians, "hessians"),
    ):
        picture(partial(draw, record[part]), figures / name)


if __name__ == "__main__":
    main()
