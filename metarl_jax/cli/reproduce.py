"""`metarl-jax reproduce`: a published table, computed again."""

import dataclasses
from pathlib import Path

from metarl_jax.cli import parsing
from metarl_jax.cli.screen import say
from metarl_jax.reproduction import TABLES, check_table, load_table


@dataclasses.dataclass(frozen=True)
class ReproduceOptions:
    """Compute a published table again, cell by cell, and draw it.

    A cell that the directory holds is not computed again: the same command continues a
    table that was stopped.

    Args:
      quick: leave out the cells that take longer than minutes.
      output_dir: directory of the table; by default reproductions/TABLE.
      seed: decides the instances that are met.
    """

    quick: bool = False
    output_dir: Path | None = None
    seed: int = 0


def reproduce(args: list[str]) -> int:
    """`metarl-jax reproduce TABLE [--options]`."""
    name, args = parsing.split_name(args)
    if name is not None:
        check_table(name)
    prog = f"metarl-jax reproduce {name or 'TABLE'}"
    options = parsing.parse(ReproduceOptions, args, prog=prog)
    if name is None:
        raise ValueError(
            f"reproduce needs a table right after it; there are {', '.join(TABLES)}"
        )
    output_dir = options.output_dir or Path("reproductions") / name

    from metarl_jax.reproduction import figure, table
    from metarl_jax.validation import check_seed

    check_seed(options.seed)
    result = table.reproduce(
        load_table(name)(seed=options.seed),
        output_dir,
        seed=options.seed,
        quick=options.quick,
    )
    drawn = [
        figure.draw(result, output_dir / table.FIGURE),
        figure.draw_curves(result, output_dir / table.CURVES),
    ]
    say(table.layout(result))
    names = [table.TABLE, *(path.name for path in drawn if path)]
    say(f"{output_dir}: {', '.join(names)}")
    return 0
