"""The files of a run: `config.json`, `metrics.jsonl`, `evaluation.json` and others.

Everything here is plain JSON that any tool can read, and this module imports neither
JAX nor an environment, so that the command line can look at a run at once.
"""

import json
import math
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metarl_jax.runs import schema

CONFIG = "config.json"
METRICS = "metrics.jsonl"
EVALUATION = "evaluation.json"
PATHS = "paths.json"
GOAL_BELIEFS = "goal_beliefs.json"
INSPECTION = "inspection.json"
ANIMATION = "animation.gif"
CHECKPOINTS = "checkpoints"


def jsonable(value: Any) -> Any:
    """Converts arrays, tuples and paths to what JSON has; NaN and ±inf become None."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return jsonable(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bool | int | str | None):
        return value
    return str(value)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON so that a reader finds the old file or the new one, never a part."""
    text = json.dumps(jsonable(value), indent=2, allow_nan=False)
    # Lists of numbers on one line each. Strings hold no line breaks in JSON.
    text = re.sub(
        r"\[\n\s+([^\[\]{}]*?)\n\s+\]",
        lambda match: "[" + re.sub(r"\n\s+", " ", match[1]) + "]",
        text,
    )
    replace_text(path, text + "\n")


def replace_text(path: Path, text: str) -> None:
    """Replaces a file's text in one step that a crash cannot cut in half."""
    replace_bytes(path, text.encode())


def replace_bytes(path: Path, data: bytes) -> None:
    """Replaces a file, or a link to one, likewise."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        with open(temporary, "xb") as file:  # never through a link
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def read_config(run_dir: Path) -> dict[str, Any]:
    """Reads what a run was started with.

    Raises:
      ValueError: if `run_dir` is not the directory of a run.
    """
    if not run_dir.is_dir():
        raise ValueError(
            f"{run_dir} is not a directory; a run's directory (one that holds "
            f"{CONFIG}) is required"
        )
    if not (run_dir / CONFIG).exists():
        raise ValueError(
            f"{run_dir} holds no {CONFIG}, so it is not a run; the directory that "
            "`metarl-jax train` wrote is required"
        )
    where = str(run_dir / CONFIG)
    config = dict(schema.mapping(schema.read_json(run_dir / CONFIG), where))
    _check_start(config, where)
    required = ("experiment", "options", "seed", "num_seeds")
    missing = [key for key in required if key not in config]
    if missing:
        raise ValueError(f"{where} lacks {', '.join(missing)}")
    schema.text(config, "experiment", where)
    schema.mapping(config["options"], f"{where}, options")
    schema.whole(config, "seed", where, least=0)
    schema.whole(config, "num_seeds", where)
    if config.get("mesh") is not None:
        schema.text(config, "mesh", where)
    # What older records lack, or leave to the machine.
    optional = ("num_steps", "seed_group_size", "checkpoint_every", "max_skipped")
    optional += ("environment_steps",)
    for key in optional:
        if config.get(key) is not None:
            schema.whole(config, key, where)
    return config


def _check_start(config: Mapping[str, Any], where: str) -> None:
    """Checks what is said of the runs that a run started from."""
    while config.get("start_from") is not None:
        where = f"{where}, start_from"
        config = schema.mapping(config["start_from"], where)
        for key in ("run", "sha256", "experiment"):
            schema.text(config, key, where)
        schema.mapping(config.get("options"), f"{where}, options")
        schema.whole(config, "step", where)


def resume_command(run_dir: Path) -> str:
    """Returns the command that continues a run."""
    return f"metarl-jax train --resume {shlex.quote(str(run_dir))}"
