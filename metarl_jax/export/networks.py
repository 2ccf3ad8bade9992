"""The networks of policies in plain formulas, for leading axes of any number.

`xp` is NumPy or a module of arrays like it. Weights and memories are arrays by name, as
`weights.safetensors` has them; a network is what `policy.json` says of it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def forward(
    network,
    weights: Mapping[str, Any],
    memory: Mapping[str, Any],
    obs: Any,
    xp: Any = np,
):
    """Computes what a policy puts out.

    Args:
      network: of the header.
      weights: by name.
      memory: by name, `[..., *]` with the leading axes of the observations.
      obs: `[..., *]`.
      xp: the module of arrays.

    Returns:
      `logits`, or `mean` and `log_std`, `[..., A]`, and the next memory.
    """
    return _NETWORKS[network["kind"]](network, weights, memory, obs, xp)


def _mlp(network, weights, memory, obs, xp):
    prefix, x = network["prefix"], _features(network, weights, obs, xp)
    activation = ACTIVATIONS[network["activation"]]
    for name in network["hidden"]:
        x = activation(_dense(weights, f"{prefix}.{name}", x), xp)
    outputs = {
        name: _dense(weights, f"{prefix}.{name}", x) for name in network["heads"]
    }
    if "min_log_std" in network:
        free = "log_std" not in outputs
        log_std = weights[f"{prefix}.log_std"] if free else outputs["log_std"]
        log_std = xp.clip(log_std, network["min_log_std"], network["max_log_std"])
        outputs["log_std"] = 0 * outputs["mean"] + log_std
    return outputs, memory


def _with_memory(network, weights, memory, obs, xp):
    scalars = [memory["reward"], memory["start"]]
    if network["time_scale"] is not None:
        scalars.append(memory["time"] / network["time_scale"])
    features = _features(network, weights, obs, xp)
    parts = [features, memory["action"]]
    parts += [scalar[..., None] for scalar in scalars]
    if network.get("obs_size") is not None:
        parts.append(memory["obs"])
        memory = {**memory, "obs": features}
    x = xp.concatenate(parts, axis=-1)
    state, y = _core(network["core"], weights, memory, x, xp)
    head = network["head"]
    if head["kind"] == "hypernetwork":
        seen = features if network["encoder"] else obs
        outputs = _generated(head, weights, y, seen, xp)
    else:
        outputs, _ = forward(head, weights, {}, y, xp)
    return outputs, {**memory, **state}


def _generated(head, weights, y, obs, xp):
    """The base network, all of whose weights are an affine function of y."""
    flat, made, first = _dense(weights, head["prefix"], y), {}, 0
    for name, shape in head["weights"]:
        last = first + int(np.prod(shape))
        made[name] = flat[..., first:last].reshape((*flat.shape[:-1], *shape))
        first = last
    return forward(head["base"], made, {}, obs, xp)[0]


def _with_belief(network, weights, memory, obs, xp):
    """Observation and belief (μ, log σ), which a core makes of the last step."""
    state, y = _core(network["core"], weights, memory, memory["step"], xp)
    belief = _dense(weights, network["readout"], y)
    joined = xp.concatenate([obs, belief], axis=-1)
    outputs, _ = forward(network["policy"], weights, {}, joined, xp)
    return outputs, {**memory, **state}


def _with_vector(network, weights, memory, obs, xp):
    """Observation and a vector: a context among the weights, or a sample z."""
    vector = network["vector"]
    vector = memory["z"] if vector == "z" else 0 * obs[..., :1] + weights[vector]
    joined = xp.concatenate([obs, vector], axis=-1)
    outputs, _ = forward(network["policy"], weights, {}, joined, xp)
    return outputs, memory


def _core(core, weights, memory, x, xp):
    return _CORES[core["kind"]](core, weights, memory, x, xp)


def _gru(core, weights, memory, x, xp):
    prefix, h = core["prefix"], memory["state"]
    from_input = x @ weights[f"{prefix}.input_kernel"] + weights[f"{prefix}.bias"]
    from_state = h @ weights[f"{prefix}.recurrent_kernel"]
    (r_x, z_x, n_x), (r_h, z_h, n_h) = _split(from_input, 3), _split(from_state, 3)
    reset, keep = _sigmoid(r_x + r_h, xp), _sigmoid(z_x + z_h, xp)
    new = xp.tanh(n_x + reset * (n_h + weights[f"{prefix}.recurrent_bias"]))
    h = (1 - keep) * new + keep * h
    return {"state": h}, h


def _lstm(core, weights, memory, x, xp):
    prefix, cell, hidden = core["prefix"], memory["state.0"], memory["state.1"]
    gates = x @ weights[f"{prefix}.input_kernel"] + weights[f"{prefix}.bias"]
    gates = _split(gates + hidden @ weights[f"{prefix}.recurrent_kernel"], 4)
    write, keep, read = (_sigmoid(gate, xp) for gate in gates[:3])
    cell = keep * cell + write * xp.tanh(gates[3])
    hidden = read * xp.tanh(cell)
    return {"state.0": cell, "state.1": hidden}, hidden


def _linear(core, weights, memory, x, xp):
    """Linear recurrences, their complex state as real and imaginary parts."""
    x, reals, imaginaries = _dense(weights, f"{core['prefix']}.input", x), [], []
    for i in range(core["num_layers"]):
        prefix = f"{core['prefix']}.layers_{i}"
        radius = xp.exp(-xp.exp(weights[f"{prefix}.log_decay"]))
        angle = xp.exp(weights[f"{prefix}.log_phase"])
        a, b = radius * xp.cos(angle), radius * xp.sin(angle)
        u = _layer_norm(weights, f"{prefix}.norm", x, xp)
        driven = _split(u @ weights[f"{prefix}.input_matrix"], 2)
        h, g = memory["state.real"][..., i, :], memory["state.imag"][..., i, :]
        scale = xp.sqrt(1 - radius**2)
        real = a * h - b * g + scale * driven[0]
        imaginary = a * g + b * h + scale * driven[1]
        parts = xp.concatenate([real, imaginary], axis=-1)
        y = parts @ weights[f"{prefix}.output_matrix"] + weights[f"{prefix}.skip"] * u
        value, gate = _split(_dense(weights, f"{prefix}.gate", _gelu(y, xp)), 2)
        x = x + value * _sigmoid(gate, xp)
        reals.append(real)
        imaginaries.append(imaginary)
    state = {
        "state.real": xp.stack(reals, axis=-2),
        "state.imag": xp.stack(imaginaries, axis=-2),
    }
    return state, x


def _transformer(core, weights, memory, x, xp):
    """Attention over the last steps, which slots hold in turn, and this one."""
    heads, context = core["num_heads"], core["context"]
    time = memory["state.time"]
    positions = xp.concatenate([memory["state.position"], time[..., None]], axis=-1)
    distance = time[..., None] - positions
    visible = ((distance >= 0) & (distance < context))[..., None, :]
    oldest = xp.argmin(memory["state.position"], axis=-1)  # or the first empty slot
    here = np.arange(context, dtype=np.int32) == oldest[..., None].astype(np.int32)
    state = {
        "state.position": xp.where(here, time[..., None], memory["state.position"]),
        "state.time": time + 1,
    }
    x = _dense(weights, f"{core['prefix']}.input", x)
    for i in range(core["num_layers"]):
        prefix = f"{core['prefix']}.blocks_{i}"
        u = _layer_norm(weights, f"{prefix}.LayerNorm_0", x, xp)
        width = u.shape[-1] // heads
        kernel = weights[f"{prefix}.project.kernel"].reshape(u.shape[-1], -1)
        made = u @ kernel + weights[f"{prefix}.project.bias"].reshape(-1)
        made = made.reshape((*made.shape[:-1], heads, 3 * width))
        query, key, value = _split(made, 3)
        query, key = (_rotated(part, time, xp) for part in (query, key))
        names = f"state.key.{i}", f"state.value.{i}"
        all_keys, all_values = (
            xp.concatenate([memory[name], now[..., None, :]], axis=-2)
            for name, now in zip(names, (key, value), strict=True)
        )
        scores = (query[..., None, :] * all_keys).sum(axis=-1) / np.sqrt(width)
        scores = xp.where(visible, scores, xp.float32(-np.inf))  # [..., heads, C + 1]
        shares = xp.exp(scores - scores.max(axis=-1, keepdims=True))
        shares = shares / shares.sum(axis=-1, keepdims=True)
        y = (shares[..., None] * all_values).sum(axis=-2)
        kernel = weights[f"{prefix}.merge.kernel"].reshape(u.shape[-1], -1)
        y = y.reshape((*y.shape[:-2], u.shape[-1])) @ kernel
        x = x + y + weights[f"{prefix}.merge.bias"]
        y = _layer_norm(weights, f"{prefix}.LayerNorm_1", x, xp)
        y = _gelu(_dense(weights, f"{prefix}.expand", y), xp)
        x = x + _dense(weights, f"{prefix}.contract", y)
        slot = here[..., None, :, None]
        for name, now in zip(names, (key, value), strict=True):
            state[name] = xp.where(slot, now[..., None, :], memory[name])
    return state, _layer_norm(weights, f"{core['prefix']}.norm", x, xp)


def _rotated(x, time, xp):
    """Turns pairs of a head's numbers by angles that grow with the time."""
    half = x.shape[-1] // 2
    frequency = 10_000.0 ** (-np.arange(half, dtype=np.float32) / half)
    angle = time[..., None, None] * frequency.astype(np.float32)
    first, second = _split(x, 2)
    cos, sin = xp.cos(angle), xp.sin(angle)
    return xp.concatenate(
        [first * cos - second * sin, first * sin + second * cos], axis=-1
    )


