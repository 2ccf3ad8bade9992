"""A policy that acts by a sample of what it believes the task to be."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.spaces import join
from metarl_jax.types import Key, Memory, Observation, Params, Policy


class Belief(NamedTuple):
    """A diagonal Gaussian over the latent variable z of a task, and a sample of it.

    In natural parameters, in which a product of Gaussians is a sum. Leaves `[C]`.
    """

    precision: jax.Array  # 1 / σ²
    shift: jax.Array  # μ / σ²
    z: jax.Array  # the sample that is acted by

    @property
    def mean(self) -> jax.Array:
        """Returns μ."""
        return self.shift / self.precision

    @property
    def variance(self) -> jax.Array:
        """Returns σ²."""
        return 1.0 / self.precision

    def update(
        self, mean: jax.Array, precision: jax.Array, mask: jax.Array
    ) -> "Belief":
        """Multiplies by a Gaussian factor of each step, in whatever order.

        q(z) ∝ N(z; μ, σ²) Π_n N(z; μ_n, 1 / λ_n) over the valid steps n.

        Args:
          mean: `[L, C]` μ_n.
          precision: `[L, C]` λ_n.
          mask: `[L]` valid steps.

        Returns:
          The belief, its sample unchanged.
        """
        valid = mask[:, None]
        return self._replace(
            precision=self.precision + jnp.sum(precision, axis=0, where=valid),
            shift=self.shift + jnp.sum(precision * mean, axis=0, where=valid),
        )

    def sample(self, key: Key) -> "Belief":
        """Draws z anew; differentiable in the belief."""
        noise = jax.random.normal(key, self.shift.shape, self.shift.dtype)
        return self._replace(z=self.mean + jnp.sqrt(self.variance) * noise)

    def kl_from_prior(self) -> jax.Array:
        """Returns KL(N(μ, σ²) ‖ N(0, 1)), summed over the dimensions, `[]`."""
        variance = self.variance
        return 0.5 * jnp.sum(variance + self.mean**2 - 1.0 - jnp.log(variance))


def prior(latent_size: int) -> Belief:
    """Returns N(0, 1), with its mean as the sample."""
    zeros = jnp.zeros(latent_size)
    return Belief(jnp.ones(latent_size), zeros, zeros)


class LatentPolicy(NamedTuple):
    """Any policy with a sample z of a belief at the end of every observation.

    Posterior sampling: at the start of an episode z is drawn from the belief in the
    memory and acted by until the end; the memory lives as long as the trial. Its
    parameters are `{"actor": θ}`, θ those of the policy inside, made for observations
    that are longer by z; other entries are left alone.

    Attributes:
      policy: the policy inside, without memory.
      latent_size: C, how long z is.
    """

    policy: Policy
    latent_size: int

    def init(self, key: Key, memory: Memory, obs: Observation) -> Params:
        """Draws θ."""
        return {"actor": self.policy.init(key, (), join(obs, memory.z))}

    def begin(self, key: Key, memory: Belief) -> Belief:
        """Draws the z of an episode."""
        return memory.sample(key)

    def apply(self, params: Params, memory: Belief, obs: Observation):
        """Returns what the policy inside makes of observation and z."""
        joined = join(obs, memory.z)
        distribution, value, _ = self.policy.apply(params["actor"], (), joined)
        return distribution, value, memory

    def initial_memory(self) -> Belief:
        """Returns the prior."""
        return prior(self.latent_size)
