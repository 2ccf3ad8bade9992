"""The mathematics of the estimator benchmarks, against enumeration and plain series."""

import itertools

import hessians
import jax
import jax.numpy as jnp
import meta_gradients as mg
import numpy as np
import pytest

from metarl_jax import surrogates


def close(actual, desired, rtol=1e-10):
    np.testing.assert_allclose(actual, desired, rtol=rtol, atol=1e-12)


@pytest.fixture(scope="module")
def problem():
    return mg.random_problem(3)


def total_return(problem, theta):
    """J as a sum over trajectories."""
    reward, _ = mg.returns(problem)
    return jnp.exp(mg.log_prob(problem, theta)) @ jnp.sum(reward, axis=1)


def test_values_are_the_expected_returns_to_go(problem):
    with jax.enable_x64(True):
        state, weight, advantage, *returns = jax.device_get(
            jax.jit(
                lambda theta: (
                    mg.steps(problem)[0],
                    jnp.exp(mg.log_prob(problem, theta)),
                    mg.advantages(problem, theta),
                    mg.expected_return(problem, theta),
                    total_return(problem, theta),
                )
            )(problem.theta)
        )
    close(*returns)
    _, action = mg.steps(problem)
    assert len({tuple(row) for row in action.tolist()}) == 8
    for row, taken in zip(state, action, strict=True):
        assert row[0] == 0
        close(row[1:], problem.following[row[:-1], taken[:-1]])
    close(np.sum(weight), 1.0)
    # Wherever a trajectory may be at t, the advantages from there have mean zero.
    for t in range(mg.HORIZON):
        for s in range(mg.NUM_STATES):
            close(np.sum(weight * (state[:, t] == s) * advantage[:, t]), 0.0)


def test_data_sets_are_all_multisets():
    counts, log_orders = mg.data_sets(3, 4)
    assert len({tuple(row) for row in counts.tolist()}) == len(counts) == 20
    close(counts.sum(axis=1), 3.0)
    close(np.exp(log_orders).sum(), 4.0**3)
    close(np.exp(log_orders[counts.max(axis=1) == 1]), 6.0)


def by_ordered_pairs(problem):
    """Meta-gradients at N = 2 by differentiating through the adaptation itself.

    Returns:
      The gradient of I_2, with the advantages and with the returns; and by estimator
      the meta-gradient of every ordered pair of trajectories, `[64, P]`.
    """
    pairs = np.array(list(itertools.product(range(8), repeat=2)))
    reward, to_go = mg.returns(problem)
    advantage = mg.advantages(problem, problem.theta)
    behaviour = mg.log_probs(problem, problem.theta)
    mask = jnp.ones_like(reward, bool)

    def ascend(theta, surrogate, advantage, pair):
        def mean(theta):
            log_prob = mg.log_probs(problem, theta)
            sums = jax.vmap(surrogate)(log_prob, behaviour, reward, advantage, mask)
            return jnp.mean(sums[pair])

        return theta + mg.INNER_LR * jax.grad(mean)(theta)

    def objective(theta, advantage):
        def one(pair):
            log_prob = mg.log_probs(problem, theta)

            def weighted(theta):
                return jnp.sum(mg.log_probs(problem, theta) * advantage, axis=1)

            step = jnp.mean(jax.jacobian(weighted)(theta)[pair], axis=0)
            after = total_return(problem, theta + mg.INNER_LR * step)
            return jnp.exp(jnp.sum(log_prob[pair])) * after

        return jnp.sum(jax.vmap(one)(pairs))

    def meta_gradients(surrogate, first_order=False):
        def returns_after(theta, pair):
            adapted = ascend(theta, surrogate, advantage, pair)
            if first_order:
                adapted = theta + jax.lax.stop_gradient(adapted - theta)
            return total_return(problem, adapted)

        return jax.vmap(jax.grad(returns_after), in_axes=(None, 0))(
            problem.theta, pairs
        )

    weight = jnp.exp(jnp.sum(mg.log_prob(problem, problem.theta)[pairs], axis=1))
    truth = jax.grad(objective)
    return (
        weight,
        truth(problem.theta, advantage),
        truth(problem.theta, to_go),
        {
            "first order": meta_gradients(surrogates.score_function, first_order=True),
            "score function": meta_gradients(surrogates.score_function),
            "likelihood ratio (LVC)": meta_gradients(surrogates.likelihood_ratio),
            "DiCE": meta_gradients(surrogates.dice),
            "Loaded DiCE": meta_gradients(surrogates.loaded_dice),
        },
    )


