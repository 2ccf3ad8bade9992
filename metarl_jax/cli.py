"""The command `metarl-jax`.

What is asked is checked before JAX is imported where that can be done, and before
anything is compiled in any case. A mistake is answered in one sentence, exit status 2.
"""

import contextlib
import dataclasses
import difflib
import gc
import inspect
import io
import itertools
import os
import re
import shlex
import sys
import textwrap
import typing
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import tyro

from metarl_jax.experiments import (
    check_experiment,
    experiment_summaries,
    load_experiment,
)
from metarl_jax.reproduction import TABLES, check_table, load_table
from metarl_jax.runs import files, protocol

MARKERS = (tyro.conf.OmitArgPrefixes, tyro.conf.DisallowNone)


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """What every training run takes.

    Attributes:
      seed: first random seed.
      num_seeds: seeds trained at once: seed, seed + 1, ...
      seed_group_size: seeds computed together, one group after the other; by default
        one on a CPU, all elsewhere.
      output_dir: new directory of the run; by default one in runs/.
      checkpoint_every: meta-training steps from one checkpoint to the next; the last
        step is always saved.
      max_skipped: updates in a row that may be left out for not being finite.
      resume: directory of a run to continue, bit for bit.
    """

    seed: int = 0
    num_seeds: int = 1
    seed_group_size: int | None = None
    output_dir: Path | None = None
    checkpoint_every: int = 50
    max_skipped: int = 10
    resume: Path | None = None


@dataclasses.dataclass(frozen=True)
class DeviceOptions:
    """What a run is computed on.

    Attributes:
      mesh: devices that tasks and seeds are shared out over, such as tasks=4,seeds=2; a
        CPU is divided into as many. By default one device.
      coordinator: host:port of the first of several processes that train together, or
        auto where SLURM, Open MPI, Kubernetes or a TPU pod has started them.
      num_processes: how many processes train together.
      process_id: which of them this is, from 0.
    """

    mesh: str | None = None
    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None


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


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """Evaluate a trained run on held-out tasks and draw its figures again.

    Args:
      run: directory of the run.
      num_tasks: held-out tasks of each seed; by default the experiment's.
      num_episodes: episodes of each task after every number of adaptation steps; by
        default the experiment's.
      num_adaptation_steps: adaptation steps; by default the experiment's.
      seed: decides the held-out tasks.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    num_tasks: int | None = None
    num_episodes: int | None = None
    num_adaptation_steps: int | None = None
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class PlotOptions:
    """Draw a run's figures from its records, or compare several runs in one figure.

    Args:
      runs: directories of runs.
      output: directory for the figures; by default the run's own, and for several runs
        the current directory.
    """

    runs: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")
    ]
    output: Path | None = None


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


def main(args: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
      args: the arguments; None for the process's.

    Returns:
      The exit status: 0; 1 where training had to be given up; 2 for a mistake in the
      arguments.
    """
    args = list(sys.argv[1:] if args is None else args)
    # Imports and traces make hundreds of thousands of objects, and all are kept: to
    # look for garbage among them again and again takes a fifth of a start.
    gc.set_threshold(50_000)
    commands: dict[str, Callable[[list[str]], int]] = {
        "train": _train,
        "evaluate": _evaluate,
        "plot": _plot,
        "sweep": _sweep,
        "reproduce": _reproduce,
        "list": _list,
    }
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            if not args or args[0] in ("-h", "--help"):
                print(_overview())
                return 0
            command = args[0]
            if command not in commands:
                raise ValueError(
                    f"unknown command {command!r}{_suggestion(command, commands)}; one "
                    f"of {', '.join(commands)} is required"
                )
            return commands[command](args[1:])
        except ValueError as error:
            if not _is_ours(error):
                raise
            return _fail(error, 2)
        except OSError as error:
            return _fail(error, 2)
        except FloatingPointError as error:
            return _fail(error, 1)
        except KeyboardInterrupt:
            _say("interrupted", file=sys.stderr)
            _leave(130)


