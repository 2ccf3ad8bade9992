"""Which files of experiments this user has named: they may be imported by a record.

A run's record names the file that it was trained from. The record may be a stranger's,
so that naming is not enough for a file to be executed: it must be one that the user has
named before, and unchanged.
"""

import json
import os
from pathlib import Path

from metarl_jax.catalogue import Source


def remember(source: Source) -> None:
    """Notes that the user has named a file, where that can be noted."""
    known = _known()
    if known.get(source.path) == source.sha256:
        return
    path = _path()
    if not path.is_absolute():  # of a user without a home
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps({**known, source.path: source.sha256}))
        os.replace(temporary, path)
    except OSError:
        pass  # the file has to be named again, and a sentence will say so


def is_remembered(source: Source) -> bool:
    """Tells whether the user has named a file as it is."""
    return _known().get(source.path) == source.sha256


def _known() -> dict[str, str]:
    try:
        known = json.loads(_path().read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _path() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(os.path.expanduser(state)) / "metarl_jax" / "own_files.json"
