"""A trained policy that acts by its exported files alone; NumPy is all that it needs.

    import policy  # this file, in the directory that was exported

    actor = policy.start(policy.load(), seed=0)
    action, actor = policy.act(actor, obs)
    obs, reward, terminated, truncated, _ = env.step(action)
    actor = policy.observe(
        actor, reward, obs, terminated=terminated, truncated=truncated
    )

`policy.json` says what the files are, `weights.safetensors` holds the agent. With
`load(form="onnx")` ONNX Runtime computes what the policy puts out, with `"stablehlo"`
JAX does. What is done around it, here, is the same: observations are encoded, actions
drawn and brought into the environment's space, the memory is told what came of them.
"""

import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metarl_jax.export.networks import forward

HEADER, WEIGHTS = "policy.json", "weights.safetensors"
STABLEHLO, ONNX, ADAPTATION = "policy.stablehlo", "policy.onnx", "adaptation.stablehlo"
FORMS = ("numpy", "stablehlo", "onnx")

Arrays = Mapping[str, Any]  # by name


class Policy(NamedTuple):
    """What was exported.

    Attributes:
      header: `policy.json`.
      weights: the agent's arrays by name, those of its memory too (`memory.…`).
      forward: `(weights, memory, obs) -> (outputs, memory)`, where memory, observations
        `[B, ...]` and outputs, the numbers of the action's distribution, are of B.
      directory: where the files are.
    """

    header: Mapping[str, Any]
    weights: Arrays
    forward: Callable[[Arrays, Arrays, Any], tuple[Arrays, Arrays]]
    directory: Path


class Actor(NamedTuple):
    """A policy in the middle of a trial.

    Attributes:
      policy: how it acts.
      memory: by name; lives through the ends of episodes.
      seed: decides what is drawn.
      step: steps taken.
      begins: whether an episode begins.
      drawn: the action that has not been answered yet.
    """

    policy: Policy
    memory: Arrays
    seed: int = 0
    step: int = 0
    begins: bool = True
    drawn: Any = None


def load(directory: str | Path | None = None, form: str | None = None) -> Policy:
    """Loads what was exported.

    Args:
      directory: where it is; None for that of this file.
      form: what computes: `"numpy"`, `"stablehlo"` (JAX) or `"onnx"` (ONNX Runtime);
        None for the first that there is.

    Raises:
      ValueError: if it is no export, has not this form, or what computes is missing.
    """
    directory = Path(__file__).parent if directory is None else Path(directory)
    if not (directory / HEADER).is_file():
        raise ValueError(f"{directory} holds no {HEADER}, so it is no exported policy")
    header = json.loads((directory / HEADER).read_text(encoding="utf-8"))
    form = str(header["forms"][0] if form is None else form)
    if form not in header["forms"]:
        raise ValueError(
            f"form must be one of {', '.join(header['forms'])}, which {directory} was "
            f"exported in; got {form!r}"
        )
    forward = {"numpy": _numpy, "stablehlo": _stablehlo, "onnx": _onnx}[form]
    weights = read_safetensors(directory / WEIGHTS)
    return Policy(header, weights, forward(header, directory), directory)


def start(policy: Policy, *, seed: int = 0) -> Actor:
    """Begins a trial: with the memory that the agent had when it was exported."""
    memory = {
        name: policy.weights[f"memory.{name}"] for name in policy.header["memory"]
    }
    return Actor(policy, memory, seed)


def act(
    actor: Actor | Policy, obs: Any, *, greedy: bool = False
) -> tuple[np.ndarray, Actor]:
    """Chooses an action.

    Args:
      actor: who acts: what `load` or `start` and then what this returned.
      obs: the environment's observation, not yet encoded.
      greedy: whether to take the likeliest action instead of a sample.

    Returns:
      The action that the environment is to be given, and the actor, who waits to be
      told by `observe` what came of it.

    Raises:
      ValueError: if the last action was not answered, or the observation is another's.
    """
    if isinstance(actor, Policy):
        actor = start(actor)
    if actor.drawn is not None:
        raise ValueError("observe must tell what came of the last action before act")
    policy, memory = actor.policy, actor.memory
    header, rng = policy.header, np.random.default_rng([actor.seed, actor.step])
    seen = observation(header, obs)
    if actor.begins and header["begin"] == "sample":
        memory = {**memory, "z": _posterior_sample(memory, rng)}
    batch = {name: array[None] for name, array in memory.items()}
    outputs, batch = policy.forward(policy.weights, batch, seen[None])
    outputs = {name: np.asarray(array)[0] for name, array in outputs.items()}
    memory = {name: np.asarray(array)[0] for name, array in batch.items()}
    drawn = draw(header["distribution"], outputs, None if greedy else rng)
    return given(header["action"], drawn), actor._replace(
        memory=memory, begins=False, drawn=drawn
    )


