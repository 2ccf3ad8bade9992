"""The runs of a sweep as worker processes of Ray. The only module that knows Ray.

It is imported when there is something to run, and not before: Ray is an extra, and
takes seconds.
"""

import contextlib
import logging
import math
import os
import re
import shutil
import socket
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from metarl_jax import plotting, training
from metarl_jax.choice import Choice
from metarl_jax.runs import display, evaluation, files
from metarl_jax.runs.progress import announced
from metarl_jax.validation import check_above_zero

# Where Ray keeps its own books, beside the runs; removed at the end.
BOOKS = ".ray"


class Run(NamedTuple):
    """One training run of a sweep."""

    name: str
    choice: dict[str, Any]
    options: dict[str, Any]  # all that the experiment takes
    training: dict[str, Any]  # what `train` takes beside


def run_all(
    runs: Sequence[Run],
    output_dir: Path,
    *,
    cpus_per_run: float = 1,
    gpus_per_run: float = 0,
    address: str | None = None,
) -> dict[str, str]:
    """Runs each in a worker process of its own, as many at once as there is room for.

    What was begun in a run's directory is continued from its newest checkpoint. A run
    that fails does not keep the others from going on.

    Args:
      runs: what to run.
      output_dir: the runs' directories are in it, by name. On a cluster one that all
        machines see.
      cpus_per_run: CPUs kept for each run, and the threads it computes with.
      gpus_per_run: GPUs kept for each run, or the share of one; without, a run computes
        on the CPU unless JAX_PLATFORMS says otherwise.
      address: of a running Ray cluster; None to start one on this machine and to end it
        again.

    Returns:
      By name, what went wrong in the runs that failed.

    Raises:
      ValueError: if Ray is not installed, the cluster cannot be reached, or this
        machine is too small for a run.
      KeyboardInterrupt: at SIGINT; the workers are ended then.
    """
    ray, tune = _import_ray()
    console = display.console()
    local: dict[str, Any] = {"include_dashboard": False} if address is None else {}
    what = f"{'starting' if address is None else 'joining'} Ray"
    with announced(console, what), _forking():
        try:
            ray.init(
                address or "local",
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": _environment(cpus_per_run, gpus_per_run)},
                **local,
            )
        except Exception as error:  # of many kinds, some of Ray's own
            raise ValueError(
                f"no Ray at {address or 'this machine'}: {type(error).__name__}: "
                f"{error}"
            ) from None
    try:
        room = _check_room(ray.nodes(), cpus_per_run, gpus_per_run, address)
        console.print(f"{len(runs)} run{'s' * (len(runs) > 1)}, {room}")
        results = tune.Tuner(
            tune.with_resources(
                _run_in_worker, {"cpu": cpus_per_run, "gpu": gpus_per_run}
            ),
            param_space={
                "run": tune.grid_search([run._asdict() for run in runs]),
                "directory": str(output_dir.resolve()),
            },
            run_config=tune.RunConfig(
                name=BOOKS,
                storage_path=str(output_dir.resolve()),
                verbose=0,
                callbacks=[_announcements(tune, len(runs))],
            ),
        ).fit()
    finally:
        ray.shutdown()
        shutil.rmtree(output_dir / BOOKS, ignore_errors=True)
    return {
        result.config["run"]["name"]: error
        for result in results
        if (error := _error(result.metrics, result.error))
    }


