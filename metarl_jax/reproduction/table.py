"""What a published table is, and how it is computed again, cell by cell.

A cell's measurement is written as soon as it is complete and never made again, so a run
that was stopped, however it was, goes on where it stood. What was published, and what
is to be said of a cell that differs from it, is not part of the measurement: it is
looked up whenever the table is put together.
"""

import functools
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metarl_jax.intervals import summarise
from metarl_jax.runs import display, files, machine, schema
from metarl_jax.runs.progress import announced

CELLS = "cells"
TABLE = "table.json"
FIGURE = "table.png"
CURVES = "curves.png"


class Measurement(NamedTuple):
    """What a cell measured.

    Attributes:
      values: `[N]`, one number for each of N independent instances, or `[S, N]` for S
        seeds that were each trained; an exact value is alone.
      setting: what was chosen for it, such as `"c = 0.2"`.
      seconds: that it took, training that was done in commands before this one
        included; None for those of the call that measures.
      curve: of what was trained, `environment_steps` `[P]` and the mean `return` of a
        trial while training, `[P, S]`; None where nothing was.
    """

    values: np.ndarray
    setting: str = ""
    seconds: float | None = None
    curve: Mapping[str, Any] | None = None


class Cell(NamedTuple):
    """One number of a table.

    Attributes:
      row: whose it is.
      column: of what.
      measure: `(directory) -> Measurement`. The directory is the cell's own, for what
        must outlive an interruption, such as a training run; it may not exist yet.
        None where the budget that the table states does not reach the cell: the table
        then says "not reached" and why.
      published: as printed; None where there is no such number.
      optimum: the exact one, which no mean passes beyond its interval.
      quick: whether it takes minutes at most on two CPU cores.
      reason: why the measured value is not the published one, or there is none.
    """

    row: str
    column: str
    measure: Callable[[Path], Measurement] | None
    published: float | None = None
    optimum: float | None = None
    quick: bool = True
    reason: str = ""


class Table(NamedTuple):
    """A published table.

    Attributes:
      name: on the command line.
      title: the paper and the table.
      quantity: what the numbers are.
      cells: rows and columns stand in the order in which they first appear.
      published_instances: of each published mean, which give its standard error; None
        for published values that are exact.
      rounding: the last digit that was printed.
      lower_is_better: whether the numbers are costs.
      tolerance: relative difference that counts as agreement in any case.
      notes: what a reader must know.
    """

    name: str
    title: str
    quantity: str
    cells: tuple[Cell, ...]
    published_instances: int | None = None
    rounding: float = 0.1
    lower_is_better: bool = False
    tolerance: float = 0.0
    notes: tuple[str, ...] = ()


def episode_cells(
    row: str,
    run: Callable[[Path], Measurement],
    *,
    optima: Sequence[float | None],
    quick: bool = True,
) -> list[Cell]:
    """Makes a row of the episodes of trials, which are run once for all of its cells.

    Args:
      row: its name.
      run: `(directory) -> Measurement`, with the episodes along the last axis.
      optima: of each episode, the exact one or None.
      quick: as in `Cell`.
    """
    run = functools.cache(run)

    def cell(episode, optimum):
        def measure(directory):
            whole = run(directory.with_name(f"trained--{_slug(row)}"))
            return whole._replace(values=whole.values[..., episode])

        column = f"episode {episode + 1}"
        return Cell(row, column, measure, optimum=optimum, quick=quick)

    return [cell(episode, optimum) for episode, optimum in enumerate(optima)]


def measured(measurement: Measurement) -> dict[str, Any]:
    """Summarises a measurement: mean, of each seed too, standard error, 95 % interval.

    The standard error is that of N instances, or, where S > 1 seeds were trained, of
    the S means. The interval is Student's; all seeds meet the same instances, so that
    of several it is over seeds and instances.
    """
    values = np.atleast_2d(np.asarray(measurement.values, np.float64))
    num_seeds, num_instances = values.shape
    independent = values.mean(axis=1) if num_seeds > 1 else values[0]
    exact = independent.size == 1
    std = 0.0 if exact else float(values.std(ddof=1))
    error = 0.0
    if not exact:
        error = float(independent.std(ddof=1) / np.sqrt(independent.size))
    mean = float(values.mean())
    summary = summarise(values[..., None], shared_tasks=True)
    over = f"{'seeds and ' * (num_seeds > 1)}instances"
    return {
        "mean": mean,
        "ci": [mean] * 2 if exact else [summary.ci_low[0], summary.ci_high[0]],
        "interval": "exact" if exact else f"95 % interval over {over}",
        "standard_error": error,
        "std": std,
        "num_instances": num_instances,
        "num_seeds": num_seeds,
        "seed_means": values.mean(axis=1).tolist(),
        "num_not_finite": int(summary.num_not_finite[0]),
        "setting": measurement.setting,
    }


