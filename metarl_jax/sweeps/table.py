"""The table of a sweep, from what was recorded of it."""

from collections.abc import Mapping
from typing import Any

from metarl_jax.runs import protocol
from metarl_jax.sweeps.combinations import shown_option, shown_value


def layout(record: Mapping[str, Any]) -> str:
    """Lays out the runs of a sweep as text, the best first.

    Args:
      record: what `metarl_jax.sweeps.sweep.sweep` returned.
    """

    def number(value):
        return "–" if value is None else f"{value:.2f}"

    options = list(record["vary"])
    unit, last, counts, interval = evaluated(record)
    head = ["after 0", f"after {last}", interval, "seconds"]
    lines = [[*map(shown_option, options), *head]]
    remarks = []
    for run in record["runs"]:
        values = [shown_value(run["options"][option]) for option in options]
        if run["status"] == "finished":
            low, high = run["return_ci"][-1]
            values += [
                number(run["return_mean"][0]),
                number(run["return_mean"][-1]),
                f"[{number(low)}, {number(high)}]",
                f"{run['training_seconds']:.0f}",
            ]
            if any(not_finite := run.get("num_not_finite", [])):
                shown = ", ".join(map(str, not_finite))
                remarks.append(f"{run['name']}: tasks not finite: {shown}")
        else:
            values += ["–", run["status"], "", ""]
            if run["error"]:
                remarks.append(f"{run['name']}: {run['error']}")
        lines.append(values)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    title = f"{record['experiment']}: mean return after {unit}, {counts}"
    rows = (
        "  ".join(f"{cell:>{w}}" for cell, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
    return "\n".join([title, *rows, *remarks])


def finished_runs(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Returns the runs that have a result, the best first."""
    return [run for run in record["runs"] if run["status"] == "finished"]


def evaluated(record: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Says how the runs were evaluated, as far as it is the same for all.

    Returns:
      What a curve counts, the last number of it, of how much a mean is taken, and what
      the intervals are.
    """
    num_seeds = record["num_seeds"]
    finished = [{**run, "num_seeds": num_seeds} for run in finished_runs(record)]
    units = dict.fromkeys(run["adaptation_unit"] for run in finished)
    lasts = {str(run["adaptation_step"][-1]) for run in finished}
    sizes = set(map(protocol.counts, finished))
    intervals = set(map(protocol.interval, finished))
    return (
        " or ".join(units) or "adaptation steps",
        lasts.pop() if len(lasts) == 1 else "the last",
        sizes.pop() if len(sizes) == 1 else f"{num_seeds} seed{'s' * (num_seeds > 1)}",
        intervals.pop() if len(intervals) == 1 else "95 % interval",
    )
