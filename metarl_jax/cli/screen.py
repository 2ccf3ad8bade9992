"""What the command line prints, and how it ends."""

import os
import signal
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from metarl_jax import catalogue
from metarl_jax.options import argument_helps
from metarl_jax.runs import display, protocol


def say(text: Any, file: Any = None) -> None:
    """Prints a line at once."""
    display.show(f"{text}\n", file)


def fail(error: Exception, status: int) -> int:
    """Prints an error as one sentence, and returns the exit status."""
    sentence = " ".join(str(error).split())
    say(f"metarl-jax: error: {sentence}", file=sys.stderr)
    return status


def show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    """Prints a warning as one sentence."""
    del category, filename, lineno, line
    say(f"metarl-jax: warning: {message}", file=file or sys.stderr)


def leave(status: int) -> NoReturn:
    """Ends the process without waiting for what the compiler or a device still does."""
    os._exit(status)


def interrupted(error: KeyboardInterrupt) -> int:
    """Returns the exit status where a signal has ended a command."""
    number = error.args[0] if error.args else None
    return 128 + (number or signal.SIGINT)


def name_table(summaries: Mapping[str, str]) -> str:
    """Lays out names and what is said of them."""
    width = max(map(len, summaries), default=0)
    return "\n".join(f"  {name:<{width}}  {text}" for name, text in summaries.items())


def shelf_tables() -> str:
    """Lays out experiments, worlds and methods."""
    titles = {
        "experiments": "published experiments:",
        "worlds": "worlds, each with --method METHOD:",
        "methods": "methods:",
    }
    return "\n\n".join(
        f"{titles[shelf]}\n{name_table(catalogue.summaries(shelf))}"
        for shelf in catalogue.SHELVES
    )


def options_listed(*kinds: type) -> str:
    """Lists the options of some groups with what their docstrings say of them."""
    return "\n".join(
        f"  --{name.replace('_', '-'):<18} {text}"
        for kind in kinds
        for name, text in argument_helps(kind.__doc__ or "").items()
    )


def evaluation_table(result: Mapping[str, Any]) -> str:
    """Lays out the adaptation curve, its references and the published values."""

    def number(value):
        return "–" if value is None else f"{value:.2f}"

    steps = result["adaptation_step"]
    unit = result.get("adaptation_unit", "adaptation steps")  # older records lack it
    rows = [(f"return after {unit}", list(map(str, steps)))]
    rows.append(("meta-learned: mean", list(map(number, result["return_mean"]))))
    interval = [f"[{number(low)}, {number(high)}]" for low, high in result["return_ci"]]
    rows.append((f"  {protocol.interval(result)}", interval))
    rows.append(("  interquartile mean", list(map(number, result["return_iqm"]))))
    for name, row in {"": result, **result["references"]}.items():
        if name:
            rows.append((name, list(map(number, row["return_mean"]))))
        if any(not_finite := row.get("num_not_finite", [])):
            rows.append(("  tasks not finite", list(map(str, not_finite))))
    for name, row in result.get("measures", {}).items():
        rows.append((name, list(map(number, row["mean"]))))
    for name, values in result["published"].items():
        shown = [number(value) for value in values[: len(steps)]]
        rows.append((f"{name} (published)", shown + [""] * (len(steps) - len(shown))))
    first = max(len(name) for name, _ in rows)
    width = max(len(cell) for _, cells in rows for cell in cells)
    lines = [
        f"{name:<{first}}  " + "  ".join(f"{cell:>{width}}" for cell in cells)
        for name, cells in rows
    ]
    return "\n".join([f"{result['experiment']}: {protocol.counts(result)}", *lines])
