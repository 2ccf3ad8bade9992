"""What a run learned, for another one to begin with or to be measured."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from metarl_jax.runs import checkpoints, files
from metarl_jax.runs.config import check_unedited
from metarl_jax.runs.experiment import Experiment, state_template
from metarl_jax.types import State


def newest(
    experiment: Experiment,
    run_dir: Path,
    num_seeds: int,
    sharding: jax.sharding.Sharding | None = None,
    *,
    free: str | None = None,
) -> checkpoints.Restored:
    """Restores the newest whole checkpoint without touching the directory.

    The arguments are those of `checkpoints.restore`.

    Raises:
      ValueError: if there is none, or its state is not one of this experiment.
    """
    saved = run_dir / files.CHECKPOINTS
    restored = None
    if saved.is_dir():
        manager = checkpoints.open_manager(saved, read_only=True)
        try:
            template = state_template(experiment.algorithm, num_seeds)
            restored = checkpoints.restore(manager, template, sharding, free=free)
        finally:
            checkpoints.close(manager)
    if restored is None:
        raise ValueError(
            f"{run_dir} has no checkpoint yet; a trained run is required (continue it "
            f"with: {files.resume_command(run_dir)})"
        )
    check_unedited(run_dir, restored.record)
    return restored


def begin(
    experiment: Experiment,
    run_dir: Path,
    num_seeds: int,
    sharding: jax.sharding.Sharding | None = None,
) -> tuple[State, dict[str, Any]]:
    """Returns the state that a run begins with where it begins with another run's.

    Args:
      experiment: what is about to be trained.
      run_dir: the directory of the other run.
      num_seeds: S; the other run must have as many.
      sharding: where to, a copy on every device; None for the default device.

    Returns:
      The whole state, optimiser, schedules and replay buffer included, and what
      `config.json` says of it: where it is from, its checksum and how it was made. Its
      `agent.memory` is for trials of the other run.

    Raises:
      ValueError: if it is no run, has no checkpoint or other numbers of seeds, or a
        state of another structure or other shapes.
    """
    config = files.read_config(run_dir)
    if config["num_seeds"] != num_seeds:
        raise ValueError(
            f"{run_dir} has num_seeds = {config['num_seeds']}, and a run that starts "
            f"from it must have as many; got {num_seeds}"
        )
    restored = newest(experiment, run_dir, num_seeds, sharding, free="agent.memory")
    return restored.state, {
        "run": str(run_dir.resolve()),
        "sha256": restored.record["sha256"],
        "step": restored.step,
        **{key: config[key] for key in ("experiment", "options")},
        "start_from": config.get("start_from"),
    }


def begin_again(
    experiment: Experiment,
    recorded: Mapping[str, Any],
    num_seeds: int,
    sharding: jax.sharding.Sharding | None = None,
) -> State:
    """Returns the state that a run began with, for one that was stopped before a save.

    Raises:
      ValueError: as `begin` does, or if the other run has gone on since.
    """
    run_dir = Path(recorded["run"])
    state, found = begin(experiment, run_dir, num_seeds, sharding)
    if found["sha256"] != recorded["sha256"]:
        raise ValueError(
            f"{run_dir} has gone on to step {found['step']} since this run started "
            f"from its step {recorded['step']} and was stopped before its first "
            "checkpoint; start a new run from it"
        )
    return state


def warn_of_spent_schedule(config: Mapping[str, Any]) -> None:
    """Warns where the learning rate's schedule is over before a run's first step.

    It has counted the steps of the run that this one starts from, and of those that
    that one started from.

    Args:
      config: what `config.json` says of the run.
    """
    counted, start = 0, config["start_from"]
    while start is not None:
        counted += start["step"]
        start = start.get("start_from")
    steps = config["options"].get("decay_steps")
    if steps is not None and steps <= counted:
        warnings.warn(
            f"decay_steps {steps} are over before the first step, and the learning "
            f"rate stays where it ends: {config['start_from']['run']} has counted "
            f"{counted}",
            stacklevel=3,
        )
