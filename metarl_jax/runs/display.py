"""Words on a screen, which may be closed, full or short of letters at any time.

What cannot be shown is left out: whether somebody reads decides nothing.
"""

import contextlib
import os
import sys
from typing import Any

from rich.console import Console

_ASCII = str.maketrans({"…": "...", "→": "->", "–": "-", "×": "x", "─": "-"})


def keep_descriptors() -> None:
    """Lets closed standard streams lead nowhere.

    A file of the run would have their numbers otherwise, and what a library writes to
    the screen would stand in it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def show(text: str, stream: Any = None) -> None:
    """Writes text at once to a stream; None for standard output."""
    stream = _unproxied(sys.stdout if stream is None else stream)
    if stream is None:
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        data = text.translate(_ASCII).encode(encoding, "backslashreplace")
        text = data.decode(encoding)
    try:
        stream.write(text)
        stream.flush()
    except OSError:
        _silence(stream)
    except ValueError:
        pass  # closed by this process


def console(*, quiet: bool = False) -> Console:
    """Makes what prints to standard output, words as they are."""
    return Console(
        file=_Screen(),  # pyright: ignore
        quiet=quiet,
        highlight=False,
        soft_wrap=True,
        markup=False,
        emoji=False,
    )


class _Screen:
    """Standard output as it then is, for what wants a file."""

    def write(self, text: str) -> int:
        show(text)
        return len(text)

    def flush(self) -> None:
        """Nothing waits."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_unproxied(sys.stdout), name)


def _unproxied(stream: Any) -> Any:
    """Returns the stream behind the one that rich puts in its place."""
    return getattr(stream, "rich_proxied_file", stream)


def _silence(stream: Any) -> None:
    """Lets a stream lead nowhere, where what waits in it is written at the end."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
