"""Feed-forward policies."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from gymnax.environments import spaces

from metarl_jax.distributions import Categorical, DiagGaussian
from metarl_jax.types import TaskDistribution


class MLPPolicy(nn.Module):
    """A memoryless policy: hidden layers, then an action head, and maybe a value head.

    A categorical head for `num_actions` discrete actions, or, where `action_dim` is
    given instead, a diagonal Gaussian whose log standard deviation is a parameter of
    its own, the same in every state. Observations are flattened to vectors; any
    leading batch axes beyond `obs_rank` pass through.

    Attributes:
      num_actions: A, the number of discrete actions.
      action_dim: D, the number of continuous action dimensions.
      hidden_sizes: widths of the hidden layers.
      activation: the nonlinearity between them.
      initial_log_std: log σ at initialisation.
      min_log_std: log σ is held above this.
      value_head: whether to predict V(o) from the last hidden layer; otherwise the
        value is zero.
      obs_rank: how many trailing axes one observation has.
    """

    num_actions: int | None = None
    action_dim: int | None = None
    hidden_sizes: Sequence[int] = (100, 100)
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    initial_log_std: float = 0.0
    min_log_std: float = -13.8
    value_head: bool = False
    obs_rank: int = 1

    @nn.compact
    def __call__(self, memory, obs):
        """Returns the action distribution, the value and the memory, unchanged."""
        batch_shape = obs.shape[: obs.ndim - self.obs_rank]
        x = obs.reshape(*batch_shape, -1).astype(jnp.float32)
        glorot = nn.initializers.xavier_uniform()
        for i, size in enumerate(self.hidden_sizes):
            x = nn.Dense(size, kernel_init=glorot, name=f"hidden_{i}")(x)
            x = self.activation(x)
        if self.num_actions is not None and self.action_dim is None:
            logits = nn.Dense(self.num_actions, kernel_init=glorot, name="logits")(x)
            distribution = Categorical(logits)
        elif self.action_dim is not None and self.num_actions is None:
            mean = nn.Dense(self.action_dim, kernel_init=glorot, name="mean")(x)
            log_std = self.param(
                "log_std",
                nn.initializers.constant(self.initial_log_std),
                (self.action_dim,),
            )
            log_std = jnp.maximum(log_std, self.min_log_std)
            distribution = DiagGaussian(mean, jnp.broadcast_to(log_std, mean.shape))
        else:
            raise ValueError(
                "MLPPolicy needs exactly one of num_actions and action_dim; got "
                f"num_actions={self.num_actions}, action_dim={self.action_dim}"
            )
        if self.value_head:
            value = nn.Dense(1, kernel_init=glorot, name="value")(x)[..., 0]
        else:
            value = jnp.zeros(batch_shape)
        return distribution, value, memory

    def initial_memory(self):
        """Returns `()`: this policy remembers nothing."""
        return ()


def mlp_policy(tasks: TaskDistribution, **kwargs) -> MLPPolicy:
    """Makes an `MLPPolicy` whose heads and input fit a task family.

    Args:
      tasks: the family; only its environment's spaces are read.
      **kwargs: further attributes of `MLPPolicy`.

    Returns:
      A policy with a categorical head for a `Discrete` action space and a Gaussian
      head for a `Box`.

    Raises:
      ValueError: if the action space is of another kind, or a hidden size is below 1.
    """
    for size in kwargs.get("hidden_sizes", ()):
        if size < 1:
            raise ValueError(f"every hidden size must be at least 1; got {size}")
    task = tasks.sample(jax.random.key(0))
    space = tasks.env.action_space(task)
    obs_rank = len(tasks.env.observation_space(task).shape)
    if isinstance(space, spaces.Discrete):
        return MLPPolicy(num_actions=int(space.n), obs_rank=obs_rank, **kwargs)
    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        return MLPPolicy(action_dim=space.shape[0], obs_rank=obs_rank, **kwargs)
    raise ValueError(
        "mlp_policy needs a Discrete action space or a Box of one axis; "
        f"{tasks.env.name} has {space!r}"
    )
