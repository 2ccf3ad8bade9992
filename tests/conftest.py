"""Settings that hold for every test, made before jax is imported."""

import os
from pathlib import Path

from xla_flags import QUICK, written

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path.home() / ".cache" / "metarl_jax" / "xla")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# Where in the source an operation comes from is not asked of a lowered program.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
# Flags given from outside come last, which is when they count.
os.environ["XLA_FLAGS"] = f"{written(QUICK)} {os.environ.get('XLA_FLAGS', '')}"
# The notebooks run at a size that only shows that every cell works.
os.environ.setdefault("METARL_JAX_SMOKE", "1")

import quickly  # noqa: F401
