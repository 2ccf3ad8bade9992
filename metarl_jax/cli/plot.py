"""`metarl-jax plot`: the figures of runs, from their records."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from metarl_jax.cli import parsing
from metarl_jax.cli.screen import say


@dataclasses.dataclass(frozen=True)
class PlotOptions:
    """Draw a run's figures from its records, or compare several runs in one figure.

    Args:
      runs: directories of runs.
      output: directory for the figures; by default the run's own, and for several runs
        the current directory.
    """

    runs: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")
    ]
    output: Path | None = None


def plot(args: list[str]) -> int:
    """`metarl-jax plot RUN… [--output DIR]`."""
    options = parsing.parse(PlotOptions, args, prog="metarl-jax plot")
    if not options.runs:
        raise ValueError("plot needs the directory of at least one run")
    from metarl_jax import plotting

    output = options.output
    if output is None:
        output = options.runs[0] if len(options.runs) == 1 else Path()
    for path in plotting.plot_runs(options.runs, output):
        say(path)
    return 0
