"""One writer in a run's directory: a lock that names its holder and ends with it.

The system holds the lock (`flock`) and drops it when its process ends, however that
ends. The file's text is for people: who holds it, and on which machine.
"""

import contextlib
import fcntl
import os
import socket
import stat
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

LOCK = ".lock"


@contextlib.contextmanager
def held(run_dir: Path) -> Iterator[None]:
    """Keeps other processes from writing in a directory.

    Raises:
      ValueError: if another holds it; names it.

    Warns:
      UserWarning: if the file system has no locks, or a process on another machine
        held the lock and never released it.
    """
    path = run_dir / LOCK
    lock = _acquire(path)
    try:
        yield
    finally:
        # Removed while it is held: whoever opened it before finds that it is gone.
        if _is_at(lock, path):
            path.unlink()
        os.close(lock)


def holder(run_dir: Path) -> str | None:
    """Says who writes in a directory; None for nobody."""
    try:
        lock = os.open(run_dir / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _text(lock)
    except OSError:
        return None
    finally:
        os.close(lock)
    return None


def _acquire(path: Path) -> int:
    """Opens the lock's file, locks it and writes into it by whom it is held."""
    host, now = socket.gethostname(), time.strftime("%Y-%m-%d %H:%M:%S")
    try:
        lock = _open_locked(path)
        opened = os.fstat(lock)
        if not stat.S_ISREG(opened.st_mode) or opened.st_nlink > 1:
            os.close(lock)
            raise ValueError(f"{path} is no file of its own; remove it")
        before = _text(lock)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"process {os.getpid()} on {host} since {now}\n".encode(), 0)
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}") from None
    if " on " in before and f" on {host} since " not in before:
        warnings.warn(
            f"{path.parent} was in use by {before}, which did not end by itself; it "
            "must not run any more",
            stacklevel=5,
        )
    return lock


def _open_locked(path: Path) -> int:
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = _text(lock)
            os.close(lock)
            raise ValueError(
                f"{path.parent} is in use by {who}; wait until it has ended, or choose "
                "another directory"
            ) from None
        except OSError as error:
            warnings.warn(
                f"{path.parent} cannot be locked ({error.strerror}); no other process "
                "may write in it",
                stacklevel=6,
            )
        if _is_at(lock, path):
            return lock
        os.close(lock)  # its holder has just ended and removed it


def _text(lock: int) -> str:
    text = os.pread(lock, 500, 0).decode("utf-8", "replace")
    return " ".join(text.split()) or "another process"


def _is_at(lock: int, path: Path) -> bool:
    """Tells whether an open file is the one that is at a path."""
    try:
        return os.path.samestat(os.fstat(lock), os.lstat(path))
    except FileNotFoundError:
        return False
