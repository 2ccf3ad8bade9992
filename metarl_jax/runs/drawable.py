"""Reads what figures are drawn from, and refuses what has another shape.

Records may be edited, cut off or another program's: what cannot be drawn is answered in
a sentence that names the file and what is required.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from metarl_jax.runs import files, history, schema


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


def read_inspection(run_dir: Path) -> dict[str, Any] | None:
    """Reads `inspection.json`; None where there is none.

    Raises:
      ValueError: if a part has not what is drawn of it.
    """
    return _read(run_dir / files.INSPECTION, _check_inspection)


def read_returns(run_dir: Path) -> list[dict[str, Any]]:
    """Reads `metrics.jsonl`; none where there is none.

    Raises:
      ValueError: if a line has not what a learning curve is drawn from.
    """
    rows = history.read(run_dir)
    for number, row in enumerate(rows, start=1):
        where = f"{run_dir / files.METRICS}, line {number}"
        schema.mapping(row, where)
        for key in ("step", "seconds", "return_before", "return_after"):
            schema.array(row, key, where, ())
        if ("seeds" in row) != ("seeds" in rows[0]):
            raise ValueError(f"{where}: seeds are required in every line or in none")
        if "seeds" in row:
            seeds = schema.mapping(row["seeds"], f"{where}, seeds")
            first = np.shape(rows[0]["seeds"].get("return_after", []))
            for key in ("return_before", "return_after"):
                schema.array(seeds, key, f"{where}, seeds", first[:1] or (None,))
    return rows


def _read(path: Path, check: Callable[[Any, str], None]) -> Any:
    if not path.exists():
        return None
    record = schema.read_json(path)
    check(record, str(path))
    return record


def _check_evaluation(record: Any, where: str) -> None:
    schema.mapping(record, where)
    steps = schema.array(record, "adaptation_step", where, (None,))
    length = len(steps)
    if not np.array_equal(steps, np.arange(length)):
        raise ValueError(
            f"{where}: adaptation_step must be 0, 1, ...; got "
            f"{schema.shown(record['adaptation_step'])}"
        )
    for key in ("num_seeds", "num_tasks", "num_episodes"):
        schema.whole(record, key, where)
    rows = {
        "": record,
        **schema.mapping(record.get("references"), f"{where}, references"),
    }
    for name, row in rows.items():
        within = f"{where}, references, {name}" if name else where
        schema.mapping(row, within)
        schema.array(row, "return_mean", within, (length,))
        schema.array(row, "return_ci", within, (length, 2))
        if "num_not_finite" in row:
            schema.array(row, "num_not_finite", within, (length,))
    published = schema.mapping(record.get("published"), f"{where}, published")
    for name in published:
        schema.array(published, name, f"{where}, published", (None,))


def _check_paths(record: Any, where: str) -> None:
    tasks = schema.nonempty_list(
        schema.mapping(record, where).get("tasks"), f"{where}, tasks"
    )
    believed = "beliefs" in record
    num_rounds: int | None = None
    for number, task in enumerate(tasks):
        within = f"{where}, task {number}"
        schema.array(schema.mapping(task, within), "goal", within, (2,))
        for key in ("paths", "belief_paths")[: 1 + believed]:
            rounds = schema.nonempty_list(task.get(key), f"{within}, {key}", num_rounds)
            num_rounds = len(rounds)
            for episodes in rounds:
                for points in schema.nonempty_list(episodes, f"{within}, {key}"):
                    schema.array({key: points}, key, within, (None, 2))
    if believed:
        beliefs = schema.mapping(record["beliefs"], f"{where}, beliefs")
        within = f"{where}, beliefs"
        (num_tasks, _) = schema.array(beliefs, "goal", within, (None, 2)).shape
        if num_tasks < len(tasks):
            raise ValueError(f"{within}: a goal of each task is required")
        mean = schema.array(beliefs, "mean", within, (num_tasks, num_rounds, None))
        schema.array(beliefs, "std", within, mean.shape)


# The numbers of each part of an inspection that are drawn, and their shapes.
_INSPECTED: dict[str, dict[str, tuple[int | None, ...]]] = {
    "layers": {},
    "plane": {
        **{name: (None,) for name in ("axis", "line", "line_a", "line_b")},
        **{name: (None, None) for name in ("return_a", "return_b")},
        **{name: (None,) for name in ("task_a", "task_b")},
    },
    "memory": {"steps": (None,)},
    "map": {"point": (None, 2), "target": (None, None), "share": (2,)},
    "attention": {"weight": (None, None, None)},
    "visits": {
        **{name: (None,) for name in ("edges_x", "edges_y")},
        **{name: (None, None) for name in ("first", "last")},
    },
}


def _check_inspection(record: Any, where: str) -> None:
    for name, part in schema.mapping(record, where).items():
        within = f"{where}, {name}"
        if name not in _INSPECTED:
            raise ValueError(f"{within}: one of {', '.join(_INSPECTED)} is required")
        schema.text(schema.mapping(part, within), "said", within)
        for key, shape in _INSPECTED[name].items():
            schema.array(part, key, within, shape)
        if name == "layers":
            for key in ("distance", "similarity", "relative"):
                found = schema.mapping(part.get(key), within)
                for layer, values in found.items():
                    if values is not None or key != "relative":
                        schema.array(part[key], layer, within, (None,))
            if set(part["relative"]) != set(part["distance"]):
                raise ValueError(f"{within}: relative is required of each layer")
            for kept in schema.mapping(part.get("return_of") or {}, within):
                schema.array(part["return_of"], kept, within, (None,))
        if name == "memory":
            count = len(part["steps"])
            table = schema.mapping(part.get("r_squared"), within)
            for row in table:
                schema.array(table, row, within, (count,))
            if part.get("entropy") is not None:
                schema.array(part, "entropy", within, (count,))
            schema.text(part, "unit", within)
            rows = schema.mapping(part.get("main_directions") or {}, within)
            for row in rows.values():
                for key in ("trained", "untrained"):
                    schema.array(schema.mapping(row, within), key, within, ())
            if rows:
                schema.array(part, "num_directions", within, ())
        if name == "map":
            names = schema.nonempty_list(part.get("names"), within)
            schema.array(part, "target", within, (len(part["point"]), len(names)))
        if name == "visits":
            schema.nonempty_list(part.get("rounds"), within, 2)


def _check_goal_beliefs(record: Any, where: str) -> None:
    schema.mapping(record, where)
    num_trials = len(schema.array(record, "goal", where, (None, 2)))
    num_steps = schema.array(record, "cell", where, (num_trials, None, 2)).shape[1]
    learned = schema.array(
        record, "learned", where, (num_trials, num_steps, None, None)
    )
    schema.array(record, "exact", where, learned.shape)
    schema.whole(record, "horizon", where)
