"""What a run writes of every meta-training step."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tensorboardX

from metarl_jax.runs import files, history
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
        path = Path(os.devnull) if run_dir is None else run_dir / files.METRICS
        self._metrics = path.open("a", encoding="utf-8")
        # Of all lines in the file; the last that was written.
        self.digest = history.digest(b"" if run_dir is None else path.read_bytes())
        self.last_line: str | None = None
        self._events = tensorboardX.SummaryWriter(
            None if run_dir is None else str(run_dir),
            purge_step=purge_step,
            write_to_disk=run_dir is not None,
        )
        self._callback = callback
        self.rows: list[dict[str, Any]] = []  # kept where nothing is written
        self._keeps = run_dir is None
        self.skipped_in_a_row = np.zeros(num_seeds, int)  # [S]
        self.given_up: tuple[int, int] | None = None  # which seed, at which step
        self.seconds = 0.0  # of training, at the last step written
        self.last_returns = float("nan"), float("nan")

    def write(self, steps: list[tuple[int, float, Info]]) -> None:
        """Records `(step, seconds, info)` of steps that are complete."""
        infos = jax.device_get([info for _, _, info in steps])
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
            self._metrics.write(self.last_line + "\n")
            self.digest.update(self.last_line.encode() + b"\n")
            for field, value in row.items():
                # TensorBoard draws neither a curve of vectors nor one of NaN.
                if field in ("step", "seeds") or np.ndim(value):
                    continue
                if np.isfinite(value):
                    self._events.add_scalar(field, value, step)
            self.last_returns = row["return_before"], row["return_after"]
            skipped = np.reshape(fields["skipped"], self._num_seeds)
            self.skipped_in_a_row = np.where(skipped, self.skipped_in_a_row + 1, 0)
            member = int(np.argmax(self.skipped_in_a_row))
            if self.skipped_in_a_row[member] >= self._max_skipped:
                self.given_up = self.given_up or (member, step)
            if self._callback is not None:
                self._callback(step, info)
        self._metrics.flush()

    def _over_seeds(self, value: np.ndarray) -> Any:
        """Returns the one seed's value, or the mean over the seeds."""
        value = np.asarray(value)
        if self._num_seeds > 1:
            return np.mean(value, axis=0)
        return value.astype(int) if value.dtype == bool else value

    def close(self) -> None:
        """Closes the files."""
        self._metrics.close()
        self._events.close()
