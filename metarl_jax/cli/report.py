"""`metarl-jax report`: what was recorded of runs, on one page of HTML."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from metarl_jax.cli import parsing
from metarl_jax.cli.screen import say


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """Write a run, or several compared, as one file of HTML that needs no network.

    Args:
      runs: directories of runs.
      output: the file; by default report.html in the run's own directory, and for
        several runs in the current one.
      x: what learning is drawn against.
      labels: names of the curves, in order; by default the experiments'.
      each: whether every run is a curve of its own.
    """

    runs: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")
    ]
    output: Path | None = None
    x: Literal["steps", "environment-steps", "seconds"] = "steps"
    labels: tuple[str, ...] = ()
    each: bool = False


def report(args: list[str]) -> int:
    """`metarl-jax report RUN… [--options]`."""
    options = parsing.parse(ReportOptions, args, prog="metarl-jax report")
    if not options.runs:
        raise ValueError("report needs the directory of at least one run")
    from metarl_jax.report import write_report

    output = options.output
    if output is None:
        output = (options.runs[0] if len(options.runs) == 1 else Path()) / "report.html"
    say(
        write_report(
            options.runs,
            output,
            x=options.x,
            labels=options.labels,
            each=options.each,
        )
    )
    return 0
