"""Checkpoints that a crash cannot spoil. The only module that knows orbax.

Orbax writes a checkpoint beside its place and renames it when it is complete, so a
process killed in the middle of a save leaves the previous one. What it does not do is
notice by itself that a checkpoint is damaged, and fall back to an older one; here that
is done, and every restored state is compared with a checksum taken when it was saved.
"""

import contextlib
import gc
import hashlib
import json
import logging
import os
import re
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from metarl_jax.types import State


class Restored(NamedTuple):
    """A checkpoint read back."""

    step: int  # meta-training steps done
    state: State
    record: dict[str, Any]  # what was saved beside the state


def open_manager(
    directory: Path, *, keep: int = 3, read_only: bool = False
) -> ocp.CheckpointManager:
    """Opens a directory of checkpoints; `save` to it is asynchronous.

    Args:
      directory: created if there is none, unless read only.
      keep: how many of the newest checkpoints stay.
      read_only: whether to leave every file alone, as another process may be writing.
    """
    with quiet():
        if read_only:
            options = ocp.CheckpointManagerOptions(read_only=True)
        else:
            options = ocp.CheckpointManagerOptions(
                max_to_keep=keep,
                enable_async_checkpointing=True,
                cleanup_tmp_directories=True,
            )
        return ocp.CheckpointManager(directory.resolve(), options=options)


def save(
    manager: ocp.CheckpointManager,
    step: int,
    state: State,
    record: Mapping[str, Any],
) -> None:
    """Starts to save a state; waits for an earlier save to end first.

    Args:
      manager: from `open_manager`; its `wait_until_finished` waits for the save.
      step: meta-training steps done.
      state: a pytree of arrays; on several devices, copies of one another.
      record: JSON to keep beside it.

    Raises:
      OSError: if an earlier one could not be saved, or this cannot.
    """
    arrays = _arrays(state)
    record = {
        **record,
        "step": step,
        "leaves": _describe(state),
        "sha256": _checksum(arrays),
    }
    record["record_sha256"] = _record_checksum(record)
    with quiet(), _saving(manager):
        manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(arrays), record=ocp.args.JsonSave(record)
            ),
            force=True,
        )


def close(manager: ocp.CheckpointManager) -> None:
    """Waits for a save that is under way, and closes.

    Raises:
      OSError: if it could not be saved.
    """
    with quiet(), _saving(manager):
        manager.close()


def restore(
    manager: ocp.CheckpointManager,
    template: State,
    sharding: jax.sharding.Sharding | None = None,
    *,
    free: str | None = None,
) -> Restored | None:
    """Restores the newest checkpoint that is whole.

    Args:
      manager: from `open_manager`.
      template: the state's structure, shapes and dtypes, as `jax.eval_shape` gives.
      sharding: where to, a copy on every device; None for the default device.
      free: how the names of leaves begin that may have other shapes, and keep them.

    Returns:
      The checkpoint, or None where nothing was ever saved. Each damaged one that was
      passed over is named in a warning.

    Raises:
      ValueError: if the checkpoint was made by a state of another structure, other
        shapes or dtypes, or if there are checkpoints and none is whole.
    """
    damaged = []
    for step in sorted(manager.all_steps(), reverse=True):
        if damaged:
            _forget_unread()
        where = Path(manager.directory) / str(step)
        try:
            with quiet():
                record = manager.restore(
                    step, args=ocp.args.Composite(record=ocp.args.JsonRestore())
                )["record"]
            if _record_checksum(record) != record["record_sha256"]:
                raise ValueError("its record does not match its checksum")
            if record["step"] != step:
                raise ValueError(f"its record is of step {record['step']}")
        except Exception as error:  # orbax raises whatever its storage raised
            damaged.append(_warn_damaged(where, error))
            continue
        if free is not None:
            template = _shaped(template, record["leaves"], free)
        # Not damage: an older checkpoint of the same run would differ as well.
        _check_same(where, record["leaves"], _describe(template))
        try:
            with quiet():
                arrays = manager.restore(
                    step,
                    args=ocp.args.Composite(
                        state=ocp.args.StandardRestore(_abstract(template, sharding))
                    ),
                )["state"]
            if _checksum(arrays) != record["sha256"]:
                raise ValueError("its contents do not match its checksum")
        except Exception as error:
            damaged.append(_warn_damaged(where, error))
            continue
        return Restored(step, _rebuild(template, arrays), record)
    if damaged:
        _forget_unread()
        raise ValueError(
            f"no checkpoint in {manager.directory} can be read; damaged: "
            + ", ".join(damaged)
        )
    return None


