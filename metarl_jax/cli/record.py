"""`metarl-jax record`: how agents learn, as a data set."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from metarl_jax.cli import parsing, recorded
from metarl_jax.cli.screen import say


@dataclasses.dataclass(frozen=True)
class RecordOptions:
    """Write all episodes of agents that learn tasks, in the order of learning.

    Args:
      run: directory of the run whose world and method are used.
      output: folder for the data set; by default dataset in the run's own.
      from_scratch: begin as the method did, not from what it learned.
      num_tasks: histories, each of a new task of meta-training.
      num_rounds: rounds of acting and adapting.
      num_episodes: episodes of each; by default the experiment's.
      run_seed: which of the run's seeds, counted from 0.
      seed: decides the tasks and all that is drawn.
      experiment: FILE.py:NAME, to import again what has moved or changed.
      method: likewise, for a method of your own.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    output: Path | None = None
    from_scratch: bool = False
    num_tasks: int = 64
    num_rounds: int = 20
    num_episodes: int | None = None
    run_seed: int = 0
    seed: int = 0
    experiment: str | None = None
    method: str | None = None


def record(args: list[str]) -> int:
    """`metarl-jax record RUN [--options]`."""
    if not args:
        raise ValueError("record needs the directory of a run")
    options = parsing.parse(RecordOptions, args, prog="metarl-jax record")
    run = recorded.load(options)
    from metarl_jax.datasets import record_histories

    experiment = run.experiment
    folder = record_histories(
        options.output or options.run / "dataset",
        experiment.tasks,
        experiment.algorithm,
        None if options.from_scratch else run.agent,
        num_tasks=options.num_tasks,
        num_rounds=options.num_rounds,
        num_episodes=options.num_episodes or experiment.evaluation.num_episodes,
        seed=options.seed,
        about={"run": options.run.name, "from_scratch": options.from_scratch},
    )
    for path in sorted(folder.iterdir()):
        say(f"{path}  {path.stat().st_size:,} bytes")
    return 0
