"""`metarl-jax list`: what there is."""

from metarl_jax.cli.screen import name_table, say, shelf_tables
from metarl_jax.reproduction import TABLES


def show(args: list[str]) -> int:
    """`metarl-jax list`."""
    if args and args[0] not in ("-h", "--help"):
        raise ValueError(f"list takes no arguments; got {' '.join(args)}")
    say(f"{shelf_tables()}\n\ntables to reproduce:\n{name_table(TABLES)}")
    return 0
