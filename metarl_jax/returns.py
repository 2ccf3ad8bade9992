"""Returns, advantages and the linear feature baseline."""

from typing import Any

import jax
import jax.numpy as jnp

from metarl_jax.linear_algebra import solve_positive


def discounted_returns(
    reward: jax.Array, terminated: jax.Array, *, discount: float | jax.Array
) -> jax.Array:
    """Computes the discounted return from every step of one trajectory.

    G_t = r_t + γ (1 - d_t) G_{t+1}, with G_T = 0.

    Args:
      reward: `[T]` rewards; zero after the episode's last step.
      terminated: `[T]` true where the episode ended by itself.
      discount: γ in [0, 1].

    Returns:
      `[T]` returns. Batch with `jax.vmap`.
    """

    def step(carry, inputs):
        r, d = inputs
        carry = r + discount * jnp.where(d, 0.0, carry)
        return carry, carry

    initial = jnp.zeros((), jnp.result_type(reward, discount))
    return jax.lax.scan(step, initial, (reward, terminated), reverse=True)[1]


def discounted_rewards(reward: jax.Array, *, discount: float | jax.Array) -> jax.Array:
    """Returns γ^t r_t along the last axis, `[..., T] -> [..., T]`."""
    times = jnp.arange(reward.shape[-1], dtype=jnp.result_type(reward, discount))
    return reward * jnp.broadcast_to(discount**times, reward.shape)


def generalised_advantages(
    reward: jax.Array,
    value: jax.Array,
    next_value: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    *,
    discount: float | jax.Array,
    gae_lambda: float | jax.Array,
) -> jax.Array:
    """Computes generalised advantage estimates over one stream of steps.

    δ_t = r_t + γ (1 - terminated_t) V(o_{t+1}) - V(o_t)
    A_t = δ_t + γλ (1 - terminated_t) (1 - truncated_t) A_{t+1},  A_T = 0.

    A termination has no value after it; a time limit does, and is bootstrapped; both
    end the sum (Pardo et al. 2018, arXiv 1712.00378). Where the objective itself is the
    return within the horizon, pass a `next_value` of zero at the horizon.

    Args:
      reward: `[T]`.
      value: `[T]` V(o_t).
      next_value: `[T]` V(o_{t+1}), of the observation *before* any reset.
      terminated: `[T]` bool.
      truncated: `[T]` bool.
      discount: γ in [0, 1].
      gae_lambda: λ in [0, 1].

    Returns:
      `[T]` advantages (Schulman et al. 2016, arXiv 1506.02438). What stands on padded
      steps after an end does not reach the steps before it.
    """
    delta = reward + discount * jnp.where(terminated, 0.0, next_value) - value
    ended = terminated | truncated

    def step(carry, inputs):
        delta_t, ended_t = inputs
        carry = delta_t + discount * gae_lambda * jnp.where(ended_t, 0.0, carry)
        return carry, carry

    initial = jnp.zeros((), jnp.result_type(delta, discount, gae_lambda))
    return jax.lax.scan(step, initial, (delta, ended), reverse=True)[1]


def retrace(
    reward: jax.Array,
    discount: jax.Array,
    q: jax.Array,
    next_value: jax.Array,
    trace: jax.Array,
) -> jax.Array:
    """Computes action values from steps that another policy may have taken.

    G_t = r_t + γ_t (V(o_{t+1}) + c_{t+1} (G_{t+1} - Q(o_{t+1}, a_{t+1}))), after the
    last step γ_T V(o_T).

    Args:
      reward: `[T]`.
      discount: `[T]` γ_t, zero where the episode ended.
      q: `[T]` Q(o_t, a_t).
      next_value: `[T]` V(o_{t+1}), under the policy whose values are asked for.
      trace: `[T]` c_t = λ min(1, π(a_t) / μ(a_t)).

    Returns:
      `[T]` targets of Q(o_t, a_t) (Munos et al. 2016, arXiv 1606.02647).
    """

    def step(carry, inputs):
        r, gamma, value, q_t, c_t = inputs
        target = r + gamma * (value + carry)
        return c_t * (target - q_t), target

    initial = jnp.zeros((), jnp.result_type(reward, q, next_value))
    xs = (reward, discount, next_value, q, trace)
    return jax.lax.scan(step, initial, xs, reverse=True)[1]


