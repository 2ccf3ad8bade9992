"""`metarl-jax evaluate`: a trained run on held-out tasks."""

import dataclasses
import shlex
from pathlib import Path
from typing import Annotated, Any

import tyro

from metarl_jax import choice as choices
from metarl_jax.cli import parsing
from metarl_jax.cli.screen import evaluation_table, interrupted, leave, say
from metarl_jax.runs import files


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """Evaluate a trained run on held-out tasks and draw its figures again.

    Args:
      run: directory of the run.
      num_tasks: held-out tasks of each seed; by default the experiment's.
      num_episodes: episodes of each task after every number of adaptation steps; by
        default the experiment's.
      num_adaptation_steps: adaptation steps; by default the experiment's.
      seed: decides the held-out tasks.
      experiment: FILE.py:NAME, to import again what has moved or changed.
      method: likewise, for a method of your own.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    num_tasks: int | None = None
    num_episodes: int | None = None
    num_adaptation_steps: int | None = None
    seed: int = 0
    experiment: str | None = None
    method: str | None = None


def evaluate(args: list[str]) -> int:
    """`metarl-jax evaluate RUN [--options]`."""
    if not args:
        raise ValueError("evaluate needs the directory of a run")
    options = parsing.parse(EvaluateOptions, args, prog="metarl-jax evaluate")
    settings = dataclasses.asdict(options)
    run_dir, name, method = map(settings.pop, ("run", "experiment", "method"))
    config = files.read_config(run_dir)
    choice = choices.recorded(config, run_dir, {"name": name, "method": method})
    factory = choice.load()
    experiment = choice.build(factory, choices.recorded_options(factory, config))
    return evaluate_and_draw(experiment, run_dir, **settings)


def evaluate_and_draw(experiment: Any, run_dir: Path, **settings: Any) -> int:
    """Evaluates a run, draws its figures and prints the table."""
    from metarl_jax import plotting
    from metarl_jax.runs import evaluation, processes

    first = processes.is_first()
    try:
        result = evaluation.evaluate_run(
            experiment, run_dir, quiet=not first, **settings
        )
    except KeyboardInterrupt as error:
        quoted = shlex.quote(str(run_dir))
        say(f"stopped; the run is saved: metarl-jax evaluate {quoted}")
        leave(interrupted(error))
    if not first:
        return 0
    figures = plotting.plot_run(run_dir)
    say(evaluation_table(result))
    say(f"{run_dir}: {', '.join(path.name for path in figures)}")
    return 0
