"""The figures that one run, or several, have the records for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context

from metarl_jax.plotting.curves import adaptation_curve, learning_curve
from metarl_jax.plotting.plane import beliefs, goal_beliefs, paths
from metarl_jax.plotting.style import (
    STYLE,
    write_png,
)
from metarl_jax.runs import drawable, files, protocol


def plot_run(run_dir: str | Path, output_dir: str | Path | None = None) -> list[Path]:
    """Draws every figure that a run has the records for.

    Args:
      run_dir: the directory of the run.
      output_dir: where the figures go; None for the run's directory.

    Returns:
      The files written.

    Raises:
      ValueError: if `run_dir` is no run or has recorded nothing yet.
    """
    return plot_runs([run_dir], run_dir if output_dir is None else output_dir)


def plot_runs(run_dirs: Sequence[str | Path], output_dir: str | Path) -> list[Path]:
    """Draws the figures of one run, or compares several in one figure of each kind.

    Args:
      run_dirs: the directories of the runs.
      output_dir: where the figures go; created if there is none.

    Returns:
      The files written: `learning_curve.png`, `adaptation_curve.png` and, for a single
      run, `paths.png`, `beliefs.png` and `goal_beliefs.png` where these were recorded.

    Raises:
      ValueError: if a directory is no run or given twice, nothing was recorded yet, or
        a record is not what can be drawn.

    Warns:
      UserWarning: if runs that are compared were evaluated differently.
    """
    directories = [Path(run_dir) for run_dir in run_dirs]
    for i, directory in enumerate(directories):
        if directory.resolve() in [other.resolve() for other in directories[:i]]:
            raise ValueError(
                f"runs to compare must be different ones; got {directory} twice"
            )
    configs = [files.read_config(directory) for directory in directories]
    labels = _labels(directories, configs)
    metrics, evaluations = {}, {}
    for label, directory in zip(labels, directories, strict=True):
        if rows := drawable.read_returns(directory):
            metrics[label] = rows
        if result := drawable.read_evaluation(directory):
            evaluations[label] = result
    protocol.warn_of_differences(list(evaluations.values()))
    alone = directories[0] if len(directories) == 1 else None
    figures = {}
    with rc_context(STYLE):
        if metrics:
            figures["learning_curve.png"] = learning_curve(metrics)
        if evaluations:
            figures["adaptation_curve.png"] = adaptation_curve(evaluations)
        if alone and (recorded := drawable.read_paths(alone)):
            figures["paths.png"] = paths(recorded)
            if "beliefs" in recorded:
                figures["beliefs.png"] = beliefs(recorded)
        if alone and (recorded := drawable.read_goal_beliefs(alone)):
            figures["goal_beliefs.png"] = goal_beliefs(recorded)
        if not figures:
            raise ValueError(
                f"{', '.join(map(str, directories))}: nothing recorded to draw; a run "
                "that has trained at least one step is required"
            )
        output_dir = Path(output_dir)
        try:
            output_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"cannot write figures to {output_dir}: {error}") from None
        return [
            write_png(figure, output_dir / name) for name, figure in figures.items()
        ]


def _labels(
    directories: Sequence[Path], configs: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Names runs by experiment, or by directory where that is not enough."""
    labels = [str(config["experiment"]) for config in configs]
    if len(set(labels)) < len(labels):
        labels = [directory.resolve().name for directory in directories]
    if len(set(labels)) < len(labels):
        labels = [str(directory) for directory in directories]
    return labels
