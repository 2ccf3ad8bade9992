"""What arrays take in memory, and whether there is as much."""

import functools
import math
import os
from pathlib import Path
from typing import Any

import jax


@functools.cache
def available() -> float:
    """Returns the bytes of memory of all devices; infinite where nobody says.

    Those of a CPU have the machine's, or what the process's control group leaves of it.
    """
    device = jax.local_devices()[0]
    held = (device.memory_stats() or {}).get("bytes_limit")
    if held is not None:
        return held * jax.device_count()
    limits = [math.inf]
    try:
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (AttributeError, OSError, ValueError):
        pass  # another system, or no limit
    return min(limits) * jax.process_count()


def num_bytes(tree: Any) -> int:
    """Returns what the arrays of a pytree take, or those that their shapes stand for.

    Exactly, however many: sizes are Python's numbers.
    """
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def check_fits(what: str, size: int) -> None:
    """Raises a `ValueError` if something takes more memory than there is.

    Args:
      what: with the options that its size comes from.
      size: in bytes, the least that it takes.
    """
    if size > available():
        raise ValueError(
            f"{what} must fit into the {_amount(available())} of memory that there "
            f"are; it takes {_amount(size)} at least"
        )


def _amount(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:,.3g} PiB" if size < 1e6 else f"{size:.1e} PiB"
