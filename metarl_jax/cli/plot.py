"""`metarl-jax plot`: the figures of runs, from their records."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from metarl_jax.cli import parsing
from metarl_jax.cli.screen import say


@dataclasses.dataclass(frozen=True)
class PlotOptions:
    """Draw a run's figures from its records, or compare several runs in one figure.

    Runs that differ in nothing but their seeds are one curve, over all seeds.

    Args:
      runs: directories of runs.
      output: directory for the figures, or a file that ends in .png, .svg or .pdf, a
        PDF of a page for each figure; by default the run's own directory, and for
        several runs the current one.
      format: of the files; by default that of a file that is named, or png.
      x: what learning is drawn against.
      labels: names of the curves, in order; by default the experiments'.
      each: whether every run is a curve of its own.
      tables: whether to write the adaptation table as CSV and LaTeX too.
    """

    runs: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")
    ]
    output: Path | None = None
    format: Literal["png", "pdf", "svg"] | None = None
    x: Literal["steps", "environment-steps", "seconds"] = "steps"
    labels: tuple[str, ...] = ()
    each: bool = False
    tables: bool = False


def plot(args: list[str]) -> int:
    """`metarl-jax plot RUN… [--options]`."""
    options = parsing.parse(PlotOptions, args, prog="metarl-jax plot")
    if not options.runs:
        raise ValueError("plot needs the directory of at least one run")
    from metarl_jax import plotting

    output = options.output
    if output is None:
        output = options.runs[0] if len(options.runs) == 1 else Path()
    for path in plotting.plot_runs(
        options.runs,
        output,
        image_format=options.format,
        x=options.x,
        labels=options.labels,
        each=options.each,
        tables=options.tables,
    ):
        say(path)
    return 0
