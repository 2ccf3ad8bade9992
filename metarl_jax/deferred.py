"""Packages that others import when they start, and few ever use."""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from functools import partial
from types import ModuleType
from typing import Any


@contextlib.contextmanager
def deferred(*names: str) -> Iterator[None]:
    """Lets those who import modules meanwhile have them when they first use them.

    They get what asks the module for an attribute; whoever imports it later gets the
    module itself. What is imported already stays as it is.

    Args:
      names: of modules, a package before what lies in it.
    """
    stand_ins: dict[str, Any] = {}
    for name in names:
        if name in sys.modules:
            continue
        stand_in: Any = ModuleType(name)
        stand_ins[name] = stand_in
        stand_in.__path__ = []
        stand_in.__getattr__ = partial(_of_module, name)
        package, _, inner = name.rpartition(".")
        if package in stand_ins:
            setattr(stand_ins[package], inner, stand_in)
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, stand_in in stand_ins.items():
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]


def _of_module(name: str, attribute: str) -> Any:
    return getattr(importlib.import_module(name), attribute)
