"""OPEN: an optimiser that is a recurrent network, the same for every parameter.

A GRU goes with every parameter through the agent's life, and sees its gradient's past
and what the agent's plasticity and exploration hang on: how much of the training and of
the passes over the data is over, how deep its layer is, and how active its unit
compared with the others of the layer. A small network reads u, e and n from it, and the
parameter moves by -(Δ - mean Δ), the mean over all parameters,

    Δ = α₁ (u exp(α₁ e) + n ε),    ε ~ N(0, 1),  α₁ = 1e-3,

the noise only where it explores (Goldie et al. 2024, arXiv 2407.07082).
"""

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax

from metarl_jax.policies.separate import ActorAndCritic
from metarl_jax.types import Params
from metarl_jax.validation import check_positive

DECAYS = (0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)
NUM_FEATURES = 3 + 2 * len(DECAYS) + 4
SCALE = 1e-3
TINY = 1e-13


class OptimizerNetwork(nn.Module):
    """What goes with every parameter, `[..., H], [..., 19] -> [..., H], [..., 3]`.

    Attributes:
      size: H, of the GRU.
      hidden_size: of the two layers that read it.
    """

    size: int = 8
    hidden_size: int = 16

    def __post_init__(self):
        """Checks the attributes."""
        check_positive(size=self.size, hidden_size=self.hidden_size)
        super().__post_init__()

    @nn.compact
    def __call__(self, carry, features):
        """Returns the next carry, and u, e and n."""
        carry, x = nn.GRUCell(self.size, name="gru")(carry, features)
        for i in range(2):
            x = nn.Dense(self.hidden_size, name=f"hidden_{i}")(x)
            x = nn.relu(nn.LayerNorm(name=f"norm_{i}")(x))
        return carry, nn.Dense(3, name="output")(x)

    def zeros(self) -> Params:
        """Returns parameters by which nothing moves, where a search begins."""
        features = jnp.zeros(NUM_FEATURES)
        shapes = jax.eval_shape(
            self.init, jax.random.key(0), jnp.zeros(self.size), features
        )
        return optax.tree.zeros_like(shapes)


class Told(NamedTuple):
    """What the optimiser is told beside gradients, each a tree like the parameters."""

    dormancy: Any  # [out] or [], of a layer's units, 1 in the mean
    depth: Any  # [] 0 in a network's first layer, 1 in its last
    noisy: Any  # [] 1 where noise is added, 0 elsewhere


class NetworkState(NamedTuple):
    """What the next step needs, of all P parameters in a row."""

    momentum: jax.Array  # [P, 6] by the decays
    carry: jax.Array  # [P, H] of the GRU


def network_optimizer(
    rule: Params, network: OptimizerNetwork
) -> optax.GradientTransformationExtraArgs:
    """Makes an optax transformation of a network's parameters.

    Its `update` takes `told`, `progress` and `epoch_progress`, the parts of the
    training and of the passes over an update's data that are over, and `key`.

    Args:
      rule: parameters of the network, such as those that
        `metarl_jax.published.open_optimizer` reads.
      network: the module they are of.
    """
    apply: Any = network.apply

    def init(params):
        flat, _ = jax.flatten_util.ravel_pytree(params)
        return NetworkState(
            jnp.zeros((flat.size, len(DECAYS)), flat.dtype),
            jnp.zeros((flat.size, network.size), flat.dtype),
        )

    def update(updates: Any, state: Any, params: Any = None, **extra: Any):
        told: Told = extra["told"]
        p, restore = jax.flatten_util.ravel_pytree(params)
        g, _ = jax.flatten_util.ravel_pytree(updates)
        p, g = p[:, None], g[:, None]
        shapes = [leaf.shape for leaf in jax.tree.leaves(params)]
        sizes = [math.prod(shape) for shape in shapes]

        def spread(each):
            """Repeats what there is of every tensor, L of `[...]` -> `[P, ...]`."""
            return jnp.concatenate(
                [
                    jnp.broadcast_to(x, (size, *jnp.shape(x)))
                    for x, size in zip(each, sizes, strict=True)
                ]
            )

        decay = jnp.asarray(DECAYS, p.dtype)
        m = decay * state.momentum + (1.0 - decay) * g
        own = jnp.concatenate([p, *_conditioned(m), *_conditioned(g)], axis=-1)
        parts = jnp.split(own, np.cumsum(sizes)[:-1])
        square = spread([jnp.mean(x**2, axis=0) for x in parts])
        own = own * jax.lax.rsqrt(1e-5 + square)
        depth, noisy = (spread(jax.tree.leaves(x)) for x in (told.depth, told.noisy))
        each = zip(jax.tree.leaves(told.dormancy), shapes, strict=True)
        active = jnp.concatenate([jnp.broadcast_to(x, s).ravel() for x, s in each])
        shared = [extra["progress"], depth, extra["epoch_progress"], active]
        shared = [jnp.broadcast_to(x, p.shape[:1])[:, None] for x in shared]
        # What is told may be more precise than the parameters.
        features = jnp.concatenate([own, *shared], axis=-1).astype(p.dtype)
        carry, out = apply(rule, state.carry, features)
        noise = noisy * jax.random.normal(extra["key"], noisy.shape)
        step = out[:, 0] * jnp.exp(SCALE * out[:, 1]) + out[:, 2] * noise
        step = SCALE * step
        step = (jnp.mean(step) - step).astype(p.dtype)
        carry = carry.astype(state.carry.dtype)
        return restore(step), NetworkState(m, carry)

    return optax.GradientTransformationExtraArgs(init, update)