def _error(record: dict[str, Any]) -> float:
    """Returns the standard error of a mean, a little more where seeds are few."""
    if record.get("num_seeds", 1) == 1:
        return record["standard_error"]
    low, high = record["ci"]
    return (high - low) / 2 / 1.96


def compared(table: Table, cell: Cell, record: dict[str, Any]) -> dict[str, Any]:
    """Says how a cell's measurement stands to what was published.

    They agree if they are within two standard errors of their difference: ours, that of
    a mean of as many instances as were published, and that of rounding; or within the
    table's tolerance. Where few seeds were trained, ours is what Student's interval
    would be two of.
    """
    entry = {**record, "published": cell.published, "optimum": cell.optimum}
    if record["mean"] is None:
        return {**entry, "reason": "not finite"}
    error = _error(record)
    if cell.optimum is not None:
        better = record["mean"] - cell.optimum
        if table.lower_is_better:
            better = -better
        allowed = 3 * error + 1e-6 * abs(cell.optimum)
        entry["passes_optimum"] = better > allowed
    if cell.published is None:
        return entry
    variance = error**2 + table.rounding**2 / 12
    if table.published_instances is not None:
        variance += record["std"] ** 2 / table.published_instances
    difference = record["mean"] - cell.published
    allowed = max(2 * np.sqrt(variance), table.tolerance * abs(cell.published))
    entry |= {
        "difference": difference,
        "allowed_difference": allowed,
        "agrees": bool(abs(difference) <= allowed),
    }
    if not entry["agrees"]:
        entry["reason"] = cell.reason or "not explained"
    return entry