def test_expectations_are_those_of_autodiff_over_every_ordered_data_set(problem):
    sets = mg.data_sets(2)

    def compute():
        over_sets = jax.vmap(lambda inner: mg.expectation(problem, inner, *sets))
        return over_sets(mg.inner_updates(problem)), by_ordered_pairs(problem)

    with jax.enable_x64(True):
        exact, (weight, with_baseline, without, pairs) = jax.device_get(
            jax.jit(compute)()
        )
    for i, name in enumerate(mg.ESTIMATORS):
        truth = without if name == "DiCE" else with_baseline
        close(exact.meta_gradient[i], truth)
        if name not in pairs:
            assert name.startswith("score correction")
            close(exact.mean[i], truth)
            continue
        mean = weight @ pairs[name]
        close(exact.mean[i], mean)
        close(exact.deviation[i] ** 2, weight @ np.sum((pairs[name] - mean) ** 2, 1))
        # None of them is unbiased from two trajectories.
        assert np.linalg.norm(mean - truth) > 1e-3 * np.linalg.norm(truth)


def test_draws_have_the_expected_mean(problem):
    sets, num_draws = mg.data_sets(2), 40000

    def compute(key):
        inner = jax.tree.map(lambda x: x[-2:], mg.inner_updates(problem))

        def one(inner):
            exact = mg.expectation(problem, inner, *sets)
            drawn = mg.draw(
                key,
                problem,
                inner,
                exact.objective,
                num_trajectories=2,
                num_draws=num_draws,
            )
            error = jnp.mean(drawn, axis=0) - exact.mean
            return error, jnp.std(drawn, axis=0) / num_draws**0.5

        return jax.lax.map(one, inner)

    with jax.enable_x64(True):
        error, standard_error = jax.device_get(jax.jit(compute)(jax.random.key(0)))
    assert np.all(np.abs(error) < 4 * standard_error)


def test_with_many_trajectories_only_the_missing_hessian_is_left(problem):
    def compute(theta):
        def objective(theta):
            return total_return(problem, theta)

        gradient = jax.grad(objective)
        after = gradient(theta + mg.INNER_LR * gradient(theta))
        missing = mg.INNER_LR * jax.hessian(objective)(theta) @ after
        bias = jnp.linalg.norm(missing) / jnp.linalg.norm(after + missing)
        return mg.limiting_bias(problem), bias

    with jax.enable_x64(True):
        biases, bias = jax.device_get(jax.jit(compute)(problem.theta))
    biases = dict(zip(mg.ESTIMATORS, biases, strict=True))
    close(biases["first order"], bias)
    # ∇² log π of a tabular softmax is the same for every action, and the advantage has
    # mean zero: the plain score function's Hessian is noise around zero.
    close(biases["score function"], bias)
    for name in ("DiCE", "Loaded DiCE", "score correction (E-MAML)"):
        close(biases[name], 0.0)
    assert biases["likelihood ratio (LVC)"] > 0.01


@pytest.fixture(scope="module")
def mdp():
    with jax.enable_x64(True):
        return hessians.random_mdp(0, num_states=3, num_actions=2, concentration=1.0)


