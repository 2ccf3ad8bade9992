"""What a record must be, said in one sentence where it is something else.

Records may be edited, cut off, a stranger's or another program's.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def read_json(path: Path) -> Any:
    """Reads a file of JSON.

    Raises:
      ValueError: if there is no such file, or it is not JSON.
    """
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is no regular file")  # reading a pipe would hang
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist") from None
    except RecursionError:
        raise ValueError(f"{path} cannot be read as JSON: nested too deeply") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as JSON: {error}") from None


def mapping(value: Any, where: str) -> Mapping[str, Any]:
    """Returns an object of JSON.

    Raises:
      ValueError: if it is something else, as all functions here do.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: an object is required; got {shown(value)}")
    return value


def nonempty_list(value: Any, where: str, length: int | None = None) -> list[Any]:
    """Returns a list with something in it, or of a length."""
    size = len(value) if isinstance(value, list) else 0
    if size < 1 or size != (length or size):
        what = f"of {length}" if length else "with something in it"
        raise ValueError(f"{where}: a list {what} is required; got {shown(value)}")
    return value


def text(record: Mapping[str, Any], key: str, where: str) -> str:
    """Returns the string that an object has under a key."""
    value = record.get(key)
    if not isinstance(value, str):
        raise ValueError(f"{where}: {key} must be a string; got {shown(value)}")
    return value


def whole(record: Mapping[str, Any], key: str, where: str, *, least: int = 1) -> int:
    """Returns the whole number that an object has under a key."""
    value = record.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(
            f"{where}: {key} must be a whole number of at least {least}; got "
            f"{shown(value)}"
        )
    return value


def array(
    record: Mapping[str, Any], key: str, where: str, shape: tuple[int | None, ...]
) -> np.ndarray:
    """Returns numbers of a shape, of which None is any length; null is NaN."""
    value = record.get(key)
    try:
        found = np.array([] if isinstance(value, str) else value, float)
    except (TypeError, ValueError, OverflowError):
        found = np.array([])
    fits = found.size > 0 and found.ndim == len(shape) and key in record
    if not fits or any(
        want not in (None, have) for have, want in zip(found.shape, shape, strict=True)
    ):
        lengths = ", ".join("n" if want is None else str(want) for want in shape)
        what = f"numbers [{lengths}]" if shape else "a number"
        raise ValueError(f"{where}: {key} must be {what}; got {shown(value)}")
    return found


def shown(value: Any) -> str:
    """Writes a value in a few letters."""
    try:
        written = repr(value)
    except (RecursionError, ValueError):  # nested too deeply, or of 5,000 digits
        written = f"a {type(value).__name__}"
    return written if len(written) <= 40 else f"{written[:37]}..."
