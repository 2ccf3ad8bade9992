"""The identities that combining models must satisfy, and closed forms."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax import aggregation
from metarl_jax.distributions import Categorical

M = 4


def random_models(seed, positive=False):
    """M models of nested containers, one leaf a scalar."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        x = rng.normal(size=(M, *shape)).astype(np.float32)
        return jnp.asarray(np.exp(x) if positive else x)

    return {"layers": [draw(2, 3), draw(3)], "scale": draw()}


MODELS = random_models(0)


def model(i):
    return jax.tree.map(lambda x: x[i], MODELS)


def assert_close(a, b, rtol=1e-5, atol=1e-6):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), a, b
    )


def test_the_line_between_two_models_begins_and_ends_at_them_exactly():
    line = jax.vmap(aggregation.interpolate, in_axes=(None, None, 0))(
        model(0), model(1), jnp.array([1.0, 0.0, 0.25, 1.5])
    )
    points = [jax.tree.map(lambda x, i=i: x[i], line) for i in range(4)]
    assert_close(points[0], model(0), rtol=0, atol=0)
    assert_close(points[1], model(1), rtol=0, atol=0)
    for point, alpha in ((points[2], 0.25), (points[3], 1.5)):
        expected = jax.tree.map(
            lambda a, b, alpha=alpha: b + alpha * (a - b), model(0), model(1)
        )
        assert_close(point, expected)


def test_weighted_averages_associate_and_ignore_the_scale_of_the_weights():
    weights = np.array([0.5, 2.0, 1.0, 3.0], np.float32)
    whole = aggregation.weighted_average(MODELS, weights)
    flat = np.asarray(MODELS["layers"][0], np.float64)
    np.testing.assert_allclose(
        whole["layers"][0], np.average(flat, axis=0, weights=weights), rtol=1e-5
    )
    first, rest = (
        aggregation.weighted_average(
            jax.tree.map(lambda x, part=part: x[part], MODELS), weights[part]
        )
        for part in (slice(0, 1), slice(1, None))
    )
    assert_close(first, model(0))
    nested = aggregation.weighted_average(
        aggregation.stack([first, rest]), [weights[0], weights[1:].sum()]
    )
    assert_close(nested, whole)
    assert_close(aggregation.weighted_average(MODELS, 7 * weights), whole)
    # Any number of weightings in one call, and two models are a line.
    many = jax.vmap(aggregation.weighted_average, in_axes=(None, 0))(
        MODELS, jnp.array([[0.0, 0.0, 1.0, 0.0], [0.3, 0.7, 0.0, 0.0]])
    )
    assert_close(jax.tree.map(lambda x: x[0], many), model(2))
    assert_close(
        jax.tree.map(lambda x: x[1], many),
        aggregation.interpolate(model(0), model(1), 0.3),
    )


def test_the_uniform_soup_is_the_mean_in_the_models_own_type():
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), MODELS)
    soup = aggregation.uniform_soup(half)
    assert all(x.dtype == jnp.bfloat16 for x in jax.tree.leaves(soup))
    mean = jax.tree.map(lambda x: np.mean(np.asarray(x), axis=0), MODELS)
    assert_close(aggregation.uniform_soup(MODELS), mean)


def test_the_greedy_soup_follows_a_plain_loop_and_never_loses_to_the_best_model():
    candidates = jnp.array([[3.0, 0.0], [0.0, 2.0], [-1.0, -1.0], [9.0, 9.0]])
    target = np.array([1.0, 1.0])

    def score(params):
        return -jnp.sum((params["w"] - target) ** 2)

    soup = jax.jit(lambda x: aggregation.greedy_soup({"w": x}, score))(candidates)
    x = np.asarray(candidates, np.float64)
    scores = [-np.sum((row - target) ** 2) for row in x]
    chosen = []
    for i in np.argsort(scores)[::-1]:
        mean = np.mean(x[[*chosen, i]], axis=0)
        best = -np.sum((np.mean(x[chosen], axis=0) - target) ** 2) if chosen else None
        if best is None or -np.sum((mean - target) ** 2) >= best:
            chosen.append(i)
    assert sorted(chosen) == [0, 1]  # neither one alone, nor all
    np.testing.assert_array_equal(np.flatnonzero(soup.included), sorted(chosen))
    np.testing.assert_allclose(soup.params["w"], [1.5, 1.0], rtol=1e-6)
    np.testing.assert_allclose(soup.score, -0.25, rtol=1e-5)
    assert soup.score > max(scores)


def test_the_greedy_soup_leaves_out_what_is_not_a_number():
    def score(params):
        broken = jnp.where(params["w"] > 3, -jnp.nan, -((params["w"] - 1.4) ** 2))
        return jnp.where(params["w"] == 2, jnp.nan, broken)

    soup = aggregation.greedy_soup({"w": jnp.array([4.0, 2.0, 1.4, 0.9])}, score)
    assert soup.included.tolist() == [False, False, True, False]
    np.testing.assert_allclose(soup.params["w"], 1.4)


