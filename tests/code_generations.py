"""The tests in the code of three generations of processors, with one thread and two.

A test that compares two programs passes or fails by the processor if it asks for more
than float32 holds: fused instructions, or vectors of another width, round otherwise,
and what an agent does next amplifies it. One machine shows what the others will see:

    python tests/code_generations.py [ARGUMENT OF PYTEST …]

Each round compiles anew, into a cache of its own, as strongly as a user's program is.
"""

import os
import subprocess
import sys
import tempfile

from xla_flags import AS_USERS_HAVE_IT, written

GENERATIONS = ("SSE4_2", "AVX2", None)  # None: this processor's own
NUM_THREADS = (1, 2)


def run(generation: str | None, num_threads: int, arguments: list[str]) -> int:
    """Runs the tests once; returns pytest's status."""
    flags = [written(AS_USERS_HAVE_IT), os.environ.get("XLA_FLAGS", "")]
    if generation is not None:
        flags.append(f"--xla_cpu_max_isa={generation}")
    with tempfile.TemporaryDirectory() as cache:
        settings = {
            "XLA_FLAGS": " ".join(flags),
            "NPROC": str(num_threads),  # how XLA is told
            "JAX_COMPILATION_CACHE_DIR": cache,
        }
        command = [sys.executable, "-m", "pytest", "-q", *arguments]
        return subprocess.run(command, env=os.environ | settings).returncode


def main() -> None:
    """Runs all rounds and ends with the worst status."""
    worst = 0
    for generation in GENERATIONS:
        for num_threads in NUM_THREADS:
            name = generation or "this processor's own"
            print(f"== {name} instructions, {num_threads} threads", flush=True)
            worst = max(worst, run(generation, num_threads, sys.argv[1:]))
    sys.exit(worst)


if __name__ == "__main__":
    main()
