"""Meta-reinforcement learning in JAX: one compiled meta-training step."""

import importlib.machinery
import sys


class _LoadedOnUse:
    """Loads seaborn and pyplot when something of theirs is first asked for.

    gymnax imports them to draw some of its environments, and they import pandas and
    SciPy's statistics: half of the time that it takes to import this package.
    """

    def __init__(self, loader=None):
        self._loader = loader

    def find_spec(self, name, path=None, target=None):
        """Finds these two modules as they would be found without this."""
        del target
        if name not in ("matplotlib.pyplot", "seaborn"):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None:
            spec.loader = _LoadedOnUse(spec.loader)  # pyright: ignore
        return spec

    def create_module(self, spec):
        """Leaves it to Python to make the module."""
        del spec

    def exec_module(self, module):
        """Makes the first attribute that the module lacks execute it."""

        def execute_and_get(name):
            del module.__getattr__
            module.__spec__.loader = module.__loader__ = self._loader
            self._loader.exec_module(module)  # pyright: ignore
            return getattr(module, name)

        module.__getattr__ = execute_and_get


sys.meta_path.insert(0, _LoadedOnUse())  # pyright: ignore