def _train(args: list[str]) -> int:
    """`metarl-jax train EXPERIMENT [--options]`."""
    name, args = (args[0], args[1:]) if args and args[0][:1] != "-" else (None, args)
    wants_help = any(arg in ("-h", "--help") for arg in args)
    resumed = _value_of("--resume", args)
    config = None if resumed is None else files.read_config(Path(resumed))
    if name is None and config is not None:
        name = config["experiment"]
    if name is None and wants_help:
        print(_train_overview())
        return 0
    if name is None:
        raise ValueError(
            "train needs an experiment right after it; there are "
            + ", ".join(experiment_summaries())
        )
    check_experiment(name)
    if config is not None and config["experiment"] != name:
        raise ValueError(
            f"{resumed} is a run of {config['experiment']} and cannot be resumed as "
            f"{name}; the same experiment is required"
        )
    prog = f"metarl-jax train {name}"
    mesh = None if wants_help else _take_devices(args, config, prog=prog)
    options = _parse(
        _training_arguments(load_experiment(name), config), args, prog=prog
    )
    experiment_options = dataclasses.asdict(options.experiment)
    experiment = load_experiment(name)(**experiment_options)

    from metarl_jax import training
    from metarl_jax.runs import interruption

    trained = training.train(
        experiment,
        name=name,
        options=experiment_options,
        mesh=mesh,
        **dataclasses.asdict(options.run),
    )
    if not trained.finished:
        return _leave(0) if interruption.is_something_abandoned() else 0
    return _evaluate_and_draw(experiment, trained.run_dir)


def _evaluate(args: list[str]) -> int:
    """`metarl-jax evaluate RUN [--options]`."""
    if not args:
        raise ValueError("evaluate needs the directory of a run")
    options = _parse(EvaluateOptions, args, prog="metarl-jax evaluate")
    config = files.read_config(options.run)
    factory = load_experiment(config["experiment"])
    defaults = _recorded_defaults(factory, config)
    settings = dataclasses.asdict(options)
    return _evaluate_and_draw(factory(**defaults), settings.pop("run"), **settings)


def _plot(args: list[str]) -> int:
    """`metarl-jax plot RUN… [--output DIR]`."""
    options = _parse(PlotOptions, args, prog="metarl-jax plot")
    if not options.runs:
        raise ValueError("plot needs the directory of at least one run")
    from metarl_jax import plotting

    output = options.output
    if output is None:
        output = options.runs[0] if len(options.runs) == 1 else Path()
    for path in plotting.plot_runs(options.runs, output):
        _say(path)
    return 0


def _sweep(args: list[str]) -> int:
    """`metarl-jax sweep EXPERIMENT --vary OPTION VALUE… [--options]`."""
    name, rest = (args[0], args[1:]) if args and args[0][:1] != "-" else (None, args)
    if name is None and any(arg in ("-h", "--help") for arg in rest):
        print(_sweep_overview())
        return 0
    if name is None:
        raise ValueError(
            "sweep needs an experiment right after it; there are "
            + ", ".join(experiment_summaries())
        )
    check_experiment(name)
    prog = f"metarl-jax sweep {name}"

    import jax

    # The workers compute; this process must not take a GPU's memory from them.
    jax.config.update("jax_platforms", "cpu")
    factory = load_experiment(name)
    options = _parse(
        _arguments(factory, _experiment_options(factory), sweep=SweepOptions()),
        rest,
        prog=prog,
    )
    settings = dataclasses.asdict(options.sweep)
    vary = _varied(settings.pop("vary"), factory, rest, prog=prog)
    shared = {
        option: value
        for option, value in dataclasses.asdict(options.experiment).items()
        if option not in vary
    }
    output_dir = settings.pop("output_dir") or Path("sweeps") / name

    from metarl_jax.sweeps import figure, sweep, table

    plan = sweep.Plan(
        name,
        shared,
        vary,
        **{key: settings.pop(key) for key in ("num_samples", "seed", "num_seeds")},
    )
    try:
        record = sweep.sweep(plan, output_dir, **settings)
    except KeyboardInterrupt:
        command = shlex.join(["metarl-jax", "sweep", *args])
        _say(f"stopped; what is done is kept, and the same command goes on: {command}")
        _leave(0)
    _say(table.layout(record))
    if not table.finished_runs(record):
        raise FloatingPointError("every run of the sweep failed")
    drawn = figure.draw(record, output_dir / sweep.FIGURE)
    _say(f"{output_dir}: {sweep.SWEEP}, {drawn.name}")
    return 0


