"""How the benchmarks measure: warm, blocked on, medians, and against the machine."""

import argparse
import datetime
import functools
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

import metarl_jax
from metarl_jax import catalogue
from metarl_jax.intervals import t_half_width
from metarl_jax.plotting import STYLE, write_png
from metarl_jax.runs.lowering import lower
from metarl_jax.runs.machine import versions


def gradient_methods() -> list[str]:
    """Returns the names of the methods that adapt by gradients."""
    names = catalogue.entries("methods")
    kinds = {name: catalogue.load(name, "methods").kind for name in names}
    return [name for name, kind in kinds.items() if kind == "gradient"]


def rounds(method: str) -> int:
    """Returns how often a method's meta-training step acts in every task."""
    others = {"reptile": 6, "es-maml": 4, "pretraining": 1, "task-shown": 1}
    return others.get(method, 2)


def seconds(function: Callable, *args, repeats: int = 20) -> dict[str, float]:
    """Times a compiled function: the median and the extremes of `repeats` calls."""
    jax.block_until_ready(function(*args))
    laps = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function(*args))
        laps.append(time.perf_counter() - start)
    return {
        "median": float(np.median(laps)),
        "min": float(np.min(laps)),
        "max": float(np.max(laps)),
    }


def compiled(function: Callable, *args) -> tuple[Any, float, float]:
    """Returns the compiled function and the seconds to trace and to compile it."""
    start = time.perf_counter()
    lowered = jax.jit(function).lower(*args)
    traced = time.perf_counter()
    program = lowered.compile()
    return program, traced - start, time.perf_counter() - traced


def matmul_flops_per_second(size: int = 2048) -> float:
    """Returns the FLOP/s of a large float32 matrix product: the machine's limit."""
    x = jnp.ones((size, size))
    product = jax.jit(lambda x: x @ x)
    return 2.0 * size**3 / seconds(product, x)["min"]


def copy_bytes_per_second(size: int = 2**25) -> float:
    """Returns the bytes/s read and written by passing over a large float32 array."""
    x = jnp.ones(size)
    # Negation, because a mere copy may be left out; in place, because a new array's
    # memory comes from the system a page at a time.
    negative = jax.jit(jnp.negative, donate_argnums=0)

    def step():
        nonlocal x
        x = negative(x)
        return x

    return 2.0 * x.nbytes / seconds(step)["min"]


@functools.cache
def limits() -> dict[str, float]:
    """Returns what the machine can do, measured now and once in a process."""
    size = 2048 if jax.default_backend() == "cpu" else 8192
    return {
        "matmul_flops_per_second": matmul_flops_per_second(size),
        "copy_bytes_per_second": copy_bytes_per_second(),
    }


