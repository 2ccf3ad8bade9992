"""Action distributions against SciPy, the matrix formula and their own samples."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
import scipy.stats

from metarl_jax.distributions import Categorical, DiagGaussian, TanhDiagGaussian


def test_categorical():
    rng = np.random.default_rng(0)
    logits, other = 2.0 * rng.normal(size=(2, 3, 5)) + 10.0
    p, q = scipy.special.softmax(logits, axis=-1), scipy.special.softmax(other, axis=-1)
    action = np.array([[0, 4, 2], [1, 1, 3]])  # [2, 3]: broadcasts over a batch axis

    @jax.jit
    def compute(logits, other):
        one, two = Categorical(logits), Categorical(other)
        samples = jax.vmap(one.sample)(jax.random.split(jax.random.key(0), 20_000))
        return (
            jax.vmap(one.log_prob)(action),
            one.entropy(),
            one.kl(two),
            one.kl(one),
            one.mode(),
            samples,
        )

    log_prob, entropy, kl, kl_self, mode, samples = compute(logits, other)
    np.testing.assert_allclose(log_prob, np.log(p[np.arange(3), action]), rtol=1e-5)
    np.testing.assert_allclose(entropy, scipy.stats.entropy(p, axis=-1), rtol=1e-5)
    np.testing.assert_allclose(kl, scipy.stats.entropy(p, q, axis=-1), rtol=1e-5)
    np.testing.assert_allclose(kl_self, np.zeros(3), atol=1e-7)
    np.testing.assert_array_equal(mode, np.argmax(p, axis=-1))
    frequency = np.mean(np.asarray(samples)[..., None] == np.arange(5), axis=0)
    # Five standard errors of a frequency over 20 000 samples are at most 0.018.
    np.testing.assert_allclose(frequency, p, atol=0.018)


def test_diag_gaussian():
    rng = np.random.default_rng(1)
    mean, other_mean, action = rng.normal(size=(3, 4, 2))
    log_std, other_log_std = rng.normal(-0.5, 0.5, size=(2, 4, 2))

    @jax.jit
    def compute():
        one = DiagGaussian(jnp.float32(mean), jnp.float32(log_std))
        two = DiagGaussian(jnp.float32(other_mean), jnp.float32(other_log_std))
        samples = jax.vmap(one.sample)(jax.random.split(jax.random.key(0), 20_000))
        log_prob = one.log_prob(action)
        return log_prob, one.entropy(), one.kl(two), one.kl(one), one.mode(), samples

    log_prob, entropy, kl, kl_self, mode, samples = compute()
    std, other_std = np.exp(log_std), np.exp(other_log_std)
    np.testing.assert_allclose(
        log_prob, scipy.stats.norm.logpdf(action, mean, std).sum(-1), rtol=1e-5
    )
    np.testing.assert_allclose(
        entropy, scipy.stats.norm.entropy(mean, std).sum(-1), rtol=1e-5
    )
    for i in range(4):  # the formula for any two covariance matrices
        covariance, other = np.diag(std[i] ** 2), np.diag(other_std[i] ** 2)
        difference = other_mean[i] - mean[i]
        expected = 0.5 * (
            np.trace(np.linalg.solve(other, covariance))
            + difference @ np.linalg.solve(other, difference)
            - 2
            + np.log(np.linalg.det(other) / np.linalg.det(covariance))
        )
        np.testing.assert_allclose(kl[i], expected, rtol=1e-5)
    np.testing.assert_allclose(kl_self, np.zeros(4), atol=1e-6)
    np.testing.assert_array_equal(mode, np.float32(mean))
    # Five standard errors over 20 000 samples.
    assert np.all(np.abs(np.mean(samples, axis=0) - mean) < 0.036 * std)
    assert np.all(np.abs(np.std(samples, axis=0) / std - 1) < 0.026)


def test_tanh_diag_gaussian():
    """Each of two dimensions against quadrature over the actions, in float64."""
    mean, std = np.array([0.4, -1.2]), np.array([0.5, 0.9])
    other_mean, other_std = np.array([0.1, -0.7]), np.array([0.8, 0.6])
    low, high = np.array([-1.0, 0.0]), np.array([1.0, 5.0])
    # Closer to the bounds than any density that counts.
    a = low + (high - low) / (1 + np.exp(-np.linspace(-20, 20, 40_001)))[::-1, None]
    a = np.sort(a, axis=0)
    middle = (a[1:] + a[:-1]) / 2

    def distribution_function(a, mean, std):
        u = np.arctanh(np.clip(2 * (a - low) / (high - low) - 1, -1 + 1e-16, 1))
        return scipy.stats.norm.cdf(u, mean, std)

    with jax.enable_x64(True):

        @jax.jit
        def compute():
            one, two = (
                TanhDiagGaussian(jnp.array(m), jnp.log(s), low, high)
                for m, s in ((mean, std), (other_mean, other_std))
            )

            def alone(d, x):  # one dimension, by itself
                return jax.tree.map(lambda leaf: leaf[d : d + 1], x)

            densities = [
                [jnp.exp(alone(d, x).log_prob(middle[:, d, None])) for d in range(2)]
                for x in (one, two)
            ]
            draws, log_prob = jax.vmap(one.sample_and_log_prob)(
                jax.random.split(jax.random.key(0), 20_000)
            )
            return (
                densities,
                [alone(d, one).entropy() for d in range(2)],
                [alone(d, one).kl(alone(d, two)) for d in range(2)],
                (one.entropy(), one.kl(two), one.mode()),
                (draws, log_prob, one.log_prob(draws)),
                jax.vmap(one.sample)(jax.random.split(jax.random.key(0), 20_000)),
            )

        densities, entropy, kl, both, (draws, log_prob, by_inversion), samples = (
            compute()
        )
    width = np.diff(a, axis=0)
    for d in range(2):
        p, q = (np.asarray(densities[i][d]) for i in range(2))
        mass = np.diff(distribution_function(a, mean, std), axis=0)[:, d]
        np.testing.assert_allclose(p * width[:, d], mass, rtol=1e-4, atol=1e-9)
        np.testing.assert_allclose(np.sum(p * width[:, d]), 1.0, rtol=1e-6)
        log_p, log_q = np.log(np.maximum(p, 1e-300)), np.log(np.maximum(q, 1e-300))
        weight = p * width[:, d]
        np.testing.assert_allclose(entropy[d], -np.sum(weight * log_p), rtol=1e-5)
        np.testing.assert_allclose(kl[d], np.sum(weight * (log_p - log_q)), rtol=1e-5)
        # What is drawn has this distribution function.
        test = scipy.stats.kstest(
            distribution_function(np.asarray(draws), mean, std)[:, d], "uniform"
        )
        assert test.pvalue > 1e-3
    np.testing.assert_allclose(both[0], np.sum(entropy), rtol=1e-12)
    np.testing.assert_allclose(both[1], np.sum(kl), rtol=1e-12)
    np.testing.assert_allclose(both[2], low + (high - low) * (1 + np.tanh(mean)) / 2)
    np.testing.assert_allclose(log_prob, by_inversion, rtol=1e-8)
    np.testing.assert_array_equal(draws, samples)


def test_what_is_within_a_box_stays_and_the_rest_is_moved_to_its_inner_part():
    low, high = jnp.array([-1.0, 0.0, 2.0]), jnp.array([1.0, 8.0, 2.0])
    squashed = TanhDiagGaussian(jnp.zeros(3), jnp.zeros(3), low, high)
    actions = jnp.array([[-1.0, 8.0, 2.0], [0.74, 1.0, 2.0], [0.5, 0.99, 2.0]])
    expected = [[-0.75, 7.0, 2.0], [0.74, 1.0, 2.0], [0.5, 1.0, 2.0]]
    np.testing.assert_allclose(squashed.within(actions, 0.75), expected)


def test_extreme_parameters_have_finite_values_and_gradients():
    logits = jnp.array([[1e4, 0.0, -1e4], [-1e4, 1e4, 1e4], [0.0, 1e-30, 1e30]])
    gaussian = DiagGaussian(jnp.array([[1e4, 0.0]]), jnp.array([[-13.8, 10.0]]))

    def categorical_sum(logits, other):
        one = Categorical(logits)
        rare = one.log_prob(jnp.argmin(logits, axis=-1))
        return jnp.sum(rare + one.entropy() + one.kl(Categorical(other)))

    def gaussian_sum(one):
        other = DiagGaussian(one.mean + 1.0, one.log_std - 1.0)
        return jnp.sum(one.log_prob(one.mean + 0.1) + one.entropy() + one.kl(other))

    def squashed_sum(one):
        draw, log_prob = one.sample_and_log_prob(jax.random.key(0))
        recorded = one.log_prob(jax.lax.stop_gradient(draw))  # rounded to its bound
        other = one._replace(mean=one.mean + 1.0)
        return jnp.sum(draw + log_prob + recorded + one.entropy() + one.kl(other))

    bounds = jnp.array([[-1.0, -1.0, 0.0]]), jnp.array([[1.0, 2.0, 1e-3]])
    squashed = TanhDiagGaussian(
        jnp.array([[1e4, -30.0, 5.0]]), jnp.array([[-13.8, 2.0, 0.0]]), *bounds
    )

    @jax.jit
    def compute():
        return (
            jax.value_and_grad(squashed_sum)(squashed),
            jax.value_and_grad(categorical_sum, argnums=(0, 1))(logits, logits[::-1]),
            jax.value_and_grad(gaussian_sum)(gaussian),
        )

    for leaf in jax.tree.leaves(compute()):
        assert np.all(np.isfinite(leaf))
