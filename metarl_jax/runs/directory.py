"""The directory that a run is written in: a new one, or that of a run to go on with.

Nothing is written outside of it. A run may be a stranger's, so that a link in it may
lead anywhere.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from metarl_jax.runs import locking


def check_name(name: str) -> None:
    """Raises a `ValueError` unless a name can be that of one directory."""
    if not name or name in (".", "..") or set(name) & set("/\0"):
        raise ValueError(
            f"name must be one that a directory can have, without /; got {name!r}"
        )


def check_path(path: Path) -> None:
    """Raises a `ValueError` where checkpoints cannot be saved.

    Orbax saves to paths in UTF-8 and takes those with `*`, `?` or `[` for patterns:
    what it saves there cannot be read again.
    """
    text = str(path.absolute())
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the path {text!r} must be UTF-8") from None
    if found := sorted(set("*?[") & set(text)):
        raise ValueError(
            f"the path {text} must be one without {' '.join(found)}: no checkpoint "
            "could be read there"
        )


def check_new(run_dir: Path) -> None:
    """Checks that a new run would overwrite nothing.

    Raises:
      ValueError: if `run_dir` is a file, a directory with something in it, or one in
        which somebody writes.
    """
    if not os.path.exists(run_dir):
        return
    if not run_dir.is_dir():
        raise ValueError(
            f"output directory {run_dir} is a file; a new or empty directory is "
            "required"
        )
    if who := locking.holder(run_dir):
        raise ValueError(
            f"output directory {run_dir} is in use by {who}; an empty or new one is "
            "required"
        )
    _check_empty(run_dir)


def _check_empty(run_dir: Path) -> None:
    # A process that was killed leaves its lock, which nobody holds.
    if set(os.listdir(run_dir)) - {locking.LOCK}:
        raise ValueError(
            f"output directory {run_dir} is not empty; an empty or new one is "
            "required, or --resume to continue the run in it"
        )


@contextlib.contextmanager
def new(
    run_dir: Path | None,
    experiment: str,
    seed: int,
    num_seeds: int,
    *,
    runs_dir: str | Path | None = None,
) -> Iterator[Path]:
    """Creates the directory of a new run, in which nobody else may write meanwhile.

    It is removed again where nothing was written in it.

    Args:
      run_dir: the directory; None for the first that does not exist of
        `<experiment>-seed<seed>`, `<experiment>-seed<seed>-run2`, … in `runs_dir`.
      experiment: its name.
      seed: the first seed.
      num_seeds: how many there are.
      runs_dir: where to make one, if `run_dir` does not say.

    Raises:
      ValueError: if it cannot be created, has something in it, is in use, or has a path
        that is not UTF-8.
    """
    if run_dir is None:
        run_dir, made = _make_next(
            Path(runs_dir or "runs"), experiment, seed, num_seeds
        )
    else:
        check_new(run_dir)
        made = _make(run_dir, exist_ok=True)
    try:
        with locking.held(run_dir):
            _check_empty(run_dir)  # again: another may have been faster
            yield run_dir
    finally:
        with contextlib.suppress(OSError):
            for path in made:
                path.rmdir()


@contextlib.contextmanager
def existing(run_dir: Path) -> Iterator[Path]:
    """Opens the directory of a run to go on with; nobody else may write in it.

    Raises:
      ValueError: if it is in use, or a link in it leads out of it.
    """
    check_path(run_dir)
    check_links(run_dir)
    with locking.held(run_dir):
        yield run_dir


def check_links(run_dir: Path) -> None:
    """Raises a `ValueError` if a link in a run's directory leads out of it."""
    root = os.path.realpath(run_dir)
    for folder, folders, names in os.walk(run_dir):
        for path in (os.path.join(folder, name) for name in (*folders, *names)):
            target = os.path.realpath(path) if os.path.islink(path) else root
            if os.path.commonpath([root, target]) != root:
                raise ValueError(
                    f"{path} is a link to {target}, outside of the run; files and "
                    "directories in its place are required"
                )


def _make_next(
    runs_dir: Path, experiment: str, seed: int, num_seeds: int
) -> tuple[Path, list[Path]]:
    name = f"{experiment}-seed{seed}"
    if num_seeds > 1:
        name = f"{experiment}-seeds{seed}-{seed + num_seeds - 1}"
    number, run_dir = 1, runs_dir / name
    while True:
        # Not `exists` and then `mkdir`: two runs may be started at once.
        with contextlib.suppress(FileExistsError):
            return run_dir, _make(run_dir, exist_ok=False)
        number += 1
        run_dir = runs_dir / f"{name}-run{number}"


def _make(run_dir: Path, *, exist_ok: bool) -> list[Path]:
    """Creates a directory; returns what of its path was not there, the last first."""
    check_path(run_dir)
    try:
        missing = [path for path in (run_dir, *run_dir.parents) if not path.exists()]
        run_dir.mkdir(parents=True, exist_ok=exist_ok)
    except OSError as error:
        if isinstance(error, FileExistsError) and not exist_ok:
            raise
        raise ValueError(
            f"output directory {run_dir} cannot be created: {error.strerror}"
        ) from None
    return missing
