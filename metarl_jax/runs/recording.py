"""What a run writes of every meta-training step."""

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from metarl_jax.runs import files, history
from metarl_jax.runs.events import EventFile
from metarl_jax.types import Info


class Recorder:
    """Writes `metrics.jsonl` and TensorBoard events, and counts skipped updates."""

    def __init__(
        self,
        run_dir: Path | None,
        *,
        num_seeds: int,
        max_skipped: int,
        purge_step: int | None,
        callback: Callable[[int, Info], Any] | None = None,
    ):
        """Opens the files in `run_dir`; None to count and write nothing.

        `purge_step` is the first step to be written again. The callback is given each
        step and its info.
        """
        self._num_seeds = num_seeds
        self._max_skipped = max_skipped
        self._metrics = self._events = None
        # Of all lines in the file; the last that was written.
        self.digest = history.digest(b"")
        self.last_line: str | None = None
        if run_dir is not None:
            # By one handle: the name may be gone, or another's, a moment later.
            self._metrics = (run_dir / files.METRICS).open("a+b")
            self._metrics.seek(0)
            self.digest = history.digest(self._metrics.read())
            self._events = EventFile(run_dir, purge_step)
        self._callback = callback
        self.rows: list[dict[str, Any]] = []  # kept where nothing is written
        self._keeps = run_dir is None
        self.skipped_in_a_row = np.zeros(num_seeds, int)  # [S]
        self.given_up: tuple[int, int] | None = None  # which seed, at which step
        self.seconds = 0.0  # of training, at the last step written
        self.last_returns = float("nan"), float("nan")

    def write(self, steps: list[tuple[int, float, Info]]) -> None:
        """Records `(step, seconds, info)` of steps that are complete.

        Raises:
          OSError: if that is not possible, or the file is gone.
        """
        infos = jax.device_get([info for _, _, info in steps])
        lines, curves = [], []
        for (step, self.seconds, _), info in zip(steps, infos, strict=True):
            fields = {
                jax.tree_util.keystr(path, simple=True, separator="."): value
                for path, value in jax.tree_util.tree_leaves_with_path(info)
            }
            row: dict[str, Any] = {"step": step}
            row |= {field: self._over_seeds(value) for field, value in fields.items()}
            row["seconds"] = round(self.seconds, 4)
            if self._num_seeds > 1:
                row["seeds"] = fields
            plain = files.jsonable(row)
            if self._keeps:
                self.rows.append(plain)
            self.last_line = json.dumps(plain, allow_nan=False)
            lines.append(self.last_line.encode() + b"\n")
            self.digest.update(lines[-1])
            # TensorBoard draws neither a curve of vectors nor one of NaN.
            points = {
                field: value
                for field, value in row.items()
                if field not in ("step", "seeds")
                and np.ndim(value) == 0
                and np.isfinite(value)
            }
            curves.append((step, points))
            self.last_returns = row["return_before"], row["return_after"]
            skipped = np.reshape(fields["skipped"], self._num_seeds)
            self.skipped_in_a_row = np.where(skipped, self.skipped_in_a_row + 1, 0)
            member = int(np.argmax(self.skipped_in_a_row))
            if self.skipped_in_a_row[member] >= self._max_skipped:
                self.given_up = self.given_up or (member, step)
        self._append(b"".join(lines))
        if self._events is not None:
            for step, points in curves:
                self._events.add(step, points)
            self._events.flush()
        if self._callback is not None:
            for (step, _, _), info in zip(steps, infos, strict=True):
                self._callback(step, info)

    def sync(self) -> None:
        """Waits until what was recorded is on the disk, where no power cut loses it.

        Raises:
          OSError: if that is not possible, or the file is gone.
        """
        self._append(b"", to_disk=True)
        if self._events is not None:
            self._events.flush(to_disk=True)

    def _append(self, data: bytes, *, to_disk: bool = False) -> None:
        if self._metrics is None:
            return
        path = self._metrics.name
        try:
            self._metrics.write(data)
            self._metrics.flush()
            if to_disk:
                os.fsync(self._metrics.fileno())
            there = os.path.samestat(os.fstat(self._metrics.fileno()), os.stat(path))
        except FileNotFoundError:
            there = False
        except OSError as error:
            raise OSError(f"{path} cannot be written: {error.strerror}") from None
        if not there:
            raise OSError(f"{path} was removed or replaced while it was written")

    def _over_seeds(self, value: np.ndarray) -> Any:
        """Returns the one seed's value, or the mean over the seeds."""
        value = np.asarray(value)
        if self._num_seeds > 1:
            return np.mean(value, axis=0)
        return value.astype(int) if value.dtype == bool else value

    def close(self) -> None:
        """Closes the files."""
        if self._metrics is not None:
            with contextlib.suppress(OSError):  # `write` has said it
                self._metrics.close()
        if self._events is not None:
            self._events.close()
