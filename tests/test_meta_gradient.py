"""The expected meta-gradient of each estimator, by enumerating every inner data set.

I(θ) = E_{D~π_θ}[J(θ + α ĝ(θ; D))], ĝ the inner gradient on N sampled actions of a
three-armed softmax bandit. Its gradient has a pathwise term, through the update, and a
score term, through the data; what each estimator makes of both is known.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax import surrogates

REWARD = np.array([1.0, 0.2, -0.5])
THETA = np.array([0.3, -0.4, 0.1])
INNER_LR = 0.7
SAMPLES = (1, 2, 4, 8)
# Relative error of the expected meta-gradient, in per cent, for each number of samples.
ERRORS = {
    ("score_function", False): (10.8, 10.7, 10.7, 10.7),
    ("score_function", True): (7.6, 7.5, 7.5, 7.4),
    ("first order", False): (7.4, 7.4, 7.4, 7.4),
    ("first order", True): (8.0, 7.7, 7.5, 7.5),
    ("likelihood_ratio", False): (0.3, 0.1, 0.1, 0.0),
    ("likelihood_ratio", True): (1.0, 0.5, 0.3, 0.1),
    ("second_order_expansion", False): (0.3, 0.1, 0.1, 0.0),
    ("second_order_expansion", True): (1.0, 0.5, 0.3, 0.1),
    ("score_function + correction", False): (0.0, 0.0, 0.0, 0.0),
    ("score_function + correction", True): (0.0, 0.0, 0.0, 0.0),
    # Two remedies for one missing term count it twice.
    ("likelihood_ratio + correction", False): (10.5, 10.6, 10.6, 10.6),
}


def data_sets(num_samples):
    """Every multiset of N actions as `[M, N]`, and how many orders each has `[M]`."""
    actions = list(itertools.combinations_with_replacement(range(3), num_samples))
    orders = [
        math.factorial(num_samples)
        / math.prod(math.factorial(row.count(a)) for a in range(3))
        for row in actions
    ]
    return np.array(actions), np.array(orders)


def expected_return(theta):
    return jax.nn.softmax(theta) @ REWARD


def relative_errors(theta, num_samples):
    """Per cent, in the order of ERRORS."""
    actions, orders = data_sets(num_samples)

    def log_prob_of_data(theta):
        return jnp.sum(jax.nn.log_softmax(theta)[actions], axis=1)

    def adapted(theta, behaviour, baseline, surrogate):
        """`[M, 3]`: one ascent step on each data set."""

        def mean_surrogate(theta, action):
            def episode(a):  # one bandit pull is an episode of one step
                reward = jnp.asarray(REWARD)[a][None]
                return surrogate(
                    jax.nn.log_softmax(theta)[a][None],
                    jax.nn.log_softmax(behaviour)[a][None],
                    reward,
                    reward - baseline,
                    jnp.array([True]),
                )

            return jnp.mean(jax.vmap(episode)(action))

        inner_gradient = jax.vmap(jax.grad(mean_surrogate), in_axes=(None, 0))
        return theta + INNER_LR * inner_gradient(theta, actions)

    weight = orders * jnp.exp(log_prob_of_data(theta))
    errors = []
    for name, with_baseline in ERRORS:
        estimator, _, correction = name.partition(" + ")
        baseline = expected_return(theta) if with_baseline else 0.0
        first_order = estimator == "first order"
        surrogate = getattr(surrogates, "score_function" if first_order else estimator)

        def returns_after(x, baseline=baseline, surrogate=surrogate, stop=first_order):
            step = adapted(x, theta, baseline, surrogate) - x
            step = jax.lax.stop_gradient(step) if stop else step
            return jax.vmap(expected_return)(x + step)

        def pathwise(x, returns_after=returns_after):
            return jnp.sum(weight * returns_after(x))

        def with_score(x, returns_after=returns_after):
            fixed = jax.lax.stop_gradient(returns_after(x))
            return jnp.sum(weight * (returns_after(x) + fixed * log_prob_of_data(x)))

        def objective(x, baseline=baseline):
            # I itself: the probability of the data moves with the parameters, and the
            # inner gradient is written out, no surrogate in it.
            score = jax.nn.one_hot(actions, 3) - jax.nn.softmax(x)
            advantage = jnp.asarray(REWARD)[actions] - baseline
            step = jnp.mean(score * advantage[..., None], axis=1)
            after = jax.vmap(expected_return)(x + INNER_LR * step)
            return jnp.sum(orders * jnp.exp(log_prob_of_data(x)) * after)

        truth = jax.grad(objective)(theta)
        estimate = jax.grad(with_score if correction else pathwise)(theta)
        errors.append(jnp.linalg.norm(estimate - truth) / jnp.linalg.norm(truth))
    return 100 * jnp.stack(errors)


@pytest.mark.parametrize("num_samples", SAMPLES)
def test_expected_meta_gradient_has_the_known_error(num_samples):
    with jax.enable_x64(True):
        errors = jax.jit(functools.partial(relative_errors, num_samples=num_samples))(
            THETA
        )
    column = SAMPLES.index(num_samples)
    table = {name: row[column] for name, row in ERRORS.items()}
    for name, error in zip(ERRORS, np.asarray(errors), strict=True):
        assert f"{error:.1f}" == f"{table[name]:.1f}", name
        if name[0] == "score_function + correction":
            assert error < 1e-10
