"""A memory that produces the weights of a policy: recurrent hypernetworks."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from metarl_jax.policies.memory import Core, MemoryPolicy
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.types import Key, Params, TaskDistribution
from metarl_jax.validation import check_functions


class Generator(NamedTuple):
    """An affine map from a core's output y to all weights of a network, y K + b."""

    kernel: jax.Array  # [H, W]
    bias: jax.Array  # [W]


# `(key, size H, weights as the network itself draws them) -> Generator`
Initialisation = Callable[[Key, int, Params], Generator]


def bias_hyperinit(key: Key, size: int, weights: Params) -> Generator:
    """Makes the network's own initialisation the bias; the kernel is zero.

    Bias-HyperInit (Beck et al. 2022, arXiv 2210.11348): at first the weights are those
    of an ordinary network, whatever happened. So at the very first update no gradient
    reaches the core; the kernel moves, and from the second update on it does.
    """
    del key
    bias = ravel_pytree(weights)[0]
    return Generator(jnp.zeros((size, bias.size)), bias)


def kaiming(key: Key, size: int, weights: Params) -> Generator:
    """Initialises the map as if its outputs were units: uniform of variance 2/H.

    The bias is zero. Kaiming initialisation (He et al. 2015, arXiv 1502.01852), one of
    the usual ones that Beck et al. 2022 compare with; it knows nothing of how the
    outputs are used.
    """
    num_weights = ravel_pytree(weights)[0].size
    kernel = nn.initializers.he_uniform()(key, (size, num_weights))
    return Generator(kernel, jnp.zeros(num_weights))


def normc(key: Key, size: int, weights: Params) -> Generator:
    """Initialises each output's weights to a random direction of norm 1.

    The bias is zero. Common in reinforcement learning, and compared with by Beck et al.
    2022.
    """
    num_weights = ravel_pytree(weights)[0].size
    kernel = jax.random.normal(key, (size, num_weights))
    norm = jnp.linalg.norm(kernel, axis=0, keepdims=True)
    return Generator(kernel / norm, jnp.zeros(num_weights))


def hyperfan_in(key: Key, size: int, weights: Params) -> Generator:
    """Makes the network's activations keep their variance, if y has variance 1.

    A kernel of fan-in d gets weights of variance 1/d, a bias of variance 1, and both
    halved, since they add up: uniform entries of variance 1/(2 d H) (Chang et al. 2020,
    "Principled Weight Initialization for Hypernetworks"). The bias is zero.
    """

    def deviation(leaf):
        fan_in = leaf.size // leaf.shape[-1] if leaf.ndim > 1 else 1
        return jnp.full(leaf.shape, (2.0 * fan_in * size) ** -0.5)

    scale = ravel_pytree(jax.tree.map(deviation, weights))[0]
    unit = jax.random.uniform(key, (size, scale.size), minval=-1.0) * 3.0**0.5
    return Generator(unit * scale[None], jnp.zeros(scale.size))


class Hypernetwork(nn.Module):
    """A head whose weights are an affine function of what the core puts out.

    π(a | o) = base(o; y K + b) for the observation o and the core's output y: all
    weights and biases of the base network are generated anew at every step (Beck et al.
    2023, arXiv 2309.14970). The base sees no memory but through its weights.

    Attributes:
      base: any policy without memory whose parameters are all in its "params", and
        which says its `num_actions` or `action_dim`.
      initialisation: of K and b.
    """

    base: Any  # flax takes submodules of the annotation Any as well
    initialisation: Initialisation = bias_hyperinit

    def __post_init__(self):
        """Checks the attributes."""
        check_functions(initialisation=self.initialisation)
        super().__post_init__()

    @property
    def num_actions(self) -> int | None:
        """The number of discrete actions."""
        return self.base.num_actions

    @property
    def action_dim(self) -> int | None:
        """The number of continuous action dimensions."""
        return self.base.action_dim

    @nn.compact
    def __call__(self, obs, y):
        """Returns the action distribution, the value and the observation.

        Args:
          obs: one observation, or several along a leading axis.
          y: `[H]`, or `[L, H]` with several observations.

        Raises:
          ValueError: if the base has memory.
        """
        if jax.tree.leaves(self.base.initial_memory()):
            raise ValueError(
                "the base of a Hypernetwork must have no memory, which would be lost "
                f"at every step; {type(self.base).__name__} has"
            )
        # Used as a pair of functions: its parameters are not this module's.
        base = self.base.clone(parent=None)
        first = obs if y.ndim == 1 else jax.tree.map(lambda x: x[0], obs)

        def draw(key):
            return base.init(key, (), first)

        def initialise(key):
            key_weights, key_generator = jax.random.split(key)
            return self.initialisation(key_generator, y.shape[-1], draw(key_weights))

        generator = self.param("generator", initialise)
        shapes = jax.eval_shape(draw, jax.random.key(0))
        unravel = ravel_pytree(
            jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        )[1]

        def act(inputs):
            obs, y = inputs
            weights = unravel(y @ generator.kernel + generator.bias)
            return base.apply(weights, (), obs)[:2]

        if y.ndim == 1:
            return *act((obs, y)), obs
        # One step after the other: the weights of a step are then in cache when they
        # are used. On a CPU the gradient through those of all steps at once takes 1.3
        # times as long for a thousand weights and 3 times for four thousand.
        return *jax.lax.map(act, (obs, y)), obs


def hypernetwork_policy(
    tasks: TaskDistribution,
    core: Core,
    *,
    initialisation: Initialisation = bias_hyperinit,
    time_scale: float | None = None,
    **kwargs,
) -> MemoryPolicy:
    """Makes a `MemoryPolicy` whose core produces the weights of an `MLPPolicy`.

    For another base network: `MemoryPolicy(core, Hypernetwork(base))`.

    Args:
      tasks: the family; only its environment's spaces are read.
      core: what remembers, as for `memory_policy`.
      initialisation: of the map from the core's output to the weights.
      time_scale: as in `MemoryPolicy`.
      **kwargs: attributes of the base network, an `MLPPolicy`; by default it has one
        hidden layer of 32 and a value head.

    Returns:
      A policy with memory.

    Raises:
      ValueError: as `mlp_policy` does.
    """
    kwargs = {"hidden_sizes": (32,), "value_head": True, **kwargs}
    base = mlp_policy(tasks, **kwargs)
    encoder = base.encoder
    if encoder is not None:  # and the base reads what it makes of an image
        base = base.clone(obs_rank=1, encoder=None)
    head = Hypernetwork(base, initialisation)
    return MemoryPolicy(core, head, time_scale, encoder)
