"""Evaluates a trained run on held-out tasks and records it in the run's directory."""

import hashlib
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax import evaluation, intervals, rollout
from metarl_jax.envs.host import simulator_errors
from metarl_jax.runs import (
    display,
    files,
    interruption,
    machine,
    processes,
)
from metarl_jax.runs.experiment import (
    Evaluation,
    Experiment,
    check_evaluation,
    check_experiment,
    task_group_size,
)
from metarl_jax.runs.progress import announced
from metarl_jax.runs.starting import newest
from metarl_jax.types import Agent, State, Task, Trajectory
from metarl_jax.validation import check_seed

# What is drawn of the held-out tasks: enough to see, few enough to see clearly.
NUM_TASKS_DRAWN = 4
NUM_PATHS_DRAWN = 3
NUM_BELIEFS_DRAWN = 40
NUM_SAMPLES_DRAWN = 12

_PURPOSE = 0x6576616C  # keeps the keys of evaluation apart from those of training


def evaluate_run(
    experiment: Experiment,
    run_dir: str | Path,
    *,
    seed: int = 0,
    num_tasks: int | None = None,
    num_episodes: int | None = None,
    num_adaptation_steps: int | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Measures adaptation curves from the newest checkpoint of a run.

    Every seed that was trained meets held-out tasks of its own. Runs with the same
    seeds, evaluated with the same `seed`, meet the same tasks, whatever the method.
    Writes `evaluation.json` and, where the experiment has goals or beliefs to draw,
    `paths.json` or `goal_beliefs.json`.
    On one device: of several processes each measures the same, and the first writes.

    Args:
      experiment: what was trained.
      run_dir: the directory of the run.
      seed: decides the held-out tasks and all that happens on them.
      num_tasks: held-out tasks of each seed; None for the experiment's.
      num_episodes: episodes of each task in each round; None for the experiment's.
      num_adaptation_steps: K; None for the experiment's.
      quiet: whether to print nothing.

    Returns:
      What was written to `evaluation.json`.

    Raises:
      ValueError: if `run_dir` is no run, has no whole checkpoint or one of another
        shape, or a count is out of range.
      KeyboardInterrupt: at SIGINT or SIGTERM; nothing is written then.
    """
    run_dir = Path(run_dir)
    config = files.read_config(run_dir)
    protocol = protocol_of(experiment, num_tasks, num_episodes, num_adaptation_steps)
    check_seed(seed)
    restored = newest(experiment, run_dir, config["num_seeds"])
    result, paths, beliefs = measure(
        experiment,
        restored.state,
        protocol,
        label=config["experiment"],
        first_seed=config["seed"],
        num_seeds=config["num_seeds"],
        seed=seed,
        quiet=quiet,
    )
    record = restored.record
    result |= {
        "training_steps": restored.step,
        "training_seconds": round(record["seconds"], 2),
        "compile_seconds": round(record["compile_seconds"], 2),
        "training_peak_memory_mib": record["peak_memory_mib"],
    }
    if not processes.is_first():
        return result
    files.write_json(run_dir / files.EVALUATION, result)
    if paths is not None:
        files.write_json(run_dir / files.PATHS, _drawing(*paths))
    if beliefs is not None:
        files.write_json(run_dir / files.GOAL_BELIEFS, jax.tree.map(_rounded, beliefs))
    return result


def protocol_of(
    experiment: Experiment,
    num_tasks: int | None,
    num_episodes: int | None,
    num_adaptation_steps: int | None,
) -> Evaluation:
    """Returns the experiment's protocol but for the counts that are given.

    Raises:
      ValueError: if a count is out of range.
    """
    given = (num_tasks, num_episodes, num_adaptation_steps)
    protocol = Evaluation(
        *(
            default if value is None else value
            for value, default in zip(given, experiment.evaluation, strict=True)
        )
    )
    check_experiment(experiment)
    check_evaluation(experiment, protocol)
    return protocol


@simulator_errors()
def measure(
    experiment: Experiment,
    states: State,
    protocol: Evaluation,
    *,
    label: str,
    first_seed: int,
    num_seeds: int,
    seed: int,
    quiet: bool,
) -> tuple[dict[str, Any], Any, Any]:
    """Measures adaptation curves, and what is drawn beside them.

    Args:
      experiment: what was trained.
      states: of its seeds, leading `[S]` axis for S > 1.
      protocol: the counts.
      label: what the result calls it.
      first_seed: of those that were trained.
      num_seeds: S.
      seed: decides the held-out tasks and all that happens on them.
      quiet: whether to print nothing.

    Returns:
      What is recorded in `evaluation.json`, but for the run's own facts; what paths and
      beliefs are drawn of, each None where there is nothing.

    Raises:
      KeyboardInterrupt: at SIGINT or SIGTERM.
    """
    machine.enable_compilation_cache()
    console = display.console(quiet=quiet)
    start = time.perf_counter()
    keys = evaluation_keys(seed, first_seed, num_seeds)
    if num_seeds == 1:
        states = jax.tree.map(lambda leaf: leaf[None], states)
    with announced(
        console,
        f"evaluating on {protocol.num_tasks} held-out tasks, "
        f"{protocol.num_episodes} episode{'s' * (protocol.num_episodes > 1)} each",
    ):
        agents: Any = states
        ((curve, told), met), references, paths = _measure(
            experiment, protocol, keys, agents.agent
        )
        beliefs = _goal_beliefs(experiment, keys, states)
    # Traced dictionaries come back sorted; the floor comes first and oracles last.
    oracles = experiment.tasks.oracles
    floor = [name for name in reversed(references) if name not in oracles]
    references = {name: references[name] for name in (*floor, *oracles)}
    result = {
        "experiment": label,
        "world": f"{experiment.tasks.env.name}, {experiment.tasks.horizon} steps",
        **_rows(curve),
        "references": {name: _rows(rows) for name, rows in references.items()},
        "measures": {name: _told(rows) for name, rows in told.items()},
        "interval": intervals.interval_name(num_seeds),
        "published": experiment.published,
        "adaptation_unit": experiment.adaptation_unit,
        "adaptation_step": list(range(protocol.num_adaptation_steps + 1)),
        "num_tasks": protocol.num_tasks,
        "num_episodes": protocol.num_episodes,
        "num_seeds": num_seeds,
        "actions": "sampled",
        "evaluation_seed": seed,
        "heldout_tasks": [_fingerprint(met, i) for i in range(num_seeds)],
        "evaluation_seconds": round(time.perf_counter() - start, 2),
        "return_mean_by_seed": np.mean(curve, axis=1),
        "returns": np.round(curve.astype(float), 3),  # [S, N, K + 1]
        "peak_memory_mib": machine.peak_memory_mib(),
        "device": machine.device_name(),
    }
    return files.jsonable(result), paths, beliefs


def evaluation_keys(seed: int, first_seed: int, num_seeds: int) -> jax.Array:
    """Returns the keys `[S]` that decide each trained seed's held-out tasks."""
    root = jax.random.fold_in(jax.random.key(seed), _PURPOSE)
    seeds = np.arange(first_seed, first_seed + num_seeds, dtype=np.uint32)
    return jax.vmap(lambda member: jax.random.fold_in(root, member))(seeds)


def _unless_interrupted(function, *args: Any) -> Any:
    """Compiles and runs a function in such a way that signals are heard at once."""
    with interruption.stop_on_signal() as stop:
        lowered = jax.jit(function).lower(*args)
        compiled = interruption.unless_stopped(stop, lambda: machine.compiled(lowered))
        machine.return_freed_memory()
        if compiled is not None:
            outputs = compiled(*args)
            interruption.wait(outputs, stop)
            if not stop.is_set():
                return jax.device_get(outputs)
    raise KeyboardInterrupt(stop.number)


def _measure(
    experiment: Experiment, protocol: Evaluation, keys: jax.Array, agents: Agent
) -> tuple[Any, dict[str, np.ndarray], Any]:
    """Measures curves, what is told beside, reference rows and paths of all seeds.

    With the curves come the held-out tasks.

    Each is a program of its own: compiling them one by one needs less memory.
    """
    tasks, algorithm = experiment.tasks, experiment.algorithm
    settings: Any = {**protocol._asdict(), "task_group_size": task_group_size()}

    def curve(inputs):
        key, agent = inputs
        return evaluation.evaluate_measures(
            key, tasks, algorithm.policy, algorithm.adapt, agent, **settings
        ), evaluation.heldout_tasks(key, tasks, num_tasks=protocol.num_tasks)

    def references(inputs):
        key, agent = inputs
        return evaluation.references(key, tasks, algorithm, agent, **settings)

    def paths(goal, belief, inputs):
        key, agent = jax.tree.map(lambda leaf: leaf[0], inputs)
        most = NUM_TASKS_DRAWN if belief is None else NUM_BELIEFS_DRAWN
        first = protocol._replace(num_tasks=min(most, protocol.num_tasks))
        task_batch, trajectories = evaluation.adaptation_trajectories(
            key, tasks, algorithm.policy, algorithm.adapt, agent, **first._asdict()
        )
        goals = jax.vmap(goal)(task_batch)
        few = jax.tree.map(
            lambda leaf: leaf[:NUM_TASKS_DRAWN, :, :NUM_PATHS_DRAWN], trajectories
        )
        if belief is None:
            return goals, few

        def believe(task, rounds):
            """The belief before each round, and episodes by samples of it."""

            def infer(agent, data):
                by_samples = rollout.collect(
                    key,
                    tasks,
                    algorithm.policy,
                    agent,
                    task,
                    num_episodes=NUM_SAMPLES_DRAWN,
                )[1]
                # The agents themselves are not recorded: they follow from the data.
                return algorithm.adapt(key, agent, data), (*belief(agent), by_samples)

            return jax.lax.scan(infer, agent, rounds)[1]

        mean, std, by_samples = jax.vmap(believe)(task_batch, trajectories)
        by_samples = jax.tree.map(lambda leaf: leaf[:NUM_TASKS_DRAWN], by_samples)
        return goals, few, (mean, std, by_samples)

    def over_seeds(function):
        # One seed after the other: the memory of one, and the device is full anyway.
        return lambda inputs: jax.lax.map(function, inputs)

    inputs, goal = (keys, agents), experiment.goal
    return (
        _unless_interrupted(over_seeds(curve), inputs),
        _unless_interrupted(over_seeds(references), inputs),
        None
        if goal is None
        else _unless_interrupted(partial(paths, goal, experiment.belief), inputs),
    )


def _goal_beliefs(experiment: Experiment, keys: jax.Array, states: State) -> Any:
    """Returns what there is to draw of the beliefs of the first seed, or None."""
    if experiment.goal_beliefs is None:
        return None
    first = jax.tree.map(lambda leaf: leaf[0], (keys, states))
    return _unless_interrupted(experiment.goal_beliefs, *first)


def _rows(returns: np.ndarray) -> dict[str, Any]:
    """Summarises returns `[S, N, K + 1]` as the rows that are recorded."""
    summary = intervals.summarise(returns)
    return {
        "return_mean": summary.mean,
        "return_iqm": summary.iqm,
        "return_ci": np.stack([summary.ci_low, summary.ci_high], axis=-1),
        "return_iqm_ci": np.stack([summary.iqm_ci_low, summary.iqm_ci_high], axis=-1),
        "num_not_finite": summary.num_not_finite,
    }


def _fingerprint(task: Task, seed: int) -> str:
    """Tells the held-out tasks of a seed `[S, N]` from others."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(task):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        digest.update(np.ascontiguousarray(leaf[seed]).tobytes())
    return digest.hexdigest()[:16]


def _told(values: np.ndarray) -> dict[str, Any]:
    """Summarises a measure `[S, N, K + 1]` as it is recorded."""
    rows = _rows(values)
    return {"mean": rows["return_mean"], "ci": rows["return_ci"]}


def _rounded(x: np.ndarray) -> np.ndarray:
    """Leaves four digits of what is no whole number."""
    return np.round(x.astype(float), 4) if x.dtype == np.float32 else x


def _drawing(
    goals: np.ndarray, trajectories: Trajectory, believed: Any = None
) -> dict[str, Any]:
    """Turns trajectories of positions into lists of points.

    Args:
      goals: `[N, 2]`.
      trajectories: `[n, K + 1, E, T]` of the first n tasks.
      believed: mean and standard deviation `[N, K + 1, C]` of the belief before each
        round, and trajectories `[n, K + 1, S, T]` by samples of it; None where there is
        no belief.

    Returns:
      What is written to `paths.json`.
    """

    def path(trajectories, index):
        mask = trajectories.mask[index]
        points = np.concatenate(
            [trajectories.obs[index][:1], trajectories.next_obs[index][mask]]
        )
        return _rounded(points)

    def paths(trajectories, task):
        num_rounds, num_episodes = trajectories.mask.shape[1:3]
        return [
            [path(trajectories, (task, rounds, i)) for i in range(num_episodes)]
            for rounds in range(num_rounds)
        ]

    drawing: dict[str, Any] = {
        "tasks": [
            {"goal": goals[task], "paths": paths(trajectories, task)}
            for task in range(trajectories.mask.shape[0])
        ]
    }
    if believed is not None:
        mean, std, by_samples = believed
        for task, row in enumerate(drawing["tasks"]):
            row["belief_paths"] = paths(by_samples, task)
        drawing["beliefs"] = {
            "goal": goals,
            "mean": np.round(mean.astype(float), 4),
            "std": np.round(std.astype(float), 4),
        }
    return drawing
