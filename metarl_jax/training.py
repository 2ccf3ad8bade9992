"""The impure rim: one compiled meta-training step, run many times and recorded.

Files, the clock, signals and the screen are met here and nowhere in the mathematics.
The key of step i is `fold_in(key of the seed, i)`, so what is learned depends neither
on how often a run is saved nor on whether it was interrupted.
"""

import contextlib
import os
import shlex
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

from metarl_jax import checkpoints, interruption, recording, run_directory
from metarl_jax.progress import TrainingProgress
from metarl_jax.recording import Recorder
from metarl_jax.types import MetaAlgorithm, State, Task, TaskDistribution
from metarl_jax.validation import check_positive

# Options that say how far to go, not what is learned on the way.
RESUMABLE_OPTIONS = ("num_steps",)


class Evaluation(NamedTuple):
    """How an experiment is evaluated on held-out tasks."""

    num_tasks: int
    num_episodes: int  # of each task, after each number of adaptation steps
    num_adaptation_steps: int  # K


class Experiment(NamedTuple):
    """What is trained and how it is evaluated.

    Attributes:
      tasks: the task distribution.
      algorithm: what learns.
      num_steps: meta-training steps.
      evaluation: the protocol on held-out tasks.
      published: returns after 0…K adaptation steps as printed in a paper, by method.
      goal: `(task) -> [2]`, for families whose observation is a position in the
        plane: where the goal is, so that paths can be drawn.
    """

    tasks: TaskDistribution
    algorithm: MetaAlgorithm
    num_steps: int
    evaluation: Evaluation
    published: Mapping[str, tuple[float, ...]] = {}
    goal: Callable[[Task], jax.Array] | None = None


class Trained(NamedTuple):
    """What a training run left."""

    run_dir: Path
    state: State | None  # leading [S] axis for several seeds; None before step 1
    step: int  # meta-training steps done
    finished: bool  # false: it was asked to stop


class _Lowered(NamedTuple):
    """A traced run: what is left to do is to compile and to start it."""

    init: jax.stages.Lowered
    step: jax.stages.Lowered
    template: State  # shapes and dtypes
    key_init: jax.Array
    key_steps: jax.Array


