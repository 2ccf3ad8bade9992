"""Feed-forward policies."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax import spaces
from metarl_jax.distributions import Categorical, DiagGaussian, TanhDiagGaussian
from metarl_jax.policies.cnn import image_encoder
from metarl_jax.types import TaskDistribution
from metarl_jax.validation import (
    check_above_zero,
    check_at_least,
    check_finite,
    check_flags,
    check_functions,
    check_positive,
    check_sizes,
    check_tasks,
    shown,
)

# Beyond this float32 does not hold the variance, or what is divided by it.
_MAX_LOG_STD = 43.0
# Beyond this a squashed Gaussian only piles up at its bounds.
_MAX_SQUASHED_LOG_STD = 2.0


# Attributes of an `MLPPolicy` that do not follow from the family.
_CHOSEN = [
    *("hidden_sizes", "activation", "initial_log_std", "min_log_std", "value_head"),
    *("value_scale", "encoder"),
]


class MLP(nn.Module):
    """Hidden layers and an affine output, `[..., D] -> [..., output_size]`.

    With an encoder of images `[..., H, W, C] -> [..., output_size]`.

    Attributes:
      output_size: how many numbers come out.
      hidden_sizes: widths of the hidden layers.
      activation: the nonlinearity after each of them.
      encoder: a flax module that makes vectors of what comes in, such as a `CNN`.
    """

    output_size: int
    hidden_sizes: Sequence[int] = (100, 100)
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    encoder: Any = None

    def __post_init__(self):
        """Checks the attributes."""
        check_positive(output_size=self.output_size)
        check_sizes(hidden_sizes=self.hidden_sizes)
        check_functions(activation=self.activation)
        super().__post_init__()

    @nn.compact
    def __call__(self, x):
        """Returns the outputs."""
        x = x if self.encoder is None else self.encoder(x)
        glorot = nn.initializers.xavier_uniform()
        for i, size in enumerate(self.hidden_sizes):
            x = nn.Dense(size, kernel_init=glorot, name=f"hidden_{i}")(x)
            x = self.activation(x)
        return nn.Dense(self.output_size, kernel_init=glorot, name="output")(x)


class MLPPolicy(nn.Module):
    """A memoryless policy: hidden layers, then an action head, and maybe a value head.

    A categorical head for `num_actions` discrete actions, or, where `action_dim` is
    given instead, a diagonal Gaussian whose log standard deviation is a parameter of
    its own, the same in every state. With `action_bounds` the Gaussian is squashed into
    them and its standard deviation depends on the state, as soft actor-critic has it
    (Haarnoja et al. 2018, arXiv 1812.05905). Observations are flattened to vectors, or
    made such by an encoder; any leading batch axes beyond `obs_rank` pass through.

    Attributes:
      num_actions: A, the number of discrete actions.
      action_dim: D, the number of continuous action dimensions.
      action_bounds: the least and the greatest action, D numbers each, for actions that
        are squashed between them; None: the Gaussian is unbounded.
      hidden_sizes: widths of the hidden layers.
      activation: the nonlinearity between them.
      initial_log_std: log σ at initialisation.
      min_log_std: log σ is held above this.
      value_head: whether to predict V(o) from the last hidden layer; otherwise the
        value is zero.
      value_scale: how large returns are. The value is what its head says, times this,
        with weights that begin so much smaller: the same value, but one that a step of
        Adam moves this much further. At 1 a return of -100 is thousands of steps away.
      obs_rank: how many trailing axes one observation has.
      encoder: a flax module `[..., H, W, C] -> [..., D]`, such as a `CNN`, for
        observations that are images; None: they are flattened.
    """

    num_actions: int | None = None
    action_dim: int | None = None
    action_bounds: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    hidden_sizes: Sequence[int] = (100, 100)
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    initial_log_std: float = 0.0
    min_log_std: float = -13.8
    value_head: bool = False
    value_scale: float = 1.0
    obs_rank: int = 1
    encoder: Any = None

    def __post_init__(self):
        """Checks the attributes."""
        outputs = {"num_actions": self.num_actions, "action_dim": self.action_dim}
        outputs = {name: size for name, size in outputs.items() if size is not None}
        if len(outputs) != 1:
            raise ValueError(
                "MLPPolicy needs exactly one of num_actions and action_dim; got "
                f"num_actions={self.num_actions}, action_dim={self.action_dim}"
            )
        check_positive(**outputs)
        check_sizes(hidden_sizes=self.hidden_sizes)
        check_functions(activation=self.activation)
        for name in ("initial_log_std", "min_log_std"):
            check_finite(**{name: getattr(self, name)})
            if abs(getattr(self, name)) > _MAX_LOG_STD:
                raise ValueError(
                    f"{name} must be between -{_MAX_LOG_STD:g} and {_MAX_LOG_STD:g}, "
                    f"so that float32 holds the variance; got {getattr(self, name)}"
                )
        if self.action_bounds is not None:
            _check_bounds(self.action_bounds, self.action_dim)
        check_flags(value_head=self.value_head)
        check_above_zero(value_scale=self.value_scale)
        check_at_least(0, obs_rank=self.obs_rank)
        super().__post_init__()

    @nn.compact
    def __call__(self, memory, obs):
        """Returns the action distribution, the value and the memory, unchanged."""
        batch_shape = obs.shape[: obs.ndim - self.obs_rank]
        x = obs if self.encoder is None else self.encoder(obs)
        x = x.reshape(*batch_shape, -1).astype(jnp.float32)
        glorot = nn.initializers.xavier_uniform()
        for i, size in enumerate(self.hidden_sizes):
            x = nn.Dense(size, kernel_init=glorot, name=f"hidden_{i}")(x)
            x = self.activation(x)
        if self.num_actions is not None:
            logits = nn.Dense(self.num_actions, kernel_init=glorot, name="logits")(x)
            distribution = Categorical(logits)
        else:
            size: Any = self.action_dim
            mean = nn.Dense(size, kernel_init=glorot, name="mean")(x)
            start = nn.initializers.constant(self.initial_log_std)
            if self.action_bounds is None:
                log_std = self.param("log_std", start, (size,))
                log_std = jnp.maximum(log_std, self.min_log_std)
                distribution = DiagGaussian(mean, jnp.broadcast_to(log_std, mean.shape))
            else:
                log_std = nn.Dense(
                    size,
                    kernel_init=glorot,
                    bias_init=start,
                    name="log_std",
                )(x)
                log_std = jnp.clip(log_std, self.min_log_std, _MAX_SQUASHED_LOG_STD)
                bounds = (
                    jnp.broadcast_to(jnp.asarray(bound, mean.dtype), mean.shape)
                    for bound in self.action_bounds
                )
                distribution = TanhDiagGaussian(mean, log_std, *bounds)
        if self.value_head:
            value = nn.Dense(1, kernel_init=self._value_init, name="value")(x)[..., 0]
            value = self.value_scale * value
        else:
            value = jnp.zeros(batch_shape)
        return distribution, value, memory

    def _value_init(self, *args):
        return nn.initializers.xavier_uniform()(*args) / self.value_scale

    def initial_memory(self):
        """Returns `()`: this policy remembers nothing."""
        return ()


def _check_bounds(bounds: Any, action_dim: int | None) -> None:
    """Raises a `ValueError` unless they are D finite low bounds and D higher ones."""
    try:
        low, high = np.asarray(bounds, float)
        fit = low.shape == high.shape == (action_dim,)
        fit = fit and bool(np.isfinite(high - low).all() and (low < high).all())
    except (TypeError, ValueError):
        fit = False
    if not fit:
        raise ValueError(
            "action_bounds must be two tuples of action_dim finite numbers, the low "
            f"below the high; got {shown(bounds)} for action_dim={action_dim}"
        )


def mlp_policy(
    tasks: TaskDistribution, *, squashed: bool = False, **kwargs
) -> MLPPolicy:
    """Makes an `MLPPolicy` whose heads and input fit a task family.

    Args:
      tasks: the family; only its action space and what a policy sees are read.
      squashed: whether the actions of a `Box` are squashed into its bounds; otherwise
        the environment is given the nearest ones within them.
      **kwargs: further attributes of `MLPPolicy`. The encoder is by default a `CNN`
        where observations are images `[H, W, C]`.

    Returns:
      A policy with a categorical head for a `Discrete` action space and a Gaussian
      head for a `Box`.

    Raises:
      ValueError: if the action space is of another kind, what a policy sees is not one
        array, a hidden size is below 1, or actions are to be squashed that are discrete
        or whose bounds are not finite and apart.
    """
    check_tasks(tasks)
    check_flags(squashed=squashed)
    for name in kwargs:
        if name not in _CHOSEN:
            raise ValueError(
                f"mlp_policy takes squashed, {', '.join(_CHOSEN)}; got {name}"
            )
    space, obs = tasks.action_space, tasks.observation
    if not isinstance(obs, jax.ShapeDtypeStruct):
        raise ValueError(
            f"mlp_policy needs an observation that is one array; {tasks.env.name} "
            f"shows {obs}"
        )
    obs_rank, num_actions = len(obs.shape), spaces.num_choices(space)
    kwargs = {"encoder": image_encoder(tasks), **kwargs}
    if num_actions is not None:
        if squashed:
            raise ValueError(
                f"squashed actions need a Box; {tasks.env.name} has {space!r}"
            )
        return MLPPolicy(num_actions=num_actions, obs_rank=obs_rank, **kwargs)
    if spaces.is_box(space) and len(space.shape) == 1:
        if squashed:
            bounds = [
                np.broadcast_to(bound, space.shape).astype(float)
                for bound in (space.low, space.high)
            ]
            if not np.all(np.isfinite(bounds)) or np.any(bounds[0] >= bounds[1]):
                raise ValueError(
                    "squashed actions need finite bounds, the low below the high; "
                    f"those of {tasks.env.name} are {space.low} and {space.high}"
                )
            kwargs["action_bounds"] = tuple(tuple(bound.tolist()) for bound in bounds)
        return MLPPolicy(action_dim=space.shape[0], obs_rank=obs_rank, **kwargs)
    raise ValueError(
        "mlp_policy needs a Discrete action space or a Box of one axis; "
        f"{tasks.env.name} has {space!r}"
    )
