"""`metarl-jax sweep`: many combinations of options, each a run of its own."""

import dataclasses
import re
import shlex
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from metarl_jax.cli import parsing
from metarl_jax.cli.screen import interrupted, leave, options_listed, say, shelf_tables
from metarl_jax.options import Option


@dataclasses.dataclass(frozen=True)
class SweepOptions:
    """What is varied, and where the runs are computed.

    Attributes:
      vary: an option and its values, such as --vary inner-lr 0.05 0.1; a value of
        several words in quotes; a range as uniform:LOW:HIGH or loguniform:LOW:HIGH,
        with --num-samples. Give it again for further options.
      num_samples: combinations drawn at random; by default all, as a grid.
      output_dir: directory of the sweep; by default sweeps/EXPERIMENT. On a cluster one
        that all machines see. The same command in it continues a sweep.
      cpus_per_run: CPUs kept for each run, and the threads it computes with.
      gpus_per_run: GPUs kept for each run, or the share of one; without, a run computes
        on the CPU unless JAX_PLATFORMS says otherwise.
      address: of a running Ray cluster, auto on one of its machines or host:port; by
        default this machine alone. RAY_AUTH_MODE=token where the cluster wants one.
      seed: first random seed of every run; decides what is drawn, too.
      num_seeds: seeds of every run, trained at once.
      seed_group_size: seeds computed together, one group after the other; by default
        one on a CPU, all elsewhere.
      checkpoint_every: meta-training steps from one checkpoint to the next.
      max_skipped: updates in a row that may be left out for not being finite.
    """

    vary: Annotated[
        tuple[tuple[str, ...], ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(metavar="OPTION VALUE [VALUE ...]"),
    ] = ()
    num_samples: int | None = None
    output_dir: Path | None = None
    cpus_per_run: float = 1
    gpus_per_run: float = 0
    address: str | None = None
    seed: int = 0
    num_seeds: int = 1
    seed_group_size: int | None = None
    checkpoint_every: int = 50
    max_skipped: int = 10


def sweep(args: list[str]) -> int:
    """`metarl-jax sweep NAME --vary OPTION VALUE… [--options]`."""
    name, rest = parsing.split_name(args)
    if name is None and parsing.is_help(rest):
        say(_overview())
        return 0
    if name is None:
        raise ValueError(
            "sweep needs the name of an experiment or a world right after it, or "
            "FILE.py:NAME; see metarl-jax list"
        )
    prog = f"metarl-jax sweep {name}"
    parsing.Choice(name, parsing.value_of("--method", rest)).check_names()

    import jax

    # The workers compute; this process must not take a GPU's memory from them.
    jax.config.update("jax_platforms", "cpu")
    choice, rest = parsing.take_choice(name, rest)
    choice = choice.named()
    factory = choice.load()
    groups = parsing.groups_of(factory)
    types = parsing.group_types(groups)
    options = parsing.parse(
        parsing.arguments(
            parsing.about(factory),
            {
                **{group: kind() for group, kind in types.items()},
                "sweep": SweepOptions(),
            },
        ),
        rest,
        prog=prog,
    )
    settings = dataclasses.asdict(options.sweep)
    vary = _varied(settings.pop("vary"), groups, rest, prog=prog)
    shared = {
        option: value
        for option, value in parsing.flattened(options, groups).items()
        if option not in vary
    }
    output_dir = settings.pop("output_dir") or Path("sweeps") / choice.label

    from metarl_jax.sweeps import figure, sweep, table

    plan = sweep.Plan(
        choice,
        shared,
        vary,
        **{key: settings.pop(key) for key in ("num_samples", "seed", "num_seeds")},
    )
    try:
        record = sweep.sweep(plan, output_dir, **settings)
    except KeyboardInterrupt as error:
        command = shlex.join(["metarl-jax", "sweep", *args])
        say(f"stopped; what is done is kept, and the same command goes on: {command}")
        leave(interrupted(error))
    say(table.layout(record))
    if not table.finished_runs(record):
        raise FloatingPointError("every run of the sweep failed")
    drawn = figure.draw(record, output_dir / sweep.FIGURE)
    say(f"{output_dir}: {sweep.SWEEP}, {drawn.name}")
    return 0


def _varied(
    vary: Sequence[Sequence[str]],
    groups: Mapping[str, list[Option]],
    args: list[str],
    *,
    prog: str,
) -> dict[str, Any]:
    """Reads what follows each `--vary`, as the experiment's own options are read.

    Args:
      vary: of each the words: an option and its values.
      groups: the experiment's options.
      args: all arguments, among which an option that is varied must not be.
      prog: for the sentences.

    Returns:
      By option, its values or the range they are drawn from.

    Raises:
      ValueError: one sentence.
    """
    from metarl_jax.sweeps.combinations import Range

    options = {
        option.name.replace("_", "-"): option
        for group in groups.values()
        for option in group
    }
    fixed = {arg.partition("=")[0].replace("_", "-") for arg in args}
    varied: dict[str, Any] = {}
    for option, *words in (words or ("",) for words in vary):
        option = option.removeprefix("--").replace("_", "-")
        if option not in options:
            raise ValueError(
                f"--vary needs an option of the experiment; got {option!r}"
                f"{parsing.suggestion(option, options)}; see {prog} --help"
            )
        if {f"--{option}", f"--no-{option}"} & fixed:
            raise ValueError(f"--{option} cannot be both given and varied")
        name = option.replace("-", "_")
        if name in varied:
            raise ValueError(f"--vary {option} can be given once; got it twice")
        values: Any = [_value_read(word, options[option], prog=prog) for word in words]
        if ranges := [value for value in values if isinstance(value, Range)]:
            if len(values) > 1:
                raise ValueError(
                    f"--vary {option} takes one range or some values; got both in "
                    f"{' '.join(words)}"
                )
            values = ranges[0]
        varied[name] = values
    return varied


def _value_read(word: str, option: Option, *, prog: str) -> Any:
    """Reads one value of an option that is varied, or the range it is drawn from."""
    from metarl_jax.sweeps.combinations import Range

    flag = "--" + option.name.replace("_", "-")
    if option.kind is bool:
        if word.lower() not in ("true", "false"):
            raise ValueError(f"{flag} must be true or false; got {word!r}")
        return word.lower() == "true"
    kind = parsing.group_types({"experiment": [option]})["experiment"]

    def read(*words):
        return getattr(parsing.parse(kind, [flag, *words], prog=prog), option.name)

    kinds = set(typing.get_args(option.kind) or [option.kind]) - {type(None)}
    if (match := re.fullmatch(r"(log)?uniform:(.*):(.*)", word)) and kinds <= {
        int,
        float,
    }:
        low, high = read(match[2]), read(match[3])
        return Range(low, high, bool(match[1]), kinds == {int})
    return read(*word.split())


def _overview() -> str:
    return f"""usage: metarl-jax sweep NAME --vary OPTION VALUE [VALUE ...] [...]

Train with every combination of some options' values, each a run of its own in a worker
process of Ray, and compare what they reach on held-out tasks. NAME and the other
options are those of `metarl-jax train`.

{shelf_tables()}

options of every sweep:
{options_listed(SweepOptions)}

examples:
  metarl-jax sweep point-nav-maml-quick --vary inner-lr 0.05 0.1 0.2 --num-seeds 2
  metarl-jax sweep point-nav --method promp --vary outer-lr 1e-4 1e-3
  metarl-jax sweep point-nav-maml --vary hidden-sizes 64 "64 64" --vary num-tasks 10 20
  metarl-jax sweep point-nav-maml --vary inner-lr loguniform:0.01:1 --num-samples 20 \\
      --address auto --cpus-per-run 2

`metarl-jax sweep NAME --help` shows all options."""
