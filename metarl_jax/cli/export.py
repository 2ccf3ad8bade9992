"""`metarl-jax export`: a trained policy as files by which it acts elsewhere."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from metarl_jax.cli import parsing, recorded
from metarl_jax.cli.screen import say


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """Write a trained policy, adapted if asked to, so that it acts without JAX.

    Args:
      run: directory of the run.
      task: held-out task to adapt to, counted from 0 as evaluate meets them; its bounds
        are those of the actions.
      adapt_steps: adaptation steps on it; by default none, the meta-learned start.
      adapt_episodes: episodes of each; by default the experiment's.
      formats: what is to compute it: numpy, stablehlo, onnx.
      platforms: where StableHLO is to run: cpu, cuda, rocm, tpu.
      output: directory for the files; by default export in the run's own.
      run_seed: which of the run's seeds, counted from 0.
      seed: decides the held-out tasks.
      experiment: FILE.py:NAME, to import again what has moved or changed.
      method: likewise, for a method of your own.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    task: int | None = None
    adapt_steps: int = 0
    adapt_episodes: int | None = None
    formats: tuple[str, ...] = ("numpy", "stablehlo")
    platforms: tuple[str, ...] = ("cpu", "cuda", "tpu")
    output: Path | None = None
    run_seed: int = 0
    seed: int = 0
    experiment: str | None = None
    method: str | None = None


def export(args: list[str]) -> int:
    """`metarl-jax export RUN [--options]`."""
    if not args:
        raise ValueError("export needs the directory of a run")
    options = parsing.parse(ExportOptions, args, prog="metarl-jax export")
    run = recorded.load(options)
    from metarl_jax.export.writing import export_policy

    written = export_policy(
        run,
        options.output or options.run / "export",
        task=options.task,
        num_adaptation_steps=options.adapt_steps,
        num_episodes=options.adapt_episodes,
        seed=options.seed,
        formats=options.formats,
        platforms=options.platforms,
    )
    for path in sorted(written.iterdir()):
        say(f"{path}  {path.stat().st_size:,} bytes")
    return 0
