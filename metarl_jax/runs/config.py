"""Whether a run goes on as what it was started as."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metarl_jax.runs import files

# Options that say how far to go, not what is learned on the way.
RESUMABLE_OPTIONS = ("num_steps",)


def differences(
    one: Mapping[str, Any], other: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """Returns what decides what is learned and differs, by name."""

    def deciding(config):
        found = {key: config.get(key) for key in ("experiment", "seed", "num_seeds")}
        options = config.get("options", {})
        found |= {k: v for k, v in options.items() if k not in RESUMABLE_OPTIONS}
        if start := config.get("start_from"):
            # By what it is; where it lies and which seed it is of do not count.
            found["start_from"] = {"step": start["step"], **deciding(start)}
        return found

    first, second = deciding(one), deciding(other)
    pairs = {
        name: (first.get(name, "absent"), second.get(name, "absent"))
        for name in {**first, **second}
    }
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _differences_since(
    earlier: Mapping[str, Any], later: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """Returns `differences`, but for options that came later and are off.

    They are None, False or zero, which is what there was without them. One that is
    gone is a difference, off or on: in its place there would be a default.
    """
    came = {*later.get("options", {})} - {*earlier.get("options", {})}
    return {
        name: (before, now)
        for name, (before, now) in differences(earlier, later).items()
        if now or name not in came
    }


def check_same_run(run_dir: Path, config: Mapping[str, Any]) -> None:
    """Checks that a run to be resumed was started with what it is resumed with.

    Raises:
      ValueError: if it is not a run, or an option that decides what is learned differs.

    Warns:
      UserWarning: if versions or devices differ.
    """
    old, new = files.read_config(run_dir), files.jsonable(config)
    for name, (before, now) in _differences_since(old, new).items():
        raise ValueError(
            f"{run_dir} was started with {name} = {before} and cannot be resumed "
            f"with {now}; the same {name} is required"
        )
    for what in ("versions", "device", "mesh"):
        if old.get(what) != new[what]:
            warnings.warn(
                f"{run_dir} was started with other {what}, so that it may not continue "
                f"bit for bit: {old.get(what)} then, {new[what]} now",
                stacklevel=3,
            )


def check_unedited(run_dir: Path, record: Mapping[str, Any]) -> None:
    """Checks that `config.json` says what a checkpoint was made with.

    Args:
      run_dir: the directory of the run.
      record: of the checkpoint; older ones do not say.

    Raises:
      ValueError: if it was changed; names what.
    """
    if "config" not in record:
        return
    then, now = record["config"], files.read_config(run_dir)
    changed = _differences_since(then, now) | _chosen_differently(then, now)
    if changed:
        said = "; ".join(
            f"{k} = {b}, trained with {a}" for k, (a, b) in changed.items()
        )
        raise ValueError(
            f"{run_dir / files.CONFIG} was changed after the run was trained: {said}; "
            "what it was trained with is required"
        )


def _chosen_differently(
    one: Mapping[str, Any], other: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """Compares names; a file of one's own may have moved."""
    pairs = {
        f"chosen {part}": tuple(
            str((config.get("chosen") or {}).get(part)).rpartition(".py:")[2]
            for config in (one, other)
        )
        for part in ("name", "method", "policy")
    }
    return {name: (a, b) for name, (a, b) in pairs.items() if a != b}
