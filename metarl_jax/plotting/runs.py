"""The figures that one run, or several, have the records for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib import rc_context
from matplotlib.figure import Figure

from metarl_jax.plotting import insides
from metarl_jax.plotting.curves import (
    adaptation_curve,
    learning_curve,
    performance_profiles,
)
from metarl_jax.plotting.plane import beliefs, goal_beliefs, paths
from metarl_jax.plotting.style import STYLE, write_figures
from metarl_jax.plotting.tables import as_csv, as_latex, differences_markdown
from metarl_jax.runs import drawable, files, grouping, protocol


class Records(NamedTuple):
    """What figures and tables are drawn from, by label.

    Attributes:
      metrics: lines of `metrics.jsonl`.
      evaluations: `evaluation.json`.
      alone: the directory, where there is one run.
    """

    metrics: Mapping[str, Sequence[Mapping[str, Any]]]
    evaluations: Mapping[str, Mapping[str, Any]]
    alone: Path | None


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


def plot_runs(
    run_dirs: Sequence[str | Path],
    output: str | Path,
    *,
    image_format: str | None = None,
    x: str = "steps",
    labels: Sequence[str] = (),
    each: bool = False,
    tables: bool = False,
) -> list[Path]:
    """Draws the figures of one run, or compares several in one figure of each kind.

    Runs that differ in nothing but their seeds are one curve, over all seeds.

    Args:
      run_dirs: the directories of the runs.
      output: where the figures go: a directory, created if there is none, or a file
        that ends in `.png`, `.pdf` or `.svg` (`metarl_jax.plotting.write_figures`).
      image_format: `"png"`, `"pdf"` or `"svg"`; None for the file's, or PNG.
      x: what learning is drawn against: `"steps"` of meta-training,
        `"environment-steps"` or `"seconds"`.
      labels: of the curves, in order; none for those of the experiments.
      each: whether every run is a curve of its own.
      tables: whether the adaptation table is written too, as CSV and LaTeX.

    Returns:
      The files written: `learning_curve`, `adaptation_curve`; for a single run
      `paths`, `beliefs`, `goal_beliefs` and what was inspected, where these were
      recorded; for several `performance_profiles` and `differences.md`, which of them
      are real.

    Raises:
      ValueError: if a directory is no run or given twice, nothing was recorded yet, a
        record is not what can be drawn, there are not as many labels as curves, or the
        figures do not fit into the output.

    Warns:
      UserWarning: if runs that are compared were evaluated differently.
    """
    records = read_runs(run_dirs, labels=labels, each=each)
    with rc_context(STYLE):
        figures = draw(records, x=x)
        if not figures:
            raise ValueError(
                f"{', '.join(map(str, run_dirs))}: nothing recorded to draw; a run "
                "that has trained at least one step is required"
            )
        written = write_figures(figures, Path(output), image_format)
    texts = {}
    if differences := differences_markdown(records.evaluations):
        texts["differences.md"] = f"{differences}\n"
    if tables and records.evaluations:
        texts["adaptation_table.csv"] = as_csv(records.evaluations)
        texts["adaptation_table.tex"] = as_latex(records.evaluations)
    for name, text in texts.items():
        path = written[0].parent / name
        files.replace_text(path, text)
        written.append(path)
    return written


def read_runs(
    run_dirs: Sequence[str | Path], *, labels: Sequence[str] = (), each: bool = False
) -> Records:
    """Reads what is drawn of some runs; see `plot_runs`."""
    directories = [Path(run_dir) for run_dir in run_dirs]
    for i, directory in enumerate(directories):
        if directory.resolve() in [other.resolve() for other in directories[:i]]:
            raise ValueError(
                f"runs to compare must be different ones; got {directory} twice"
            )
    configs = [files.read_config(directory) for directory in directories]
    groups = [[i] for i in range(len(directories))]
    if not each:
        groups = grouping.by_method(configs)
    if labels and len(labels) != len(groups):
        names = [" and ".join(str(directories[i]) for i in group) for group in groups]
        raise ValueError(
            f"labels must be {len(groups)}, one for each of {', '.join(names)}; got "
            f"{len(labels)}"
        )
    if len(set(labels)) < len(labels):
        raise ValueError(f"labels must be different ones; got {', '.join(labels)}")
    first = [group[0] for group in groups]
    found = [directories[i] for i in first], [configs[i] for i in first]
    names = list(labels) or _labels(*found)
    metrics, evaluations = {}, {}
    for name, group in zip(names, groups, strict=True):
        histories = [_history(directories[i], configs[i]) for i in group]
        if rows := grouping.merged_returns([h for h in histories if h]):
            metrics[name] = rows
        results = [drawable.read_evaluation(directories[i]) for i in group]
        results = [result for result in results if result]
        if not results:
            continue
        if merged := grouping.merged_evaluation(results):
            evaluations[name] = merged
            continue
        for i in group:  # measured so differently that they are no one curve
            if result := drawable.read_evaluation(directories[i]):
                evaluations[f"{name}, {directories[i].resolve().name}"] = result
    protocol.warn_of_differences(list(evaluations.values()))
    alone = directories[0] if len(directories) == 1 else None
    return Records(metrics, evaluations, alone)


def draw(records: Records, *, x: str = "steps") -> dict[str, Figure]:
    """Draws all figures that there are records for, by the names of their files."""
    figures = {}
    if records.metrics:
        figures["learning_curve"] = learning_curve(records.metrics, x=x)
    if records.evaluations:
        figures["adaptation_curve"] = adaptation_curve(records.evaluations)
        compared = {k: v for k, v in records.evaluations.items() if "returns" in v}
        worlds = {result.get("world") for result in compared.values()} - {None}
        if len(compared) > 1 and len(worlds) < 2:
            figures["performance_profiles"] = performance_profiles(compared)
    if records.alone and (recorded := drawable.read_paths(records.alone)):
        figures["paths"] = paths(recorded)
        if "beliefs" in recorded:
            figures["beliefs"] = beliefs(recorded)
    if records.alone and (recorded := drawable.read_goal_beliefs(records.alone)):
        figures["goal_beliefs"] = goal_beliefs(recorded)
    if records.alone and (recorded := drawable.read_inspection(records.alone)):
        for part, record in recorded.items():
            figures[f"inspected_{part}"] = insides.DRAWN[part](record)
    return figures


def _history(directory: Path, config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Reads the returns of a run, with the environment steps up to each."""
    rows = drawable.read_returns(directory)
    per_step = config.get("environment_steps")
    if per_step is not None:
        rows = [{**row, "environment_steps": row["step"] * per_step} for row in rows]
    return rows


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
