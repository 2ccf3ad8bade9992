"""Writes an agent so that it acts elsewhere, and loads it back."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax import evaluation, rollout
from metarl_jax.export import arrays, describing, forms, networks, standalone
from metarl_jax.runs import evaluation as measuring
from metarl_jax.runs import files, machine
from metarl_jax.runs.experiment import Experiment
from metarl_jax.training import Trained
from metarl_jax.types import Agent, Task
from metarl_jax.validation import check_at_least, check_positive, check_seed

FORMATS = standalone.FORMS
PLATFORMS = ("cpu", "cuda", "tpu")
_FILES = (standalone.WEIGHTS, standalone.STABLEHLO, standalone.ONNX)
_TOLERANCE = 1e-4  # relative, between the network as it is described and as it is


def export_policy(
    run: Trained,
    directory: str | Path,
    *,
    agent: Agent | None = None,
    task: int | None = None,
    num_adaptation_steps: int = 0,
    num_episodes: int | None = None,
    seed: int = 0,
    formats: Sequence[str] = ("numpy", "stablehlo"),
    platforms: Sequence[str] = PLATFORMS,
) -> Path:
    """Writes how an agent acts, and how it adapts, to act without this library.

    >>> import metarl_jax, tempfile
    >>> experiment = metarl_jax.make_experiment(
    ...     "bandit", num_tasks=2, num_steps=1, hidden_sizes=(3,)
    ... )
    >>> run = metarl_jax.train(experiment, quiet=True)
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     path = metarl_jax.export_policy(run, directory, formats=["numpy"])
    ...     sorted(file.name for file in path.iterdir())
    ['policy.json', 'policy.py', 'weights.safetensors']

    Args:
      run: what `train` of one seed or `load_run` returned.
      directory: where the files go; those of an earlier export are replaced.
      agent: an adapted agent; None for the one that adaptation starts from.
      task: a held-out task, counted from 0 as `evaluate` meets them: on it the agent
        adapts, and its bounds are those of the actions. None for the first where there
        is something to adapt to.
      num_adaptation_steps: K, from the agent that adaptation starts from.
      num_episodes: E, of each step; None for the experiment's.
      seed: decides the held-out tasks and all that happens on them.
      formats: `"numpy"`, `"stablehlo"`, `"onnx"`: what can compute it.
      platforms: `"cpu"`, `"cuda"`, `"rocm"`, `"tpu"`: where StableHLO runs.

    Returns:
      The directory, in which there are now:

      - `policy.json`: spaces, encodings, shapes, names, versions;
      - `weights.safetensors`: the agent's arrays;
      - `policy.py`: acts by these files with NumPy alone, `load`, `start`, `act` and
        `observe`;
      - `policy.stablehlo`, `adaptation.stablehlo`, `policy.onnx`, where asked for.

    Raises:
      ValueError: if a format is none, cannot hold this policy or needs what is not
        installed, a count is out of range, or an agent is given and adaptation too.
    """
    run = _one_seed(run)
    experiment, policy = run.experiment, run.policy
    _check_names("formats", formats, FORMATS)
    _check_names("platforms", platforms, forms.PLATFORMS)
    check_at_least(0, num_adaptation_steps=num_adaptation_steps)
    check_seed(seed)
    if num_episodes is None:
        num_episodes = experiment.evaluation.num_episodes
    check_positive(num_episodes=num_episodes)
    if agent is not None and num_adaptation_steps:
        raise ValueError(
            "an agent that is given is exported as it is; got num_adaptation_steps="
            f"{num_adaptation_steps}"
        )
    tasks, params = experiment.tasks, None
    if task is not None or num_adaptation_steps:
        task = task or 0
        check_at_least(0, task=task)
        params, key = _heldout(run, task, seed)
        agent = run.agent if agent is None else agent
        agent = _adapted(key, run, agent, params, num_adaptation_steps, num_episodes)
    agent = run.agent if agent is None else agent
    if params is None:
        params = tasks.sample(jax.random.key(0))

    obs, memory = tasks.observation, arrays.named(agent.memory)
    weights = jax.device_get(arrays.named(agent))
    found = jax.jit(policy.apply)(
        agent.params, agent.memory, jnp.zeros(obs.shape, obs.dtype)
    )[0]
    outputs = describing.outputs(found)
    computed = [name for name in FORMATS if name in formats]
    header: dict[str, Any] = {
        "format_version": 1,
        "experiment": experiment.origin.label,
        "training_steps": run.step,
        "seed": run.seed,
        "task": None if task is None else {"number": task, "seed": seed},
        "adaptation_steps": num_adaptation_steps,
        "observation": describing.observation(tasks, params),
        "action": describing.action_space(tasks.env.action_space(params)),
        "distribution": describing.distribution(found),
        "outputs": {name: array.shape for name, array in outputs.items()},
        "memory": {name: [a.dtype.name, a.shape] for name, a in memory.items()},
        **describing.memory_rules(policy),
        "forms": computed,
        "network": None,
        "adaptation": None,
        "versions": machine.versions(),
    }
    written: dict[str, bytes] = {}
    if {"numpy", "onnx"} & set(formats):
        network = describing.network(policy, obs)
        header["network"] = files.jsonable(network)
        _check_equal(policy, agent, weights, network, obs)
        if "onnx" in formats:
            written[standalone.ONNX] = forms.policy_onnx(
                network, weights, memory, list(outputs), obs
            )
    if "stablehlo" in formats:
        written[standalone.STABLEHLO] = forms.policy_stablehlo(
            policy, agent, obs, platforms
        )
        data = _trajectories(experiment, policy, agent, params, num_episodes)
        adapt = experiment.algorithm.adapt
        rule = forms.adaptation_stablehlo(adapt, agent, data, platforms)
        if rule is not None:
            written[standalone.ADAPTATION] = rule
            header["adaptation"] = {
                "trajectories": {
                    name: [leaf.dtype.name, leaf.shape]
                    for name, leaf in data._asdict().items()
                }
            }
    return _write(Path(directory), header, weights, written)


def load_exported(directory: str | Path, form: str | None = None) -> standalone.Policy:
    """Loads what `export_policy` wrote; nothing that stands in it is executed.

    >>> import metarl_jax, numpy as np, tempfile
    >>> experiment = metarl_jax.make_experiment(
    ...     "point-nav", num_tasks=2, num_steps=1, hidden_sizes=(3,)
    ... )
    >>> run = metarl_jax.train(experiment, quiet=True)
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     _ = metarl_jax.export_policy(run, directory, formats=["numpy"])
    ...     policy = metarl_jax.load_exported(directory)
    >>> from metarl_jax.export import standalone
    >>> action, actor = standalone.act(policy, np.zeros(2), greedy=True)
    >>> action.shape, standalone.observe(actor, -1.0, np.zeros(2)).step
    ((2,), 1)

    Args:
      directory: of the files.
      form: what computes, `"numpy"`, `"stablehlo"` or `"onnx"`; None for the first
        there is.

    Returns:
      A policy for the functions `start`, `act`, `observe` and `adapt` of
      `metarl_jax.export.standalone`, which are those of the exported `policy.py`.

    Raises:
      ValueError: if it is no export, has not this form, or what computes is missing.
    """
    return standalone.load(directory, form)


def _one_seed(run: Any) -> Trained:
    if not isinstance(run, Trained):
        raise ValueError(
            f"what train or load_run returned is required; got {type(run).__name__}"
        )
    if run.num_seeds > 1:
        raise ValueError(
            f"one of the run's {run.num_seeds} seeds is required: load_run(path, seed)"
        )
    return run


def _check_names(what: str, given: Sequence[str], known: Sequence[str]) -> None:
    if isinstance(given, str) or not given or set(given) - set(known):
        raise ValueError(f"{what} must be some of {', '.join(known)}; got {given!r}")


def _heldout(run: Trained, task: int, seed: int) -> tuple[Task, jax.Array]:
    """Returns a held-out task and the key of what happens on it, as `evaluate` has."""
    key = measuring.evaluation_keys(seed, run.seed, 1)[0]
    key_task, key_run = evaluation.task_keys(key, task + 1)
    return run.experiment.tasks.sample_heldout(key_task[task]), key_run[task]


def _adapted(
    key: jax.Array,
    run: Trained,
    agent: Agent,
    task: Task,
    num_steps: int,
    episodes: int,
) -> Agent:
    """Adapts as `evaluation.adaptation_rounds` does, and returns the agent."""
    if not num_steps:
        return agent

    @jax.jit
    def one_round(key, agent):
        key_collect, key_adapt = jax.random.split(key)
        agent, trajectories = rollout.collect(
            key_collect,
            run.experiment.tasks,
            run.policy,
            agent,
            task,
            num_episodes=episodes,
        )
        return run.algorithm.adapt(key_adapt, agent, trajectories)

    for key_round in jax.random.split(key, num_steps + 1)[:num_steps]:
        agent = one_round(key_round, agent)
    return agent


def _trajectories(
    experiment: Experiment, policy: Any, agent: Agent, task: Task, num_episodes: int
) -> Any:
    """Returns the shapes of what a rule adapts to, `[E, T, ...]`."""
    return jax.eval_shape(
        lambda key: rollout.collect(
            key, experiment.tasks, policy, agent, task, num_episodes=num_episodes
        )[1],
        jax.random.key(0),
    )


def _check_equal(policy, agent, weights, network, obs) -> None:
    """Raises a `ValueError` unless a network is what its description computes."""
    seen = np.random.default_rng(0).standard_normal(obs.shape).astype(np.float32)
    found, _, memory = jax.jit(policy.apply)(agent.params, agent.memory, seen)
    expected = (describing.outputs(found), arrays.named(memory))
    held = jax.device_get(arrays.named(agent.memory))
    computed = networks.forward(network, weights, held, seen)
    for one, other in zip(expected, computed, strict=True):
        for name, array in one.items():
            scale = np.max(np.abs(array), initial=1.0)
            if not np.allclose(array, other[name], atol=_TOLERANCE * scale):
                raise ValueError(
                    f"{name} of {type(policy).__name__} must be what its description "
                    f"computes, {other[name]}; it is {array}"
                )


def _write(
    directory: Path,
    header: dict[str, Any],
    weights: dict[str, np.ndarray],
    written: dict[str, bytes],
) -> Path:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name in (*_FILES, standalone.ADAPTATION):  # of an earlier export
            (directory / name).unlink(missing_ok=True)
        arrays.write_safetensors(directory / standalone.WEIGHTS, weights)
        for name, data in written.items():
            files.replace_bytes(directory / name, data)
        files.replace_text(directory / "policy.py", _program())
        files.write_json(directory / standalone.HEADER, header)
    except OSError as error:
        raise ValueError(f"cannot write {directory}: {error}") from None
    return directory


def _program() -> str:
    """Returns `policy.py`: how to act and the networks, in one file."""
    acting, formulas = (
        Path(module.__file__ or "").read_text(encoding="utf-8")
        for module in (standalone, networks)
    )
    formulas = formulas.partition("import numpy as np\n\n\n")[2]
    line = "from metarl_jax.export.networks import forward\n\n"
    return acting.replace(line, "") + "\n\n# The networks.\n\n\n" + formulas
