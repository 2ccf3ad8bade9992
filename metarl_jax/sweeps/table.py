"""The table of a sweep, from what was recorded of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from metarl_jax.sweeps.combinations import shown_option, shown_value


def layout(record: Mapping[str, Any]) -> str:
    """Lays out the runs of a sweep as text, the best first.

    Args:
      record: what `metarl_jax.sweeps.sweep.sweep` returned.
    """

    def number(value):
        return "–" if value is None else f"{value:.2f}"

    options, finished = list(record["vary"]), finished_runs(record)
    unit, last, counts = protocol(finished, record["num_seeds"])
    head = ["after 0", f"after {last}", "95 % interval", "seconds"]
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
        else:
            values += ["–", run["status"], "", ""]
            if run["error"]:
                remarks.append(f"{run['name']}: {run['error']}")
        lines.append(values)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    title = f"{record['experiment']}: mean return after {unit}{counts}"
    rows = (
        "  ".join(f"{cell:>{w}}" for cell, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
    return "\n".join([title, *rows, *remarks])


def finished_runs(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Returns the runs that have a result, the best first."""
    return [run for run in record["runs"] if run["status"] == "finished"]


def protocol(
    finished: Sequence[Mapping[str, Any]], num_seeds: int
) -> tuple[str, str, str]:
    """Says how the runs were evaluated, as far as it is the same for all.

    Returns:
      What a curve counts, the last number of it, and of how much a mean is taken.
    """
    units = dict.fromkeys(run["adaptation_unit"] for run in finished)
    lasts = {run["adaptation_step"][-1] for run in finished}
    sizes = {(run["num_tasks"], run["num_episodes"]) for run in finished}
    counts = ""
    if len(sizes) == 1:
        ((num_tasks, num_episodes),) = sizes
        counts = (
            f", {num_seeds} seed{'s' * (num_seeds > 1)} × {num_tasks} held-out tasks × "
            f"{num_episodes} episode{'s' * (num_episodes > 1)}"
        )
    unit = " or ".join(units) or "adaptation steps"
    return unit, str(lasts.pop()) if len(lasts) == 1 else "the last", counts
