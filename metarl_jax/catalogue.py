"""What there is by name: worlds, methods and experiments, and those of one's own.

A value named like its file in `worlds/`, `methods/` or `experiments/` is offered, with
dashes for underscores and the first line of the file's docstring as its summary; so is
any other value of such a file that is followed by a string of its own. Packages offer
further ones by the entry points `metarl_jax.worlds`, `.methods` and `.experiments`.
Listing reads files and imports none, because importing takes JAX, and that seconds.
"""

import ast
import difflib
import functools
import hashlib
import importlib
import importlib.util
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple

Shelf = Literal["worlds", "methods", "experiments"]
SHELVES: tuple[Shelf, ...] = ("experiments", "worlds", "methods")


class Entry(NamedTuple):
    """Where something is, and one line about it."""

    module: str
    attribute: str
    summary: str


class Source(NamedTuple):
    """A file of one's own, as it was when it was imported."""

    path: str
    sha256: str


@functools.cache
def entries(shelf: Shelf) -> dict[str, Entry]:
    """Returns what a shelf holds, by the names of the command line."""
    found = {}
    for path in sorted((Path(__file__).parent / shelf).glob("*.py")):
        module = f"metarl_jax.{shelf}.{path.stem}"
        for name, summary in _values(path).items():
            found[name.replace("_", "-")] = Entry(module, name, summary)
    for point in sorted(metadata.entry_points(group=f"metarl_jax.{shelf}")):
        summary = f"from {point.dist.name}" if point.dist else ""
        found.setdefault(point.name, Entry(point.module, point.attr, summary))
    return found


def summaries(shelf: Shelf) -> dict[str, str]:
    """Returns the names of a shelf with one line about each."""
    return {name: entry.summary for name, entry in entries(shelf).items()}


def is_own(name: str) -> bool:
    """Tells whether a name is of the form FILE.py:NAME."""
    return ".py:" in name or name.endswith(".py")


def check(name: str, *shelves: Shelf) -> None:
    """Raises a `ValueError` that names what there is, unless `name` is on a shelf.

    Of a name in a file of one's own, it is only seen that the file is there.
    """
    if is_own(name):
        path, _, attribute = name.rpartition(":")
        if not path or not attribute.isidentifier():
            raise ValueError(
                f"what is in a file of one's own is called FILE.py:NAME; got {name!r}"
            )
        if not Path(path).is_file():
            raise ValueError(f"there is no file {path}, which {name!r} names")
        return
    known = [name for shelf in shelves for name in entries(shelf)]
    if name in known:
        return
    close = difflib.get_close_matches(name.replace("_", "-"), known, n=1)
    suggestion = f"did you mean {close[0]}? " if close else ""
    raise ValueError(
        f"unknown {' or '.join(shelf.removesuffix('s') for shelf in shelves)} "
        f"{name!r}; {suggestion}there are {', '.join(known)}, and FILE.py:NAME"
    )


def load(name: str, *shelves: Shelf) -> Any:
    """Imports what a name stands for.

    Raises:
      ValueError: if there is nothing of that name.
    """
    check(name, *shelves)
    if is_own(name):
        path, _, attribute = name.rpartition(":")
        module = _import_file(Path(path).resolve())
        if not hasattr(module, attribute):
            raise ValueError(f"{path} has nothing called {attribute}")
        return getattr(module, attribute)
    shelf = next(shelf for shelf in shelves if name in entries(shelf))
    entry = entries(shelf)[name]
    return functools.reduce(
        getattr, entry.attribute.split("."), importlib.import_module(entry.module)
    )


def source_of(name: str) -> Source | None:
    """Returns where a name of one's own is from; None for others."""
    if not is_own(name):
        return None
    path = Path(name.rpartition(":")[0]).resolve()
    return Source(str(path), hashlib.sha256(path.read_bytes()).hexdigest())


def _import_file(path: Path) -> Any:
    """Imports a file under a name of its own, its folder being where it imports from.

    Raises:
      ValueError: if it is not Python, or raises while it is imported.
    """
    name = f"_own_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.append(folder)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ValueError(
            f"{path} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    return module


def _values(path: Path) -> dict[str, str]:
    """Reads the values that a file offers, with their summaries."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {}
    following: list[ast.stmt | None] = [*tree.body[1:], None]
    for node, after in zip(tree.body, following, strict=True):
        if not isinstance(node, ast.Assign | ast.FunctionDef):
            continue
        target = node.targets[0] if isinstance(node, ast.Assign) else node
        name = getattr(target, "id", None) or getattr(target, "name", None)
        if name == path.stem:
            found[name] = (ast.get_docstring(tree) or "").partition("\n")[0]
        elif (
            isinstance(node, ast.Assign)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        ):
            found[name] = after.value.value.partition("\n")[0]
    return found
