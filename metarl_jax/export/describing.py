"""What `policy.json` says: of spaces, distributions and networks."""

from typing import Any

import flax.linen as nn
import gymnasium.spaces as gymnasium_spaces
import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax import spaces
from metarl_jax.distributions import Categorical, DiagGaussian, TanhDiagGaussian
from metarl_jax.export import arrays, networks, standalone
from metarl_jax.policies.belief import BeliefPolicy
from metarl_jax.policies.cnn import CNN
from metarl_jax.policies.context import ContextPolicy
from metarl_jax.policies.hypernetwork import Hypernetwork
from metarl_jax.policies.latent import LatentPolicy
from metarl_jax.policies.linear_recurrent import LinearRecurrent
from metarl_jax.policies.memory import MemoryPolicy
from metarl_jax.policies.mlp import MLPPolicy
from metarl_jax.policies.recurrent import GRU, LSTM
from metarl_jax.policies.transformer import Transformer
from metarl_jax.types import Policy, TaskDistribution

_ACTIVATIONS = {
    nn.relu: "relu",
    nn.leaky_relu: "leaky_relu",
    nn.tanh: "tanh",
    jnp.tanh: "tanh",
    nn.sigmoid: "sigmoid",
    nn.silu: "silu",
    nn.gelu: "gelu",
    nn.elu: "elu",
}
# What a policy is told of a step, and what it does as an episode begins.
_OBSERVES: dict[type, str] = {MemoryPolicy: "recollection", BeliefPolicy: "evidence"}
_BEGINS: dict[type, str] = {LatentPolicy: "sample"}
_NUM_TRIED = 20  # observations by which an encoding is known


def memory_rules(policy: Policy) -> dict[str, str]:
    """Says how the memory of a policy changes beside what its network makes of it.

    Raises:
      ValueError: if it is another policy with such rules of its own.
    """
    rules = {
        "observe": _OBSERVES.get(type(policy), "nothing"),
        "begin": _BEGINS.get(type(policy), "nothing"),
    }
    for method, rule in rules.items():
        if rule == "nothing" and hasattr(policy, method):
            raise ValueError(
                f"{type(policy).__name__} has a method {method} of its own, which no "
                "exported file holds; a policy of metarl_jax.policies is required"
            )
    return rules


def distribution(found: Any) -> dict[str, Any]:
    """Describes the distribution of an action by its kind and its bounds.

    Raises:
      ValueError: if it is of another kind.
    """
    if isinstance(found, Categorical):
        return {"kind": "categorical"}
    if isinstance(found, DiagGaussian):
        return {"kind": "gaussian"}
    if isinstance(found, TanhDiagGaussian):
        bounds = {"low": np.asarray(found.low), "high": np.asarray(found.high)}
        return {"kind": "squashed", **bounds}
    raise ValueError(
        "a policy that is exported must act by a Categorical, DiagGaussian or "
        f"TanhDiagGaussian; got {type(found).__name__}"
    )


def outputs(found: Any) -> dict[str, jax.Array]:
    """Returns the numbers of a distribution that the network puts out."""
    if isinstance(found, Categorical):
        return {"logits": found.logits}
    return {"mean": found.mean, "log_std": found.log_std}


def action_space(space: Any) -> dict[str, Any]:
    """Describes an action space.

    Of a `Box` with the bounds that its type can hold.

    Raises:
      ValueError: if it is of another kind.
    """
    n = spaces.num_choices(space)
    if n is not None:
        dtype = jax.dtypes.canonicalize_dtype(space.dtype).name
        first = int(getattr(space, "start", 0))
        return {"kind": "Discrete", "n": n, "start": first, "dtype": dtype}
    if not spaces.is_box(space):
        raise ValueError(f"actions must be of a Discrete or a Box space; got {space!r}")
    shape = tuple(space.shape)
    low, high = (
        spaces.given(space, jnp.full(shape, sign * jnp.inf)) for sign in (-1, 1)
    )
    return {
        "kind": "Box",
        "shape": shape,
        "dtype": low.dtype.name,
        "low": np.asarray(low),
        "high": np.asarray(high),
    }


def observation(tasks: TaskDistribution, task: Any) -> dict[str, Any]:
    """Describes observations, and how the policy sees them."""
    return {
        "space": str(tasks.env.observation_space(task)),
        "shape": tasks.observation.shape,
        "encoding": encoding(tasks, task),
    }


def encoding(tasks: TaskDistribution, task: Any) -> dict[str, Any]:
    """Describes what a family makes of an observation for a policy to see.

    It is known by what it makes of observations at random. An encoding of a family's
    own, not that of `metarl_jax.spaces.encoder`, is `"encoded"`: left to the user.
    """
    space = tasks.env.observation_space(task)
    try:
        described, drawn = _encoding(space), spaces.to_gymnasium(space)
        drawn.seed(0)
        for _ in range(_NUM_TRIED):
            obs = drawn.sample()
            seen = tasks.encode(jax.tree.map(jnp.asarray, obs))
            np.testing.assert_allclose(
                np.asarray(standalone.encode(described, obs), np.float32),
                np.asarray(seen, np.float32),
                rtol=1e-6,
            )
    except (AssertionError, ValueError, TypeError):
        return {"kind": "encoded"}
    return described