def test_fisher_averages_minimise_the_sum_of_quadratic_losses():
    fishers = random_models(1, positive=True)
    weights = jnp.array([1.0, 2.0, 0.5, 0.0])
    merged = aggregation.fisher_average(MODELS, fishers, weights)

    def total_loss(params):
        """Σ_i w_i ½ (θ - θ_i)ᵀ F_i (θ - θ_i), each minimised by its own model."""
        losses = jax.tree.map(
            lambda p, x, f: jnp.sum(
                weights.reshape(-1, *[1] * p.ndim) * f * (p - x) ** 2 / 2
            ),
            params,
            MODELS,
            fishers,
        )
        return sum(jax.tree.leaves(losses))

    assert_close(jax.grad(total_loss)(merged), jax.tree.map(jnp.zeros_like, merged))
    # Equal Fishers say nothing, and none at all says the same.
    mean = aggregation.weighted_average(MODELS, weights)
    for value in (1e-6, 0.3, 0.0):
        equal = jax.tree.map(lambda x, v=value: jnp.full_like(x, v), MODELS)
        assert_close(aggregation.fisher_average(MODELS, equal, weights), mean)


class SoftmaxPolicy:
    """Logits θ times the observation."""

    def initial_memory(self):
        return ()

    def init(self, key, memory, obs):
        raise NotImplementedError

    def apply(self, params, memory, obs):
        return Categorical(params["theta"] * obs[..., None]), jnp.zeros(()), memory


class Episodes(NamedTuple):
    obs: jax.Array
    action: jax.Array
    mask: jax.Array


def test_the_fisher_diagonal_of_a_softmax_is_its_variance():
    """F_jj = p_j (1 - p_j), where actions come exactly as often as π takes them."""
    p = np.array([0.5, 0.25, 0.25])
    data = Episodes(
        obs=jnp.array([[1.0, 1.0, 1.0], [1.0, jnp.nan, 5.0]]),
        action=jnp.array([[0, 1, 2], [0, 0, 0]]),
        mask=jnp.array([[True, True, True], [True, False, False]]),
    )
    fisher = jax.jit(aggregation.fisher_diagonal, static_argnums=0)(
        SoftmaxPolicy(), {"theta": jnp.log(p)}, data
    )
    np.testing.assert_allclose(fisher["theta"], p * (1 - p), rtol=1e-5)


def test_task_vectors_add_scale_and_are_undone_by_their_negation():
    base = model(0)
    vector = aggregation.task_vector(model(1), base)
    one = aggregation.stack([vector])
    assert_close(aggregation.add_task_vectors(base, one), model(1))
    undone = aggregation.add_task_vectors(model(1), one, [-1.0])
    assert_close(undone, base)
    assert_close(
        aggregation.add_task_vectors(base, one, [0.25]),
        aggregation.interpolate(model(1), base, 0.25),
    )
    # All at once, in any order, is one after the other.
    vectors = jax.vmap(aggregation.task_vector, in_axes=(0, None))(MODELS, base)
    scales = np.array([0.0, 1.0, -0.5, 2.0], np.float32)
    steps = base
    for i in (3, 1, 2):
        steps = aggregation.add_task_vectors(
            steps, jax.tree.map(lambda x, i=i: x[i : i + 1], vectors), scales[i : i + 1]
        )
    assert_close(aggregation.add_task_vectors(base, vectors, scales), steps, rtol=1e-4)


PLAIN = {"a": jnp.ones((M, 2)), "b": jnp.ones(M)}


@pytest.mark.parametrize(
    ("function", "args", "message"),
    [
        ("stack", ([],), "at least one model; got"),
        ("stack", ([{"a": jnp.ones(2)}, {"a": jnp.ones(3)}],), r"\(2,\).*\(3,\)"),
        ("interpolate", ({"a": jnp.ones(2)}, {"c": jnp.ones(2)}), "no such leaf"),
        ("interpolate", ({"a": jnp.ones(2)}, {"a": jnp.ones((2, 1))}), r"\['a'\]"),
        ("interpolate", ((jnp.ones(2),), [jnp.ones(2)]), "one tree structure"),
        ("weighted_average", (PLAIN, jnp.ones(3)), r"each of the 4 .* shape \(3,\)"),
        ("weighted_average", (PLAIN, 1.0), r"got shape \(\)"),
        ("uniform_soup", ({"a": jnp.ones((M, 2)), "b": jnp.ones(3)},), r"\(3,\) at"),
        ("uniform_soup", ({"a": jnp.ones(())},), r"leading axis .* got \(\)"),
        ("uniform_soup", ({},), "at least one leaf; got {}"),
        ("fisher_average", (PLAIN, {"a": PLAIN["a"]}), r"at \['b'\]"),
        ("fisher_average", (PLAIN, PLAIN, jnp.ones(5)), r"got shape \(5,\)"),
        ("task_vector", (PLAIN, {"a": PLAIN["a"]}), "model and base"),
        ("add_task_vectors", ({"a": jnp.ones(3), "b": jnp.ones(())}, PLAIN), r"\(2,\)"),
        ("add_task_vectors", ({"a": jnp.ones(2), "b": jnp.ones(())}, PLAIN, 2.0), "4"),
    ],
)
def test_models_that_do_not_match_are_named(function, args, message):
    with pytest.raises(ValueError, match=message):
        getattr(aggregation, function)(*args)
