"""Waiting for a device and a compiler in such a way that signals are heard."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import jax

_THREAD = "metarl_jax uninterruptible"


def wait(outputs: Any, stop: threading.Event | None = None) -> None:
    """Waits for a program's outputs in naps, so that signals are heard.

    Args:
      outputs: what a compiled program returned.
      stop: ends the waiting.
    """
    leaf, nap = jax.tree.leaves(outputs)[0], 2e-5
    while not leaf.is_ready() and not (stop and stop.is_set()):
        time.sleep(nap)
        nap = min(1.2 * nap, 0.01)


def unless_stopped(stop: threading.Event, function: Callable[[], Any]) -> Any:
    """Calls a function that holds the interpreter, unless told to stop meanwhile.

    Returns:
      What the function returned, or None if told to stop before it did.
    """
    result: Future = Future()

    def call():
        try:
            result.set_result(function())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=call, name=_THREAD, daemon=True).start()
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            return result.result(timeout=0.1)
    return None


def is_something_abandoned() -> bool:
    """Tells whether a function that `unless_stopped` gave up on still runs."""
    return any(thread.name == _THREAD for thread in threading.enumerate())


class Stop(threading.Event):
    """Is set by a signal, whose number it holds then."""

    number: int | None = None


def status(number: int | None) -> int:
    """Returns the exit status of a process that a signal has asked to end.

    Args:
      number: of the signal; None where another process got it.
    """
    return 128 + (number or signal.SIGTERM)


@contextlib.contextmanager
def stop_on_signal() -> Iterator[Stop]:
    """Gives an event that the first SIGINT, SIGTERM or SIGHUP sets."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may handle signals
        return

    def handle(number, frame):
        del frame
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.number = stop.number or number
        stop.set()
        # Not `print`, which must not be entered from a handler.
        with contextlib.suppress(OSError):
            os.write(2, b"\nstopping; Ctrl-C again stops at once\n")

    signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
        signals.append(signal.SIGHUP)
    previous = [signal.signal(number, handle) for number in signals]
    try:
        yield stop
    finally:
        for number, handler in zip(signals, previous, strict=True):
            signal.signal(number, handler)
