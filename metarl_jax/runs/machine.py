"""The machine a run is on: devices, versions, memory, compiled programs on disk."""

import contextlib
import ctypes
import importlib
import importlib.metadata
import os
import platform
import resource
import warnings
import zlib
from pathlib import Path

import jax

# Microseconds of computing, on all cores together, in how many microseconds.
_QUOTAS = [
    ("/sys/fs/cgroup/cpu.max",),
    (
        "/sys/fs/cgroup/cpu/cpu.cfs_quota_us",
        "/sys/fs/cgroup/cpu/cpu.cfs_period_us",
    ),
]


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
    with contextlib.suppress(OSError, RuntimeError):  # a user may have no home
        directory = Path(base).expanduser() / "metarl_jax" / "xla"
        directory.mkdir(parents=True, exist_ok=True)
        if os.access(directory, os.W_OK | os.X_OK):
            jax.config.update("jax_compilation_cache_dir", str(directory))


def usable_cores() -> int:
    """Returns how many cores this process may keep busy, at least one.

    Those it may run on, but no more than the quota of its container (cgroups 1 and 2).
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    for names in _QUOTAS:
        with contextlib.suppress(OSError, ValueError):
            texts = " ".join(Path(name).read_text() for name in names)
            quota, period = map(int, texts.split())  # "max" and -1: none
            if quota > 0:
                cores = min(cores, quota // period)
    return max(cores, 1)


def compiled(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """Compiles a program, or reads it from the cache, which is repaired on the way.

    JAX writes an entry in place, so that a kill or a full disk leaves a part of it; it
    never writes it again, and compiles anew at every start.

    Warns:
      UserWarning: if entries were damaged; they are removed, and this one made anew.
    """
    flag = "jax_raise_persistent_cache_errors"
    before = getattr(jax.config, flag)
    jax.config.update(flag, True)
    try:
        return lowered.compile()
    except Exception:
        _remove_damaged()
    finally:
        jax.config.update(flag, before)
    return lowered.compile()


def _remove_damaged() -> None:
    directory = jax.config.jax_compilation_cache_dir  # pyright: ignore
    if directory is None:
        return
    damaged = [path for path in Path(directory).glob("*-cache") if _is_damaged(path)]
    with contextlib.suppress(OSError):
        for path in damaged:
            path.unlink(missing_ok=True)
    if damaged:
        warnings.warn(
            f"the compilation cache in {directory} had {len(damaged)} damaged "
            f"entr{'ies' if len(damaged) > 1 else 'y'}, now removed",
            stacklevel=3,
        )


def _is_damaged(entry: Path) -> bool:
    """Tells whether an entry of the compilation cache cannot be decompressed."""
    try:
        data = entry.read_bytes()
        if data.startswith(b"\x28\xb5\x2f\xfd"):
            importlib.import_module("zstandard").decompress(data)
        else:
            zlib.decompress(data)
    except (OSError, ImportError):
        return False  # nothing is known of it
    except Exception:
        return True
    return False


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


def device_name(count: int = 1) -> str:
    """Returns how many devices are computed on, and what they are."""
    device = jax.devices()[0]
    return f"{count} x {device.device_kind} ({device.platform})"
