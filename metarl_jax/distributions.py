"""Action distributions as pytrees of arrays, with any leading batch axes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

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


class TanhDiagGaussian(NamedTuple):
    """A diagonal Gaussian squashed into a box, for bounded actions.

    a = l + (h - l) (1 + tanh u) / 2,  u ~ N(mean, exp(log_std)²).
    """

    mean: jax.Array  # [..., D] of u
    log_std: jax.Array  # [..., D] of u
    low: jax.Array  # [..., D] l
    high: jax.Array  # [..., D] h

    @property
    def base(self) -> DiagGaussian:
        """The distribution of u."""
        return DiagGaussian(self.mean, self.log_std)

    def sample(self, key: jax.Array) -> jax.Array:
        """Draws actions `[..., D]`; differentiable in the parameters."""
        return self._squash(self.base.sample(key))

    def sample_and_log_prob(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Draws actions `[..., D]` and returns their log p `[...]` too.

        Differentiable in the parameters through both. Exact where an action is so near
        its bound that `log_prob`, which must invert the tanh, is not.
        """
        u = self.base.sample(key)
        log_prob = self.base.log_prob(u) - jnp.sum(self._log_slope(u), axis=-1)
        return self._squash(u), log_prob

    def mode(self) -> jax.Array:
        """Returns where the mean of u goes, `[..., D]`: the median of each dimension.

        The density may have its peaks at the bounds.
        """
        return self._squash(self.mean)

    def log_prob(self, action: jax.Array) -> jax.Array:
        """Returns log p(action), summed over the action's dimensions, `[...]`.

        An action that rounding has put on its bound counts as the number next to it.
        """
        inside = 1.0 - jnp.finfo(self.mean.dtype).eps
        x = 2.0 * (action - self.low) / (self.high - self.low) - 1.0
        u = jnp.arctanh(jnp.clip(x, -inside, inside))
        return self.base.log_prob(u) - jnp.sum(self._log_slope(u), axis=-1)

    def within(self, action: jax.Array, fraction: float) -> jax.Array:
        """Moves actions `[..., D]` into the inner `fraction` of the box.

        Near a bound u is so large that the slope of log p(a) in the mean, (u - mean) /
        std², is that of a few such actions alone; who imitates them moves them first.
        """
        center, half_width = 0.5 * (self.low + self.high), 0.5 * (self.high - self.low)
        reach = fraction * half_width
        return center + jnp.clip(action - center, -reach, reach)

    def entropy(self) -> jax.Array:
        """Returns the differential entropy in nats, `[...]`.

        H(u) + E[log da/du]; the expectation by Gauss-Hermite quadrature.
        """
        nodes, weights = np.polynomial.hermite_e.hermegauss(32)
        std = jnp.exp(self.log_std)
        log_slope = jax.vmap(lambda node: self._log_slope(self.mean + node * std))(
            jnp.asarray(nodes, self.mean.dtype)
        )
        weights = jnp.asarray(weights / weights.sum(), self.mean.dtype)
        expected = jnp.tensordot(weights, log_slope, axes=1)
        return self.base.entropy() + jnp.sum(expected, axis=-1)

    def kl(self, other: "TanhDiagGaussian") -> jax.Array:
        """Returns KL(self ‖ other) `[...]` for the same box: that of the Gaussians."""
        return self.base.kl(other.base)

    def _squash(self, u):
        return self.low + (self.high - self.low) * (0.5 + 0.5 * jnp.tanh(u))

    def _log_slope(self, u):
        """Returns log da/du; 1 - tanh²u = 4 / (e^u + e^-u)² without overflow."""
        half_width = jnp.log(0.5 * (self.high - self.low))
        return half_width + 2.0 * (jnp.log(2.0) - u - jax.nn.softplus(-2.0 * u))
