"""`metarl-jax train`: meta-train, evaluate and draw."""

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from metarl_jax import choice as choices
from metarl_jax.choice import Choice
from metarl_jax.cli import parsing
from metarl_jax.cli.evaluate import evaluate_and_draw
from metarl_jax.cli.screen import leave, options_listed, say, shelf_tables
from metarl_jax.runs import files


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
      start_from: directory of a run whose newest state this one begins with, optimiser
        and schedules too; options and world may be others where it fits.
      track: who keeps the curves besides TensorBoard's files: wandb or trackio (extras
        of these names).
      project: that they belong to there.
    """

    seed: int = 0
    num_seeds: int = 1
    seed_group_size: int | None = None
    output_dir: Path | None = None
    checkpoint_every: int = 50
    max_skipped: int = 10
    resume: Path | None = None
    start_from: Path | None = None
    track: Literal["wandb", "trackio"] | None = None
    project: str = "metarl-jax"


@dataclasses.dataclass(frozen=True)
class DeviceOptions:
    """What a run is computed on.

    Attributes:
      mesh: devices that tasks and seeds are shared out over, such as tasks=4,seeds=2; a
        CPU is divided into as many. By default one for each of its cores, where that
        pays; tasks=1 for one.
      coordinator: host:port of the first of several processes that train together, or
        auto where SLURM, Open MPI, Kubernetes or a TPU pod has started them.
      num_processes: how many processes train together.
      process_id: which of them this is, from 0.
    """

    mesh: str = "auto"
    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None


def train(args: list[str]) -> int:
    """`metarl-jax train NAME [--method METHOD] [--policy POLICY] [--options]`."""
    name, args = parsing.split_name(args)
    wants_help = parsing.is_help(args)
    resumed = parsing.value_of("--resume", args)
    if name is None and wants_help and resumed is None:
        say(_overview())
        return 0
    config = None if resumed is None else files.read_config(Path(resumed))
    if name is None and config is None:
        raise ValueError(
            "train needs the name of an experiment or a world right after it, or "
            "FILE.py:NAME; see metarl-jax list"
        )
    prog = f"metarl-jax train {name or config['experiment']}"  # type: ignore
    if name is not None:
        # Names are looked at before JAX is imported, which takes seconds.
        choices.Choice(name, parsing.value_of("--method", args)).check_names()
    mesh = None if wants_help else take_devices(args, config, prog=prog)
    choice, args = _choice(name, args, config, resumed)
    factory = choice.load()
    groups = parsing.groups_of(factory)
    options = parsing.parse(
        parsing.arguments(
            parsing.about(factory),
            {
                **_defaults(choices.recorded_options(factory, config), groups),
                "run": _run_options(config),
                "devices": DeviceOptions(),
            },
        ),
        args,
        prog=prog,
    )
    experiment_options = parsing.flattened(options, groups)
    experiment = choice.build(factory, experiment_options)

    from metarl_jax import tracking, training
    from metarl_jax.runs import interruption, processes

    run_options = dataclasses.asdict(options.run)
    service, project = run_options.pop("track"), run_options.pop("project")
    with contextlib.ExitStack() as stack:
        callback = None
        if service is not None and processes.is_first():
            tracker = tracking.track(
                service,
                project=project,
                name=options.run.output_dir and options.run.output_dir.name,
                config=experiment_options,
            )
            callback = stack.enter_context(tracker)
        trained = training.train(
            experiment, runs_dir="runs", mesh=mesh, callback=callback, **run_options
        )
    if not trained.finished:
        status = interruption.status(trained.signal)
        return leave(status) if interruption.is_something_abandoned() else status
    return evaluate_and_draw(experiment, trained.run_dir)  # type: ignore


def take_devices(
    args: list[str], config: Mapping[str, Any] | None, *, prog: str
) -> str | None:
    """Joins other processes and divides the CPU, as far as the arguments say so.

    Before an experiment is imported: gymnax makes JAX look for devices, once for all.

    Returns:
      The mesh; that of the run to be resumed, unless another is given.
    """
    from metarl_jax.runs import devices, processes

    options, _ = parsing.parse_known(DeviceOptions, args, prog=prog)
    mesh = options.mesh
    if mesh == devices.AUTO and (config is not None or options != DeviceOptions()):
        mesh = (config or {}).get("mesh")
    processes.join(options.coordinator, options.num_processes, options.process_id)
    if mesh is not None:
        devices.divide_cpu(mesh, num_processes=options.num_processes or 1)
    return mesh


def _choice(
    name: str | None,
    args: list[str],
    config: Mapping[str, Any] | None,
    resumed: str | None,
) -> tuple[Choice, list[str]]:
    """Returns what is to be trained: what is named, or what a run was made of."""
    if name is None:
        return choices.recorded(config or {}, resumed or ""), args
    choice, args = parsing.take_choice(name, args)
    choice = choice.named()
    if config is not None and config["experiment"] != choice.label:
        raise ValueError(
            f"{resumed} is a run of {config['experiment']} and cannot be resumed as "
            f"{choice.label}; the same experiment is required"
        )
    return choice, args


def _defaults(defaults: Mapping[str, Any], groups: Mapping[str, Any]) -> dict[str, Any]:
    types = parsing.group_types(groups, defaults)
    return {name: kind() for name, kind in types.items()}


def _run_options(config: Mapping[str, Any] | None) -> RunOptions:
    """Returns the defaults of a run's options: those of the run to be resumed."""
    names = {field.name for field in dataclasses.fields(RunOptions)} - {"start_from"}
    recorded = {name: config[name] for name in names if config and name in config}
    return dataclasses.replace(RunOptions(), **recorded)


def _overview() -> str:
    return f"""usage: metarl-jax train EXPERIMENT [OPTIONS]
       metarl-jax train WORLD --method METHOD [--policy POLICY] [OPTIONS]
       metarl-jax train FILE.py:NAME [OPTIONS]
       metarl-jax train --resume RUN [OPTIONS]

Meta-train, evaluate on held-out tasks and draw the figures.

{shelf_tables()}

options of every run:
{options_listed(parsing.ChoiceOptions, RunOptions, DeviceOptions)}

`metarl-jax train WORLD --method METHOD --help` shows the options of that world, that
method and that policy; `metarl-jax train EXPERIMENT --help` those of an experiment."""
