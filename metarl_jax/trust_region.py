"""The trust-region update: conjugate gradient and a backtracking line search.

Schulman et al. 2015, arXiv 1502.05477, on any pytree of parameters and any objective
and divergence, so also on those of the parameters *before* an adaptation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax.types import Params
from metarl_jax.validation import (
    check_above_zero,
    check_not_negative,
    check_optimizers,
    check_positive,
    check_sizes,
)


@dataclass(frozen=True)
class TrustRegion:
    """The settings of a trust-region step.

    Attributes:
      max_kl: δ, the mean divergence that a step may reach, in nats.
      num_cg_iterations: conjugate-gradient iterations.
      damping: added to the diagonal of the Fisher matrix.
      backtrack_ratio: each further try of the line search is shorter by this factor.
      max_backtracks: tries before the update is given up.
      before_strides: (n, m): Fisher-vector products adapt on every m-th of the steps
        that were taken in every n-th episode, or on more where all of these ended
        early. Surrogates that couple steps (DiCE) are exact for m = 1 alone.
      after_strides: the same of where they measure the divergence. The line search uses
        all of the data in any case.

    Raises:
      ValueError: if a count or a stride is below 1, `max_kl` is not above 0, `damping`
        is negative or `backtrack_ratio` is not between 0 and 1.
    """

    max_kl: float | jax.Array = 0.01
    num_cg_iterations: int = 10
    damping: float | jax.Array = 1e-5
    backtrack_ratio: float = 0.8
    max_backtracks: int = 15
    before_strides: tuple[int, int] = (1, 1)
    after_strides: tuple[int, int] = (1, 1)

    def __post_init__(self):
        check_positive(
            num_cg_iterations=self.num_cg_iterations,
            max_backtracks=self.max_backtracks,
        )
        check_above_zero(max_kl=self.max_kl, backtrack_ratio=self.backtrack_ratio)
        check_not_negative(damping=self.damping)
        if not self.backtrack_ratio < 1:
            raise ValueError(
                f"backtrack_ratio must be below 1; got {self.backtrack_ratio}"
            )
        for name in ("before_strides", "after_strides"):
            strides = getattr(self, name)
            check_sizes(**{name: strides})
            if len(strides) != 2:
                raise ValueError(
                    f"{name} must be two strides, of episodes and of steps; got "
                    f"{strides}"
                )


class TrustRegionInfo(NamedTuple):
    """What a trust-region step did."""

    kl: jax.Array  # [] mean divergence of the accepted step, 0 where none was
    step_norm: jax.Array  # [] of the first try, not finite where the metric was not
    improvement: jax.Array  # [] of the objective
    num_backtracks: jax.Array  # [] int32
    accepted: jax.Array  # [] bool


def check_outer_optimizer(optimizer: Any) -> None:
    """Raises a `ValueError` unless it is an optax transformation or a `TrustRegion`."""
    if not isinstance(optimizer, TrustRegion):
        check_optimizers(outer_optimizer=optimizer)


def fisher_vector_product(
    distribution: Callable[[Params], Any],
    params: Params,
    mask: jax.Array,
    vector: Params,
) -> Params:
    """Computes F v, the Gauss-Newton product of the mean divergence.

    F = mean_t J_tᵀ M_t J_t, where J is the Jacobian of the distribution's parameters in
    θ and M = ∂²KL(d ‖ d')/∂d'² at d' = d. Because the first derivative of the
    divergence vanishes there, F *is* the Hessian of θ ↦ KL(π_θold ‖ π_θ), also where
    `distribution` adapts before it acts; no third derivative is needed.

    J v is the transpose of u -> Jᵀ u at v, so that reverse mode, which keeps what the
    adaptation's own choice of `differentiation` keeps, is all that is asked of it.

    Args:
      distribution: `(params) -> Distribution` over a batch of observations `[B]`.
      params: θ.
      mask: `[B]` bool, the observations that count.
      vector: v, shaped like `params`.

    Returns:
      F v, shaped like `params`.
    """
    current, pullback = jax.vjp(distribution, params)
    pushforward = jax.linear_transpose(lambda u: pullback(u)[0], current)

    def divergence(other):
        kl = current.kl(other)
        count = jnp.maximum(jnp.sum(mask, dtype=kl.dtype), 1)
        return jnp.sum(kl, where=mask) / count

    _, metric_tangent = jax.jvp(jax.grad(divergence), (current,), pushforward(vector))
    return pullback(metric_tangent)[0]


def conjugate_gradient(
    product: Callable[[Params], Params], vector: Params, *, num_iterations: int
) -> Params:
    """Solves A x = b for a positive-definite A known by its products.

    Args:
      product: `v -> A v` on pytrees.
      vector: b.
      num_iterations: how many products are taken; an iteration whose residual is
        already negligible changes nothing.

    Returns:
      x, shaped like `vector`.
    """

    def iterate(_, carry):
        x, residual, direction, residual_norm = carry
        product_direction = product(direction)
        curvature = jnp.asarray(optax.tree.vdot(direction, product_direction))
        step = jnp.where(curvature > 0, residual_norm / curvature, 0.0)
        x = _add_scaled(x, step, direction)
        residual = _add_scaled(residual, -step, product_direction)
        new_norm = optax.tree.vdot(residual, residual)
        ratio = jnp.where(residual_norm > 0, new_norm / residual_norm, 0.0)
        direction = _add_scaled(residual, ratio, direction)
        return x, residual, direction, new_norm

    norm = optax.tree.vdot(vector, vector)
    carry = (optax.tree.zeros_like(vector), vector, vector, norm)
    return jax.lax.fori_loop(0, num_iterations, iterate, carry)[0]


def _add_scaled(tree: Params, scale: jax.Array, other: Params) -> Params:
    """Returns `tree + scale * other`, each leaf of the type that it has in `tree`."""
    return jax.tree.map(
        lambda x, y: x + (scale.astype(x.dtype) * y.astype(x.dtype)), tree, other
    )


def trust_region_step(
    params: Params,
    objective: jax.Array,
    gradient: Params,
    product: Callable[[Params], Params],
    evaluate: Callable[[Params], tuple[jax.Array, jax.Array]],
    settings: TrustRegion,
) -> tuple[Params, TrustRegionInfo]:
    """Maximises an objective within a divergence of the current parameters.

    Δ = √(2δ / gᵀF⁻¹g) F⁻¹g, then Δ, ρΔ, ρ²Δ, … until the objective has improved and
    the divergence is at most δ.

    Args:
      params: θ.
      objective: its value at θ, `[]`.
      gradient: g, its gradient at θ.
      product: `v -> F v`, without damping.
      evaluate: `(params) -> (objective, divergence)`; one that adapts must adapt again.
      settings: δ, ρ and the rest.

    Returns:
      The new parameters, θ itself where no try was accepted, and a `TrustRegionInfo`.
    """

    def damped(v):
        return optax.tree.add_scale(product(v), settings.damping, v)

    direction = conjugate_gradient(
        damped, gradient, num_iterations=settings.num_cg_iterations
    )
    curvature = optax.tree.vdot(gradient, direction)
    scale = jnp.sqrt(2.0 * settings.max_kl / jnp.maximum(curvature, 1e-20))

    def try_step(carry):
        num_tries, *_ = carry
        length = scale * settings.backtrack_ratio ** num_tries.astype(scale.dtype)
        candidate = _add_scaled(params, length, direction)
        value, kl = (x.astype(objective.dtype) for x in evaluate(candidate))
        improved = (value > objective) & jnp.isfinite(value)
        accepted = improved & (kl <= settings.max_kl)
        return num_tries + 1, candidate, value, kl, accepted

    def searching(carry):
        num_tries, _, _, _, accepted = carry
        return ~accepted & (num_tries < settings.max_backtracks)

    num_tries, candidate, value, kl, accepted = jax.lax.while_loop(
        searching,
        try_step,
        (
            jnp.zeros((), jnp.int32),
            params,
            objective,
            jnp.zeros_like(objective),
            jnp.asarray(False),
        ),
    )
    new_params = jax.tree.map(
        lambda new, old: jnp.where(accepted, new, old), candidate, params
    )
    info = TrustRegionInfo(
        kl=jnp.where(accepted, kl, 0.0),
        step_norm=scale * optax.tree.norm(direction),
        improvement=jnp.where(accepted, value - objective, 0.0),
        num_backtracks=num_tries - 1,
        accepted=accepted,
    )
    return new_params, info