def train(
    experiment: Experiment,
    *,
    name: str,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    num_seeds: int = 1,
    output_dir: str | Path | None = None,
    checkpoint_every: int = 50,
    max_skipped: int = 10,
    resume: str | Path | None = None,
    quiet: bool = False,
) -> Trained:
    """Meta-trains and records the run in a directory.

    SIGINT and SIGTERM end the run after the current step, saved; a second SIGINT ends
    it at once.

    Args:
      experiment: what to train, for `experiment.num_steps` steps in all.
      name: what the experiment is called in the records.
      options: what the experiment was built with, for the records.
      seed: the first random seed.
      num_seeds: S, seeds trained together under one `vmap`: seed, …, seed + S - 1.
      output_dir: a new or empty directory; None for a new one in `runs/`.
      checkpoint_every: steps from one checkpoint to the next; the end is always saved.
      max_skipped: how many updates in a row may be left out for not being finite.
      resume: the directory of a run to continue, bit for bit, from its newest whole
        checkpoint.
      quiet: whether to print nothing.

    Returns:
      Where the run is and how far it came.

    Raises:
      ValueError: if an argument is out of range, `output_dir` is in use, or `resume`
        is no run or one that differs from this.
      FloatingPointError: if `max_skipped` updates in a row were not finite.
    """
    check_positive(
        num_steps=experiment.num_steps,
        num_seeds=num_seeds,
        checkpoint_every=checkpoint_every,
        max_skipped=max_skipped,
    )
    check_seed(seed, num_seeds)
    config = {
        "experiment": name,
        "options": dict(options or {}),
        "seed": seed,
        "num_seeds": num_seeds,
        "num_steps": experiment.num_steps,
        "checkpoint_every": checkpoint_every,
        "max_skipped": max_skipped,
        "versions": recording.versions(),
        "device": recording.device_name(),
    }
    if resume is not None:
        if output_dir is not None:
            raise ValueError(
                "a resumed run stays in its directory; give either --resume or "
                f"--output-dir, not both (got {resume} and {output_dir})"
            )
        run_dir = Path(resume)
        _check_same_run(run_dir, config)
    else:
        run_dir = Path(
            output_dir or run_directory.default_run_dir(name, seed, num_seeds)
        )
        run_directory.check_new(run_dir)

    console = Console(quiet=quiet, highlight=False, soft_wrap=True)
    enable_compilation_cache()
    with interruption.stop_on_signal() as stop, contextlib.ExitStack() as stack:
        start = time.perf_counter()
        console.print("compiling the meta-training step … ", end="")
        lowered = _lower(experiment.algorithm, seed, num_seeds)

        # What can be wrong with the arguments has been found; files may change now.
        run_dir.mkdir(parents=True, exist_ok=True)
        manager = checkpoints.open_manager(run_dir / run_directory.CHECKPOINTS)
        stack.callback(manager.close)
        restored = None
        if resume is not None:
            restored = checkpoints.restore(manager, lowered.template)
            first = restored.step if restored else 0
            checkpoints.discard_after(manager, first)
            run_directory.truncate_metrics(run_dir, first)
        run_directory.write_json(run_dir / run_directory.CONFIG, config)

        compiled = interruption.unless_stopped(
            stop,
            lambda: (
                lowered.step.compile(),
                lowered.init.compile() if restored is None else None,
            ),
        )
        if compiled is None:
            console.print(f"stopped\ncontinue with: {resume_command(run_dir)}")
            step = restored.step if restored else 0
            return Trained(run_dir, restored.state if restored else None, step, False)
        compiled_step, compiled_init = compiled
        compile_seconds = time.perf_counter() - start
        console.print(f"{compile_seconds:.1f} s")

        if restored is not None:
            step, state = restored.step, restored.state
            seconds = restored.record["seconds"]
            skipped_in_a_row = np.asarray(restored.record["skipped_in_a_row"])
            if step >= experiment.num_steps:
                console.print(
                    f"{run_dir} has done {step} steps already, and num_steps is "
                    f"{experiment.num_steps}: nothing to train"
                )
                return Trained(run_dir, state, step, True)
            console.print(f"{run_dir} continues after step {step}")
        else:
            step, state, seconds = 0, compiled_init(lowered.key_init), 0.0
            skipped_in_a_row = np.zeros(num_seeds, int)
            if resume is not None:
                console.print(f"{run_dir} has no checkpoint yet: starts at step 0")

        recorder = Recorder(
            run_dir,
            num_seeds=num_seeds,
            max_skipped=max_skipped,
            skipped_in_a_row=skipped_in_a_row,
            purge_step=None if resume is None else step + 1,
        )
        stack.callback(recorder.close)
        progress = stack.enter_context(
            TrainingProgress(console, num_steps=experiment.num_steps, step=step)
        )
        origin = time.perf_counter() - seconds
        running, done = [], []  # (step, info) and (step, seconds, info)

        def wait(keep):
            while len(running) > keep:
                number, info = running.pop(0)
                interruption.wait(info)
                done.append((number, time.perf_counter() - origin, info))

        def record():
            if done:
                recorder.write(done)
                progress.update(done[-1][0], *recorder.last_returns)
                done.clear()

        def save():
            checkpoints.save(
                manager,
                step,
                state,
                {
                    "seconds": recorder.seconds,
                    "compile_seconds": compile_seconds,
                    "peak_memory_mib": recording.peak_memory_mib(),
                    "skipped_in_a_row": recorder.skipped_in_a_row.tolist(),
                },
            )

        last_record, last_saved = time.perf_counter(), step
        while step < experiment.num_steps and not stop.is_set():
            state, info = compiled_step(lowered.key_steps, np.int32(step), state)
            step += 1
            running.append((step, info))
            # One step stays queued behind the one that runs, so that the device never
            # waits for the host; no more, so that a signal is heard.
            wait(keep=1)
            if step % checkpoint_every == 0:
                wait(keep=0)
                record()
                save()
                last_saved = step
            if time.perf_counter() - last_record > 0.2:
                record()
                last_record = time.perf_counter()
            if recorder.given_up is not None:
                break
        wait(keep=0)
        record()
        if last_saved != step:
            save()
        manager.wait_until_finished()
        final = Trained(run_dir, state, step, step >= experiment.num_steps)
        if recorder.given_up is not None:
            member, at_step = recorder.given_up
            raise FloatingPointError(
                f"{max_skipped} updates in a row, up to step {at_step}, were not "
                f"finite and were left out (seed {seed + member}); at most "
                f"{max_skipped - 1} in a row are allowed; the state after step {step} "
                f"is saved in {run_dir}"
            )
    if not final.finished:
        console.print(
            f"stopped after step {step}, saved\n"
            f"continue with: {resume_command(run_dir)}"
        )
    return final


