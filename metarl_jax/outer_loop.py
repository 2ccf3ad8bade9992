"""The outer loop: one update of what adaptation starts from, through the adaptation."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax import trust_region, updates
from metarl_jax.batching import mean_over_tasks
from metarl_jax.policy_gradient import Batch
from metarl_jax.trust_region import TrustRegion
from metarl_jax.types import Params

OuterOptimizer = optax.GradientTransformation | TrustRegion


class OuterInfo(NamedTuple):
    """What an outer update did. All `[]`."""

    gradient_norm: jax.Array
    kl: jax.Array  # mean KL(π_θ'old ‖ π_θ'new) of the update; 0 without a trust region
    accepted: jax.Array  # bool, the update was taken: no line search refused it
    skipped: jax.Array  # bool, something was not finite and nothing has changed


def init(optimizer: OuterOptimizer, params: Params) -> Any:
    """Returns the optimiser's state; a trust region has none."""
    return () if isinstance(optimizer, TrustRegion) else optimizer.init(params)


def update(
    optimizer: OuterOptimizer,
    optimizer_state: Any,
    params: Params,
    objective: Callable[..., tuple[jax.Array, Params]],
    act: Callable[[Params, Any], Any],
    task_params: Params,
    before: Batch,
    after: Batch,
    *others: Any,
    group_size: int | None = None,
) -> tuple[Params, Any, OuterInfo]:
    """Ascends the mean over tasks of an objective that adapts.

    By optax, or within a mean divergence of the *adapted* policies: its Fisher-vector
    products differentiate through the adaptation and its line search adapts anew.

    Args:
      optimizer: an optax transformation or a `TrustRegion`.
      optimizer_state: its state, from `init`.
      params: what is learned, θ or any pytree of which adaptation makes θ'.
      objective: `(params, before, after, *others) -> ([], θ')`, for one task: what is
        ascended, and the policy parameters after adaptation on `before`.
      act: `(θ', obs [E, T, ...]) -> Distribution [E·T]`.
      task_params: θ' of each task, leaves `[N, ...]`: who collected `after`.
      before: `[N, K, E, T, ...]`, the data of the inner steps.
      after: `[N, E, T, ...]`, the data of the adapted policies.
      *others: leaves `[N, ...]`, further arguments of the objective.
      group_size: tasks under one `vmap` (`metarl_jax.batching`).

    Returns:
      The new parameters, the optimiser's new state and an `OuterInfo`.
    """
    mean_over = partial(mean_over_tasks, group_size=group_size)
    ascended = jax.value_and_grad(lambda params, *data: objective(params, *data)[0])
    value, gradient = mean_over(partial(ascended, params))(before, after, *others)

    if isinstance(optimizer, TrustRegion):
        fewer = _every(optimizer.before_strides, before)
        measured = _every(optimizer.after_strides, after)

        def product(vector):
            def one_task(before, after, *others):
                def distribution(params):
                    return act(objective(params, before, after, *others)[1], after.obs)

                return trust_region.fisher_vector_product(
                    distribution, params, after.mask.reshape(-1), vector
                )

            return mean_over(one_task)(fewer, measured, *others)

        def evaluate(params):
            def one_task(old_params, before, after, *others):
                value, new_params = objective(params, before, after, *others)
                old = act(old_params, after.obs)
                kl = old.kl(act(new_params, after.obs))
                return value, jnp.mean(kl, where=after.mask.reshape(-1))

            return mean_over(one_task)(task_params, before, after, *others)

        new_params, info = trust_region.trust_region_step(
            params, value, gradient, product, evaluate, optimizer
        )
        new_state, kl, accepted = optimizer_state, info.kl, info.accepted
        step_norm = info.step_norm
    else:
        new_params, new_state = updates.descend(
            optimizer, optimizer_state, params, optax.tree.scale(-1.0, gradient), -value
        )
        kl, accepted, step_norm = jnp.zeros(()), jnp.asarray(True), ()

    gradient_norm = optax.tree.norm(gradient)
    data = [(batch.reward, batch.advantage) for batch in (before, after)]
    (new_params, new_state), skipped = updates.keep_finite(
        (new_params, new_state),
        (params, optimizer_state),
        (data, others, value, gradient_norm, step_norm),
    )
    info = OuterInfo(gradient_norm, kl, accepted & ~skipped, skipped)
    return new_params, new_state, info


def _every(strides: tuple[int, int], batch: Batch) -> Batch:
    """Takes every n-th episode and of these every m-th step that was taken.

    Beginning in the middle of a stride: the first step of an episode is the least
    typical one. The steps of one episode after the other are counted on and on, so that
    all have the same chance however short their episode; one of the full horizon is
    counted as if it filled its last stride, and the next begins anew. Where even the
    longest is shorter than the horizon, strides are shorter in proportion: the room is
    there, and a metric of few steps is a poor one.

    Args:
      strides: (n, m).
      batch: `[..., E, T]`.

    Returns:
      `[..., ⌈E/n⌉, ⌈T/m⌉]` or a little less; of each `[E, T]` one step at least.
    """
    num_episodes, horizon = batch.mask.shape[-2:]
    leading = (slice(None),) * (batch.mask.ndim - 2)
    n, m = strides
    episodes = slice(min(n // 2, num_episodes - 1), None, n)
    batch = jax.tree.map(lambda x: x[(*leading, episodes)], batch)
    if m == 1:
        return batch
    m = min(m, 2 * horizon)  # more is the same
    num_steps = -(-horizon // m)

    def one_task(batch):
        taken = jnp.cumsum(batch.mask, axis=1)
        length = taken[:, -1]
        stride = -(-m * jnp.max(length) // horizon)
        counted = jnp.where(length == horizon, num_steps * m, length)
        end = jnp.cumsum(counted)
        first = jnp.minimum(jnp.minimum(stride // 2, horizon - 1), end[-1] - 1)

        def one_episode(taken, begin, steps):
            rank = (first - begin) % stride + stride * jnp.arange(num_steps)
            index = jnp.minimum(jnp.searchsorted(taken, rank + 1), horizon - 1)
            fewer = jax.tree.map(lambda x: x[index], steps)
            return fewer._replace(mask=rank < taken[-1])

        return jax.vmap(one_episode)(taken, end - counted, batch)

    for _ in leading:
        one_task = jax.vmap(one_task)
    return one_task(batch)