def linear_feature_baseline(
    obs: Any,
    returns: jax.Array,
    mask: jax.Array,
    *,
    ridge: float = 1e-5,
) -> jax.Array:
    """Fits returns by linear least squares on one task's episodes and predicts them.

    b = Φw, w = argmin_w Σ mask (Φw - G)² + ridge ‖w‖² n, with the features
    φ_t = (o_t, o_t², τ, τ², τ³, 1), τ = t / 100 (Duan et al. 2016, arXiv 1604.06778).

    The features are centred and scaled before the fit, so that the normal equations are
    solvable in float32 even where a feature is constant; the constant term is not
    penalised. Of more features than steps, as images have, the same prediction is made
    by the steps' inner products: Φ(ΦᵀΦ + λI)⁻¹Φᵀ = ΦΦᵀ(ΦΦᵀ + λI)⁻¹.

    Args:
      obs: `[E, T, ...]`, or a pytree of these; flattened to vectors, one after the
        other, and clipped to [-10, 10].
      returns: `[E, T]`.
      mask: `[E, T]` bool; false steps take no part in the fit.
      ridge: the penalty, relative to the number of valid steps; at least what rounding
        makes of that many features.

    Returns:
      `[E, T]` predicted returns, zero where the mask is false.
    """
    num_episodes, horizon = returns.shape
    parts = [
        jnp.reshape(x, (num_episodes, horizon, -1)).astype(returns.dtype)
        for x in jax.tree.leaves(obs)
    ]
    obs = jnp.clip(jnp.concatenate(parts, axis=-1), -10.0, 10.0)
    time = jnp.arange(horizon, dtype=returns.dtype)[None, :, None] / 100.0
    time = jnp.broadcast_to(time, (num_episodes, horizon, 1))
    features = jnp.concatenate([obs, obs**2, time, time**2, time**3], axis=-1)
    features = features.reshape(num_episodes * horizon, -1)

    weight = mask.reshape(-1, 1).astype(returns.dtype)
    count = jnp.maximum(jnp.sum(weight), 1.0)

    def centre(x):
        x = jnp.where(weight > 0, x, 0.0)
        mean = jnp.sum(x, axis=0, keepdims=True) / count
        return jnp.where(weight > 0, x - mean, 0.0), mean

    features, _ = centre(features)
    target, target_mean = centre(returns.reshape(-1, 1))
    scale = jnp.sqrt(jnp.sum(features**2, axis=0, keepdims=True) / count)
    features = features / jnp.where(scale > 1e-6, scale, 1.0)

    # Of many features that depend on one another, as one-hot ones do, rounding makes
    # eigenvalues of 0 negative by more than a small penalty.
    rounding = 4.0 * float(jnp.finfo(features.dtype).eps) * features.shape[1]
    penalty = max(ridge, rounding)

    def solve(gram, right):
        gram = gram / count + penalty * jnp.eye(gram.shape[0], dtype=gram.dtype)
        return solve_positive(gram, right / count)

    if features.shape[1] <= features.shape[0]:
        predicted = features @ solve(features.T @ features, features.T @ target)
    else:
        products = features @ features.T
        predicted = products @ solve(products, target)
    baseline = jnp.where(weight > 0, predicted + target_mean, 0.0)
    return baseline.reshape(num_episodes, horizon)


def variance(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Computes the variance over the valid steps, to divide by it or by its root.

    Args:
      x: `[...]`.
      mask: `[...]` bool.

    Returns:
      `[]`; NaN where it overflows, because an infinite one would quietly make zeros of
      everything that is divided by it.
    """
    value = jnp.var(x, where=mask)
    return jnp.where(jnp.isfinite(value), value, jnp.nan)


def share_of_mean(x: jax.Array, mask: jax.Array, whole: jax.Array) -> jax.Array:
    """Computes what some steps add to the mean over the valid steps of all.

    Args:
      x: `[...]` floats, of some of the steps.
      mask: `[...]` bool, theirs.
      whole: bool, of all steps.

    Returns:
      `[]`.
    """
    return jnp.sum(x, where=mask) / jnp.sum(whole, dtype=x.dtype)


def normalise(x: jax.Array, mask: jax.Array, *, epsilon: float = 1e-8) -> jax.Array:
    """Shifts and scales `x` to mean 0 and standard deviation 1 over the valid steps.

    Args:
      x: `[...]`.
      mask: `[...]` bool.
      epsilon: added to the standard deviation.

    Returns:
      `[...]`, zero where the mask is false; NaN elsewhere if the variance overflows.
    """
    mean = jnp.mean(x, where=mask)
    std = jnp.sqrt(variance(x, mask))
    return jnp.where(mask, (x - mean) / (std + epsilon), 0.0)
