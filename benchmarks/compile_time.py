"""Times how long a user waits for the first meta-training step.

    python benchmarks/compile_time.py

Every experiment is started as `metarl-jax train EXPERIMENT` starts it, in a process of
its own, until its first step is recorded: once with an empty compilation cache and a
few times with the one that this left behind. The seconds since the process was started
are divided into

- import: Python, the imports, the options and the experiment;
- trace: of its initialisation and its step;
- compile: of both, or reading them from the cache; and the run's directory;
- step: initialising, and the first step.

Writes JSON and prints a table.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NoReturn

from measuring import add_record_options, finish

OUTPUT = Path(__file__).parent / "results" / "compile_time.json"
EXPERIMENTS = (
    "point-nav-maml-quick",
    "point-nav-maml",
    "bandit-rl2",
    "grid-rl2",
    "cartpole-maml",
    "tabular-mdp-maml",
)
STAGES = ("import", "trace", "compile", "step")


def start(name: str, run_dir: str, began: float) -> NoReturn:
    """Starts a run in this process, prints its stages' seconds and ends it.

    Args:
      name: of the experiment.
      run_dir: a new directory.
      began: the time at which this process was started.
    """
    from metarl_jax import cli, training
    from metarl_jax.runs import machine, recording

    marks = [began]

    def marked(module, name, *, before=False, last=False):
        function = getattr(module, name)

        def wrapper(*args, **kwargs):
            if before:
                marks.append(time.time())
            result = function(*args, **kwargs)
            marks.append(time.time())
            if last:
                stages = zip(STAGES, marks, marks[1:], strict=False)
                print(json.dumps({key: end - start for key, start, end in stages}))
                sys.stdout.flush()
                os._exit(0)  # neither saved nor evaluated
            return result

        setattr(module, name, wrapper)

    marked(training, "_lower", before=True)
    marked(machine, "return_freed_memory")  # as soon as it has compiled
    marked(recording.Recorder, "write", last=True)
    status = cli.main(["train", name, "--output-dir", run_dir, "--num-steps", "1"])
    raise SystemExit(f"{name} ended before its first step, with status {status}")


def measure(name: str, cache: Path) -> dict[str, float]:
    """Returns the seconds of each stage of a start in a fresh process."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, __file__, "--start", name]
        command += [f"{directory}/run", repr(time.time())]
        output = subprocess.run(
            command,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)},
        )
    stages = json.loads(output.stdout.splitlines()[-1])
    return {"total": sum(stages.values()), **stages}


def main() -> None:
    parser = argparse.ArgumentParser(description="Times the start of experiments.")
    parser.add_argument("--repeats", type=int, default=5, help="warm starts")
    parser.add_argument("--experiments", nargs="+", default=list(EXPERIMENTS))
    add_record_options(parser, OUTPUT)
    parser.add_argument("--start", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.start:
        name, run_dir, began = args.start
        start(name, run_dir, float(began))
    names = args.experiments[:1] if args.quick else args.experiments
    repeats = 1 if args.quick else args.repeats

    rows = {}
    header = "".join(f"{stage:>9}" for stage in ("total", *STAGES))
    print(f"{'seconds':34}{header}")
    for name in names:
        with tempfile.TemporaryDirectory() as cache:
            cold = measure(name, Path(cache))
            laps = [measure(name, Path(cache)) for _ in range(repeats)]
        warm = {key: median(lap[key] for lap in laps) for key in laps[0]}
        warm["total_max"] = max(lap["total"] for lap in laps)
        rows[name] = {"cold": cold, "warm": warm}
        for kind, row in rows[name].items():
            cells = "".join(f"{row[key]:9.2f}" for key in ("total", *STAGES))
            print(f"{name:28}{kind:6}{cells}", flush=True)
    finish(args, {"experiments": rows})


if __name__ == "__main__":
    main()
