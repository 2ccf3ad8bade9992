"""Combining the parameters of several models of one architecture.

Several models are one pytree whose leaves are `[M, ...]`, as `jax.vmap` over tasks
makes them; `stack` makes it from a list. Every function is pure and takes any pytree of
floating-point arrays, so that all weights along a line are one `jax.vmap` over the
weights. Shapes and types are checked when a function is called or traced, numbers only
where they are not traced.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from metarl_jax.types import Params, Policy, Trajectory
from metarl_jax.validation import (
    check_above_zero,
    check_finite,
    check_functions,
    check_methods,
    has_memory,
    reason,
    shown,
)

Models = Any  # parameters with leaves [M, ...]


class GreedySoup(NamedTuple):
    """What `greedy_soup` made."""

    params: Params
    score: jax.Array  # [] of these parameters
    included: jax.Array  # [M] bool, the models that they are the mean of


def _shapes(tree: Any, name: str) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each leaf by its path.

    Raises:
      ValueError: if there is no leaf or one that is no array of floating point: the
        mean of whole numbers is none, and counts are no parameters.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    if not leaves:
        raise ValueError(f"{name} must have at least one leaf; got {shown(tree)}")
    shapes = {}
    for key_path, x in leaves:
        path = jax.tree_util.keystr(key_path) or "the root"
        dtype = getattr(x, "dtype", None)
        if dtype is None or not jnp.issubdtype(dtype, jnp.inexact):
            raise ValueError(
                f"{name} must be arrays of floating point; at {path} there is "
                f"{shown(x) if dtype is None else dtype}"
            )
        shapes[path] = tuple(x.shape)
    return shapes


def _check_same(first_name: str, first: Any, second_name: str, second: Any) -> None:
    """Raises a `ValueError` that names the first leaf in which two trees differ."""
    a, b = _shapes(first, first_name), _shapes(second, second_name)
    for path in [*a, *(p for p in b if p not in a)]:
        shapes = [x.get(path, "no such leaf") for x in (a, b)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"{first_name} and {second_name} must be parameters of one "
                f"architecture; at {path} {first_name} has {shapes[0]} "
                f"and {second_name} {shapes[1]}"
            )
    if jax.tree.structure(first) != jax.tree.structure(second):
        raise ValueError(
            f"{first_name} and {second_name} must be of one tree structure; got "
            f"{jax.tree.structure(first)} and {jax.tree.structure(second)}"
        )


def _num_models(models: Models, name: str = "models") -> int:
    """Returns M, the length of the leading axis that all leaves share."""
    shapes = _shapes(models, name)
    first_path, first = next(iter(shapes.items()))
    for path, shape in shapes.items():
        if not shape or shape[0] < 1 or shape[0] != first[0]:
            raise ValueError(
                f"all leaves of {name} must have one leading axis of the same length, "
                f"at least 1; got {first} at {first_path} and {shape} at {path}"
            )
    return first[0]


def _check_weights(
    name: str, weights: Any, num_models: int, *, average: bool = True
) -> jax.Array:
    """Checks one number for each model; for an average, that their sum is not 0."""
    try:
        weights = jnp.asarray(weights, jnp.result_type(float))
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f"{name} must be one number for each of the {num_models} models; got "
            f"{shown(weights)}"
        ) from None
    if weights.shape != (num_models,):
        raise ValueError(
            f"{name} must be one number for each of the {num_models} models, shape "
            f"({num_models},); got shape {weights.shape}"
        )
    if not isinstance(weights, Tracer):
        if not jnp.isfinite(weights).all():
            raise ValueError(f"{name} must be finite; got {weights}")
        if average and jnp.sum(weights) == 0:
            raise ValueError(f"{name} must not sum to 0; got {weights}")
    return weights


def _weighted_sum(models: Models, weights: jax.Array) -> Params:
    # In the leaves' own type: an average of bfloat16 models is a bfloat16 model.
    return jax.tree.map(
        lambda x: jnp.tensordot(weights.astype(x.dtype), x, axes=1), models
    )


def stack(models: Sequence[Params]) -> Models:
    """Stacks models along a new leading axis, `M × [...] -> [M, ...]`.

    Args:
      models: at least one.

    Returns:
      One pytree with leaves `[M, ...]`.

    Raises:
      ValueError: if there are no models or two of them differ in structure or shapes.
    """
    if not isinstance(models, Sequence) or not len(models):
        raise ValueError(
            f"stack needs a list of at least one model; got {shown(models)}"
        )
    for i, model in enumerate(models):
        _check_same("model 0", models[0], f"model {i}", model)
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *models)


def interpolate(
    first: Params, second: Params, alpha: float | jax.Array = 0.5
) -> Params:
    """Combines two models linearly, θ = α θ₁ + (1 - α) θ₂.

    Args:
      first: θ₁, where α = 1.
      second: θ₂, where α = 0.
      alpha: α, `[]`; outside [0, 1] the line is continued.

    Returns:
      θ. For the whole line, `jax.vmap(interpolate, in_axes=(None, None, 0))`.

    Raises:
      ValueError: if the models differ in structure or shapes, or α is not one number.
    """
    _check_same("first", first, "second", second)
    check_finite(alpha=alpha)
    return jax.tree.map(
        lambda a, b: (alpha * a + (1 - alpha) * b).astype(jnp.result_type(a)),
        first,
        second,
    )


def weighted_average(models: Models, weights: Any) -> Params:
    """Averages M models, θ = Σ_i w_i θ_i / Σ_i w_i.

    Associative: the average of averages, each weighted with its sum of weights, is the
    average of all.

    Args:
      models: θ, leaves `[M, ...]`.
      weights: w `[M]`; their sum must not be 0.

    Returns:
      One model.

    Raises:
      ValueError: if the leading axes differ, there is not one weight for each model, or
        weights are not finite or sum to 0.
    """
    weights = _check_weights("weights", weights, _num_models(models))
    return _weighted_sum(models, weights / jnp.sum(weights))


def uniform_soup(models: Models) -> Params:
    """Averages M models with equal weights (Wortsman et al. 2022, arXiv 2203.05482).

    Args:
      models: leaves `[M, ...]`.

    Returns:
      One model.

    Raises:
      ValueError: if the leading axes differ.
    """
    return weighted_average(models, jnp.ones(_num_models(models)))


def greedy_soup(models: Models, score: Callable[[Params], jax.Array]) -> GreedySoup:
    """Averages those of M models that help (Wortsman et al. 2022, arXiv 2203.05482).

    Recipe 1 of the paper: begin with the model that scores best alone, go through the
    others from the best to the worst, and keep each in the mean unless the mean's score
    falls. So the result never scores less than the best model, as far as `score` is
    deterministic; one that estimates a return must use the same key for every model. A
    model whose score is NaN comes last and is left out.

    Args:
      models: leaves `[M, ...]`.
      score: `(params) -> []`, larger is better; called 2 M times.

    Returns:
      The mean, its score, and what is in it.

    Raises:
      ValueError: if the leading axes differ, `score` does not make one number of a
        model, or every score is NaN.
    """
    num_models = _num_models(models)
    check_functions(score=score)
    try:
        scored = jax.eval_shape(score, jax.tree.map(lambda x: x[0], models))
    except TypeError as error:
        scored = reason(error)
    if getattr(scored, "shape", None) != ():
        raise ValueError(f"score must make one number of a model; got {shown(scored)}")
    # NaN, which is the last to be sorted, is not the best.
    order = jnp.argsort(-jax.lax.map(score, models))

    def consider(carry, i):
        total, count, best, included = carry
        candidate = jax.tree.map(lambda t, x: t + x[i], total, models)
        value = score(
            jax.tree.map(lambda t: t / (count + 1).astype(t.dtype), candidate)
        )
        # The first is taken whatever its score, and of equals all are.
        keep = (count == 0) | (value >= best)
        total = jax.tree.map(
            lambda new, old: jnp.where(keep, new, old), candidate, total
        )
        return (
            total,
            count + keep,
            jnp.where(keep, value, best),
            included.at[i].set(keep),
        ), None

    total = jax.tree.map(lambda x: jnp.zeros_like(x[0]), models)
    best = jnp.zeros_like(jax.eval_shape(score, total))
    carry = (total, jnp.zeros((), jnp.int32), best, jnp.zeros(num_models, bool))
    (total, count, best, included), _ = jax.lax.scan(consider, carry, order)
    if not isinstance(best, Tracer) and jnp.isnan(best):
        raise ValueError("score must be a number for one model at least; got only NaN")
    params = jax.tree.map(lambda t: t / count.astype(t.dtype), total)
    return GreedySoup(params, best, included)


def fisher_average(
    models: Models, fishers: Models, weights: Any = None, *, floor: float = 1e-10
) -> Params:
    """Averages M models, each parameter weighted by how much its model depends on it.

    θ = Σ_i w_i (F_i + ε) θ_i / Σ_i w_i (F_i + ε), entry by entry: the maximum of the
    product of the models' Laplace approximations N(θ_i, F_i⁻¹) (Matena and Raffel 2022,
    arXiv 2111.09832). Exact where each model minimises a quadratic loss with the
    diagonal Hessian F_i: the result minimises the weighted sum of the losses.

    Args:
      models: θ, leaves `[M, ...]`.
      fishers: F, diagonal Fisher information of each (`fisher_diagonal`), shaped like
        `models`.
      weights: w `[M]`; None for equal ones.
      floor: ε, above 0: where no model depends on a parameter, it is the weighted mean.

    Returns:
      One model.

    Raises:
      ValueError: if models and Fishers differ in structure or shapes, the leading axes
        differ, there is not one weight for each model, weights are not finite or sum to
        0, Fisher information is negative or not finite, or ε is not above 0.
    """
    num_models = _num_models(models)
    _check_same("models", models, "fishers", fishers)
    check_above_zero(floor=floor)
    for path, fisher in jax.tree_util.tree_leaves_with_path(fishers):
        if not isinstance(fisher, Tracer) and not _is_information(fisher):
            raise ValueError(
                "Fisher information must be finite and at least 0; at "
                f"{jax.tree_util.keystr(path) or 'the root'} there is {shown(fisher)}"
            )
    weights = jnp.ones(num_models) if weights is None else weights
    weights = _check_weights("weights", weights, num_models)

    def average(x, fisher):
        precision = (fisher + floor) * weights.reshape(-1, *[1] * (x.ndim - 1))
        # Relative to the largest, so that products of small numbers do not vanish.
        precision = precision / jnp.max(jnp.abs(precision), axis=0)
        theta = jnp.sum(precision * x, axis=0) / jnp.sum(precision, axis=0)
        return theta.astype(x.dtype)

    return jax.tree.map(average, models, fishers)


def _is_information(x: jax.Array) -> bool:
    return bool(jnp.all((x >= 0) & jnp.isfinite(x)))


def fisher_diagonal(policy: Policy, params: Params, data: Trajectory | Any) -> Params:
    """Estimates the diagonal of a policy's Fisher information from its own episodes.

    F_jj = E (∂ log π_θ(a | o) / ∂θ_j)², over the observations that the policy visits
    and its actions there: an unbiased estimate where π_θ itself has acted.

    Args:
      policy: a policy without memory.
      params: θ.
      data: one task's episodes `[E, T, ...]`: a `Trajectory`, a `policy_gradient.Batch`
        or whatever else has `obs`, `action` and `mask`.

    Returns:
      The diagonal, shaped like `params`; the mean over the valid steps.

    Raises:
      ValueError: if the policy is none or has memory, or the data lack what is read.
    """
    check_methods(policy)
    if has_memory(policy):
        raise ValueError(
            f"{type(policy).__name__} has memory; a policy without is required"
        )
    for field in ("obs", "action", "mask"):
        if not hasattr(data, field):
            raise ValueError(f"data must have {field}; got {shown(data)}")
    _shapes(params, "params")

    def log_prob(params, obs, action):
        return policy.apply(params, policy.initial_memory(), obs)[0].log_prob(action)

    def squared_scores(obs, action, mask):
        score = jax.grad(log_prob)(params, obs, action)
        return jax.tree.map(lambda g: jnp.where(mask, g * g, 0.0), score)

    def add_episode(total, episode):
        # One episode at a time: a gradient for every step of all would be E times this.
        squares = jax.vmap(squared_scores)(*episode)
        return jax.tree.map(lambda t, s: t + jnp.sum(s, axis=0), total, squares), None

    zeros = jax.tree.map(jnp.zeros_like, params)
    episodes = (data.obs, data.action, data.mask)
    total, _ = jax.lax.scan(add_episode, zeros, episodes)
    count = jnp.maximum(jnp.sum(data.mask), 1)
    return jax.tree.map(lambda t: t / count.astype(t.dtype), total)


def task_vector(model: Params, base: Params) -> Params:
    """Returns what adaptation to a task added, v = θ_task - θ_base.

    Args:
      model: θ_task, adapted from the base.
      base: θ_base.

    Returns:
      v, shaped like the base (Ilharco et al. 2023, arXiv 2212.04089).

    Raises:
      ValueError: if the models differ in structure or shapes.
    """
    _check_same("model", model, "base", base)
    return jax.tree.map(lambda a, b: a - b, model, base)


def add_task_vectors(base: Params, vectors: Models, scales: Any = None) -> Params:
    """Moves a model along task vectors, θ = θ_base + Σ_i s_i v_i.

    A scale of 1 adds what the task taught, one in between weakens it, and -1 negates
    it: the model forgets the task (Ilharco et al. 2023, arXiv 2212.04089).

    Args:
      base: θ_base.
      vectors: v, leaves `[M, ...]`; for one vector, `stack([v])`.
      scales: s `[M]`; None for ones.

    Returns:
      θ.

    Raises:
      ValueError: if a vector is not shaped like the base, the leading axes differ, or
        there is not one scale for each vector.
    """
    num_vectors = _num_models(vectors, "vectors")
    vector = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), vectors)
    _check_same("base", base, "each vector", vector)
    scales = jnp.ones(num_vectors) if scales is None else scales
    scales = _check_weights("scales", scales, num_vectors, average=False)
    moved = _weighted_sum(vectors, scales)
    return jax.tree.map(lambda b, v: (b + v).astype(b.dtype), base, moved)