def _reproduce(args: list[str]) -> int:
    """`metarl-jax reproduce TABLE [--options]`."""
    name, args = (args[0], args[1:]) if args and args[0][:1] != "-" else (None, args)
    if name is not None:
        check_table(name)
    prog = f"metarl-jax reproduce {name or 'TABLE'}"
    options = _parse(ReproduceOptions, args, prog=prog)
    if name is None:
        raise ValueError(
            f"reproduce needs a table right after it; there are {', '.join(TABLES)}"
        )
    output_dir = options.output_dir or Path("reproductions") / name

    from metarl_jax.reproduction import figure, table
    from metarl_jax.runs.experiment import check_seed

    check_seed(options.seed)
    result = table.reproduce(
        load_table(name)(seed=options.seed),
        output_dir,
        seed=options.seed,
        quick=options.quick,
    )
    drawn = figure.draw(result, output_dir / table.FIGURE)
    _say(table.layout(result))
    _say(f"{output_dir}: {table.TABLE}, {drawn.name}")
    return 0


def _list(args: list[str]) -> int:
    """`metarl-jax list`."""
    if args and args[0] not in ("-h", "--help"):
        raise ValueError(f"list takes no arguments; got {' '.join(args)}")
    print(f"experiments:\n{_experiment_table()}\n\ntables:\n{_name_table(TABLES)}")
    return 0


def _evaluate_and_draw(experiment: Any, run_dir: Path, **settings: Any) -> int:
    """Evaluates a run, draws its figures and prints the table."""
    from metarl_jax import plotting
    from metarl_jax.runs import evaluation, processes

    first = processes.is_first()
    try:
        result = evaluation.evaluate_run(
            experiment, run_dir, quiet=not first, **settings
        )
    except KeyboardInterrupt:
        quoted = shlex.quote(str(run_dir))
        _say(f"stopped; the run is saved: metarl-jax evaluate {quoted}")
        _leave(0)
    if not first:
        return 0
    figures = plotting.plot_run(run_dir)
    _say(_evaluation_table(result))
    _say(f"{run_dir}: {', '.join(path.name for path in figures)}")
    return 0


def _take_devices(
    args: list[str], config: Mapping[str, Any] | None, *, prog: str
) -> str | None:
    """Joins other processes and divides the CPU, as far as the arguments say so.

    Before an experiment is imported: gymnax makes JAX look for devices, once for all.

    Returns:
      The mesh; that of the run to be resumed, unless another is given.
    """
    options, _ = _parse_known(DeviceOptions, args, prog=prog)
    mesh = options.mesh or (config or {}).get("mesh")
    if mesh is None and options == DeviceOptions():
        return None
    from metarl_jax.runs import devices, processes

    processes.join(options.coordinator, options.num_processes, options.process_id)
    if mesh is not None:
        devices.divide_cpu(mesh, num_processes=options.num_processes or 1)
    return mesh


def _training_arguments(factory: Callable, config: Mapping[str, Any] | None) -> type:
    """Builds the type whose fields are all options of an experiment's run.

    Args:
      factory: the experiment's function; every keyword becomes an option.
      config: of the run to be resumed, whose options become the defaults.
    """
    defaults, run = _recorded_defaults(factory, config), RunOptions()
    if config is not None:
        recorded = {
            field.name: config[field.name]
            for field in dataclasses.fields(RunOptions)
            if field.name in config
        }
        run = dataclasses.replace(run, **recorded)
    return _arguments(
        factory,
        _experiment_options(factory, defaults),
        run=run,
        devices=DeviceOptions(),
    )


def _arguments(factory: Callable, experiment: type, **groups: Any) -> type:
    """Builds the type of a command's options: an experiment's, and others in groups."""
    groups = {"experiment": experiment(), **groups}
    arguments = dataclasses.make_dataclass(
        "Arguments",
        [
            (name, type(group), dataclasses.field(default=group))
            for name, group in groups.items()
        ],
        frozen=True,
    )
    arguments.__doc__ = inspect.getdoc(factory).partition("\nArgs:")[0]  # type: ignore
    return arguments