def _conditioned(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.sign(x), jnp.log(jnp.abs(x) + TINY)


def dormancy(activity: jax.Array) -> jax.Array:
    """Returns each unit's part of a layer's activity, 1 in the mean, `[D]`.

    Args:
      activity: `[D]` mean absolute activations.
    """
    activity = activity + 1e-11
    return activity / jnp.mean(activity)


def told_of(policy: Any, params: Params, obs: Any) -> Told:
    """Tells an optimiser about the layers of a policy.

    An activation is what comes out of a layer, after the nonlinearity where layers are
    called `hidden_*` and the policy says which is its. No noise is added to what only
    makes the value: a layer called `value`, or the critic of an `ActorAndCritic`.

    Args:
      policy: a flax module, or an `ActorAndCritic`.
      params: its parameters.
      obs: `[..., D]` observations.
    """
    if isinstance(policy, ActorAndCritic):
        actor = _told(policy.actor, params["actor"], (), obs)
        critic = _told(policy.critic, params["critic"], policy.flat(obs))
        critic = critic._replace(noisy=optax.tree.zeros_like(critic.noisy))
        both = zip(actor, critic, strict=True)
        return Told(*({"actor": x, "critic": y} for x, y in both))
    return _told(policy, params, (), obs)


def check_layers(policy: Any) -> None:
    """Raises a `ValueError` unless an optimiser can be told about a policy's layers."""
    if not isinstance(policy, nn.Module | ActorAndCritic):
        raise ValueError(
            "policy must be a flax module or an ActorAndCritic, whose layers' "
            f"activations can be read; got {type(policy).__name__}"
        )


def _told(module: Any, params: Any, *inputs: Any) -> Told:
    _, seen = module.apply(
        params, *inputs, capture_intermediates=True, mutable=["intermediates"]
    )
    outputs: Any = seen["intermediates"]
    layers = [name for name in outputs if name in params["params"]]
    layers += [name for name in params["params"] if name not in layers]

    def of(path, leaf):
        _, layer, *within = (entry.key for entry in path)
        depth = jnp.asarray(layers.index(layer) / max(len(layers) - 1, 1))
        noisy = jnp.asarray(float(layer != "value"))
        if not within:
            return jnp.ones(()), depth, noisy
        found = outputs[layer]
        for name in within[:-1]:
            found = found[name]
        activity = found["__call__"][0]
        if activity.shape[-1] != leaf.shape[-1]:
            return jnp.ones(()), depth, noisy
        if layer.startswith("hidden_") and hasattr(module, "activation"):
            activity = module.activation(activity)
        activity = jnp.abs(activity).reshape(-1, activity.shape[-1])
        return dormancy(jnp.mean(activity, axis=0)), depth, noisy

    each = jax.tree_util.tree_map_with_path(of, params)
    return Told(*(jax.tree.map(lambda _, x, i=i: x[i], params, each) for i in range(3)))
