"""Returns, advantages and the baseline against plain loops and NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax.policy_gradient import advantages, prepare
from metarl_jax.returns import (
    discounted_returns,
    generalised_advantages,
    linear_feature_baseline,
    normalise,
    retrace,
    share_of_mean,
)
from metarl_jax.types import Trajectory

DISCOUNT, GAE_LAMBDA = 0.9, 0.7


def test_discounted_returns_stop_at_a_termination():
    rng = np.random.default_rng(0)
    reward = rng.normal(size=(4, 7)).astype(np.float32)
    terminated = np.zeros((4, 7), bool)
    terminated[1, 2] = terminated[2, [0, 4]] = terminated[3, 6] = True
    expected = np.zeros((4, 7))
    for e in range(4):
        for t in range(7):
            for k in range(t, 7):
                expected[e, t] += DISCOUNT ** (k - t) * reward[e, k]
                if terminated[e, k]:
                    break
    actual = jax.vmap(lambda r, d: discounted_returns(r, d, discount=DISCOUNT))(
        reward, terminated
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_generalised_advantages_match_a_loop_over_mixed_ends():
    # Streams of several episodes, as a trial has them: ended by the environment, by the
    # time limit, by both at once, not at all, and padded after an end.
    T, N = np.array(1), np.array(0)
    terminated = np.array(
        [
            [N, N, T, N, N, N, N, N],
            [N, N, N, N, N, T, N, N],
            [N, T, N, N, N, N, N, T],
            [N, N, N, N, N, N, N, N],
            [N, N, N, T, N, N, N, N],
        ],
        bool,
    )
    truncated = np.array(
        [
            [N, N, N, N, N, T, N, N],
            [N, N, T, N, N, N, N, T],
            [N, N, N, N, T, N, N, N],
            [N, N, N, N, N, N, N, N],
            [N, N, N, T, N, N, N, N],
        ],
        bool,
    )
    rng = np.random.default_rng(1)
    reward, value, next_value = rng.normal(size=(3, 5, 8)).astype(np.float32)
    padded = np.zeros((5, 8), bool)
    padded[0, 6:] = padded[4, 4:] = True
    for x in (reward, value, next_value):
        x[padded] = np.nan

    expected = np.zeros((5, 8))
    for e, t in np.argwhere(~padded):
        for k in range(t, 8):
            after = 0.0 if terminated[e, k] else next_value[e, k]
            delta = reward[e, k] + DISCOUNT * after - value[e, k]
            expected[e, t] += (DISCOUNT * GAE_LAMBDA) ** (k - t) * delta
            if terminated[e, k] or truncated[e, k]:
                break
    actual = jax.vmap(
        lambda *xs: generalised_advantages(
            *xs, discount=DISCOUNT, gae_lambda=GAE_LAMBDA
        )
    )(reward, value, next_value, terminated, truncated)
    np.testing.assert_allclose(
        np.where(padded, 0, actual), expected, rtol=1e-5, atol=1e-6
    )


def fit_by_lstsq(obs, returns, mask):
    """The unpenalised least-squares prediction, with a constant feature."""
    time = np.broadcast_to(np.arange(obs.shape[1])[:, None] / 100, (*obs.shape[:2], 1))
    obs = np.clip(obs, -10, 10)
    features = np.concatenate(
        [obs, obs**2, time, time**2, time**3, np.ones_like(time)], axis=-1
    )
    weights = np.linalg.lstsq(features[mask], returns[mask], rcond=None)[0]
    return np.where(mask, features @ weights, 0.0)


def sample_returns(num_episodes=6, horizon=50, obs_dim=2, seed=2):
    rng = np.random.default_rng(seed)
    obs = 2.0 * rng.normal(size=(num_episodes, horizon, obs_dim))
    time = np.arange(horizon) / horizon
    returns = -20.0 + 3 * obs[..., 0] + obs[..., 1] ** 2 + 10 * time
    returns = returns + rng.normal(size=returns.shape)
    lengths = rng.integers(horizon // 2, horizon + 1, size=num_episodes)
    return obs, returns, np.arange(horizon) < lengths[:, None]


def test_linear_feature_baseline_is_least_squares():
    obs, returns, mask = sample_returns()
    expected = fit_by_lstsq(obs, returns, mask)
    assert 0.5 < np.std((returns - expected)[mask]) < 1.5
    with jax.enable_x64(True):
        exact = linear_feature_baseline(
            jnp.asarray(obs), jnp.asarray(returns), jnp.asarray(mask), ridge=0.0
        )
    np.testing.assert_allclose(exact, expected, atol=1e-8)
    # In float32 with the penalty it is still the same baseline, to a fraction of the
    # noise that it cannot explain.
    single = linear_feature_baseline(
        jnp.float32(obs), jnp.float32(returns), jnp.asarray(mask)
    )
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, expected, atol=0.1)


def test_of_more_features_than_steps_the_baseline_is_the_ridge_regression():
    """As of images; and a pytree of observations is their concatenation."""
    obs, _, mask = sample_returns(num_episodes=2, horizon=6, obs_dim=30)
    returns = obs[..., 0] - 3.0
    x = np.concatenate([obs, obs**2], axis=-1)
    time = np.broadcast_to(np.arange(6)[:, None] / 100, (2, 6, 1))
    x = np.concatenate([x, time, time**2, time**3], axis=-1)[mask]
    x = (x - x.mean(0)) / x.std(0)
    y = returns[mask]
    penalty = 1e-2 * len(y) * np.eye(x.shape[1])
    w = np.linalg.solve(x.T @ x + penalty, x.T @ (y - y.mean()))
    parts = {"a": obs[..., :18].reshape(2, 6, 3, 6), "b": obs[..., 18:]}
    with jax.enable_x64(True):
        for given in (jnp.clip(obs, -10, 10), jax.tree.map(jnp.float64, parts)):
            actual = linear_feature_baseline(
                given, jnp.asarray(returns), mask, ridge=1e-2
            )
            np.testing.assert_allclose(actual[mask], x @ w + y.mean(), rtol=1e-5)


def test_the_baseline_of_images_takes_little_more_memory_than_they_do():
    images = jax.ShapeDtypeStruct((20, 100, 84, 84), jnp.float32)
    steps = jax.ShapeDtypeStruct((20, 100), jnp.float32)
    mask = jax.ShapeDtypeStruct((20, 100), bool)
    compiled = jax.jit(linear_feature_baseline).lower(images, steps, mask).compile()
    size = images.size * images.dtype.itemsize
    assert compiled.memory_analysis().temp_size_in_bytes < 10 * size


def test_the_baseline_of_many_features_that_depend_on_one_another_is_finite():
    """A hundred squares, one-hot of six kinds, most of them of the same one."""
    rng = np.random.default_rng(0)
    kinds = rng.choice(6, p=[0.75, *[0.05] * 5], size=(20, 40, 100))
    obs = np.eye(6)[kinds].reshape(20, 40, 600)
    returns, mask = obs[..., 0] + rng.normal(size=(20, 40)), np.ones((20, 40), bool)
    fit = jax.jit(linear_feature_baseline)
    actual = fit(jnp.float32(obs), jnp.float32(returns), mask)
    with jax.enable_x64(True):
        expected = fit(jnp.asarray(obs), jnp.asarray(returns), mask)
    # To a fraction of the noise, as above.
    np.testing.assert_allclose(actual, expected, atol=0.1)


def test_linear_feature_baseline_on_degenerate_data():
    obs, returns, mask = sample_returns()
    fit = jax.jit(linear_feature_baseline)
    cases = {
        "constant": np.full_like(obs, 7.3),
        "zero": np.zeros_like(obs),
        "copies": np.repeat(obs[..., :1], 2, axis=-1),
        "out of range": 1e6 * obs,
    }
    for name, degenerate in cases.items():
        actual = fit(jnp.float32(degenerate), jnp.float32(returns), mask)
        assert np.all(np.isfinite(actual)), name
        # Whatever a least-squares fit can still explain is explained.
        best = np.std((returns - fit_by_lstsq(degenerate, returns, mask))[mask])
        assert np.std((returns - actual)[mask]) < 1.02 * best, name
    constant = fit(jnp.float32(obs), jnp.full(mask.shape, 4.0), mask)
    np.testing.assert_allclose(constant, 4.0 * mask, atol=1e-4)
    nothing = fit(jnp.float32(obs), jnp.float32(returns), np.zeros_like(mask))
    np.testing.assert_array_equal(nothing, np.zeros(mask.shape))


def test_padded_steps_have_no_part_in_the_baseline():
    obs, returns, mask = sample_returns()
    fit = jax.jit(linear_feature_baseline)
    clean = fit(jnp.float32(obs), jnp.float32(returns), mask)
    spoiled = fit(
        jnp.float32(np.where(mask[..., None], obs, np.nan)),
        jnp.float32(np.where(mask, returns, np.inf)),
        mask,
    )
    np.testing.assert_array_equal(spoiled, clean)
    np.testing.assert_array_equal(clean[~mask], 0.0)


def test_normalise_over_valid_steps():
    rng = np.random.default_rng(3)
    x = rng.normal(5.0, 3.0, size=(4, 9)).astype(np.float32)
    mask = rng.random((4, 9)) < 0.7
    x[~mask] = np.nan
    actual = normalise(x, mask)
    expected = np.where(mask, (x - x[mask].mean()) / x[mask].std(), 0.0)
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    constant = normalise(np.full((4, 9), 3.0, np.float32), mask)
    np.testing.assert_array_equal(constant, np.zeros((4, 9)))


def test_retrace_is_its_sum_of_weighted_errors():
    """G_t = Q_t + Σ_k (Π γ c) δ_k, as Munos et al. 2016 write it, by a double loop."""
    rng = np.random.default_rng(4)
    reward, q, next_value = rng.normal(size=(3, 6))
    discount = np.where(np.arange(6) == 2, 0.0, 0.9)
    trace = rng.uniform(size=6)
    error = reward + discount * next_value - q
    expected = np.zeros(6)
    for t in range(6):
        weight, expected[t] = 1.0, q[t]
        for k in range(t, 6):
            expected[t] += weight * error[k]
            weight *= discount[k] * trace[min(k + 1, 5)]
    actual = jax.jit(retrace)(reward, discount, q, next_value, trace)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_shares_of_unequal_parts_add_up_to_the_mean_over_the_valid_steps():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(6, 5)).astype(np.float32)
    mask = np.arange(5) < np.array([5, 1, 2, 4, 0, 3])[:, None]
    shares = [share_of_mean(x[i : i + 2], mask[i : i + 2], mask) for i in (0, 2, 4)]
    np.testing.assert_allclose(np.sum(shares), x[mask].mean(), rtol=1e-5)


def test_rewards_of_a_batch_are_discounted_and_in_the_advantages_unit():
    """γ^t r_t / σ(A): DiCE alone reads them, and is scaled as the others are."""
    rng = np.random.default_rng(2)
    shape = (3, 6)
    mask = np.arange(6) < np.array([[6], [4], [2]])
    reward = np.where(mask, rng.normal(size=shape), 0).astype(np.float32)
    obs = rng.normal(size=(*shape, 2)).astype(np.float32)
    ends = np.zeros(shape, bool)
    flags = {"terminated": ends, "truncated": ends, "mask": mask}
    zeros = np.zeros(shape, np.float32)
    data = Trajectory(obs, zeros, zeros, reward, obs, **flags)
    data = jax.tree.map(jnp.asarray, data)
    weighting = {"discount": DISCOUNT, "gae_lambda": GAE_LAMBDA}

    @jax.jit
    def compute(data):
        return prepare(data, **weighting), advantages(data, **weighting)

    batch, advantage = compute(data)
    deviation = np.std(np.asarray(advantage, float)[mask])
    expected = DISCOUNT ** np.arange(6) * reward / deviation
    assert abs(deviation - 1) > 0.05
    np.testing.assert_allclose(batch.reward, expected, rtol=1e-5)
    normalised = (advantage - np.mean(np.asarray(advantage)[mask])) / deviation
    np.testing.assert_allclose(
        np.where(mask, batch.advantage, 0), np.where(mask, normalised, 0), atol=1e-5
    )