def observe(
    actor: Actor,
    reward: float,
    next_obs: Any,
    *,
    terminated: bool = False,
    truncated: bool = False,
) -> Actor:
    """Tells an actor what came of its action; its memory lives on through the end.

    Args:
      actor: as `act` returned it.
      reward: of the step.
      next_obs: the observation after it, before any reset.
      terminated: whether the episode ended by itself.
      truncated: whether a time limit ended it.

    Raises:
      ValueError: if it has not acted.
    """
    if actor.drawn is None:
        raise ValueError("act must come before observe")
    header, memory = actor.policy.header, dict(actor.memory)
    ended, action = bool(terminated or truncated), np.asarray(actor.drawn)
    if header["distribution"]["kind"] == "categorical":
        action = np.eye(header["action"]["n"], dtype=np.float32)[action]
    if header["observe"] == "recollection":
        memory["action"] = action.astype(np.float32)
        memory["reward"], memory["start"] = np.float32(reward), np.float32(ended)
        memory["time"] = memory["time"] + np.float32(1)
    elif header["observe"] == "evidence":
        happened, seen = np.append(action, reward), observation(header, next_obs)
        if seen.ndim > 1:  # an image, with what happened in further channels
            happened = np.broadcast_to(happened, (*seen.shape[:-1], happened.size))
        parts = (happened, seen) if seen.ndim == 1 else (seen, happened)
        memory["step"] = np.concatenate(parts, axis=-1).astype(np.float32)
    return actor._replace(memory=memory, step=actor.step + 1, begins=ended, drawn=None)


def adapt(policy: Policy, trajectories: Arrays, *, seed: int = 0) -> Policy:
    """Takes one adaptation step from data, by the rule that was exported; needs JAX.

    Args:
      policy: as `load` or this returned it.
      trajectories: the arrays that `policy.json` lists under `adaptation`, by name:
        `[E, T, ...]` observations as the policy saw them, actions as it drew them.
      seed: decides what is drawn.

    Returns:
      The policy with the adapted agent.

    Raises:
      ValueError: if there is no rule: what adapts is the memory, while it acts.
    """
    rule = policy.header["adaptation"]
    if rule is None:
        raise ValueError(
            "this policy was exported without a rule of adaptation: what adapts is its "
            "memory, while it acts, or the form stablehlo was left out"
        )
    wanted = {name: np.dtype(kind) for name, (kind, _) in rule["trajectories"].items()}
    data = {name: np.asarray(trajectories[name], kind) for name, kind in wanted.items()}
    key = np.array([0, seed], np.uint32)
    call = _deserialised(policy.directory / ADAPTATION)
    adapted: Any = call(key, dict(policy.weights), data)
    return policy._replace(weights={n: np.asarray(x) for n, x in adapted.items()})


# Observations and actions.


def observation(header: Mapping[str, Any], obs: Any) -> np.ndarray:
    """Returns what the policy sees of an observation of the environment's."""
    shape = tuple(header["observation"]["shape"])
    try:
        seen = np.asarray(encode(header["observation"]["encoding"], obs), np.float32)
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"an observation of the space is required: {error}") from None
    if seen.shape != shape or not np.isfinite(seen).all():
        raise ValueError(
            f"an observation must be finite, and a policy see it as an array of shape "
            f"{shape}; got {seen.shape}: {seen}"
        )
    return seen


def encode(encoding: Mapping[str, Any], obs: Any) -> Any:
    """Encodes an observation: choices as one-hots, images by 255, parts side by side.

    A choice that there is none of becomes NaN.
    """
    kind = encoding["kind"]
    if kind == "one-hot":  # the parts of a MultiDiscrete side by side
        choices = np.ravel(obs) - np.ravel(encoding["start"])
        hots = [
            np.where((c >= 0) & (c < n), np.arange(n) == c, np.nan)
            for c, n in zip(choices, encoding["n"], strict=True)
        ]
        return np.concatenate(hots)
    if kind == "parts":
        parts = [np.ravel(encode(part, obs[key])) for key, part in encoding["parts"]]
        return np.concatenate(parts)
    x = np.asarray(obs, np.float32)
    return x / np.float32(255) if kind == "image" else x


