"""Action distributions against SciPy, the matrix formula and their own samples."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
import scipy.stats

from metarl_jax.distributions import Categorical, DiagGaussian


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

    @jax.jit
    def compute():
        return (
            jax.value_and_grad(categorical_sum, argnums=(0, 1))(logits, logits[::-1]),
            jax.value_and_grad(gaussian_sum)(gaussian),
        )

    for leaf in jax.tree.leaves(compute()):
        assert np.all(np.isfinite(leaf))
