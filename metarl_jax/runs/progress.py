"""How long work shows itself: a live bar on a terminal, plain lines elsewhere."""

import contextlib
import html
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)


def _seconds(seconds: float) -> str:
    """Formats a duration as `9 s`, `3:20` or `2:05:00`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours}:{minutes:02d}:{whole % 60:02d}"
    return f"{minutes}:{whole % 60:02d}"


def _rate(rate: float) -> str:
    """Formats steps per second so that slow work still reads well."""
    if 0 < rate < 1:
        return f"{1 / rate:.2g} s/step"
    return f"{rate:.3g} steps/s"


@contextlib.contextmanager
def announced(console: Console, what: str) -> Iterator[None]:
    """Says what is about to be done, and then how many seconds it took."""
    start = time.perf_counter()
    console.print(f"{what} … ", end="")
    try:
        yield
    except BaseException:
        console.print()
        raise
    console.print(f"{time.perf_counter() - start:.1f} s")


class _Cell:
    """A bar below a notebook's cell, drawn again in its place."""

    def __init__(self):
        """Makes the place."""
        from IPython.display import HTML, display

        self._html = HTML
        self._handle: Any = display(HTML(""), display_id=True)

    def show(self, step: int, num_steps: int, text: str) -> None:
        """Draws the bar anew."""
        bar = f'<progress value="{step}" max="{num_steps}"></progress>'
        self._handle.update(self._html(f"{bar} {html.escape(text)}"))


class TrainingProgress:
    """Shows the meta-training steps done, the returns, the rate and the time left.

    Use as a context manager, and call `update` whenever something is known.
    """

    def __init__(
        self,
        console: Console,
        *,
        num_steps: int,
        step: int,
        seconds_between_lines: float = 5.0,
    ):
        """Starts at `step` of `num_steps`.

        Args:
          console: where to; live if it is a terminal.
          num_steps: the steps there are to be.
          step: the steps done already.
          seconds_between_lines: how often a plain line is written.
        """
        self._console = console
        self._num_steps = num_steps
        self._first_step = step
        self._start = time.perf_counter()
        self._last_line = -float("inf")
        self._seconds_between_lines = seconds_between_lines
        self._bar, self._cell = None, None
        if console.is_jupyter and not console.quiet:
            self._cell = _Cell()
        elif console.is_terminal:
            self._bar = Progress(
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("return {task.fields[returns]}"),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(compact=True),
                TextColumn("left"),
                console=console,
                expand=True,
            )
            self._task = self._bar.add_task(
                "", total=num_steps, completed=step, returns="–", rate=""
            )

    def __enter__(self) -> "TrainingProgress":
        """Draws the bar."""
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leaves the bar as it last stood."""
        if self._bar is not None:
            self._bar.stop()

    def update(self, step: int, return_before: float, return_after: float) -> None:
        """Shows that `step` steps are done and the returns of the last."""
        now = time.perf_counter()
        rate = (step - self._first_step) / max(now - self._start, 1e-9)
        returns = f"{return_before:.4g} → {return_after:.4g}"
        if self._bar is not None:
            self._bar.update(
                self._task, completed=step, returns=returns, rate=_rate(rate)
            )
            return
        if self._cell is not None:
            left = (self._num_steps - step) / max(rate, 1e-9)
            self._cell.show(
                step,
                self._num_steps,
                f"{step}/{self._num_steps}, return {returns}, {_rate(rate)}, "
                f"{_seconds(left)} left",
            )
            return
        due = now - self._last_line >= self._seconds_between_lines
        if due or step == self._num_steps:
            self._last_line = now
            left = (self._num_steps - step) / max(rate, 1e-9)
            digits = len(str(self._num_steps))
            self._console.print(
                f"step {step:{digits}d}/{self._num_steps}   return {returns}   "
                f"{_rate(rate)}   {_seconds(left)} left",
                highlight=False,
                soft_wrap=True,
            )
