"""Evolution strategies: the gradient of a function that need not have one."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from metarl_jax.batching import mean_over_tasks
from metarl_jax.types import Key, Params


def antithetic_gradient(
    key: Key,
    function: Callable[[Params], tuple[jax.Array, Any]],
    params: Params,
    *,
    sigma: float | jax.Array,
    ranked: bool = False,
) -> tuple[Params, tuple[jax.Array, Any]]:
    """Estimates the gradient of a smoothed function from one antithetic pair.

    (f(θ + σ ε) - f(θ - σ ε)) ε / 2σ, whose expectation over ε ~ N(0, 1) is the gradient
    of E_ε f(θ + σ ε) at θ. One draw; average over keys with `jax.vmap`.

    Args:
      key: draws ε.
      function: f, `(params) -> ([], anything else)`.
      params: θ.
      sigma: σ, above 0.
      ranked: whether the difference is replaced by its sign: which of the two is the
        better, where values of different draws have different scales, as returns of
        different tasks have (Jackson et al. 2024, arXiv 2402.05828). The expectation is
        then no gradient, but still a direction.

    Returns:
      The estimate, shaped like `params`, and what f returned at both points, `[2]`.
    """
    noise = optax.tree.random_like(key, params)
    pair = jax.tree.map(
        lambda p, e: jnp.stack([p + sigma * e, p - sigma * e]), params, noise
    )
    values, aux = jax.vmap(function)(pair)
    difference = values[0] - values[1]
    difference = jnp.sign(difference) if ranked else difference
    return optax.tree.scale(difference / (2 * sigma), noise), (values, aux)


def downhill_of_lives(
    key: Key,
    whole_life: Callable[[Params, Key], tuple[jax.Array, jax.Array]],
    rule: Params,
    *,
    sigma: float | jax.Array,
    num_pairs: int,
    group_size: int | None = None,
) -> tuple[Params, jax.Array, jax.Array]:
    """Finds which way a rule leads to less at the end of a life.

    By which of two antithetic rules is the better, over lives with the same random
    numbers.

    Args:
      key: consumed.
      whole_life: `(rule, key) -> (after, before)`, what a life ends and begins with.
      rule: η.
      sigma: σ, standard deviation of the perturbations of η.
      num_pairs: N, pairs of lives.
      group_size: pairs under one `vmap` (`metarl_jax.batching`).

    Returns:
      The direction, shaped like `rule`, and the means of `before` and of `after` over
      all lives, `[]`.
    """

    def pair(key):
        key_noise, key_life = jax.random.split(key)
        return antithetic_gradient(
            key_noise,
            lambda rule: whole_life(rule, key_life),
            rule,
            sigma=sigma,
            ranked=True,
        )

    gradient, (after, before) = mean_over_tasks(pair, group_size=group_size)(
        jax.random.split(key, num_pairs)
    )
    return optax.tree.scale(-1.0, gradient), jnp.mean(before), jnp.mean(after)
