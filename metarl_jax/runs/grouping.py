"""Runs of one method that differ in their seeds alone, put together."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from metarl_jax import intervals
from metarl_jax.runs import config as configs
from metarl_jax.runs import files


def by_method(records: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Returns which runs differ in nothing but their seeds, by number, in order.

    Args:
      records: the `config.json` of each.
    """
    groups: list[list[int]] = []
    for number, record in enumerate(records):
        for group in groups:
            if all(_only_seeds_differ(records[other], record) for other in group):
                group.append(number)
                break
        else:
            groups.append([number])
    return groups


def merged_returns(
    histories: Sequence[Sequence[Mapping[str, Any]]],
) -> list[dict[str, Any]]:
    """Puts the lines of `metrics.jsonl` of several runs together, at common steps.

    Seconds are those of a run, averaged: as if all had run side by side.
    """
    if len(histories) < 2:
        return [dict(row) for rows in histories for row in rows]
    by_step = [{row["step"]: row for row in rows} for rows in histories]
    common = sorted(set.intersection(*map(set, by_step)))
    merged = []
    for step in common:
        rows = [found[step] for found in by_step]
        seeds = {
            field: [x for row in rows for x in _by_seed(row, field)]
            for field in ("return_before", "return_after")
        }
        means = {field: np.mean(np.array(x, float)) for field, x in seeds.items()}
        seconds = np.mean([row["seconds"] for row in rows])
        row = {"step": step, **means, "seconds": seconds, "seeds": seeds}
        if all("environment_steps" in row for row in rows):
            row["environment_steps"] = rows[0]["environment_steps"]
        merged.append(row)
    return files.jsonable(merged)


def merged_evaluation(results: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Puts evaluations of several runs together; their intervals are over all seeds.

    Returns:
      A record as `evaluation.json` is one; None where the runs were evaluated by
      different protocols, or older records lack the returns by seed. References have
      no intervals but where each run is of one seed.
    """
    if len(results) == 1:
        return dict(results[0])
    first = results[0]
    alike = ("adaptation_step", "num_tasks", "num_episodes", "evaluation_seed")
    if any(result.get(key) != first.get(key) for result in results for key in alike):
        return None
    try:
        returns = np.concatenate([np.array(r["returns"], float) for r in results])
        summary = intervals.summarise(returns)
    except (KeyError, ValueError):
        return None
    if returns.shape[2] != len(first["adaptation_step"]):
        return None
    weights = [result["num_seeds"] for result in results]
    references = {}
    for name in first["references"]:
        if all(name in result["references"] for result in results):
            rows = [result["references"][name]["return_mean"] for result in results]
            references[name] = _reference(np.array(rows, float), weights)
    measures = {}
    for name in first.get("measures", {}):
        if all(name in result.get("measures", {}) for result in results):
            rows = [result["measures"][name]["mean"] for result in results]
            row = _reference(np.array(rows, float), weights)
            measures[name] = {"mean": row["return_mean"], "ci": row["return_ci"]}
    met = [seed for result in results for seed in result.get("heldout_tasks") or ()]
    merged = {
        **first,
        "return_mean": summary.mean,
        "return_iqm": summary.iqm,
        "return_ci": np.stack([summary.ci_low, summary.ci_high], axis=-1),
        "return_iqm_ci": np.stack([summary.iqm_ci_low, summary.iqm_ci_high], axis=-1),
        "num_not_finite": summary.num_not_finite,
        "references": references,
        "interval": intervals.interval_name(len(returns)),
        "num_seeds": len(returns),
        "returns": returns,
        "return_mean_by_seed": np.mean(returns, axis=1),
        "heldout_tasks": met if len(met) == len(returns) else None,
        "measures": measures,
    }
    return files.jsonable(merged)


def _only_seeds_differ(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    same = set(configs.differences(one, other)) <= {"seed", "num_seeds"}
    chosen = one.get("chosen") == other.get("chosen")
    return same and chosen and not _seeds(one) & _seeds(other)


def _seeds(record: Mapping[str, Any]) -> set[int]:
    return set(range(record["seed"], record["seed"] + record["num_seeds"]))


def _by_seed(row: Mapping[str, Any], field: str) -> list[float | None]:
    return row["seeds"][field] if "seeds" in row else [row[field]]


def _reference(means: np.ndarray, weights: Sequence[int]) -> dict[str, Any]:
    """Summarises a reference's means `[runs, K + 1]`."""
    if set(weights) == {1}:
        found = intervals.summarise(means[:, None])
        ci = np.stack([found.ci_low, found.ci_high], axis=-1)
        return {"return_mean": found.mean, "return_ci": ci}
    mean = np.average(means, axis=0, weights=weights)
    return {"return_mean": mean, "return_ci": np.full((len(mean), 2), np.nan)}
