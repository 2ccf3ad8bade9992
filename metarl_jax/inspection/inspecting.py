"""Looks into what a run learned, and writes down what is seen."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from matplotlib import rc_context

from metarl_jax import plotting
from metarl_jax.envs.host import HostEnvironment, simulator_errors
from metarl_jax.inspection.attending import attending
from metarl_jax.inspection.filming import film
from metarl_jax.inspection.layers import layers
from metarl_jax.inspection.lines import plane
from metarl_jax.inspection.looking import Look, look
from metarl_jax.inspection.maps import task_map
from metarl_jax.inspection.memories import memory
from metarl_jax.inspection.visits import visits
from metarl_jax.learned import load_run
from metarl_jax.plotting import insides, moving
from metarl_jax.runs import evaluation as measuring
from metarl_jax.runs import files
from metarl_jax.training import Trained
from metarl_jax.validation import check_choice, check_seed

PARTS: Mapping[str, Callable[[Look], dict[str, Any] | None]] = {
    "layers": layers,
    "plane": plane,
    "memory": memory,
    "map": task_map,
    "attention": attending,
    "visits": visits,
}
# Enough for a probe; where parameters adapt each task costs gradients.
NUM_TRIALS = 200
NUM_TASKS = 40


def inspect(
    run: Trained | str | Path,
    *,
    parts: Sequence[str] = (),
    num_tasks: int | None = None,
    num_episodes: int | None = None,
    num_adaptation_steps: int | None = None,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Looks into what was learned: layers, memory, a map of tasks, attention, visits.

    >>> import metarl_jax
    >>> experiment = metarl_jax.make_experiment("point-nav", num_tasks=2, num_steps=1)
    >>> trained = metarl_jax.train(experiment, quiet=True)
    >>> seen = metarl_jax.inspect(trained, parts=["layers"], num_tasks=2)
    >>> sorted(seen["layers"]["similarity"])
    ['hidden_0', 'hidden_1', 'mean']

    Args:
      run: what `train` of one seed or `load_run` returned, or the directory of a run.
      parts: of `layers` (which of them adaptation moves), `plane` (the return between
        agents), `memory` (what it knows of the task), `map` (of tasks), `attention`
        and `visits`; none for all that there is to see.
      num_tasks: held-out tasks; None for 40, or 200 trials where a memory adapts.
      num_episodes: of each in each round; None for the experiment's.
      num_adaptation_steps: K; None for the experiment's.
      seed: decides the tasks and all that happens on them; with the counts of an
        evaluation these are its tasks.

    Returns:
      By part, numbers and a sentence, `said`; parts of which there is nothing to see
      are left out.

    Raises:
      ValueError: if a part is unknown, the run has several seeds, or a count is out of
        range.
    """
    for part in parts:
        check_choice(tuple(PARTS), part=part)
    check_seed(seed)
    run = _one_seed(run)
    experiment, agent = run.experiment, run.agent
    if num_tasks is None:
        num_tasks = NUM_TRIALS if jax.tree.leaves(agent.memory) else NUM_TASKS
    protocol = measuring.protocol_of(
        experiment, num_tasks, num_episodes, num_adaptation_steps
    )
    (key,) = measuring.evaluation_keys(seed, run.seed, 1)
    with simulator_errors():
        looked = look(key, experiment, agent, protocol)
    chosen = parts or PARTS
    found = {name: PARTS[name](looked) for name in PARTS if name in chosen}
    return {name: files.jsonable(part) for name, part in found.items() if part}


def write(
    seen: Mapping[str, Mapping[str, Any]],
    output_dir: str | Path,
    image_format: str = "png",
) -> list[Path]:
    """Writes what `inspect` returned, and draws it.

    Args:
      seen: numbers and a sentence by part.
      output_dir: made where there is none.
      image_format: `"png"`, `"pdf"` or `"svg"`.

    Returns:
      The files: `inspection.json`, and `inspected_PART` for each part.

    Raises:
      ValueError: if the format is none, or a file cannot be written.
    """
    output = Path(output_dir)
    with rc_context(plotting.STYLE):
        figures = {f"inspected_{k}": insides.DRAWN[k](v) for k, v in seen.items()}
        drawn = plotting.write_figures(figures, output, image_format)
    try:
        files.write_json(output / files.INSPECTION, seen)
    except OSError as error:
        raise ValueError(f"cannot write to {output}: {error}") from None
    return [output / files.INSPECTION, *drawn]


def animate_run(
    run: Trained | str | Path,
    output: str | Path,
    *,
    num_tasks: int = 2,
    num_adaptation_steps: int | None = None,
    seed: int = 0,
) -> Path:
    """Writes an animation of episodes before and after adaptation.

    Args:
      run: what `train` of one seed or `load_run` returned, or the directory of a run.
      output: the file, `.gif`, or `.mp4` where ffmpeg is installed.
      num_tasks: held-out tasks, a row each.
      num_adaptation_steps: K; None for the experiment's.
      seed: decides the tasks.

    Returns:
      The file.

    Raises:
      ValueError: if the suffix is another one, ffmpeg is missing, the run has several
        seeds or a count is out of range.
    """
    output = Path(output)
    moving.check_suffix(output)
    check_seed(seed)
    run = _one_seed(run)
    experiment = run.experiment
    protocol = measuring.protocol_of(experiment, num_tasks, None, num_adaptation_steps)
    (key,) = measuring.evaluation_keys(seed, run.seed, 1)
    env = experiment.tasks.env
    with simulator_errors():
        films = film(
            key,
            experiment,
            run.agent,
            protocol,
            on_host=isinstance(env, HostEnvironment),
        )
    with rc_context(plotting.STYLE):
        return moving.write(moving.animate(films, env), output)


def _one_seed(run: Trained | str | Path) -> Trained:
    if not isinstance(run, Trained):
        run = load_run(run)
    if run.num_seeds > 1:
        raise ValueError(
            f"one of the run's {run.num_seeds} seeds is required: load_run(path, seed)"
        )
    return run
