"""Reads what figures are drawn from, and refuses what has another shape.

Records may be edited, cut off or another program's: what cannot be drawn is answered in
a sentence that names the file and what is required.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metarl_jax.runs import files


def read_evaluation(run_dir: Path) -> dict[str, Any] | None:
    """Reads `evaluation.json`; None where there is none.

    Raises:
      ValueError: if it has not what an adaptation curve is drawn from.
    """
    return _read(run_dir / files.EVALUATION, _check_evaluation)


def read_paths(run_dir: Path) -> dict[str, Any] | None:
    """Reads `paths.json`; None where there is none.

    Raises:
      ValueError: if it has not the paths, or has beliefs of another shape.
    """
    return _read(run_dir / files.PATHS, _check_paths)


def read_goal_beliefs(run_dir: Path) -> dict[str, Any] | None:
    """Reads `goal_beliefs.json`; None where there is none.

    Raises:
      ValueError: if it has not what the beliefs are drawn from.
    """
    return _read(run_dir / files.GOAL_BELIEFS, _check_goal_beliefs)


def read_returns(run_dir: Path) -> list[dict[str, Any]]:
    """Reads `metrics.jsonl`; none where there is none.

    Raises:
      ValueError: if a line has not what a learning curve is drawn from.
    """
    rows = files.read_metrics(run_dir)
    for number, row in enumerate(rows, start=1):
        where = f"{run_dir / files.METRICS}, line {number}"
        _mapping(row, where)
        for key in ("step", "seconds", "return_before", "return_after"):
            _array(row, key, where, ())
        if ("seeds" in row) != ("seeds" in rows[0]):
            raise ValueError(f"{where}: seeds are required in every line or in none")
        if "seeds" in row:
            seeds = _mapping(row["seeds"], f"{where}, seeds")
            first = np.shape(rows[0]["seeds"].get("return_after", []))
            for key in ("return_before", "return_after"):
                _array(seeds, key, f"{where}, seeds", first[:1] or (None,))
    return rows


def _read(path: Path, check: Callable[[Any, str], None]) -> Any:
    if not path.exists():
        return None
    record = files.read_json(path)
    check(record, str(path))
    return record


def _check_evaluation(record: Any, where: str) -> None:
    _mapping(record, where)
    steps = _array(record, "adaptation_step", where, (None,))
    length = len(steps)
    if not np.array_equal(steps, np.arange(length)):
        raise ValueError(
            f"{where}: adaptation_step must be 0, 1, ...; got "
            f"{_shown(record['adaptation_step'])}"
        )
    for key in ("num_seeds", "num_tasks", "num_episodes"):
        _count(record, key, where)
    rows = {"": record, **_mapping(record.get("references"), f"{where}, references")}
    for name, row in rows.items():
        within = f"{where}, references, {name}" if name else where
        _mapping(row, within)
        _array(row, "return_mean", within, (length,))
        _array(row, "return_ci", within, (length, 2))
        if "num_not_finite" in row:
            _array(row, "num_not_finite", within, (length,))
    published = _mapping(record.get("published"), f"{where}, published")
    for name in published:
        _array(published, name, f"{where}, published", (None,))


def _check_paths(record: Any, where: str) -> None:
    tasks = _list(_mapping(record, where).get("tasks"), f"{where}, tasks")
    believed = "beliefs" in record
    num_rounds: int | None = None
    for number, task in enumerate(tasks):
        within = f"{where}, task {number}"
        _array(_mapping(task, within), "goal", within, (2,))
        for key in ("paths", "belief_paths")[: 1 + believed]:
            rounds = _list(task.get(key), f"{within}, {key}", num_rounds)
            num_rounds = len(rounds)
            for episodes in rounds:
                for points in _list(episodes, f"{within}, {key}"):
                    _array({key: points}, key, within, (None, 2))
    if believed:
        beliefs = _mapping(record["beliefs"], f"{where}, beliefs")
        within = f"{where}, beliefs"
        (num_tasks, _) = _array(beliefs, "goal", within, (None, 2)).shape
        if num_tasks < len(tasks):
            raise ValueError(f"{within}: a goal of each task is required")
        mean = _array(beliefs, "mean", within, (num_tasks, num_rounds, None))
        _array(beliefs, "std", within, mean.shape)


def _check_goal_beliefs(record: Any, where: str) -> None:
    _mapping(record, where)
    num_trials = len(_array(record, "goal", where, (None, 2)))
    num_steps = _array(record, "cell", where, (num_trials, None, 2)).shape[1]
    learned = _array(record, "learned", where, (num_trials, num_steps, None, None))
    _array(record, "exact", where, learned.shape)
    _count(record, "horizon", where)


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: an object is required; got {_shown(value)}")
    return value


def _list(value: Any, where: str, length: int | None = None) -> list[Any]:
    size = len(value) if isinstance(value, list) else 0
    if size < 1 or size != (length or size):
        what = f"of {length}" if length else "with something in it"
        raise ValueError(f"{where}: a list {what} is required; got {_shown(value)}")
    return value


def _count(record: Mapping[str, Any], key: str, where: str) -> None:
    value = record.get(key)
    if not isinstance(value, int) or value < 1:
        raise ValueError(
            f"{where}: {key} must be a whole number of at least 1; got {_shown(value)}"
        )


def _array(
    record: Mapping[str, Any], key: str, where: str, shape: tuple[int | None, ...]
) -> np.ndarray:
    """Returns numbers of a shape, of which None is any length; null is NaN."""
    value = record.get(key)
    try:
        array = np.array([] if isinstance(value, str) else value, float)
    except (TypeError, ValueError, OverflowError):
        array = np.array([])
    fits = array.size > 0 and array.ndim == len(shape) and key in record
    if not fits or any(
        want not in (None, have) for have, want in zip(array.shape, shape, strict=True)
    ):
        lengths = ", ".join("n" if want is None else str(want) for want in shape)
        what = f"numbers [{lengths}]" if shape else "a number"
        raise ValueError(f"{where}: {key} must be {what}; got {_shown(value)}")
    return array


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
