"""The impure rim: one compiled meta-training step, run many times and recorded.

Files, the clock, signals and the screen are met here and nowhere in the mathematics.
The key of step i is `fold_in(key of the seed, i)`, so what is learned depends neither
on how often a run is saved nor on whether it was interrupted.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from metarl_jax.envs.host import simulator_errors
from metarl_jax.errors import SimulatorError
from metarl_jax.memory import check_fits, num_bytes
from metarl_jax.runs import (
    checkpoints,
    devices,
    directory,
    display,
    files,
    history,
    interruption,
    machine,
    processes,
    starting,
)
from metarl_jax.runs.config import check_same_run, check_unedited
from metarl_jax.runs.experiment import (
    Evaluation as Evaluation,
)
from metarl_jax.runs.experiment import (
    Experiment as Experiment,
)
from metarl_jax.runs.experiment import (
    check_experiment,
)
from metarl_jax.runs.loop import run_steps
from metarl_jax.runs.lowering import lower
from metarl_jax.runs.progress import TrainingProgress, announced
from metarl_jax.runs.recording import Recorder
from metarl_jax.types import Agent, Info, MetaAlgorithm, Policy, State
from metarl_jax.validation import check_flags, check_positive, check_seed


class Trained(NamedTuple):
    """What a training run left.

    Attributes:
      run_dir: where it is; None where nothing was written.
      state: leading `[S]` axis for several seeds; None before step 1.
      step: meta-training steps done.
      finished: false where it was asked to stop.
      experiment: what was trained.
      metrics: what was recorded of each step, as in `metrics.jsonl`.
      seed: the first seed.
      num_seeds: S.
      signal: that asked it to stop, where this process got one.
    """

    run_dir: Path | None
    state: State | None
    step: int
    finished: bool
    experiment: Experiment
    metrics: Sequence[Mapping[str, Any]] = ()
    seed: int = 0
    num_seeds: int = 1
    signal: int | None = None

    @property
    def agent(self) -> Agent:
        """Where adaptation starts; leading `[S]` axis for several seeds.

        Raises:
          ValueError: if no step was done.
        """
        if self.state is None:
            raise ValueError("training was stopped before its first step")
        return self.state.agent  # pyright: ignore

    @property
    def algorithm(self) -> MetaAlgorithm:
        """What learned."""
        return self.experiment.algorithm

    @property
    def policy(self) -> Policy:
        """How the agent acts."""
        return self.experiment.algorithm.policy


def train(
    experiment: Experiment,
    *,
    name: str | None = None,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    num_seeds: int = 1,
    seed_group_size: int | None = None,
    output_dir: str | Path | None = None,
    runs_dir: str | Path | None = None,
    checkpoint_every: int = 50,
    max_skipped: int = 10,
    mesh: str | None = None,
    resume: str | Path | None = None,
    start_from: str | Path | None = None,
    callback: Callable[[int, Info], Any] | None = None,
    quiet: bool = False,
) -> Trained:
    """Meta-trains, and records the run in a directory where one is asked for.

    >>> import metarl_jax
    >>> experiment = metarl_jax.make_experiment("bandit", num_tasks=2, num_steps=3)
    >>> trained = metarl_jax.train(experiment, seed=1, quiet=True)
    >>> [row["step"] for row in trained.metrics]
    [1, 2, 3]

    SIGINT, SIGTERM and SIGHUP end the run after the current step, saved; a second
    SIGINT ends it at once. Several processes (`jax.distributed`) train one run
    together: each calls this with the same arguments, the directory is one that all of
    them see, the first of them writes in it, and a signal to any of them ends the run
    in all.

    Args:
      experiment: what to train, for `experiment.num_steps` steps in all.
      name: what the experiment is called in the records; None for `origin.label`.
      options: what the experiment was built with; None for `origin.options`.
      seed: the first random seed.
      num_seeds: S, seeds trained together in one program: seed, …, seed + S - 1.
      seed_group_size: seeds under one `vmap`, one group after the other within a step;
        need not divide S. None: one seed on a CPU, whose cores one seed fills, all
        seeds of a device elsewhere.
      output_dir: a new or empty directory.
      runs_dir: a directory in which to make one that is called after the experiment and
        its seeds. With neither this nor `output_dir` nothing is written.
      checkpoint_every: steps from one checkpoint to the next; the end is always saved.
      max_skipped: how many updates in a row may be left out for not being finite.
      mesh: the devices that tasks and seeds are shared out over, such as
        `"tasks=4,seeds=2"`; None for one device. `"auto"` for those there are of a CPU,
        up to one a core, where that pays (`docs/devices.md`), or those of the run that
        is resumed.
      resume: the directory of a run to continue, bit for bit, from its newest whole
        checkpoint.
      start_from: the directory of a run whose newest state this one begins with in the
        place of a drawn one, optimiser, schedules and replay buffer too. Options and
        world may be others as long as the state fits; trials may be longer or shorter.
      callback: `(step, info)`, called after each step, counted from 1, with its info as
        NumPy arrays; leading `[S]` axis for several seeds.
      quiet: whether to print nothing.

    Returns:
      What was learned, where the run is and how far it came.

    Raises:
      ValueError: if an argument is out of range, `output_dir` is not empty or cannot be
        created, `resume` is no run, one that differs from this or one in which somebody
        writes, `start_from` is no run or one whose state does not fit, or `mesh` does
        not fit the devices, the seeds or the tasks.
      FloatingPointError: if `max_skipped` updates in a row were not finite.
      SimulatorError: if a simulator on the host failed; the steps before are saved.
      OSError: if the run cannot be written any more: the disk is full, or the directory
        was removed.
    """
    check_options(
        experiment,
        seed=seed,
        num_seeds=num_seeds,
        seed_group_size=seed_group_size,
        checkpoint_every=checkpoint_every,
        max_skipped=max_skipped,
    )
    check_flags(quiet=quiet)
    origin = experiment.origin
    name = origin.label if name is None else name
    directory.check_name(name)
    if mesh == devices.AUTO and resume is not None:
        mesh = files.read_config(Path(resume)).get("mesh")
    config = {
        "experiment": name,
        "chosen": dict(origin.chosen or {"name": name}),
        "options": dict(origin.options if options is None else options),
        "seed": seed,
        "num_seeds": num_seeds,
        "start_from": None,
        "seed_group_size": seed_group_size,
        "num_steps": experiment.num_steps,
        "checkpoint_every": checkpoint_every,
        "max_skipped": max_skipped,
        "versions": machine.versions(),
        **devices.described(None if mesh == devices.AUTO else mesh),
    }
    if resume is not None:
        if output_dir is not None:
            raise ValueError(
                "a resumed run stays in its directory; give either --resume or "
                f"--output-dir, not both (got {resume} and {output_dir})"
            )
        if start_from is not None:
            raise ValueError(
                "a resumed run goes on from its own checkpoint; give either --resume "
                f"or --start-from, not both (got {resume} and {start_from})"
            )
        config["start_from"] = files.read_config(Path(resume)).get("start_from")
        check_same_run(Path(resume), config)
    writes = not (resume is output_dir is runs_dir is None)

    def trained(state, step, finished):
        rows = recorder.rows if run_dir is None else history.read(run_dir)
        signal = None if finished else stop.number
        return Trained(
            run_dir, state, step, finished, experiment, rows, seed, num_seeds, signal
        )

    silent = quiet or not processes.is_first()
    console = display.console(quiet=silent)
    machine.enable_compilation_cache()
    with interruption.stop_on_signal() as stop, contextlib.ExitStack() as stack:

        def open_directory():
            if resume is not None:
                opened = directory.existing(Path(resume))
            else:
                new_dir = None if output_dir is None else Path(output_dir)
                opened = directory.new(
                    new_dir, name, seed, num_seeds, runs_dir=runs_dir
                )
            return str(stack.enter_context(opened))

        def mend_metrics(run_dir):
            history.mend(run_dir, step, restored.record if restored else None)

        def open_manager(run_dir):
            stack.enter_context(checkpoints.quiet())  # its threads speak at any time
            manager = checkpoints.open_manager(run_dir / files.CHECKPOINTS)
            stack.callback(checkpoints.close, manager)
            return manager

        run_dir = Path(processes.on_first(open_directory)) if writes else None
        if run_dir is not None:
            stack.enter_context(_saying_how_to_go_on(run_dir))
        stack.enter_context(simulator_errors())
        manager, restored, step, first = None, None, 0, None
        start = time.perf_counter()
        lowered = lower(experiment, seed, num_seeds, seed_group_size, mesh)
        tracing_seconds = time.perf_counter() - start
        placement = lowered.placement
        config.update(devices.described(lowered.mesh))
        config["environment_steps"] = lowered.environment_steps
        if start_from is not None:
            first, config["start_from"] = starting.begin(
                experiment, Path(start_from), num_seeds, placement.everywhere
            )
            starting.warn_of_spent_schedule(config)
        if resume is not None:
            manager = open_manager(run_dir)
            restored = checkpoints.restore(
                manager, lowered.template, placement.everywhere
            )
            step = restored.step if restored else 0
            if restored:
                check_unedited(Path(resume), restored.record)
            if restored and step >= experiment.num_steps:
                processes.on_first(partial(mend_metrics, run_dir))
                console.print(
                    f"{run_dir} has done {step} steps already, and num_steps is "
                    f"{experiment.num_steps}: nothing to train"
                )
                return trained(restored.state, step, True)
            if restored is None and config["start_from"]:
                first = starting.begin_again(
                    experiment, config["start_from"], num_seeds, placement.everywhere
                )

        start = time.perf_counter()
        with announced(console, "compiling the meta-training step"):
            # What can be wrong with the arguments has been found: files may change.
            if manager is not None:
                checkpoints.discard_after(manager, step)

            def write_files(run_dir):
                if resume is not None:
                    mend_metrics(run_dir)
                files.write_json(run_dir / files.CONFIG, config)

            if run_dir is not None:
                processes.on_first(partial(write_files, run_dir))
                manager = manager or open_manager(run_dir)
            compiled = interruption.unless_stopped(
                # Of several processes none may stay away from the first step.
                stop if jax.process_count() == 1 else threading.Event(),
                lambda: (
                    machine.compiled(lowered.step),
                    machine.compiled(lowered.init) if restored is None else None,
                ),
            )
        compile_seconds = tracing_seconds + time.perf_counter() - start
        recorder = Recorder(
            run_dir if processes.is_first() else None,
            num_seeds=num_seeds,
            max_skipped=max_skipped,
            purge_step=None if resume is None else step + 1,
            callback=callback,
        )
        stack.callback(recorder.close)
        if compiled is None:
            console.print(f"stopped{_how_to_continue(run_dir)}")
            return trained(restored.state if restored else None, step, False)
        compiled_step, compiled_init = compiled
        machine.return_freed_memory()

        if restored is not None:
            console.print(f"{run_dir} continues after step {step}")
            state = devices.moved(restored.state, placement.by_seed)
            seconds = restored.record["seconds"]
            skipped = restored.record["skipped_in_a_row"]
            recorder.skipped_in_a_row = np.asarray(skipped)
        else:
            if resume is not None:
                console.print(f"{run_dir} has no checkpoint yet: starts at step 0")
            state, seconds = compiled_init(lowered.key_init), 0.0
            if first is not None:
                # A memory at the start of a trial is as large as the trial is long.
                agent = first.agent._replace(memory=state.agent.memory)
                state = devices.moved(first._replace(agent=agent), placement.by_seed)
        progress = stack.enter_context(
            TrainingProgress(console, num_steps=experiment.num_steps, step=step)
        )

        def save(step, state, manager=manager):
            record = {
                "seconds": recorder.seconds,
                "compile_seconds": compile_seconds,
                "peak_memory_mib": machine.peak_memory_mib(),
                "skipped_in_a_row": recorder.skipped_in_a_row.tolist(),
                "config": files.jsonable(config),
                "metrics_sha256": recorder.digest.hexdigest(),
                "last_line": recorder.last_line,
            }
            if manager is not None:
                recorder.sync()
                whole = devices.moved(state, placement.everywhere)
                checkpoints.save(manager, step, whole, record)

        step, state = run_steps(
            lambda step, state: compiled_step(lowered.key_steps, step, state),
            step,
            state,
            num_steps=experiment.num_steps,
            checkpoint_every=checkpoint_every,
            origin=time.perf_counter() - seconds,
            stop=stop,
            recorder=recorder,
            progress=progress,
            save=save,
        )

    if recorder.given_up is not None:
        member, at_step = recorder.given_up
        raise FloatingPointError(
            f"{max_skipped} updates in a row, up to step {at_step}, were not finite "
            f"and were left out (seed {seed + member}); at most {max_skipped - 1} in "
            f"a row are allowed"
            + (f"; the state after step {step} is saved in {run_dir}" * writes)
        )
    finished = step >= experiment.num_steps
    if not finished:
        saved = ", saved" if writes else ""
        console.print(f"stopped after step {step}{saved}{_how_to_continue(run_dir)}")
    return trained(state, step, finished)


@contextlib.contextmanager
def _saying_how_to_go_on(run_dir: Path) -> Iterator[None]:
    """Adds to what kept a run from being written that it can go on."""
    try:
        yield
    except (OSError, SimulatorError) as error:
        if not run_dir.is_dir():
            raise
        raise type(error)(
            f"{error}; what was saved before is kept{_how_to_continue(run_dir)}"
        ) from error


def _how_to_continue(run_dir: Path | None) -> str:
    return (
        "" if run_dir is None else f"; continue with: {files.resume_command(run_dir)}"
    )


def check_options(
    experiment: Experiment,
    *,
    seed: int,
    num_seeds: int,
    seed_group_size: int | None,
    checkpoint_every: int,
    max_skipped: int,
) -> None:
    """Raises a `ValueError` if what `train` takes is out of range."""
    check_experiment(experiment)
    check_positive(
        num_seeds=num_seeds,
        seed_group_size=1 if seed_group_size is None else seed_group_size,
        checkpoint_every=checkpoint_every,
        max_skipped=max_skipped,
    )
    check_seed(seed, num_seeds)
    state = jax.eval_shape(experiment.algorithm.init, jax.random.key(0))
    check_fits(f"the states of num_seeds={num_seeds}", num_seeds * num_bytes(state))
