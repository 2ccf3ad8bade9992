"""Commands, errors and exit statuses.

What is asked is checked before JAX is imported where that can be done, and before
anything is compiled in any case. A mistake is answered in one sentence, exit status 2.
"""

import gc
import sys
import warnings
from collections.abc import Sequence

from metarl_jax.cli import (
    animate,
    evaluate,
    export,
    inspect,
    plot,
    record,
    report,
    reproduce,
    sweep,
    train,
)
from metarl_jax.cli import list as listing
from metarl_jax.cli.parsing import suggestion
from metarl_jax.cli.screen import (
    fail,
    interrupted,
    leave,
    name_table,
    say,
    shelf_tables,
    show_warning,
)
from metarl_jax.errors import SimulatorError
from metarl_jax.reproduction import TABLES
from metarl_jax.runs import display

COMMANDS = {
    "train": train.train,
    "evaluate": evaluate.evaluate,
    "plot": plot.plot,
    "inspect": inspect.inspect,
    "animate": animate.animate,
    "report": report.report,
    "export": export.export,
    "record": record.record,
    "sweep": sweep.sweep,
    "reproduce": reproduce.reproduce,
    "list": listing.show,
}


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
      args: the arguments; None for the process's.

    Returns:
      The exit status: 0; 1 where training had to be given up; 2 for a mistake in the
      arguments; 128 and a signal's number where that asked to stop, what was done being
      saved.
    """
    args = list(sys.argv[1:] if args is None else args)
    display.keep_descriptors()
    # Imports and traces make hundreds of thousands of objects, and all are kept: to
    # look for garbage among them again and again takes a fifth of a start.
    gc.set_threshold(50_000)
    with warnings.catch_warnings():
        warnings.showwarning = show_warning
        try:
            if not args or args[0] in ("-h", "--help"):
                say(_overview())
                return 0
            command = args[0]
            if command not in COMMANDS:
                raise ValueError(
                    f"unknown command {command!r}{suggestion(command, COMMANDS)}; one "
                    f"of {', '.join(COMMANDS)} is required"
                )
            return COMMANDS[command](args[1:])
        except ValueError as error:
            if not _is_ours(error):
                raise
            return fail(error, 2)
        except OSError as error:
            return fail(error, 2)
        except (FloatingPointError, SimulatorError) as error:
            return fail(error, 1)
        except KeyboardInterrupt as error:
            say("interrupted", file=sys.stderr)
            leave(interrupted(error))


def _is_ours(error: Exception) -> bool:
    """Tells our refusals from an error inside a library, which needs its traceback."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    module = traceback.tb_frame.f_globals.get("__name__", "") if traceback else ""
    return module.partition(".")[0] in ("metarl_jax", "__main__")


def _overview() -> str:
    return f"""usage: metarl-jax COMMAND [OPTIONS]

Meta-reinforcement learning: train, evaluate, look, take away.

commands:
  train NAME          meta-train, evaluate and draw the figures
  evaluate RUN        evaluate a trained run on held-out tasks
  plot RUN [RUN ...]  draw a run's figures again, or compare several runs
  inspect RUN         look into what was learned: layers, memory, map, attention
  animate RUN         an agent before and after adaptation, moving (GIF, MP4)
  report RUN [RUN ..] write runs, compared, on one page of HTML
  export RUN          write a policy so that it acts elsewhere, without JAX
  record RUN          write learning histories as a data set
  sweep NAME          train with many combinations of options, here or on a cluster
  reproduce TABLE     compute a published table again and compare
  list                list experiments, worlds, methods and tables

{shelf_tables()}

tables to reproduce:
{name_table(TABLES)}

examples:
  metarl-jax train point-nav-maml-quick
  metarl-jax train grid-navigation --method promp
  metarl-jax train point-nav-maml --num-seeds 3 --output-dir runs/mine
  metarl-jax train --resume runs/mine --num-steps 300
  metarl-jax train my_file.py:my_experiment
  metarl-jax train WORLD --method METHOD --help    all options
  metarl-jax sweep point-nav-maml-quick --vary inner-lr 0.05 0.1 0.2
  metarl-jax reproduce rl2-bandits --quick"""