def check_seed(seed: int, num_seeds: int = 1) -> None:
    """Raises a `ValueError` unless seed, …, seed + num_seeds - 1 fit 32 bits."""
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"seed must be a whole number of at least 0; got {seed!r}")
    if seed + num_seeds > 2**32:
        raise ValueError(
            f"seed must be below 2**32 - num_seeds + 1; got {seed} with {num_seeds} "
            "seeds"
        )


def enable_compilation_cache() -> None:
    """Keeps compiled programs on disk, so that they are compiled once.

    In `JAX_COMPILATION_CACHE_DIR` where that is set, otherwise in the user's cache
    directory. A directory that cannot be written only costs the time to compile again.
    """
    if jax.config.jax_compilation_cache_dir is not None:  # pyright: ignore
        return
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    directory = Path(base).expanduser() / "metarl_jax" / "xla"
    with contextlib.suppress(OSError, RuntimeError):
        directory.mkdir(parents=True, exist_ok=True)
        if os.access(directory, os.W_OK | os.X_OK):
            jax.config.update("jax_compilation_cache_dir", str(directory))


def resume_command(run_dir: Path) -> str:
    """Returns the command that continues a run."""
    return f"metarl-jax train --resume {shlex.quote(str(run_dir))}"


def seed_keys(seed: int, num_seeds: int) -> tuple[jax.Array, jax.Array]:
    """Returns the keys of initialisation and of the steps, `[]` or `[S]` for S > 1."""
    if num_seeds == 1:
        key_init, key_steps = jax.random.split(jax.random.key(seed))
        return key_init, key_steps
    seeds = np.arange(seed, seed + num_seeds, dtype=np.uint32)
    keys = jax.vmap(lambda s: jax.random.split(jax.random.key(s)))(seeds)
    return keys[:, 0], keys[:, 1]


def state_template(algorithm: MetaAlgorithm, num_seeds: int) -> State:
    """Returns the shapes and dtypes of the state that `train` keeps."""
    init = algorithm.init if num_seeds == 1 else jax.vmap(algorithm.init)
    return jax.eval_shape(init, seed_keys(0, num_seeds)[0])


def _lower(algorithm: MetaAlgorithm, seed: int, num_seeds: int) -> _Lowered:
    """Traces `init` and one meta-training step, once each, and checks what they make.

    Raises:
      ValueError: if the step changes the state's structure, shapes or dtypes, or its
        info lacks what training needs.
    """

    def init(key):
        return algorithm.init(key)

    def step(key, i, state):
        return algorithm.step(jax.random.fold_in(key, i), state)

    if num_seeds > 1:
        init, step = jax.vmap(init), jax.vmap(step, in_axes=(0, None, 0))
    key_init, key_steps = seed_keys(seed, num_seeds)
    lowered_init = jax.jit(init).lower(key_init)
    template = _shapes(lowered_init.out_info)
    lowered_step = jax.jit(step).lower(key_steps, np.int32(0), template)
    new_state, info = _shapes(lowered_step.out_info)
    if new_state != template:
        raise ValueError(
            "algorithm.step must return a state of the structure, shapes and dtypes "
            f"that algorithm.init makes; got {new_state} from {template}"
        )
    for field in ("return_before", "return_after", "skipped"):
        if not hasattr(info, field):
            raise ValueError(
                f"the info of algorithm.step must have {field}; got {info}"
            )
    return _Lowered(lowered_init, lowered_step, template, key_init, key_steps)


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def _check_same_run(run_dir: Path, config: dict[str, Any]) -> None:
    """Checks that a run to be resumed was started with what it is resumed with.

    Raises:
      ValueError: if it is not a run, or an option that decides what is learned differs.
    """
    old, new = run_directory.read_config(run_dir), run_directory.jsonable(config)
    pairs = {key: (old[key], new[key]) for key in ("experiment", "seed", "num_seeds")}
    names = {**old["options"], **new["options"]}
    absent = "absent"
    for name in names:
        if name not in RESUMABLE_OPTIONS:
            pairs[name] = (
                old["options"].get(name, absent),
                new["options"].get(name, absent),
            )
    for name, (before, now) in pairs.items():
        if before != now:
            raise ValueError(
                f"{run_dir} was started with {name} = {before} and cannot be resumed "
                f"with {now}; the same {name} is required"
            )
    for what in ("versions", "device"):
        if old.get(what) != new[what]:
            warnings.warn(
                f"{run_dir} was started with other {what}, so that it may not continue "
                f"bit for bit: {old.get(what)} then, {new[what]} now",
                stacklevel=3,
            )
