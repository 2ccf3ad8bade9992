"""Packages that others import when they start, and few ever use."""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any


@contextlib.contextmanager
def deferred(name: str) -> Iterator[None]:
    """Lets those who import a package meanwhile have it when they first use it.

    They get what asks it for an attribute; whoever imports it later gets the package.
    Where it is imported already, nothing changes.

    Args:
      name: of a package, not of a module within one.
    """
    if name in sys.modules:
        yield
        return
    stand_in: Any = ModuleType(name)
    stand_in.__getattr__ = lambda attr: getattr(importlib.import_module(name), attr)
    sys.modules[name] = stand_in
    try:
        yield
    finally:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]
