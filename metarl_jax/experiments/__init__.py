"""The experiments of the command line, one file each.

The file `<name>.py` that defines a function `<name>` is an experiment, called
`<name>` with dashes on the command line. Listing them reads the files and imports none,
because an experiment imports JAX and its environments, which takes seconds.
"""

import ast
import difflib
import functools
import importlib
from collections.abc import Callable
from pathlib import Path


@functools.cache
def experiment_summaries() -> dict[str, str]:
    """Returns each experiment's command-line name and the first line about it."""
    summaries = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        if path.stem in [function.name for function in functions]:
            docstring = ast.get_docstring(tree) or ""
            summaries[path.stem.replace("_", "-")] = docstring.partition("\n")[0]
    return summaries


def check_experiment(name: str) -> None:
    """Raises a `ValueError` that names what there is unless `name` is an experiment."""
    known = list(experiment_summaries())
    if name in known:
        return
    close = difflib.get_close_matches(name.replace("_", "-"), known, n=1)
    suggestion = f"did you mean {close[0]}? " if close else ""
    raise ValueError(
        f"unknown experiment {name!r}; {suggestion}there are {', '.join(known)}"
    )


def load_experiment(name: str) -> Callable:
    """Imports the function that builds an experiment.

    Raises:
      ValueError: if there is no experiment of that name.
    """
    check_experiment(name)
    stem = name.replace("-", "_")
    return getattr(importlib.import_module(f"metarl_jax.experiments.{stem}"), stem)