def check(
    *, cpus_per_run: float = 1, gpus_per_run: float = 0, address: str | None = None
) -> None:
    """Checks what `run_all` takes, and that somebody listens at the address.

    Ray would try for minutes.

    Raises:
      ValueError: if not, or Ray is not installed.
    """
    check_above_zero(cpus_per_run=cpus_per_run)
    shared = 0 <= gpus_per_run < 1 or gpus_per_run % 1 == 0
    if not (shared and 0 <= gpus_per_run < math.inf):
        raise ValueError(
            "gpus_per_run must be a whole number, or a share between 0 and 1; got "
            f"{gpus_per_run}"
        )
    _import_ray()
    if address in (None, "auto"):
        return
    match = re.fullmatch(r"(?:ray://)?([^/]+):(\d+)", address)
    if match is None:
        raise ValueError(f"address must be host:port or auto; got {address!r}")
    try:
        socket.create_connection((match[1], int(match[2])), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise ValueError(f"no Ray cluster at {address}: {error}") from None


def _import_ray() -> tuple[Any, Any]:
    """Imports Ray in such a way that it sends nothing and says nothing."""
    os.environ |= {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AIR_NEW_OUTPUT": "0",  # with verbose=0, no tables of its own
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # warns of it otherwise
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",  # it would wait for a result
    }
    try:
        import ray
        from ray import tune
    except ImportError as error:
        raise ValueError(
            'sweep needs Ray Tune; install it with: pip install -e ".[sweep]" '
            f"({error})"
        ) from None
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    return ray, tune


@contextlib.contextmanager
def _forking() -> Iterator[None]:
    """Lets Ray start its processes: what JAX has computed here is of no use to them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called")
        yield


def _environment(cpus_per_run: float, gpus_per_run: float) -> dict[str, str]:
    """Returns what keeps JAX in a worker to its share of the machine."""
    environment = {"NPROC": str(max(1, math.ceil(cpus_per_run)))}  # XLA's threads
    if gpus_per_run == 0:
        environment["JAX_PLATFORMS"] = os.environ.get("JAX_PLATFORMS") or "cpu"
    elif gpus_per_run < 1:
        # JAX takes three quarters of a GPU's memory for itself.
        share = f"{0.75 * gpus_per_run:.3f}"
        environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] = share
    return environment


def _check_room(
    nodes: Sequence[Mapping[str, Any]],
    cpus_per_run: float,
    gpus_per_run: float,
    address: str | None,
) -> str:
    """Says how many runs there is room for; refuses to wait where none can ever be."""
    resources = [node["Resources"] for node in nodes if node["Alive"]]
    asked = {"CPU": cpus_per_run, "GPU": gpus_per_run}
    room = 0
    for there in resources:
        fits = [there.get(kind, 0) // share for kind, share in asked.items() if share]
        room += int(min(fits, default=1))
    if room > 0:
        return f"{room} at once"
    largest = ", ".join(
        f"{max(there.get(kind, 0) for there in resources):g} {kind}s" for kind in asked
    )
    text = (
        f"a run asks for {cpus_per_run:g} CPUs and {gpus_per_run:g} GPUs, and the "
        f"largest machine has {largest}"
    )
    if address is None:
        raise ValueError(f"{text}; fewer are required")
    warnings.warn(f"{text}; waiting for one that is large enough", stacklevel=3)
    return "none at once yet"


def _announcements(tune: Any, num_runs: int) -> Any:
    """Makes what prints a line whenever a run has ended."""

    class Announcements(tune.Callback):
        def __init__(self):
            self.ended = 0

        def on_trial_complete(self, iteration, trials, trial, **info):
            self.say(trial, trial.last_result)

        def on_trial_error(self, iteration, trials, trial, **info):
            self.say(trial, {"error": "the worker process died"})

        def say(self, trial, result):
            self.ended += 1
            if error := _error(result, None):
                text = f"failed: {error}"
            else:
                text = f"return {result['return']:.2f}"
            name = trial.config["run"]["name"]
            display.show(f"{self.ended}/{num_runs}  {name}  {text}\n")

    return Announcements()


def _error(metrics: Mapping[str, Any] | None, error: Exception | None) -> str | None:
    """Returns what went wrong in a run, in one line."""
    if error is not None:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return (metrics or {}).get("error")


def _run_in_worker(config: dict[str, Any]) -> dict[str, Any]:
    """Trains, evaluates and draws a run, in the process of a worker.

    Returns:
      The `return` after the last adaptation step, or the `error`: one that is raised
      would be printed by Ray with the tracebacks of three processes.
    """
    run = Run(**config["run"])
    run_dir = Path(config["directory"]) / run.name
    try:
        choice = Choice(**run.choice)
        experiment = choice.build(choice.load(), run.options)
        if (run_dir / files.CONFIG).exists():
            where: Any = {"resume": run_dir}
        else:
            for leftover in run_dir.glob(".*.tmp"):  # of a process that was killed
                leftover.unlink()
            where = {"output_dir": run_dir}
        training.train(
            experiment,
            quiet=True,
            **run.training,
            **where,
        )
        result = evaluation.evaluate_run(experiment, run_dir, quiet=True)
        plotting.plot_run(run_dir)
    except Exception as error:
        # The record is to be true wherever the sweep's directory is.
        text = str(error).replace(f"{config['directory']}/", "")
        return {"error": f"{type(error).__name__}: {' '.join(text.split())}"}
    last = result["return_mean"][-1]
    return {"return": math.nan if last is None else last}