def draw(
    distribution: Mapping[str, Any], outputs: Arrays, rng: np.random.Generator | None
) -> Any:
    """Draws an action from a policy's outputs; the likeliest one without a generator.

    Of a squashed Gaussian that is where its mean goes.
    """
    if distribution["kind"] == "categorical":
        logits = outputs["logits"]
        if rng is not None:
            logits = logits + rng.gumbel(size=logits.shape)
        return np.argmax(logits, axis=-1)
    action = outputs["mean"]
    if rng is not None:
        noise = rng.standard_normal(action.shape).astype(action.dtype)
        action = action + np.exp(outputs["log_std"]) * noise
    if distribution["kind"] == "squashed":
        low, high = (np.float32(distribution[bound]) for bound in ("low", "high"))
        action = low + (high - low) * (np.float32(0.5) + np.tanh(action) / 2)
    return action


def given(space: Mapping[str, Any], action: Any) -> np.ndarray:
    """Makes what was drawn an action of the environment's: counted, clipped, typed."""
    dtype = np.dtype(space["dtype"])
    if space["kind"] == "Discrete":
        return dtype.type(action + space["start"])
    low, high = (
        np.array([sign if x is None else x for x in np.ravel(space[bound])], float)
        .reshape(space["shape"])
        .astype(action.dtype)
        for bound, sign in (("low", -np.inf), ("high", np.inf))
    )
    if np.issubdtype(dtype, np.integer):
        action = np.where(np.isnan(action), low, np.round(action))
    return np.clip(action, low, high).astype(dtype)


def _posterior_sample(memory: Arrays, rng: np.random.Generator) -> np.ndarray:
    """Draws z from the belief of posterior sampling, in natural parameters."""
    noise = rng.standard_normal(memory["shift"].shape).astype(np.float32)
    return (memory["shift"] + np.sqrt(memory["precision"]) * noise) / memory[
        "precision"
    ]


# What computes.


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Reads a file of safetensors: a header's length, a header of JSON, the bytes."""
    kinds = {"F64": "f8", "F32": "f4", "F16": "f2", "BOOL": "?"}
    kinds |= {f"{c}{8 * n}": f"{c.lower()}{n}" for c in "IU" for n in (1, 2, 4, 8)}
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:begin])
    header.pop("__metadata__", None)
    return {
        name: np.frombuffer(
            data[begin + entry["data_offsets"][0] : begin + entry["data_offsets"][1]],
            np.dtype(kinds[entry["dtype"]]).newbyteorder("<"),
        ).reshape(entry["shape"])
        for name, entry in header.items()
    }


def _numpy(header, directory):
    del directory
    network = header["network"]
    return lambda weights, memory, obs: forward(network, weights, memory, obs)


def _deserialised(path: Path):
    try:
        importlib.import_module("flatbuffers")
        export = importlib.import_module("jax.export")
    except ImportError:
        raise ValueError("StableHLO needs JAX: pip install jax flatbuffers") from None
    return export.deserialize(bytearray(path.read_bytes())).call


def _stablehlo(header, directory):
    call = _deserialised(directory / STABLEHLO)
    return lambda weights, memory, obs: call(dict(weights), dict(memory), obs)


def _onnx(header, directory):
    try:
        onnxruntime = importlib.import_module("onnxruntime")
    except ImportError:
        raise ValueError("ONNX needs ONNX Runtime: pip install onnxruntime") from None
    session = onnxruntime.InferenceSession(str(directory / ONNX))
    read = {value.name for value in session.get_inputs()}
    made = [value.name for value in session.get_outputs()]

    def call(weights, memory, obs):
        del weights  # they are in the file
        inputs = {"obs": obs, **{f"memory.{name}": x for name, x in memory.items()}}
        inputs = {name: x for name, x in inputs.items() if name in read}
        results = dict(zip(made, session.run(None, inputs), strict=True))
        new = {name: results.pop(f"next.{name}", x) for name, x in memory.items()}
        return results, new

    return call