def _forget_unread() -> None:
    """Lets go of what orbax was about to read when something else was found damaged.

    It would complain, whenever Python comes upon it, that it was never awaited.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        gc.collect()


def discard_after(manager: ocp.CheckpointManager, step: int | None) -> None:
    """Deletes the checkpoints of later steps, so that those steps can be saved again.

    Args:
      manager: from `open_manager`.
      step: the restored one; None for all.
    """
    for later in manager.all_steps():
        if step is None or later > step:
            manager.delete(later)


def _leaf_items(state: State) -> list[tuple[str, Any]]:
    """Pairs each leaf with a name made of its path: `agent.params.mean.kernel`."""

    def name(entry):
        for attribute in ("name", "key", "idx"):
            if hasattr(entry, attribute):
                return str(getattr(entry, attribute))
        return str(entry)

    items, _ = jax.tree_util.tree_flatten_with_path(state)
    return [(".".join(name(entry) for entry in path), leaf) for path, leaf in items]


def _describe(state: State) -> list[list]:
    """Describes each leaf as `[name, dtype, shape]`."""
    return [
        [name, str(leaf.dtype), list(leaf.shape)] for name, leaf in _leaf_items(state)
    ]


def _arrays(state: State) -> dict[str, Any]:
    """Returns the leaves by number; orbax cannot store arrays without elements."""
    return {
        f"{i:04d}": leaf for i, leaf in enumerate(jax.tree.leaves(state)) if leaf.size
    }


def _abstract(
    template: State, sharding: jax.sharding.Sharding | None
) -> dict[str, jax.ShapeDtypeStruct]:
    if sharding is None:
        sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return {
        number: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
        for number, leaf in _arrays(template).items()
    }


def _rebuild(template: State, arrays: Mapping[str, Any]) -> State:
    leaves, structure = jax.tree.flatten(template)
    return jax.tree.unflatten(
        structure,
        [
            arrays[f"{i:04d}"] if leaf.size else jax.numpy.zeros(leaf.shape, leaf.dtype)
            for i, leaf in enumerate(leaves)
        ],
    )


def _checksum(arrays: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for number in sorted(arrays):
        leaf = arrays[number]
        if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def _record_checksum(record: Mapping[str, Any]) -> str:
    content = {key: record[key] for key in record if key != "record_sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _shaped(template: State, saved: list, free: str) -> State:
    """Returns a template with the saved shapes of the leaves that are free."""
    names = [name for name, _ in _leaf_items(template)]
    leaves, structure = jax.tree.flatten(template)
    for i, (name, _, shape) in enumerate(saved[: len(leaves)]):
        if name.startswith(free) and name == names[i]:
            leaves[i] = jax.ShapeDtypeStruct(tuple(shape), leaves[i].dtype)
    return jax.tree.unflatten(structure, leaves)


def _check_same(where: Path, saved: list, wanted: list) -> None:
    """Checks that a checkpoint's leaves are those of the state it is to become."""
    for (name, dtype, shape), (new_name, new_dtype, new_shape) in zip(
        saved, wanted, strict=False
    ):
        if name != new_name:
            raise ValueError(
                f"checkpoint {where} holds {name} where this experiment has "
                f"{new_name}; a state of the same structure is required"
            )
        if (dtype, shape) != (new_dtype, new_shape):
            raise ValueError(
                f"{name} has shape {tuple(shape)} of {dtype} in checkpoint {where} "
                f"but shape {tuple(new_shape)} of {new_dtype} in this experiment; "
                "the same shapes are required"
            )
    if len(saved) != len(wanted):
        raise ValueError(
            f"checkpoint {where} holds {len(saved)} arrays and this experiment has "
            f"{len(wanted)}; a state of the same structure is required"
        )


def _warn_damaged(where: Path, error: Exception) -> str:
    warnings.warn(
        f"checkpoint {where} is damaged and passed over "
        f"({type(error).__name__}: {_reason(error)})",
        stacklevel=3,
    )
    return where.name


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # The storage says after many paths, and among other notes, what the system said.
    if match := re.search(r"os_error_code='(\d+)'", str(error)):
        return os.strerror(int(match[1]))
    reason = (str(error).splitlines() or [""])[0]
    return reason if len(reason) <= 120 else reason[:117] + "..."


@contextlib.contextmanager
def _saving(manager: ocp.CheckpointManager) -> Iterator[None]:
    """Says in one sentence what orbax and its storage say in many."""
    try:
        yield
    except Exception as error:
        first: BaseException = error
        while cause := first.__cause__ or first.__context__:
            first = cause
        raise OSError(
            f"a checkpoint in {manager.directory} could not be saved: {_reason(first)}"
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences what orbax logs beside the exceptions it raises, in all threads.

    When one array cannot be read or written, orbax closes its event loop while others
    still are; each of those then prints a traceback from its own thread.
    """
    logger, hook = logging.getLogger("absl"), sys.unraisablehook

    def not_orbax(record):
        return f"{os.sep}orbax{os.sep}" not in record.pathname

    def filtered(unraisable):
        if "Event loop is closed" not in str(unraisable.exc_value):
            hook(unraisable)

    logger.addFilter(not_orbax)
    sys.unraisablehook = filtered
    try:
        yield
    except Exception:
        time.sleep(0.1)  # for the threads to have said it
        raise
    finally:
        logger.removeFilter(not_orbax)
        sys.unraisablehook = hook
