"""How the benchmarks measure: warm, blocked on, medians, and against the machine."""

import datetime
import json
import os
import platform
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def seconds(function: Callable, *args, repeats: int = 20) -> dict[str, float]:
    """Times a compiled function: the median and the extremes of `repeats` calls."""
    jax.block_until_ready(function(*args))
    laps = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function(*args))
        laps.append(time.perf_counter() - start)
    return {
        "median": float(np.median(laps)),
        "min": float(np.min(laps)),
        "max": float(np.max(laps)),
    }


def compiled(function: Callable, *args) -> tuple[Any, float, float]:
    """Returns the compiled function and the seconds to trace and to compile it."""
    start = time.perf_counter()
    lowered = jax.jit(function).lower(*args)
    traced = time.perf_counter()
    program = lowered.compile()
    return program, traced - start, time.perf_counter() - traced


def matmul_flops_per_second(size: int = 2048) -> float:
    """Returns the FLOP/s of a large float32 matrix product: the machine's limit."""
    x = jnp.ones((size, size))
    product = jax.jit(lambda x: x @ x)
    return 2.0 * size**3 / seconds(product, x)["min"]


def matmul_flops(function: Callable, *args, while_trips: float = 1.0) -> float:
    """Counts the FLOPs of a function's matrix products, loops multiplied out.

    XLA's cost analysis counts the body of a loop once, whatever its trip count.

    Args:
      function: traced, not run.
      *args: its arguments.
      while_trips: trips of the loops whose number is known at run time only.
    """

    def count(jaxpr) -> float:
        total = 0.0
        for eqn in jaxpr.eqns:
            if eqn.primitive.name == "dot_general":
                (contracted, _), _ = eqn.params["dimension_numbers"]
                lhs = eqn.invars[0].aval.shape
                depth = np.prod([lhs[i] for i in contracted], initial=1.0)
                total += 2.0 * depth * np.prod(eqn.outvars[0].aval.shape, initial=1.0)
            trips = {
                "scan": eqn.params.get("length", 1.0),
                "while": while_trips,
            }.get(eqn.primitive.name, 1.0)
            inner = jax.tree.leaves(
                list(eqn.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
            )
            for sub in inner:
                if hasattr(sub, "eqns"):
                    total += trips * count(getattr(sub, "jaxpr", sub))
        return total

    return count(jax.make_jaxpr(function)(*args).jaxpr)


def peak_memory_mib() -> float:
    """Returns the largest resident memory this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def hardware() -> dict[str, Any]:
    """Says what was measured on, with what and when."""
    device = jax.devices()[0]
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [x for x in cpuinfo.read_text().splitlines() if "model name" in x]
        model = names[0].partition(":")[2].strip() if names else model
    return {
        "date": datetime.date.today().isoformat(),
        "device": device.device_kind if device.platform != "cpu" else model,
        "cores": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "jax": jax.__version__,
    }


def write(path: Path, record: dict[str, Any]) -> None:
    """Writes a record as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
