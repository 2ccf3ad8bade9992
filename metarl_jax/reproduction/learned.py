"""Rows of a table that are trained first: each seed a run that any stop can resume."""

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


def learned(
    name: str,
    options: Mapping[str, Any],
    measure: Callable[[MetaAlgorithm, Agent], np.ndarray],
    *,
    seeds: Sequence[int] = SEEDS,
) -> Callable[[Path], Measurement]:
    """Makes a cell's measurement of what an experiment learns.

    `metarl-jax train NAME --OPTIONS --seed SEED` trains the same agent, and the other
    commands take the runs in the cell's directory.

    Args:
      name: of the experiment, as on the command line.
      options: what differs from its defaults.
      measure: `(algorithm, agent) -> [N, ...]`, what each of N instances gave.
      seeds: each trained by itself; no seed is left out.

    Returns:
      `(directory) -> Measurement` of `[S, N, ...]` values. The runs are kept in the
      directory until it is deleted.
    """
    setting = shlex.join([name, *written(options)])

    def cell(directory):
        choice = Choice(name)
        experiment = choice.build(choice.load(), options)
        trained = [trained_seed(experiment, seed, directory) for seed in seeds]
        start = time.perf_counter()
        values = [measure(experiment.algorithm, run.agent) for run in trained]
        seconds = time.perf_counter() - start
        seconds += sum(run.metrics[-1]["seconds"] for run in trained)
        return Measurement(np.stack(values), setting, seconds)

    return cell


def trained_seed(
    experiment: training.Experiment,
    seed: int,
    directory: Path,
) -> training.Trained:
    """Trains a seed, or goes on with it, or reads what it learned.

    Args:
      experiment: what to train.
      seed: of the run.
      directory: where the run is kept, in a directory of its own.

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
        quiet=True,
    )
    if not trained.finished or trained.state is None:
        raise KeyboardInterrupt(trained.signal)
    return trained
