"""Curves for TensorBoard, which no thread writes that could stand still.

An event file is a sequence of records: a length, its checksum, an `Event` and its
checksum.
"""

import contextlib
import os
import socket
import struct
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import masked_crc32c
from tensorboardX.summary import scalar

# Protocol buffers make their classes when they are imported.
Event: Any = event_pb2.Event  # pyright: ignore
SessionLog: Any = event_pb2.SessionLog  # pyright: ignore


class EventFile:
    """A new file of events in a directory.

    Training does not depend on it: where it cannot be written, a warning says so once.
    """

    def __init__(self, directory: Path, purge_step: int | None):
        """Opens the file.

        Args:
          directory: of the run.
          purge_step: the first step that is written again; None for a new run.
        """
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}"
        self._path = directory / name
        self._file = None
        try:
            self._file = self._path.open("xb")
        except OSError as error:
            self._give_up(error)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        if purge_step is not None:
            start = SessionLog(status=SessionLog.START)
            self._write(Event(step=purge_step, session_log=start))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Adds a point to each curve."""
        event = Event(wall_time=time.time(), step=step)
        for name, value in values.items():
            event.summary.MergeFrom(scalar(name, value))
        self._write(event)

    def flush(self, *, to_disk: bool = False) -> None:
        """Gives what was added to the system, so that it outlives this process."""
        if self._file is None:
            return
        try:
            self._file.flush()
            if to_disk:
                os.fsync(self._file.fileno())
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        """Ends the file."""
        self.flush(to_disk=True)
        if self._file is not None:
            self._file.close()

    def _write(self, event: Any) -> None:
        if self._file is None:
            return
        data = event.SerializeToString()
        length = struct.pack("<Q", len(data))
        checks = [struct.pack("<I", masked_crc32c(part)) for part in (length, data)]
        try:
            self._file.write(length + checks[0] + data + checks[1])
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        warnings.warn(
            f"{self._path} cannot be written ({error.strerror}): the run goes on "
            "without TensorBoard's events",
            stacklevel=3,
        )
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()
