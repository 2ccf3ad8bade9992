"""Rows of a table that are trained first: each seed a run that any stop can resume."""

import math
import shlex
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metarl_jax import training
from metarl_jax.choice import Choice
from metarl_jax.options import written
from metarl_jax.reproduction.table import Measurement
from metarl_jax.runs import files
from metarl_jax.types import Agent, MetaAlgorithm

SEEDS = (0, 1, 2)
NUM_POINTS = 60  # of a curve at most, each a mean over as large a piece of training


def learned(
    name: str,
    options: Mapping[str, Any],
    measure: Callable[[MetaAlgorithm, Agent], np.ndarray],
    *,
    seeds: Sequence[int] = SEEDS,
    start: Mapping[str, Any] | None = None,
    start_in: str | None = None,
) -> Callable[[Path], Measurement]:
    """Makes a cell's measurement of what an experiment learns.

    `metarl-jax train NAME --OPTIONS --seed SEED` trains the same agent, and the other
    commands take the runs in the cell's directory.

    Args:
      name: of the experiment, as on the command line.
      options: what differs from its defaults.
      measure: `(algorithm, agent) -> [N, ...]`, what each of N instances gave.
      seeds: each trained by itself; no seed is left out.
      start: options of the run that each seed starts from (`--start-from`), trained
        before it; None: it starts from nothing.
      start_in: where these are kept, beside the cell's directory, so that cells which
        start from the same train it once; None: in the cell's directory.

    Returns:
      `(directory) -> Measurement` of `[S, N, ...]` values. The runs are kept in the
      directory until it is deleted.
    """
    choice = Choice(name)
    setting = shlex.join([name, *written(options)])
    if start is not None:
        setting += f" --start-from {shlex.join([name, *written(start)])}"

    def trained(options, directory, starts):
        experiment = choice.build(choice.load(), options)
        return [
            trained_seed(experiment, seed, directory, start_from)
            for seed, start_from in zip(seeds, starts, strict=True)
        ]

    def cell(directory):
        first, starts = [], [None] * len(seeds)
        if start is not None:
            kept = directory.parent / start_in if start_in else directory / "start"
            first = trained(start, kept, starts)
            starts = [run.run_dir for run in first]
        runs = trained(options, directory, starts)
        begun = time.perf_counter()
        values = [measure(run.algorithm, run.agent) for run in runs]
        seconds = time.perf_counter() - begun
        seconds += sum(run.metrics[-1]["seconds"] for run in [*first, *runs])
        steps, before = _environment_steps(runs[0]), 0
        metrics = [run.metrics for run in runs]
        if first and _environment_steps(first[0]) == steps:
            pairs = zip(first, metrics, strict=True)
            metrics = [[*run.metrics, *rows] for run, rows in pairs]
        elif first:  # of trials of another length
            before = first[0].step * (_environment_steps(first[0]) or 0)
        learning = curve(metrics, steps, before)
        return Measurement(np.stack(values), setting, seconds, learning)

    return cell


def curve(
    metrics: Sequence[Sequence[Mapping[str, Any]]], steps: int | None, before: int = 0
) -> dict[str, Any] | None:
    """Returns the return of a trial while seeds were trained, against what it took.

    Args:
      metrics: of each seed's run, of as many meta-training steps.
      steps: of the environment in one of these; None where that is not known.
      before: steps of the environment in the run that a seed started from.

    Returns:
      `environment_steps` `[P]` of a seed and `return` `[P, S]`, of all episodes of a
      trial; None where no trial is met, such as by what learns from examples.
    """
    if steps is None or "episode_returns" not in metrics[0][0]:
        return None
    returns = [[np.sum(row["episode_returns"]) for row in rows] for rows in metrics]
    count = len(returns[0])
    number = math.ceil(count / math.ceil(count / NUM_POINTS))
    pieces = np.array_split(np.arange(count), number)
    means = [np.mean(np.array(returns)[:, piece], axis=1) for piece in pieces]
    return {
        "environment_steps": [before + steps * int(piece[-1] + 1) for piece in pieces],
        "return": np.round(means, 3).tolist(),
    }


def _environment_steps(run: training.Trained) -> int | None:
    """Returns how many steps of the environment a meta-training step takes."""
    return files.read_config(Path(run.run_dir or "")).get("environment_steps")


def trained_seed(
    experiment: training.Experiment,
    seed: int,
    directory: Path,
    start_from: Path | None = None,
) -> training.Trained:
    """Trains a seed, or goes on with it, or reads what it learned.

    Args:
      experiment: what to train.
      seed: of the run.
      directory: where the run is kept, in a directory of its own.
      start_from: the run that it starts from, if it does.

    Returns:
      The finished run: the agent that adaptation starts from, and its metrics, with
      seconds that count from its first step over all stops.

    Raises:
      KeyboardInterrupt: if training was asked to stop; it is saved.
      ValueError: if the run was begun with other options.
    """
    run_dir = directory / f"seed-{seed}"
    begun = (run_dir / files.CONFIG).exists()
    if not begun:
        # Killed before the run had a first record: there is nothing to go on with.
        shutil.rmtree(run_dir, ignore_errors=True)
    trained = training.train(
        experiment,
        seed=seed,
        output_dir=None if begun else run_dir,
        resume=run_dir if begun else None,
        start_from=None if begun else start_from,
        quiet=True,
    )
    if not trained.finished or trained.state is None:
        raise KeyboardInterrupt(trained.signal)
    return trained
