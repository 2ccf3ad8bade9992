"""The machine a run is on: devices, versions, memory, compiled programs on disk."""

import contextlib
import ctypes
import importlib.metadata
import os
import platform
import resource
from pathlib import Path

import jax


def enable_compilation_cache() -> None:
    """Keeps compiled programs on disk, so that they are compiled once.

    In `JAX_COMPILATION_CACHE_DIR` where that is set, otherwise in the user's cache
    directory. A directory that cannot be written only costs the time to compile again.
    """
    # JAX's default of a second would compile the initialisation at every start.
    if jax.config.jax_persistent_cache_min_compile_time_secs == 1.0:  # pyright: ignore
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    if jax.config.jax_compilation_cache_dir is not None:  # pyright: ignore
        return
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    directory = Path(base).expanduser() / "metarl_jax" / "xla"
    with contextlib.suppress(OSError, RuntimeError):
        directory.mkdir(parents=True, exist_ok=True)
        if os.access(directory, os.W_OK | os.X_OK):
            jax.config.update("jax_compilation_cache_dir", str(directory))


def return_freed_memory() -> None:
    """Gives back to the system what the allocator keeps of memory already freed.

    A compilation leaves hundreds of MiB of it behind. Does nothing beyond glibc.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def peak_memory_mib() -> float:
    """Returns the peak resident memory of this process in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if platform.system() == "Darwin" else 2**10), 1)


def versions() -> dict[str, str]:
    """Returns the versions of what decides the numbers."""
    found = {"python": platform.python_version()}
    for package in (
        "metarl-jax",
        "jax",
        "jaxlib",
        "flax",
        "optax",
        "gymnax",
        "orbax-checkpoint",
        "numpy",
    ):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def device_name() -> str:
    """Returns how many devices there are and what they are."""
    device = jax.devices()[0]
    return f"{jax.device_count()} x {device.device_kind} ({device.platform})"
