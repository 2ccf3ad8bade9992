"""Published tables computed again, one file each.

The file `<name>.py` defines the function `<name>`, called `<name>` with dashes on the
command line. Listing them imports none, because a table imports JAX.
"""

import difflib
import importlib
from collections.abc import Callable

TABLES = {
    "dpt-bandits": "Lee et al. 2023, section 5: Gaussian bandits",
    "pearl-half-circle": "Rakelly et al. 2019, section 6.3: a goal on a half-circle",
    "rl2-bandits": "Duan et al. 2016, Table 1: Bernoulli bandits",
    "rl2-mdps": "Duan et al. 2016, Table 2: random MDPs",
    "varibad-gridworld": "Zintgraf et al. 2020, section 5.1: a grid with a hidden goal",
    "wang-bandits": "Wang et al. 2016, section 3.1: independent and correlated arms",
}


def check_table(name: str) -> None:
    """Raises a `ValueError` that names what there is unless `name` is a table."""
    if name in TABLES:
        return
    close = difflib.get_close_matches(name.replace("_", "-"), TABLES, n=1)
    suggestion = f"did you mean {close[0]}? " if close else ""
    raise ValueError(
        f"unknown table {name!r}; {suggestion}there are {', '.join(TABLES)}"
    )


def load_table(name: str) -> Callable:
    """Imports the function that builds a table: `(*, seed) -> Table`.

    Raises:
      ValueError: if there is no table of that name.
    """
    check_table(name)
    stem = name.replace("-", "_")
    return getattr(importlib.import_module(f"metarl_jax.reproduction.{stem}"), stem)