def matmul_flops(function: Callable, *args, while_trips: float = 1.0) -> float:
    """Counts the FLOPs of a function's matrix products, loops multiplied out.

    XLA's cost analysis counts the body of a loop once, whatever its trip count.

    Args:
      function: traced, not run.
      *args: its arguments.
      while_trips: trips of the loops whose number is known at run time only.
    """

    def count(jaxpr) -> float:
        total = 0.0
        for eqn in jaxpr.eqns:
            if eqn.primitive.name == "dot_general":
                (contracted, _), _ = eqn.params["dimension_numbers"]
                lhs = eqn.invars[0].aval.shape
                depth = np.prod([lhs[i] for i in contracted], initial=1.0)
                total += 2.0 * depth * np.prod(eqn.outvars[0].aval.shape, initial=1.0)
            trips = {
                "scan": eqn.params.get("length", 1.0),
                "while": while_trips,
            }.get(eqn.primitive.name, 1.0)
            inner = jax.tree.leaves(
                list(eqn.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
            )
            for sub in inner:
                if hasattr(sub, "eqns"):
                    total += trips * count(getattr(sub, "jaxpr", sub))
        return total

    return count(jax.make_jaxpr(function)(*args).jaxpr)


def peak_memory_mib() -> float:
    """Returns the largest resident memory this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def hardware() -> dict[str, Any]:
    """Says what was measured on, with what and when."""
    device = jax.devices()[0]
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [x for x in cpuinfo.read_text().splitlines() if "model name" in x]
        model = names[0].partition(":")[2].strip() if names else model
    return {
        "date": datetime.date.today().isoformat(),
        "device": device.device_kind if device.platform != "cpu" else model,
        "cores": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        **versions(),
    }


def ratios(old: Any, new: Any) -> dict[str, tuple[float, float]]:
    """Pairs the measurements that two records have in common.

    Args:
      old: a record: dicts, in them numbers and text. Measurements are floats, or None
        where there was nothing to measure; whole numbers and text are settings.
      new: another.

    Returns:
      `(old, new)` by the path to the number.

    Raises:
      ValueError: if a setting differs: the two did not measure the same.
    """
    pairs = {}
    for key in (key for key in old if key in new):
        before, now = old[key], new[key]
        if isinstance(before, dict) and isinstance(now, dict):
            if key != "hardware":
                inner = ratios(before, now)
                pairs |= {f"{key}/{path}": pair for path, pair in inner.items()}
        elif isinstance(before, float) and isinstance(now, float):
            pairs[key] = before, now
        elif before is not None and now is not None and before != now:
            raise ValueError(f"{key} must be the same; got {before} and {now}")
    return pairs


def add_record_options(parser: argparse.ArgumentParser, output: Path) -> None:
    """Adds what every script that writes a record takes."""
    parser.add_argument("--quick", action="store_true", help="small, to see it work")
    parser.add_argument("--output", type=Path, default=output)
    parser.add_argument("--compare", type=Path, metavar="OLD.json")


def finish(args: argparse.Namespace, record: dict[str, Any]) -> None:
    """Writes a record with its hardware, and compares it with an earlier one.

    Args:
      args: with what `add_record_options` added.
      record: what was measured.
    """
    record = {"hardware": hardware(), **record}
    record["quick"] = args.quick or record.get("quick", False)
    earlier = json.loads(args.compare.read_text()) if args.compare else None
    write(args.output, record)
    if earlier is None:
        return
    for name, now in record["hardware"].items():
        before = earlier["hardware"].get(name)
        if before != now:
            print(f"{name}: {before} then, {now} now")
    for path, (before, now) in ratios(earlier, record).items():
        ratio = now / before if before else float("nan")
        print(f"{path:60}{before:12.5g}{now:12.5g}{ratio:8.2f}×")


def joined(path: Path, part: str, rows: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an earlier record with some rows measured anew, which say on what.

    Rows that do not say it were measured on what the record says.

    Args:
      path: of the record; where there is none, the rows are all of it.
      part: of the record, in which rows are.
      rows: by name.
    """
    if not path.exists():
        return {part: dict(rows)}
    old, machine = json.loads(path.read_text()), hardware()
    new = {name: {**row, "hardware": machine} for name, row in rows.items()}
    return {**old, part: {**old.get(part, {}), **new}}


def apart(
    script: str, keys: Iterable[str], rows: dict[str, Any], *options: str
) -> Iterator[str]:
    """Measures what rows lack, each by a process of its own, `script --only KEY`.

    Yields a key when its row is there; what failed is said and left out.
    """
    for key in keys:
        if key in rows:
            continue
        command = [sys.executable, script, "--only", key, *options]
        ended = subprocess.run(command, capture_output=True, text=True)
        if ended.returncode:
            told = ended.stderr.splitlines() or [f"ended with {ended.returncode}"]
            print(f"{key}: {told[-1]}", flush=True)
            continue
        rows[key] = json.loads(ended.stdout.splitlines()[-1])
        yield key


def run_arms(
    script: str,
    arms: Iterable[str],
    measure: Callable[[str, int], dict[str, Any]],
    shown: Mapping[str, Callable[[dict[str, Any]], str]],
    *,
    output: Path,
    page: Path,
    draw: Callable[[dict[str, Any]], Figure] | None = None,
    figure: Path | None = None,
    num_seeds: int = 3,
) -> None:
    """The command line of a benchmark of several arms, recorded one after the other.

    Args:
      script: its file.
      arms: names of all.
      measure: makes what is recorded of an arm, from its name and a number of seeds.
      shown: by the name that stands over it on the page, what is made of the records.
      output: the record.
      page: where that is laid out.
      draw: draws the records, if they are drawn.
      figure: where to.
      num_seeds: unless said otherwise.
    """
    every = list(arms)
    parser = argparse.ArgumentParser(description="Measures what its record lacks.")
    parser.add_argument(
        "--arms", nargs="*", metavar="ARM", default=every, choices=every
    )
    parser.add_argument("--num-seeds", type=int, default=num_seeds)
    parser.add_argument("--output", type=Path, default=output)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        print(json.dumps(measure(args.only, args.num_seeds)))
        return
    record = json.loads(args.output.read_text()) if args.output.exists() else {}
    rows = record.setdefault("arms", {})
    for arm in apart(script, args.arms, rows, "--num-seeds", str(args.num_seeds)):
        write(args.output, record)
        print(arm, flush=True)
    if not rows:
        return
    if draw is not None:
        path = args.output.with_suffix(".png")
        if figure is not None and args.output == output:
            path = figure
        picture(lambda: draw(rows), path)
    for name, made in shown.items():
        text = made(rows)
        print(text)
        if args.output == output:
            rewrite(page, name, text)


def picture(draw: Callable[[], Figure], path: Path) -> None:
    """Draws a figure in the style of all, and writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context(STYLE):
        write_png(draw(), path)


def rewrite(page: Path, script: str, made: str) -> None:
    """Writes what a script has made anew where a page has it.

    Args:
      page: to be changed.
      script: its name, or its file.
      made: the text.
    """
    page.write_text(rewritten(page.read_text(), Path(script).name, made))


def rewritten(page: str, script: str, made: str) -> str:
    """Returns a page with what a script has made of it anew, between two marks.

    Raises:
      ValueError: if it has no such marks.
    """
    begin, end = f"<!-- made by benchmarks/{script} -->", "<!-- to here -->"
    before, mark, rest = page.partition(begin)
    if not mark:
        raise ValueError(f"a page must have the mark {begin}")
    after = rest.partition(end)[2] or "\n"
    return f"{before}{begin}\n\n{made}\n\n{end}{after}"


def mean_and_half_width(values: Any) -> tuple[float, float]:
    """Returns the mean of values and half of its 95 % t-interval over them."""
    values = np.ravel(np.asarray(values, np.float64))
    error = values.std(ddof=1) / values.size**0.5
    return float(values.mean()), float(t_half_width(error, values.size - 1))


def mean_row(values: Any) -> dict[str, float]:
    """Returns both by name, as records have them."""
    return dict(zip(("mean", "half_width"), mean_and_half_width(values), strict=True))


def write(path: Path, record: dict[str, Any]) -> None:
    """Writes a record as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")


def learn(
    experiment: Any,
    num_seeds: int,
    names: Sequence[str] = ("return_before", "return_after"),
    *,
    steps_each: int | None = None,
    first_steps: int = 0,
    digits: int = 3,
    seed: int = 0,
    num_points: int,
) -> tuple[Any, dict[str, Any]]:
    """Trains some seeds in one program, and says what it took and how it went.

    Args:
      experiment: what is trained.
      num_seeds: S.
      names: of the metrics that are kept, means over as many pieces of training.
      steps_each: environment steps of a meta-step; None for those that it counts.
      first_steps: those before the first meta-step.
      digits: of a metric.
      seed: the first of the seeds.
      num_points: pieces, at most.

    Returns:
      What `metarl_jax.train` does, and a record; seconds are the CPU's, a seed's, and
      leave compiling out.
    """
    times: list[float] = []
    trained = metarl_jax.train(
        experiment,
        seed=seed,
        num_seeds=num_seeds,
        callback=lambda step, info: times.append(time.process_time()),
        quiet=True,
    )
    rows = trained.metrics
    if steps_each is None:
        lowered = lower(experiment, 0, 1, None, None)
        steps_each = lowered.environment_steps or 0
    per_step = (times[-1] - times[0]) / max(len(times) - 1, 1) / num_seeds
    chunks = np.array_split(np.arange(len(rows)), min(num_points, len(rows)))

    def curve(name):
        seeds = [np.atleast_1d(row.get("seeds", row)[name]) for row in rows]
        means = [np.mean([seeds[i] for i in chunk], axis=0) for chunk in chunks]
        return np.round(means, digits).tolist()

    return trained, {
        "options": dict(experiment.origin.options),
        "num_seeds": num_seeds,
        "num_steps": len(rows),
        "environment_steps": first_steps + steps_each * len(rows),
        "cpu_seconds": per_step * len(rows),
        "curve": {
            "environment_steps": [
                int(first_steps + steps_each * (c[-1] + 1)) for c in chunks
            ],
            **{name: curve(name) for name in names},
        },
    }
