"""`metarl-jax inspect`: what was learned, looked into."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from metarl_jax.cli import parsing, recorded
from metarl_jax.cli.screen import say


@dataclasses.dataclass(frozen=True)
class InspectOptions:
    """Look into what a run learned, write the numbers and draw them.

    Args:
      run: directory of the run.
      parts: what is looked at; by default all that there is to see of layers, plane,
        memory, map, attention, visits.
      num_tasks: held-out tasks; by default 40, or 200 trials where a memory adapts.
      num_episodes: of each in each round; by default the experiment's.
      num_adaptation_steps: by default the experiment's.
      output: directory for inspection.json and the figures; by default the run's own.
      format: of the figures: png, pdf or svg.
      run_seed: which of the run's seeds, counted from 0.
      seed: decides the held-out tasks.
      experiment: FILE.py:NAME, to import again what has moved or changed.
      method: likewise, for a method of your own.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    parts: tuple[str, ...] = ()
    num_tasks: int | None = None
    num_episodes: int | None = None
    num_adaptation_steps: int | None = None
    output: Path | None = None
    format: str = "png"
    run_seed: int = 0
    seed: int = 0
    experiment: str | None = None
    method: str | None = None


def inspect(args: list[str]) -> int:
    """`metarl-jax inspect RUN [--options]`."""
    if not args:
        raise ValueError("inspect needs the directory of a run")
    options = parsing.parse(InspectOptions, args, prog="metarl-jax inspect")
    run = recorded.load(options)
    from metarl_jax.inspection import inspecting

    seen = inspecting.inspect(
        run,
        parts=options.parts,
        num_tasks=options.num_tasks,
        num_episodes=options.num_episodes,
        num_adaptation_steps=options.num_adaptation_steps,
        seed=options.seed,
    )
    for part, record in seen.items():
        say(f"{part}: {record['said']}")
    if not seen:
        say("there is nothing to see of this run in what was asked for")
    for path in inspecting.write(seen, options.output or options.run, options.format):
        say(path)
    return 0
