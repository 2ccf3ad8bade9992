"""What was learned: loaded from a run, measured on held-out tasks, compared.

Nothing here writes a file. What is measured is measured as `metarl-jax evaluate` does:
the same seeds meet the same held-out tasks.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from metarl_jax import choice, evaluation, plotting
from metarl_jax.differences import Pair
from metarl_jax.envs.host import simulator_errors
from metarl_jax.runs import drawable, files, history, protocol
from metarl_jax.runs import evaluation as measuring
from metarl_jax.runs.experiment import Experiment
from metarl_jax.runs.starting import newest
from metarl_jax.training import Trained
from metarl_jax.validation import check_at_least, check_seed


def make_experiment(
    name: str, *, method: str | None = None, policy: str | None = None, **options: Any
) -> Experiment:
    """Builds an experiment by name, or of a world and a method, as `metarl-jax train`.

    >>> import metarl_jax
    >>> experiment = metarl_jax.make_experiment(
    ...     "grid-navigation", method="promp", num_steps=5
    ... )
    >>> experiment.num_steps, experiment.tasks.horizon
    (5, 15)

    Args:
      name: of an experiment or a world (`metarl-jax list`), or `FILE.py:NAME`.
      method: what learns in a world; None for MAML.
      policy: `"mlp"`, `"memory"` or `"hypernetwork"`; None for the method's.
      **options: those that `metarl-jax train NAME --method METHOD --help` shows, with
        underscores.

    Raises:
      ValueError: if there is nothing of a name, an option is not there or out of range,
        or the method cannot learn in this world.
    """
    chosen = choice.Choice(name, method, policy).named()
    return chosen.build(chosen.load(), options)


def load_run(
    path: str | Path,
    seed: int = 0,
    *,
    experiment: Experiment | Callable[..., Experiment] | str | None = None,
) -> Trained:
    """Loads what a run learned, from its newest whole checkpoint.

    >>> import metarl_jax, tempfile
    >>> experiment = metarl_jax.make_experiment("bandit", num_tasks=2, num_steps=2)
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     _ = metarl_jax.train(experiment, output_dir=directory, quiet=True)
    ...     run = metarl_jax.load_run(directory)
    >>> run.step, len(run.metrics), type(run.policy).__name__
    (2, 2, 'MLPPolicy')

    Args:
      path: the directory of the run.
      seed: which of the run's seeds, counted from 0: of a run of the seeds 5, 6 and 7
        the number 1 is 6.
      experiment: what was trained; None for what was recorded. A file of one's own that
        has moved or changed is named again, `"FILE.py:NAME"`; a function is called with
        the recorded options.

    Returns:
      `experiment`, `algorithm`, `policy`, `agent`, `metrics` and more (`Trained`).

    Raises:
      ValueError: if it is no run, has no checkpoint or not so many seeds, or a file has
        to be named again.
    """
    run_dir = Path(path)
    config = files.read_config(run_dir)
    experiment = _experiment(config, run_dir, experiment)
    num_seeds = config["num_seeds"]
    check_at_least(0, seed=seed)
    if seed >= num_seeds:
        raise ValueError(
            f"{run_dir} has {num_seeds} seed{'s' * (num_seeds > 1)}, so that seed must "
            f"be below {num_seeds}; got {seed}"
        )
    restored = newest(experiment, run_dir, num_seeds)
    state = restored.state
    if num_seeds > 1:
        state = jax.tree.map(lambda leaf: leaf[seed], state)
    return Trained(
        run_dir,
        state,
        restored.step,
        restored.step >= experiment.num_steps,
        experiment,
        history.read(run_dir),
        config["seed"] + seed,
    )


def evaluate(
    run: Trained | str | Path,
    *,
    num_tasks: int | None = None,
    num_episodes: int | None = None,
    num_adaptation_steps: int | None = None,
    seed: int = 0,
    quiet: bool = True,
) -> dict[str, Any]:
    """Measures how well what was learned adapts to held-out tasks.

    >>> import metarl_jax
    >>> experiment = metarl_jax.make_experiment("bandit", num_tasks=2, num_steps=1)
    >>> trained = metarl_jax.train(experiment, quiet=True)
    >>> result = metarl_jax.evaluate(trained, num_tasks=3, num_adaptation_steps=1)
    >>> result["adaptation_step"], len(result["return_mean"])
    ([0, 1], 2)

    Args:
      run: what `train` or `load_run` returned, or the directory of a run.
      num_tasks: held-out tasks of each seed; None for the experiment's.
      num_episodes: episodes of each task in each round; None for the experiment's.
      num_adaptation_steps: K; None for the experiment's.
      seed: decides the held-out tasks and all that happens on them.
      quiet: whether to print nothing.

    Returns:
      What `metarl-jax evaluate` writes to `evaluation.json`: means, interquartile means
      and 95 % intervals after 0…K adaptation steps, references and the protocol.

    Raises:
      ValueError: if it is no run, nothing was learned yet, or a count is out of range.
    """
    run = _loaded(run)
    check_seed(seed)
    counts = measuring.protocol_of(
        run.experiment, num_tasks, num_episodes, num_adaptation_steps
    )
    _ = run.agent  # that there is one
    result, _, _ = measuring.measure(
        run.experiment,
        run.state,
        counts,
        label=run.experiment.origin.label,
        first_seed=run.seed,
        num_seeds=run.num_seeds,
        seed=seed,
        quiet=quiet,
    )
    return {**result, "training_steps": run.step}


@simulator_errors()
def adaptation_curve(
    run: Trained | str | Path,
    *,
    num_tasks: int | None = None,
    num_episodes: int | None = None,
    num_adaptation_steps: int | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Measures the returns on held-out tasks after each adaptation step, and no more.

    >>> import metarl_jax
    >>> experiment = metarl_jax.make_experiment("bandit", num_tasks=2, num_steps=1)
    >>> trained = metarl_jax.train(experiment, quiet=True)
    >>> metarl_jax.adaptation_curve(trained, num_tasks=3, num_adaptation_steps=2).shape
    (3, 3)

    Args:
      run: what `train` or `load_run` returned, or the directory of a run.
      num_tasks: N, held-out tasks; None for the experiment's.
      num_episodes: episodes whose returns are averaged; None for the experiment's.
      num_adaptation_steps: K; None for the experiment's.
      seed: decides the held-out tasks and all that happens on them.

    Returns:
      `[N, K + 1]` mean returns; leading `[S]` axis for several seeds.

    Raises:
      ValueError: as `evaluate` does.
    """
    run = _loaded(run)
    check_seed(seed)
    counts = measuring.protocol_of(
        run.experiment, num_tasks, num_episodes, num_adaptation_steps
    )
    keys, agent = measuring.evaluation_keys(seed, run.seed, run.num_seeds), run.agent
    algorithm = run.algorithm

    @jax.jit
    def curve(key, agent):
        return evaluation.evaluate(
            key,
            run.experiment.tasks,
            algorithm.policy,
            algorithm.adapt,
            agent,
            **counts._asdict(),
        )

    if run.num_seeds == 1:
        return np.asarray(curve(keys[0], agent))
    members = [jax.tree.map(lambda x, i=i: x[i], agent) for i in range(run.num_seeds)]
    return np.stack([curve(*pair) for pair in zip(keys, members, strict=True)])