def series(mdp, theta):
    """V(s_0) as a discounted sum over 200 steps, in numpy."""
    policy = np.exp(theta) / np.sum(np.exp(theta), axis=1, keepdims=True)
    state, total = np.eye(len(policy))[0], 0.0
    for t in range(200):
        joint = state[:, None] * policy
        total += hessians.DISCOUNT**t * np.sum(joint * mdp.reward)
        state = np.einsum("sa,sat->t", joint, mdp.transition)
    return total


def test_exact_value_and_its_derivatives(mdp):
    theta = np.random.default_rng(0).normal(size=(3, 2))
    size, h = theta.size, 1e-3
    units = h * np.eye(size).reshape(size, 3, 2)

    def at(shift):
        return series(mdp, theta + shift)

    gradient = [(at(u) - at(-u)) / (2 * h) for u in units]
    hessian = [
        [(at(u + v) - at(u - v) - at(v - u) + at(-u - v)) / (4 * h * h) for v in units]
        for u in units
    ]

    def start_value(theta):
        return hessians.value(mdp, theta)[0]

    def compute(theta):
        derivatives = jax.grad(start_value)(theta), jax.hessian(start_value)(theta)
        return start_value(theta), derivatives

    with jax.enable_x64(True):
        value, exact = jax.device_get(jax.jit(compute)(theta))
    close(value, series(mdp, theta))
    for actual, differences in zip(exact, (gradient, hessian), strict=True):
        np.testing.assert_allclose(actual.ravel(), np.ravel(differences), atol=1e-6)
        assert np.abs(differences).max() > 0.02


def test_target_and_rollouts(mdp):
    policy = np.exp(hessians.target(mdp, 0.5))
    close(policy.sum(axis=1), 1.0)
    close(policy[np.arange(3), mdp.preferred], 0.75)
    close(np.exp(hessians.target(mdp, 0.0)), 0.5)
    rows = hessians.rollouts(jax.random.key(0), mdp, num_trajectories=2000)
    state, action, following = (np.asarray(x) for x in rows)
    assert np.all(state[:, 0] == 0)
    assert np.array_equal(state[:, 1:], following[:, :-1])
    frequency = np.zeros(mdp.transition.shape)
    np.add.at(frequency, (state, action, following), 1)
    count = frequency.sum(axis=2)
    error = frequency / count[..., None] - mdp.transition
    assert np.all(np.abs(error) < 4 * np.sqrt(0.25 / count[..., None]))
    share = count[:, 0] / count.sum(axis=1)
    assert np.all(np.abs(share - 0.5) < 4 * np.sqrt(0.25 / count.sum(axis=1)))


def test_estimates_are_unbiased_on_policy_and_accuracies_are_correlations(mdp):
    theta = hessians.target(mdp, 0.0)
    num_trajectories = 4000

    def compute(key):
        exact_critic = mdp._replace(critic=hessians.value(mdp, theta))
        estimated = hessians.estimates(
            key, exact_critic, theta, num_trajectories=num_trajectories
        )
        accuracy = hessians.accuracies(
            key, exact_critic, theta, sizes=(10, num_trajectories)
        )
        truth = jax.hessian(lambda theta: hessians.value(mdp, theta)[0])(theta)
        return estimated, accuracy, truth

    with jax.enable_x64(True):
        estimated, accuracy, truth = jax.device_get(jax.jit(compute)(jax.random.key(0)))
    for name in ("DiCE", "Loaded DiCE", "second-order expansion"):
        hessian = estimated[name]["hessian"]
        standard_error = hessian.std(axis=0) / len(hessian) ** 0.5
        # What comes after the horizon is worth γ^20, 1 %.
        error = np.abs(hessian.mean(axis=0) - truth)
        assert np.all(error < 4 * standard_error + 0.02 * np.abs(truth).max())
        for i, mean in enumerate((hessian[0], hessian.mean(axis=0))):
            correlation = np.corrcoef(mean.ravel(), truth.ravel())[0, 1]
            close(accuracy[name]["hessian"][i], correlation)