def _encoding(space: Any) -> dict[str, Any]:
    """Describes what `metarl_jax.spaces.encoder` does, as `standalone.encode` does it.

    Raises:
      ValueError: if there is no such encoding.
    """
    space = spaces.to_gymnasium(space)
    if isinstance(space, gymnasium_spaces.Dict | gymnasium_spaces.Tuple):
        named = isinstance(space, gymnasium_spaces.Dict)
        keys = sorted(space.keys()) if named else range(len(space.spaces))
        return {
            "kind": "parts",
            "parts": [[key, _encoding(space[key])] for key in keys],  # pyright: ignore
        }
    if isinstance(space, gymnasium_spaces.Discrete):
        return {"kind": "one-hot", "n": [int(space.n)], "start": [int(space.start)]}
    if isinstance(space, gymnasium_spaces.MultiDiscrete):
        sizes, starts = np.ravel(space.nvec), np.ravel(space.start)
        return {"kind": "one-hot", "n": sizes, "start": starts}
    if isinstance(space, gymnasium_spaces.Box) and space.dtype == np.uint8:
        whole = bool(np.all(space.low == 0) and np.all(space.high == 255))
        return {"kind": "image" if whole else "numbers"}
    return {"kind": "numbers"}


def network(
    policy: Any, obs: jax.ShapeDtypeStruct, prefix: str = "params"
) -> dict[str, Any]:
    """Describes a policy's network, as `metarl_jax.export.networks` computes it.

    Args:
      policy: of `metarl_jax.policies`.
      obs: the shape of what it sees.
      prefix: of the names of its parameters.

    Raises:
      ValueError: if it is another, or of parts that are.
    """
    inside = f"{prefix}.params"
    kind = type(policy)
    if kind in (BeliefPolicy, ContextPolicy, LatentPolicy) and len(obs.shape) != 1:
        raise ValueError(
            f"the forms numpy and onnx of a {kind.__name__} are of observations that "
            f"are vectors; got the shape {obs.shape}, which stablehlo can hold"
        )
    if kind is MLPPolicy:
        return _mlp(policy, inside)
    if kind is MemoryPolicy:
        head = policy.head
        generates = type(head) is Hypernetwork
        return {
            "kind": "memory",
            "core": _core(policy.core, f"{inside}.core"),
            "head": _hypernetwork(head, obs, f"{inside}.head.generator")
            if generates
            else _mlp(head, f"{inside}.head"),
            "obs_rank": len(obs.shape),
            "encoder": _encoder(policy.encoder, f"{inside}.encoder"),
            "time_scale": policy.time_scale,
            "obs_size": policy.obs_size,
        }
    if kind is BeliefPolicy:
        longer = _longer(obs, 2 * policy.encoder.latent_size)
        return {
            "kind": "belief",
            "core": _core(policy.encoder.core, f"{prefix}.encoder.params.core"),
            "readout": f"{prefix}.encoder.params.readout",
            "policy": network(policy.policy, longer, f"{prefix}.policy"),
        }
    if kind is ContextPolicy:
        longer = _longer(obs, policy.context_size)
        inner = network(policy.policy, longer, f"{prefix}.network")
        return {"kind": "vector", "vector": f"{prefix}.context", "policy": inner}
    if kind is LatentPolicy:
        longer = _longer(obs, policy.latent_size)
        inner = network(policy.policy, longer, f"{prefix}.actor")
        return {"kind": "vector", "vector": "z", "policy": inner}
    raise _unknown(policy)


def _mlp(policy: Any, prefix: str) -> dict[str, Any]:
    if type(policy) is not MLPPolicy:
        raise _unknown(policy)
    activation = _ACTIVATIONS.get(policy.activation)
    if activation is None:
        raise ValueError(
            f"the activation must be one of {', '.join(networks.ACTIVATIONS)} to be "
            f"exported in NumPy; got {policy.activation!r}"
        )
    described: dict[str, Any] = {
        "kind": "mlp",
        "prefix": prefix,
        "obs_rank": policy.obs_rank,
        "encoder": _encoder(policy.encoder, f"{prefix}.encoder"),
        "hidden": [f"hidden_{i}" for i in range(len(policy.hidden_sizes))],
        "activation": activation,
        "heads": ["logits"],
    }
    if policy.num_actions is None:
        squashed = policy.action_bounds is not None
        described |= {
            "heads": ["mean", "log_std"] if squashed else ["mean"],
            "min_log_std": policy.min_log_std,
            "max_log_std": 2.0 if squashed else None,
        }
    return described


def _hypernetwork(
    head: Hypernetwork, obs: jax.ShapeDtypeStruct, prefix: str
) -> dict[str, Any]:
    """Describes a head, with the names and shapes of the weights it generates."""
    described, base = _mlp(head.base, "params"), head.base.clone(parent=None)
    made = jax.eval_shape(base.init, jax.random.key(0), (), obs)
    shapes = arrays.shapes(made)
    return {
        "kind": "hypernetwork",
        "prefix": prefix,
        "base": described,
        "weights": list(shapes.items()),
    }


def _encoder(encoder: Any, prefix: str) -> dict[str, Any] | None:
    if encoder is None:
        return None
    if type(encoder) is not CNN:
        raise _unknown(encoder)
    return {
        "prefix": prefix,
        "convolutions": [f"conv_{i}" for i in range(len(encoder.channels))],
        "stride": encoder.stride,
    }


def _longer(obs: jax.ShapeDtypeStruct, size: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((*obs.shape[:-1], obs.shape[-1] + size), obs.dtype)


def _core(core: Any, prefix: str) -> dict[str, Any]:
    kinds = {
        GRU: ("gru", ()),
        LSTM: ("lstm", ()),
        LinearRecurrent: ("linear", ("num_layers",)),
        Transformer: ("transformer", ("num_layers", "num_heads", "context")),
    }
    if type(core) not in kinds:
        raise _unknown(core)
    kind, attributes = kinds[type(core)]
    sizes = {name: getattr(core, name) for name in attributes}
    return {"kind": kind, "prefix": prefix, **sizes}


def _unknown(found: Any) -> ValueError:
    return ValueError(
        f"the forms numpy and onnx are of the networks of metarl_jax.policies; got "
        f"{type(found).__name__}, which stablehlo can hold"
    )
