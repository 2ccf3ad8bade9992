"""`metrics.jsonl`: a line of JSON for each meta-training step, in order.

A checkpoint keeps the checksum of the lines up to its step, so that a resume tells what
was recorded from what became of it since. What cannot be kept is put beside.
"""

import hashlib
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from metarl_jax.runs import files

DAMAGED = "metrics.damaged.jsonl"


class History(NamedTuple):
    """What `metrics.jsonl` holds.

    Attributes:
      lines: the first of each step, in order of the steps, without line ends.
      strange: all others that are complete, as `(number, line)`, from 1.
      sorted: whether the lines stood in that order.
      unfinished: what follows the last line end, as a process leaves that is killed
        while it writes.
    """

    lines: dict[int, bytes]
    strange: list[tuple[int, bytes]]
    sorted: bool
    unfinished: bytes


def parse(data: bytes) -> History:
    """Tells the lines of steps from what is something else."""
    *complete, last = data.split(b"\n")
    found: dict[int, bytes] = {}
    strange = []
    for number, line in enumerate(complete, start=1):
        step = _step(line)
        if step is None or step in found:
            strange.append((number, line))
        else:
            found[step] = line
    step = _step(last)
    if step is not None and step not in found:  # only its end is missing
        found[step], last = last, b""
    steps = sorted(found)
    return History(
        {step: found[step] for step in steps}, strange, steps == list(found), last
    )


def read(run_dir: Path) -> list[dict[str, Any]]:
    """Reads the rows of all steps, in order; none where there is no file.

    Warns:
      UserWarning: if there are lines that cannot be read, or of a step that was there
        before. Not for the last one, which may just be written.
    """
    history = parse(_bytes(run_dir))
    if history.strange:
        numbers = _ranges(number for number, _ in history.strange)
        warnings.warn(
            f"{run_dir / files.METRICS}: cannot use line {numbers}, left out",
            stacklevel=3,
        )
    return [json.loads(line) for line in history.lines.values()]


def digest(data: bytes) -> "hashlib._Hash":
    """Returns the checksum of lines, to which that of others can be added."""
    return hashlib.sha256(data)


def mend(run_dir: Path, step: int, record: Mapping[str, Any] | None) -> None:
    """Makes `metrics.jsonl` what it was at a step, as far as that can be done.

    The lines of later steps go, as these are about to be done again.

    Args:
      run_dir: the directory of the run.
      step: of the checkpoint that the run goes on from.
      record: of that checkpoint; None where there is none, and the run begins again.

    Warns:
      UserWarning: if the lines are not what was recorded; says which.
    """
    data = _bytes(run_dir)
    if record is None:
        _begin_again(run_dir, data)
        return
    history = parse(data)
    lines = {number: line for number, line in history.lines.items() if number <= step}
    said = []
    if history.strange:
        numbers = _ranges(number for number, _ in history.strange)
        said.append(f"line {numbers} cannot be used and is kept in {DAMAGED}")
        _set_aside(run_dir, [line for _, line in history.strange])
    if not history.sorted:
        said.append("the lines were not in order of their steps and are now")
    if step not in lines and record.get("last_line") is not None:
        lines[step] = record["last_line"].encode()
        said.append(f"the line of step {step} was taken from the checkpoint")
    recorded = record.get("metrics_sha256")
    if digest(_joined(lines.values())).hexdigest() != recorded:
        missing = set(range(1, step + 1)) - set(lines)
        if missing:
            said.append(f"nothing is left of step {_ranges(missing)}")
        elif recorded is not None:
            said.append(
                f"some line up to step {step} was changed after it was recorded, and "
                "is left as it is"
            )
    _warn(run_dir / files.METRICS, said)
    files.replace_bytes(run_dir / files.METRICS, _joined(lines.values()))


def _begin_again(run_dir: Path, data: bytes) -> None:
    """Puts beside what was recorded of steps of which there is no checkpoint."""
    if data:
        _set_aside(run_dir, data.splitlines())
        num_steps = len(parse(data).lines)
        _warn(
            run_dir,
            [
                f"there is no checkpoint of the {num_steps} steps in {files.METRICS}, "
                f"whose lines are kept in {DAMAGED}"
            ],
        )
    files.replace_bytes(run_dir / files.METRICS, b"")


def _warn(what: Path, said: Sequence[str]) -> None:
    if said:
        warnings.warn(f"{what}: {'; '.join(said)}", stacklevel=5)


def _bytes(run_dir: Path) -> bytes:
    path = run_dir / files.METRICS
    if not path.exists():
        return b""
    if not path.is_file():
        raise ValueError(f"{path} must be a regular file")
    return path.read_bytes()


def _joined(lines: Iterable[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def _set_aside(run_dir: Path, lines: Sequence[bytes]) -> None:
    path = run_dir / DAMAGED
    before = path.read_bytes() if path.is_file() else b""
    files.replace_bytes(path, before + _joined(lines))


def _step(line: bytes) -> int | None:
    """Returns the step that a line is of; None where it is no line of a step."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    step = row.get("step") if isinstance(row, dict) else None
    return step if type(step) is int and step > 0 else None


def _ranges(numbers: Iterable[int]) -> str:
    """Writes numbers as `3, 7–9`."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    parts = [str(low) if low == high else f"{low}-{high}" for low, high in spans]
    return ", ".join(parts[:5]) + (", ..." if len(parts) > 5 else "")
