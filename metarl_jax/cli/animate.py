"""`metarl-jax animate`: an agent before and after adaptation, moving."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from metarl_jax.cli import parsing, recorded
from metarl_jax.cli.screen import say
from metarl_jax.runs import files


@dataclasses.dataclass(frozen=True)
class AnimateOptions:
    """Show episodes before and after adaptation on held-out tasks, moving.

    Args:
      run: directory of the run.
      num_tasks: held-out tasks, the first of those that evaluate meets.
      num_adaptation_steps: by default the experiment's.
      output: the file, .gif, or .mp4 where ffmpeg is installed; by default
        animation.gif in the run's directory.
      run_seed: which of the run's seeds, counted from 0.
      seed: decides the held-out tasks.
      experiment: FILE.py:NAME, to import again what has moved or changed.
      method: likewise, for a method of your own.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    num_tasks: int = 2
    num_adaptation_steps: int | None = None
    output: Path | None = None
    run_seed: int = 0
    seed: int = 0
    experiment: str | None = None
    method: str | None = None


def animate(args: list[str]) -> int:
    """`metarl-jax animate RUN [--options]`."""
    if not args:
        raise ValueError("animate needs the directory of a run")
    options = parsing.parse(AnimateOptions, args, prog="metarl-jax animate")
    run = recorded.load(options)
    from metarl_jax.inspection.inspecting import animate_run

    say(
        animate_run(
            run,
            options.output or options.run / files.ANIMATION,
            num_tasks=options.num_tasks,
            num_adaptation_steps=options.num_adaptation_steps,
            seed=options.seed,
        )
    )
    return 0
