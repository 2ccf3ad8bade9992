"""Action distributions as pytrees of arrays, with any leading batch axes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

_LOG_2PI = 1.8378770664093453


class Categorical(NamedTuple):
    """A categorical distribution over `{0, …, A-1}`, p = softmax(logits)."""

    logits: jax.Array  # [..., A], unnormalised

    def sample(self, key: jax.Array) -> jax.Array:
        """Draws actions `[...]`, int32."""
        return jax.random.categorical(key, self.logits)

    def mode(self) -> jax.Array:
        """Returns the most probable actions `[...]`, int32."""
        return jnp.argmax(self.logits, axis=-1).astype(jnp.int32)

    def log_prob(self, action: jax.Array) -> jax.Array:
        """Returns log p(action) `[...]`."""
        log_p = jax.nn.log_softmax(self.logits)
        # A one-hot product, not a gather: its transpose is a multiplication rather than
        # a scatter, and A is small.
        one_hot = jax.nn.one_hot(action, self.logits.shape[-1], dtype=bool)
        return jnp.sum(jnp.where(one_hot, log_p, 0.0), axis=-1)

    def entropy(self) -> jax.Array:
        """Returns -Σ p log p `[...]`."""
        log_p = jax.nn.log_softmax(self.logits)
        p = jnp.exp(log_p)
        # Impossible actions (a logit of -inf) are taken out before the product: after
        # it, the derivative would still meet 0 · ∞.
        return -jnp.sum(p * jnp.where(p > 0, log_p, 0.0), axis=-1)

    def kl(self, other: "Categorical") -> jax.Array:
        """Returns KL(self ‖ other) `[...]`."""
        log_p = jax.nn.log_softmax(self.logits)
        log_q = jax.nn.log_softmax(other.logits)
        p = jnp.exp(log_p)
        log_ratio = jnp.where(p > 0, log_p, 0.0) - jnp.where(p > 0, log_q, 0.0)
        return jnp.sum(p * log_ratio, axis=-1)


class DiagGaussian(NamedTuple):
    """A Gaussian with diagonal covariance over `[D]` actions."""

    mean: jax.Array  # [..., D]
    log_std: jax.Array  # [..., D]

    def sample(self, key: jax.Array) -> jax.Array:
        """Draws actions `[..., D]`."""
        noise = jax.random.normal(key, self.mean.shape, self.mean.dtype)
        return self.mean + jnp.exp(self.log_std) * noise

    def mode(self) -> jax.Array:
        """Returns the mean `[..., D]`."""
        return self.mean

    def log_prob(self, action: jax.Array) -> jax.Array:
        """Returns log p(action), summed over the action's dimensions, `[...]`."""
        z = (action - self.mean) * jnp.exp(-self.log_std)
        return jnp.sum(-0.5 * (z * z + _LOG_2PI) - self.log_std, axis=-1)

    def entropy(self) -> jax.Array:
        """Returns the differential entropy in nats, `[...]`."""
        return jnp.sum(self.log_std + 0.5 * (_LOG_2PI + 1.0), axis=-1)

    def kl(self, other: "DiagGaussian") -> jax.Array:
        """Returns KL(self ‖ other), summed over the action's dimensions, `[...]`.

        log σ₂ - log σ₁ + (σ₁² + (μ₁ - μ₂)²) / 2σ₂² - ½.
        """
        difference = self.mean - other.mean
        variance_ratio = jnp.exp(2.0 * (self.log_std - other.log_std))
        scaled = difference * jnp.exp(-other.log_std)
        return jnp.sum(
            other.log_std
            - self.log_std
            + 0.5 * (variance_ratio + scaled * scaled - 1.0),
            axis=-1,
        )
