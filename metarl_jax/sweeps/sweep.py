"""A sweep: an ordinary training run for every combination, and one record of all.

The runs are what `metarl-jax train` makes, each in its own directory, where it can be
looked at, evaluated and continued like any other; the seeds of a run are trained in one
program. What is known of a run is what its directory holds, so a sweep that was
stopped, however it was, goes on where it stood.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metarl_jax import training
from metarl_jax.choice import Choice
from metarl_jax.runs import directory, drawable, files, schema
from metarl_jax.runs.experiment import Experiment
from metarl_jax.sweeps.combinations import (
    Combination,
    Range,
    Varied,
    combinations,
    name_of,
)

SWEEP = "sweep.json"
FIGURE = "sweep.png"
RUNS = "runs"


class Plan(NamedTuple):
    """What is swept.

    Attributes:
      choice: what is trained.
      options: of the experiment, those that all runs share.
      vary: by option, the values or the range they are drawn from.
      num_samples: how many combinations are drawn; None for all there are.
      seed: first random seed of every run; decides what is drawn, too.
      num_seeds: seeds of every run, trained together.
    """

    choice: Choice
    options: dict[str, Any]
    vary: Varied
    num_samples: int | None = None
    seed: int = 0
    num_seeds: int = 1


def sweep(
    plan: Plan,
    output_dir: str | Path,
    *,
    seed_group_size: int | None = None,
    checkpoint_every: int = 50,
    max_skipped: int = 10,
    **cluster: Any,
) -> dict[str, Any]:
    """Trains and evaluates what has not been yet, and records all in `sweep.json`.

    Args:
      plan: what is swept.
      output_dir: a new directory, or one in which the same sweep was begun before.
      seed_group_size: as `train` takes it.
      checkpoint_every: as `train` takes it.
      max_skipped: as `train` takes it.
      **cluster: what `metarl_jax.sweeps.ray_tune.run_all` takes.

    Returns:
      What was written to `sweep.json`: the best run first, by the mean return after the
      last adaptation step on held-out tasks.

    Raises:
      ValueError: if an option of any run is out of range, or the directory holds
        something else. Nothing was started then.
      KeyboardInterrupt: at SIGINT; what was done is recorded, and the same call goes on
        from there.
    """
    settings: dict[str, Any] = {
        "seed": plan.seed,
        "num_seeds": plan.num_seeds,
        "seed_group_size": seed_group_size,
        "checkpoint_every": checkpoint_every,
        "max_skipped": max_skipped,
    }
    load, experiments = plan.choice.load(), {}
    varied = combinations(plan.vary, num_samples=plan.num_samples, seed=plan.seed)
    for combination in varied:
        experiment = load(**plan.options, **combination)
        training.check_options(experiment, **settings)
        experiments[name_of(combination)] = experiment
    if len(experiments) < len(varied):
        raise ValueError(
            f"the combinations must have names that differ; got {sorted(experiments)}"
        )
    output_dir = Path(output_dir)
    _check_same_sweep(output_dir, plan)

    def found(errors):
        """The record of all runs as their directories now are."""
        rows = [
            _row(output_dir, combination, experiment, errors.get(name))
            for combination, (name, experiment) in zip(
                varied, experiments.items(), strict=True
            )
        ]
        return files.jsonable({**_described(plan), "runs": sorted(rows, key=_rank)})

    record = found({})
    missing = {run["name"] for run in record["runs"] if run["status"] != "finished"}
    if missing:
        from metarl_jax.sweeps import ray_tune

        ray_tune.check(**cluster)  # before anything is written
        runs = [
            ray_tune.Run(
                name_of(combination),
                plan.choice._asdict(),
                {**plan.options, **combination},
                settings,
            )
            for combination in varied
            if name_of(combination) in missing
        ]
        try:
            (output_dir / RUNS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"output directory {output_dir} cannot be created: {error.strerror}"
            ) from None
        files.write_json(output_dir / SWEEP, record)
        errors = {}
        try:
            errors = ray_tune.run_all(runs, output_dir / RUNS, **cluster)
        finally:
            record = found(errors)
            files.write_json(output_dir / SWEEP, record)
    return record


def _described(plan: Plan) -> dict[str, Any]:
    """Returns what decides the runs, as it is recorded."""
    vary = {
        option: str(values) if isinstance(values, Range) else values
        for option, values in plan.vary.items()
    }
    return {
        "experiment": plan.choice.label,
        "chosen": plan.choice.record(),
        **{key: value for key, value in plan._asdict().items() if key != "choice"},
        "vary": vary,
    }


def _check_same_sweep(output_dir: Path, plan: Plan) -> None:
    """Checks that a directory is new, or holds the same sweep.

    Raises:
      ValueError: if it holds something else, or another sweep.
    """
    if not (output_dir / SWEEP).exists():
        directory.check_new(output_dir)
        return
    old, new = schema.read_json(output_dir / SWEEP), files.jsonable(_described(plan))
    if not isinstance(old, dict) or not isinstance(old.get("options"), dict):
        raise ValueError(
            f"{output_dir / SWEEP} is no record of a sweep; the directory of one, or a "
            "new one, is required"
        )
    pairs = {
        name: (old.get(name), value) for name, value in new.items() if name != "options"
    }
    for option in {**old["options"], **new["options"]}:
        pairs[option] = old["options"].get(option), new["options"].get(option)
    for name, (before, now) in pairs.items():
        if before != now:
            raise ValueError(
                f"{output_dir} holds a sweep with {name} = {before} and cannot be "
                f"continued with {now}; the same {name} or another output directory is "
                "required"
            )


def _row(
    output_dir: Path,
    combination: Combination,
    experiment: Experiment,
    error: str | None,
) -> dict[str, Any]:
    """Says what is known of a run: its result, or why it has none."""
    name = name_of(combination)
    row = {"name": name, "options": combination, "directory": f"{RUNS}/{name}"}
    result = drawable.read_evaluation(output_dir / RUNS / name)
    if result is None or not _is_whole(result, experiment):
        return {**row, "status": "failed" if error else "unfinished", "error": error}
    kept = (
        *("adaptation_unit", "adaptation_step", "return_mean", "return_ci"),
        *("return_iqm", "return_iqm_ci", "return_mean_by_seed", "interval"),
        *("num_not_finite", "num_tasks", "num_episodes"),
        *("training_steps", "training_seconds", "compile_seconds"),
        *("evaluation_seconds", "peak_memory_mib", "device"),
    )
    found = {key: result[key] for key in kept if key in result}
    return {**row, "status": "finished", **found}


def _is_whole(result: dict[str, Any], experiment: Experiment) -> bool:
    """Tells whether a run was trained to its end, and evaluated as all the others."""
    protocol = experiment.evaluation
    return result.get("training_steps", 0) >= experiment.num_steps and (
        result["num_tasks"],
        result["num_episodes"],
        len(result["adaptation_step"]) - 1,
        result.get("evaluation_seed"),
    ) == (*protocol, 0)


def _rank(row: dict[str, Any]) -> tuple[int, float]:
    """Sorts by the return after the last adaptation step; what has none comes last."""
    if row["status"] != "finished":
        return 2, 0.0
    last = row["return_mean"][-1]
    return (1, 0.0) if last is None or np.isnan(last) else (0, -last)