def reproduce(
    table: Table,
    output_dir: str | Path,
    *,
    seed: int = 0,
    quick: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Computes the cells of a table that have not been computed yet.

    Writes `cells/<row>--<column>.json` after each cell, then `table.json`.

    Args:
      table: as built with the same `seed`.
      output_dir: a new directory, or one in which the table was begun before.
      seed: for the records; a directory holds the cells of one seed.
      quick: whether to leave out cells that take longer than minutes.
      quiet: whether to print nothing.

    Returns:
      What was written to `table.json`.

    Raises:
      ValueError: if the directory holds another table or another seed's cells, or
        cannot be written.
    """
    output_dir = Path(output_dir)
    cells_dir = output_dir / CELLS
    try:
        cells_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"output directory {output_dir} cannot be created: {error.strerror}"
        ) from None
    reached = [cell for cell in table.cells if cell.measure is not None]
    wanted = [cell for cell in reached if cell.quick or not quick]
    paths = [_path(cells_dir, cell) for cell in table.cells]
    if len(set(paths)) < len(paths):
        raise ValueError(f"{table.name} has two cells of the same row and column")
    found = {path: schema.read_json(path) for path in sorted(cells_dir.glob("*.json"))}
    for path, record in found.items():
        if not isinstance(record, dict) or not {"mean", "ci", "std"} <= record.keys():
            raise ValueError(
                f"{path} holds no measured cell; remove it to measure anew"
            )
        if (record.get("table"), record.get("seed")) != (table.name, seed):
            raise ValueError(
                f"{path} is a cell of {record.get('table')} with seed "
                f"{record.get('seed')}; a directory with cells of {table.name} with "
                f"seed {seed}, or a new one, is required"
            )
    console = display.console(quiet=quiet)
    missing = [cell for cell in wanted if _path(cells_dir, cell) not in found]
    for number, cell in enumerate(missing, start=1):
        path = _path(cells_dir, cell)
        start = time.perf_counter()
        with announced(console, f"{number}/{len(missing)}  {cell.row}, {cell.column}"):
            assert cell.measure is not None
            measurement = cell.measure(path.with_suffix(""))
        seconds = measurement.seconds
        if seconds is None:
            seconds = time.perf_counter() - start
        record = {
            "table": table.name,
            "row": cell.row,
            "column": cell.column,
            "seed": seed,
            **measured(measurement),
            "seconds": round(seconds, 2),
            "device": machine.device_name(),
            "versions": machine.versions(),
            **({"curve": measurement.curve} if measurement.curve else {}),
        }
        found[path] = files.jsonable(record)
        files.write_json(path, record)
    records = [
        compared(table, cell, found[path])
        for cell in reached
        if (path := _path(cells_dir, cell)) in found
    ]
    result = {
        "table": table.name,
        "title": table.title,
        "quantity": table.quantity,
        "rows": list(dict.fromkeys(cell.row for cell in table.cells)),
        "columns": list(dict.fromkeys(cell.column for cell in table.cells)),
        "published_instances": table.published_instances,
        "notes": table.notes,
        "lower_is_better": table.lower_is_better,
        "left_out": len(reached) - len(records),
        "cells": records,
        "not_reached": [
            {
                "row": cell.row,
                "column": cell.column,
                "published": cell.published,
                "reason": cell.reason,
            }
            for cell in table.cells
            if cell.measure is None
        ],
    }
    files.write_json(output_dir / TABLE, result)
    return files.jsonable(result)


def _path(cells_dir: Path, cell: Cell) -> Path:
    """Returns a cell's file, named by its row and column in letters and digits."""
    return cells_dir / f"{_slug(cell.row)}--{_slug(cell.column)}.json"


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")


def layout(result: dict[str, Any]) -> str:
    """Lays a reproduced table out as text: ours above the published, a row each.

    Cells that differ from the published value are marked * and explained below.
    """
    cells = {(cell["row"], cell["column"]): cell for cell in result["cells"]}
    columns = result["columns"]
    largest = max(abs(cell["mean"] or 0) for cell in cells.values())
    digits = 2 if largest < 1000 else 1
    cells |= {(cell["row"], cell["column"]): cell for cell in result["not_reached"]}
    lines = [["", *columns]]
    remarks = []
    for row in result["rows"]:
        present = [cells.get((row, column)) for column in columns]
        if not any(present):
            continue
        ours = [_shown(cell, digits) for cell in present]
        for i, cell in enumerate(present):
            if cell and "mean" not in cell:
                remarks.append(f"{row}, {columns[i]}: not reached: {cell['reason']}")
            elif cell and cell["mean"] is None:
                remarks.append(
                    f"{row}, {columns[i]}: {cell['num_not_finite']} of "
                    f"{cell['num_seeds'] * cell['num_instances']} are not finite"
                )
            if cell and cell.get("agrees") is False:
                ours[i] += "*"
                remarks.append(
                    f"* {row}, {columns[i]}: {cell['mean']:.2f} ± "
                    f"{(cell['ci'][1] - cell['ci'][0]) / 2:.2f}, published "
                    f"{cell['published']:g}: {cell['reason']}"
                )
            if cell and cell.get("passes_optimum"):
                remarks.append(
                    f"! {row}, {columns[i]}: {cell['mean']:.2f} is better than the "
                    f"exact optimum {cell['optimum']:.2f}"
                )
        lines.append([row, *ours])
        printed = [cell and cell["published"] for cell in present]
        if any(value is not None for value in printed):
            shown = ["–" if value is None else f"{value:g}" for value in printed]
            lines.append(["  published", *shown])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [f"{result['title']}: {result['quantity']}"]
    for first, *rest in lines:
        padded = (f"{x:>{w}}" for x, w in zip(rest, widths[1:], strict=True))
        text.append(f"{first:<{widths[0]}}  " + "  ".join(padded))
    judged = [cell["agrees"] for cell in cells.values() if "agrees" in cell]
    if judged:
        text.append(f"{sum(judged)} of {len(judged)} published cells agree.")
    text.append(f"Mean and {intervals(result)}.")
    if result["left_out"]:
        text.append(f"Cells still to be computed: {result['left_out']}.")
    return "\n".join([*text, *remarks, *result["notes"]])


def intervals(result: Mapping[str, Any]) -> str:
    """Says what the intervals of a table's means are."""
    first = "95 % interval "
    # Before it was recorded, it was a normal one.
    names = (cell.get("interval", f"{first}(normal)") for cell in result["cells"])
    kinds = dict.fromkeys(name.removeprefix(first) for name in names if name != "exact")
    return first + " or ".join(kinds) if kinds else "no interval: all is exact"


def _shown(cell: dict[str, Any] | None, digits: int) -> str:
    """Returns what stands for a cell in the table."""
    if cell is None:
        return "–"
    if "mean" not in cell:
        return "not reached"
    return "NaN" if cell["mean"] is None else f"{cell['mean']:.{digits}f}"