class Comparison(NamedTuple):
    """Several runs side by side.

    Attributes:
      table: a markdown table of means and 95 % intervals.
      figure: their adaptation curves in one figure.
      results: what was measured, by label.
    """

    table: str
    figure: Figure
    results: Mapping[str, Mapping[str, Any]]

    @property
    def differences(self) -> list[Pair]:
        """How each two of them differ, after the last step that all have."""
        return plotting.pairs(self.results)

    @property
    def differences_table(self) -> str:
        """The differences as a markdown table, and what it means in a sentence."""
        return plotting.differences_markdown(self.results)

    @property
    def csv(self) -> str:
        """All that was measured, a line for each adaptation step."""
        return plotting.as_csv(self.results)

    @property
    def latex(self) -> str:
        """The table for a paper."""
        return plotting.as_latex(self.results)


def compare(
    runs: Mapping[str, Any] | Sequence[Any], **counts: int | None
) -> Comparison:
    """Compares what was learned: a table, a figure, and which differences are real.

    >>> import metarl_jax
    >>> results = {}
    >>> for method in ("maml", "reptile"):
    ...     experiment = metarl_jax.make_experiment(
    ...         "bandit", method=method, num_tasks=2, num_steps=1, num_eval_tasks=3
    ...     )
    ...     results[method] = metarl_jax.train(experiment, quiet=True)
    >>> comparison = metarl_jax.compare(results, num_adaptation_steps=1)
    >>> print(comparison.table.splitlines()[0])
    | run | after 0 | after 1 | interval |

    Args:
      runs: directories of runs, what `train`, `load_run` or `evaluate` returned; a
        mapping names them.
      **counts: as `evaluate` takes them, for runs that are not evaluated yet. A
        directory's `evaluation.json` is taken where there are none.

    Raises:
      ValueError: if there is nothing to compare, or a directory is no run.

    Warns:
      UserWarning: if they were evaluated differently.
    """
    if not isinstance(runs, Mapping):
        results = [_result(run, counts) for run in runs]
        labels = [result["experiment"] for result in results]
        if len(set(labels)) < len(labels):
            labels = [f"{label} ({i})" for i, label in enumerate(labels, start=1)]
        named = dict(zip(labels, results, strict=True))
    else:
        named = {label: _result(run, counts) for label, run in runs.items()}
    if not named:
        raise ValueError("compare needs at least one run or result; got none")
    protocol.warn_of_differences(list(named.values()))
    with rc_context(plotting.STYLE):
        figure = plotting.adaptation_curve(named)
    return Comparison(plotting.markdown(named), figure, named)


def _result(run: Any, counts: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns a result as it is, as it was recorded, or measured now."""
    if isinstance(run, Mapping):
        return run
    if isinstance(run, str | Path) and not counts:
        recorded = drawable.read_evaluation(Path(run))
        if recorded is not None:
            return recorded
    return evaluate(run, **counts)


def _loaded(run: Trained | str | Path) -> Trained:
    """Returns what was learned with all seeds."""
    if isinstance(run, Trained):
        return run
    if not isinstance(run, str | Path):
        raise ValueError(
            "what train or load_run returned, or the directory of a run, is required; "
            f"got {type(run).__name__}"
        )
    run_dir = Path(run)
    config = files.read_config(run_dir)
    experiment = _experiment(config, run_dir, None)
    restored = newest(experiment, run_dir, config["num_seeds"])
    return Trained(
        run_dir,
        restored.state,
        restored.step,
        restored.step >= experiment.num_steps,
        experiment,
        seed=config["seed"],
        num_seeds=config["num_seeds"],
    )


def _experiment(
    config: Mapping[str, Any],
    run_dir: Path,
    given: Experiment | Callable[..., Experiment] | str | None,
) -> Experiment:
    """Returns what a run trained, built again unless it is given."""
    if isinstance(given, Experiment):
        return given
    if callable(given):
        options = choice.recorded_options(given, config)
        return given(**options)
    chosen = choice.recorded(config, run_dir, {"name": given})
    factory = chosen.load()
    return chosen.build(factory, choice.recorded_options(factory, config))