def _features(network, weights, obs, xp):
    """Makes a vector of an observation: by convolutions, or of its numbers in order."""
    rank, encoder = network["obs_rank"], network["encoder"]
    if encoder is None:
        return obs if rank == 1 else obs.reshape((*obs.shape[: obs.ndim - rank], -1))
    x = obs
    for name in encoder["convolutions"]:
        kernel = weights[f"{encoder['prefix']}.{name}.kernel"]
        patches = _patches(x, kernel.shape[0], encoder["stride"], xp)
        x = patches @ kernel.reshape((-1, kernel.shape[-1]))
        x = xp.maximum(x + weights[f"{encoder['prefix']}.{name}.bias"], 0)
    x = x.reshape((*x.shape[:-3], x.shape[-3] * x.shape[-2] * x.shape[-1]))
    return xp.maximum(_dense(weights, f"{encoder['prefix']}.features", x), 0)


def _patches(x, size, stride, xp):
    """Puts what a kernel sees side by side, `[..., H', W', size² C]`, padded by zeros.

    There are ⌈H / stride⌉ patches along a side, the padding as even as it can be.
    """
    for axis in (-3, -2):
        length = x.shape[axis]
        missing = max((-(-length // stride) - 1) * stride + size - length, 0)
        zeros = 0 * (x[..., :1, :, :] if axis == -3 else x[..., :1, :])
        before, after = [zeros] * (missing // 2), [zeros] * (missing - missing // 2)
        x = xp.concatenate([*before, x, *after], axis=axis)
    high, wide = ((n - size) // stride * stride + 1 for n in x.shape[-3:-1])
    seen = [
        x[..., i : i + high : stride, j : j + wide : stride, :]
        for i in range(size)
        for j in range(size)
    ]
    return xp.concatenate(seen, axis=-1)


def _dense(weights, name, x):
    kernel, bias = weights[f"{name}.kernel"], weights[f"{name}.bias"]
    if kernel.ndim == 2:
        return x @ kernel + bias
    return (x[..., None, :] @ kernel)[..., 0, :] + bias  # one for each observation


def _split(x, n):
    size = x.shape[-1] // n
    return [x[..., i * size : (i + 1) * size] for i in range(n)]


def _layer_norm(weights, name, x, xp):
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    normal = centred / xp.sqrt(variance + 1e-6)
    return normal * weights[f"{name}.scale"] + weights[f"{name}.bias"]


def _sigmoid(x, xp):
    return 0.5 + 0.5 * xp.tanh(0.5 * x)


def _gelu(x, xp):
    return 0.5 * x * (1 + xp.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))


ACTIVATIONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "relu": lambda x, xp: xp.maximum(x, 0),
    "leaky_relu": lambda x, xp: xp.maximum(x, 0.01 * x),
    "tanh": lambda x, xp: xp.tanh(x),
    "sigmoid": _sigmoid,
    "silu": lambda x, xp: x * _sigmoid(x, xp),
    "gelu": _gelu,
    "elu": lambda x, xp: xp.maximum(x, 0) + xp.exp(xp.minimum(x, 0)) - 1,
}
_NETWORKS = {
    "mlp": _mlp,
    "memory": _with_memory,
    "belief": _with_belief,
    "vector": _with_vector,
}
_CORES = {"gru": _gru, "lstm": _lstm, "linear": _linear, "transformer": _transformer}
