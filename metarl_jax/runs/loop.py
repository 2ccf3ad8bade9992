"""The compiled step, run until the end or a stop."""

import threading
import time
from collections.abc import Callable

import jax
import numpy as np

from metarl_jax.runs import (
    interruption,
    processes,
)
from metarl_jax.runs.experiment import (
    Evaluation as Evaluation,
)
from metarl_jax.runs.experiment import (
    Experiment as Experiment,
)
from metarl_jax.runs.progress import TrainingProgress
from metarl_jax.runs.recording import Recorder
from metarl_jax.types import Info, State


def run_steps(
    run_step: Callable[[np.int32, State], tuple[State, Info]],
    step: int,
    state: State,
    *,
    num_steps: int,
    checkpoint_every: int,
    origin: float,
    stop: threading.Event,
    recorder: Recorder,
    progress: TrainingProgress,
    save: Callable[[int, State], None],
) -> tuple[int, State]:
    """Runs the compiled step until the end or a stop; records and saves on the way.

    A step that fails raises its error here, when what was done before it is saved.

    Args:
      run_step: the compiled step; returns before its result is computed.
      step: the steps done.
      state: the state after them.
      num_steps: the steps there are to be.
      checkpoint_every: steps from one save to the next.
      origin: when training would have begun, had it never been interrupted.
      stop: ends the run after the step it is set in.
      recorder: what writes each step's info.
      progress: what shows it.
      save: saves the state after a step.

    Returns:
      The steps done and the state after them, both recorded and saved.
    """
    running, done = [], []  # (step, state, info, stop) and (step, seconds, info)
    sound = step, state  # of which it is known that they were computed
    anyone, stopping = processes.agreement(), False

    def wants_to_stop():
        return stop.is_set() or recorder.given_up is not None

    def wait(keep):
        nonlocal stopping, sound
        while len(running) > keep:
            number, computed, info, agreed = running.pop(0)
            interruption.wait(info)
            jax.block_until_ready(info)  # raises what a failed step has to say
            sound = number, computed
            done.append((number, time.perf_counter() - origin, info))
            stopping = stopping or bool(agreed)

    def record():
        if done:
            recorder.write(done)
            progress.update(done[-1][0], *recorder.last_returns)
            done.clear()

    last_record, last_saved = time.perf_counter(), step
    try:
        while step < num_steps and not stopping:
            state, info = run_step(np.int32(step), state)
            step += 1
            running.append((step, state, info, anyone(wants_to_stop())))
            # One step stays queued behind the one that runs, so that the device never
            # waits for the host; no more, so that a signal is heard.
            wait(keep=1)
            if step % checkpoint_every == 0:
                wait(keep=0)
                record()
                save(step, state)
                last_saved = step
            if time.perf_counter() - last_record > 0.2:
                record()
                last_record = time.perf_counter()
            if jax.process_count() == 1:
                stopping = wants_to_stop()
        wait(keep=0)
    except jax.errors.JaxRuntimeError:
        record()
        if last_saved != sound[0] and jax.process_count() == 1:
            save(*sound)
        raise
    record()
    if last_saved != step:
        save(step, state)
    return step, state