def _experiment_options(factory: Callable, defaults: Mapping[str, Any] = {}) -> type:
    """Builds the type whose fields are the options of an experiment.

    Args:
      factory: the experiment's function; every keyword becomes an option.
      defaults: in place of the function's own.
    """
    # The strings of `from __future__ import annotations` would mean nothing elsewhere.
    signature = inspect.signature(factory, eval_str=True)
    helps = _argument_helps(factory.__doc__ or "")
    fields = []
    for name, parameter in signature.parameters.items():
        annotation = Annotated[
            parameter.annotation, tyro.conf.arg(help=helps.get(name, ""))
        ]
        default = defaults.get(name, parameter.default)
        fields.append((name, annotation, dataclasses.field(default=default)))
    experiment = dataclasses.make_dataclass("Experiment", fields, frozen=True)
    experiment.__doc__ = "What the experiment takes."
    return experiment


def _varied(
    vary: Sequence[Sequence[str]], factory: Callable, args: list[str], *, prog: str
) -> dict[str, Any]:
    """Reads what follows each `--vary`, as the experiment's own options are read.

    Args:
      vary: of each the words: an option and its values.
      factory: the experiment's function.
      args: all arguments, among which an option that is varied must not be.
      prog: for the sentences.

    Returns:
      By option, its values or the range they are drawn from.

    Raises:
      ValueError: one sentence.
    """
    from metarl_jax.sweeps.combinations import Range

    parameters = inspect.signature(factory, eval_str=True).parameters
    known = [name.replace("_", "-") for name in parameters]
    fixed = {arg.partition("=")[0].replace("_", "-") for arg in args}
    varied: dict[str, Any] = {}
    for option, *words in (words or ("",) for words in vary):
        option = option.removeprefix("--").replace("_", "-")
        if option not in known:
            raise ValueError(
                f"--vary needs an option of the experiment; got {option!r}"
                f"{_suggestion(option, known)}; see {prog} --help"
            )
        if {f"--{option}", f"--no-{option}"} & fixed:
            raise ValueError(f"--{option} cannot be both given and varied")
        name = option.replace("-", "_")
        if name in varied:
            raise ValueError(f"--vary {option} can be given once; got it twice")
        kind = parameters[name].annotation
        values: Any = [
            _value_read(word, name, kind, factory, prog=prog) for word in words
        ]
        if ranges := [value for value in values if isinstance(value, Range)]:
            if len(values) > 1:
                raise ValueError(
                    f"--vary {option} takes one range or some values; got both in "
                    f"{' '.join(words)}"
                )
            values = ranges[0]
        varied[name] = values
    return varied


def _value_read(
    word: str, name: str, kind: Any, factory: Callable, *, prog: str
) -> Any:
    """Reads one value of an option that is varied, or the range it is drawn from."""
    from metarl_jax.sweeps.combinations import Range

    option = "--" + name.replace("_", "-")
    if kind is bool:
        if word.lower() not in ("true", "false"):
            raise ValueError(f"{option} must be true or false; got {word!r}")
        return word.lower() == "true"

    def read(*words):
        parsed = _parse(_experiment_options(factory), [option, *words], prog=prog)
        return getattr(parsed, name)

    kinds = set(typing.get_args(kind) or [kind]) - {type(None)}
    if (match := re.fullmatch(r"(log)?uniform:(.*):(.*)", word)) and kinds <= {
        int,
        float,
    }:
        low, high = read(match[2]), read(match[3])
        return Range(low, high, bool(match[1]), kinds == {int})
    return read(*word.split())


def _recorded_defaults(
    factory: Callable, config: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Returns the recorded options of a run, as the experiment takes them."""
    if config is None:
        return {}
    known = inspect.signature(factory).parameters
    for name in config["options"]:
        if name not in known:
            raise ValueError(
                f"the run was made with the option {name}, which "
                f"{config['experiment']} does not have; an experiment with the same "
                "options is required"
            )
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in config["options"].items()
    }


def _argument_helps(docstring: str) -> dict[str, str]:
    """Reads what a Google-style docstring says of each argument."""
    section = inspect.cleandoc(docstring).partition("\nArgs:\n")[2]
    section = re.split(r"\n(?=\S)", section)[0]
    helps = {}
    for entry in re.split(r"\n(?=\S)", textwrap.dedent(section)):
        name, _, text = entry.partition(":")
        helps[name.strip()] = " ".join(text.split())
    return helps


def _parse_known(
    arguments: type, args: list[str], *, prog: str
) -> tuple[Any, list[str]]:
    """Parses options with tyro, and returns with them what it did not know.

    Raises:
      ValueError: one sentence, where tyro would print a box and exit.
    """
    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output):
            return tyro.cli(
                arguments,
                args=args,
                prog=prog,
                config=MARKERS,
                return_unknown_args=True,
            )
    except SystemExit as exit_:
        if not exit_.code:
            raise
        raise ValueError(_sentence(output.getvalue(), args, prog)) from None


def _parse(arguments: type, args: list[str], *, prog: str) -> Any:
    """Parses options, all of which must be known.

    Raises:
      ValueError: one sentence.
    """
    parsed, unknown = _parse_known(arguments, args, prog=prog)
    if unknown:
        flags = [arg for arg in unknown if arg.startswith("-")]
        first = (flags or unknown)[0].partition("=")[0]
        known = ["--" + name.replace("_", "-") for name in _field_names(arguments)]
        what = "option" if flags else "argument"
        raise ValueError(
            f"unknown {what} {first!r}{_suggestion(first, known)}; see {prog} --help"
        )
    return parsed


def _field_names(arguments: type) -> list[str]:
    """Returns the names of a dataclass's fields, those of nested ones in place."""
    names = []
    for field in dataclasses.fields(arguments):
        if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            names += _field_names(field.type)
        else:
            names.append(field.name)
    return names


def _sentence(box: str, args: list[str], prog: str) -> str:
    """Takes the sentence out of the box that tyro draws around it."""
    lines = [line.strip("│╭╮╰╯| ") for line in box.splitlines()[1:]]
    lines = [line for line in lines if line]
    # The box has a rule below its text and, where there are no fine lines, one above.
    ruled = [i for i, line in enumerate(lines) if set(line) <= set("─-")]
    if ruled and ruled[0] == 0:
        lines, ruled = lines[1:], [i - 1 for i in ruled[1:]]
    text = " ".join(lines[: ruled[0] if ruled else None]).rstrip(".")
    if match := re.match(r"Error parsing (--\S+?):", text):
        option = match[1]
        kind = re.search(rf"^{option} (.*)$", "\n".join(lines), re.MULTILINE)
        kinds = {
            "INT": "a whole number",
            "FLOAT": "a number",
            "[INT [INT ...]]": "whole numbers",
            "[FLOAT [FLOAT ...]]": "numbers",
        }
        if kind and kind[1] in kinds:
            got = _value_of(option, args)
            text = f"{option} must be {kinds[kind[1]]}; got {got!r}"
    return f"{text}; see {prog} --help".lstrip("; ")


def _value_of(option: str, args: list[str]) -> str | None:
    """Finds the value of an option as it was typed, without a parser."""
    for i, arg in enumerate(args):
        if arg == option and i + 1 < len(args):
            rest = itertools.takewhile(
                lambda arg: not re.match("--?[a-z]", arg), args[i + 1 :]
            )
            return " ".join(rest)
        if arg.startswith(option + "="):
            return arg.partition("=")[2]
    return None


def _suggestion(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _overview() -> str:
    return f"""usage: metarl-jax COMMAND [OPTIONS]

Meta-reinforcement learning: train, evaluate, look.

commands:
  train EXPERIMENT    meta-train an experiment, evaluate it and draw its figures
  evaluate RUN        evaluate a trained run on held-out tasks
  plot RUN [RUN ...]  draw a run's figures again, or compare several runs
  sweep EXPERIMENT    train with many combinations of options, here or on a cluster
  reproduce TABLE     compute a published table again and compare
  list                list the experiments and tables

experiments:
{_experiment_table()}

tables:
{_name_table(TABLES)}

examples:
  metarl-jax train point-nav-maml-quick
  metarl-jax train point-nav-maml --num-seeds 3 --output-dir runs/mine
  metarl-jax train --resume runs/mine --num-steps 300
  metarl-jax train EXPERIMENT --help    all options of an experiment
  metarl-jax sweep point-nav-maml-quick --vary inner-lr 0.05 0.1 0.2
  metarl-jax reproduce rl2-bandits --quick"""


def _options_listed(*kinds: type) -> str:
    """Lists the options of some groups with what their docstrings say of them."""
    return "\n".join(
        f"  --{name.replace('_', '-'):<18} {text}"
        for kind in kinds
        for name, text in _argument_helps(
            (kind.__doc__ or "").replace("Attributes:", "Args:")
        ).items()
    )


def _train_overview() -> str:
    return f"""usage: metarl-jax train EXPERIMENT [OPTIONS]
       metarl-jax train --resume RUN [OPTIONS]

Meta-train an experiment, evaluate it on held-out tasks and draw its figures.

experiments:
{_experiment_table()}

options of every run:
{_options_listed(RunOptions, DeviceOptions)}

`metarl-jax train EXPERIMENT --help` shows the experiment's own options too."""


def _sweep_overview() -> str:
    return f"""usage: metarl-jax sweep EXPERIMENT --vary OPTION VALUE [VALUE ...] [...]

Train an experiment with every combination of some options' values, each a run of its
own in a worker process of Ray, and compare what they reach on held-out tasks. The other
options of the experiment are given as to `metarl-jax train`.

experiments:
{_experiment_table()}

options of every sweep:
{_options_listed(SweepOptions)}

examples:
  metarl-jax sweep point-nav-maml-quick --vary inner-lr 0.05 0.1 0.2 --num-seeds 2
  metarl-jax sweep point-nav-maml --vary hidden-sizes 64 "64 64" --vary num-tasks 10 20
  metarl-jax sweep point-nav-maml --vary inner-lr loguniform:0.01:1 --num-samples 20 \\
      --address auto --cpus-per-run 2

`metarl-jax sweep EXPERIMENT --help` shows the experiment's own options too."""


def _experiment_table() -> str:
    return _name_table(experiment_summaries())


def _name_table(summaries: Mapping[str, str]) -> str:
    width = max(map(len, summaries), default=0)
    return "\n".join(f"  {name:<{width}}  {text}" for name, text in summaries.items())


def _evaluation_table(result: Mapping[str, Any]) -> str:
    """Lays out the adaptation curve, its references and the published values."""

    def number(value):
        return "–" if value is None else f"{value:.2f}"

    steps = result["adaptation_step"]
    unit = result.get("adaptation_unit", "adaptation steps")  # older records lack it
    rows = [(f"return after {unit}", list(map(str, steps)))]
    rows.append(("meta-learned: mean", list(map(number, result["return_mean"]))))
    interval = [f"[{number(low)}, {number(high)}]" for low, high in result["return_ci"]]
    rows.append((f"  {protocol.interval(result)}", interval))
    rows.append(("  interquartile mean", list(map(number, result["return_iqm"]))))
    for name, row in {"": result, **result["references"]}.items():
        if name:
            rows.append((name, list(map(number, row["return_mean"]))))
        if any(not_finite := row.get("num_not_finite", [])):
            rows.append(("  tasks not finite", list(map(str, not_finite))))
    for name, values in result["published"].items():
        shown = [number(value) for value in values[: len(steps)]]
        rows.append((f"{name} (published)", shown + [""] * (len(steps) - len(shown))))
    first = max(len(name) for name, _ in rows)
    width = max(len(cell) for _, cells in rows for cell in cells)
    lines = [
        f"{name:<{first}}  " + "  ".join(f"{cell:>{width}}" for cell in cells)
        for name, cells in rows
    ]
    return "\n".join([f"{result['experiment']}: {protocol.counts(result)}", *lines])


def _say(text: Any, file: Any = None) -> None:
    print(text, file=file, flush=True)


def _is_ours(error: Exception) -> bool:
    """Tells our refusals from an error inside a library, which needs its traceback."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    module = traceback.tb_frame.f_globals.get("__name__", "") if traceback else ""
    return module.partition(".")[0] in ("metarl_jax", "__main__")


def _fail(error: Exception, status: int) -> int:
    sentence = " ".join(str(error).split())
    _say(f"metarl-jax: error: {sentence}", file=sys.stderr)
    return status


def _leave(status: int) -> NoReturn:
    """Ends the process without waiting for what the compiler or a device still does."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    del category, filename, lineno, line
    _say(f"metarl-jax: warning: {message}", file=file or sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
