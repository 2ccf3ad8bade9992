"""The estimators' expected gradients and Hessians, over every trajectory of an MDP."""

import functools

import enumeration
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax import surrogates
from metarl_jax.returns import discounted_returns, generalised_advantages

SURROGATES = {
    "score_function": surrogates.score_function,
    "likelihood_ratio": surrogates.likelihood_ratio,
    "clipped": surrogates.clipped(0.2),
    "discovered": surrogates.discovered(),
    "dice": surrogates.dice,
    "loaded_dice": surrogates.loaded_dice,
    "second_order_expansion": surrogates.second_order_expansion,
}
EXACT = ("dice", "loaded_dice", "second_order_expansion")
STEPS = (1.0, 0.02, 0.01)
KINDS = ["returns", "baseline", "exact", "gae"]
MDPS = {
    "tabular policy": enumeration.random_mdp(0),
    "shared parameters": enumeration.random_mdp(1, num_params=4, discount=0.9),
    "early ends": enumeration.random_mdp(2, num_states=4, num_terminal=2, horizon=4),
    "undiscounted": enumeration.random_mdp(
        3, num_states=2, num_actions=3, num_terminal=1, horizon=4, discount=1.0
    ),
}


def advantages(mdp, data, behaviour, baseline):
    """`[kind, M, T]`, and their expectations given state and action, `[kind, T, S, A]`.

    The kinds are KINDS, in that order.
    """

    def along(value):  # [T, S] -> [M, T], of s_t
        return value[np.arange(mdp.horizon), data.state]

    returns = jax.vmap(functools.partial(discounted_returns, discount=mdp.discount))(
        data.reward, data.terminated
    )
    q = enumeration.action_values(mdp, behaviour)
    value = jnp.sum(q * jnp.exp(enumeration.log_policy(mdp, behaviour)), axis=-1)
    after = jnp.concatenate([value[1:], jnp.zeros((1, value.shape[1]))])
    gae = jax.vmap(
        functools.partial(generalised_advantages, discount=mdp.discount, gae_lambda=0.7)
    )(
        data.reward,
        along(value),
        after[np.arange(mdp.horizon), data.next_state],
        data.terminated,
        ~data.mask,
    )
    exact = q[np.arange(mdp.horizon), data.state, data.action] - along(value)
    kinds = [
        (returns, q),
        (returns - along(baseline), q - baseline[..., None]),
        (exact, q - value[..., None]),
        (gae, q - value[..., None]),
    ]
    sampled, given_action = zip(*kinds, strict=True)
    return jnp.stack(sampled), jnp.stack(given_action)


@functools.cache
def analysis(name):
    """The exact and the estimators' expected derivatives, in one compiled function."""
    mdp = MDPS[name]
    data = enumeration.enumerate_trajectories(mdp)
    rng = np.random.default_rng(9)
    theta, moved = rng.normal(size=(2, mdp.features.shape[-1]))
    baseline = rng.normal(size=(mdp.horizon, mdp.initial.shape[0]))
    gamma = enumeration.discounts(mdp)
    # Whatever stands after an episode's end must not matter.
    junk = np.where(np.arange(data.mask.size) % 2, np.nan, np.inf)

    def pad(x):
        return jnp.where(data.mask, x, junk.reshape(data.mask.shape))

    def compute(theta, moved):
        weight = enumeration.probabilities(mdp, data, theta)
        behaviour_log_prob = enumeration.log_probs(mdp, data, theta)

        def expected(surrogate, reward, advantage, parameters):
            sums = jax.vmap(surrogate)(
                enumeration.log_probs(mdp, data, parameters),
                pad(behaviour_log_prob),
                pad(gamma * reward),
                pad(gamma * advantage),
                data.mask,
            )
            return jnp.sum(weight * sums)

        def derivatives(function):
            return jax.grad(function)(theta), jax.hessian(function)(theta)

        expected_return = functools.partial(enumeration.expected_return, mdp, data)
        exact = derivatives(expected_return)
        sampled, given_action = advantages(mdp, data, theta, baseline)
        estimated = {
            name: jax.vmap(
                lambda advantage, surrogate=surrogate: derivatives(
                    functools.partial(expected, surrogate, data.reward, advantage)
                )
            )(sampled)
            for name, surrogate in SURROGATES.items()
        }

        # C and F of the module's docstring, from the dynamic programme: no trajectory
        # and no surrogate takes part in them.
        log_policy = functools.partial(enumeration.log_policy, mdp)
        score = jax.jacobian(log_policy)(theta)
        visits = gamma[:, None, None] * jnp.exp(log_policy(theta))
        visits = visits * enumeration.state_distributions(mdp, theta)[..., None]
        dq = jax.jacobian(functools.partial(enumeration.action_values, mdp))(theta)
        c = jnp.einsum("tsa,sai,tsaj->ij", visits, score, dq)
        f = jnp.einsum("tsa,ktsa,sai,saj->kij", visits, given_action, score, score)

        # At θ + h (θ_moved - θ).
        points = theta + jnp.array(STEPS)[:, None] * (moved - theta)
        away = {
            name: jax.vmap(
                lambda point, surrogate=SURROGATES[name]: jax.vmap(
                    lambda advantage: expected(surrogate, data.reward, advantage, point)
                )(sampled)
            )(points)
            for name in (*EXACT, "likelihood_ratio")
        }
        returns = expected_return(theta), jax.vmap(expected_return)(points)
        return exact, estimated, c + c.T, f, away, returns

    with jax.enable_x64(True):
        return jax.device_get(jax.jit(compute)(theta, moved))


def close(actual, desired, what=""):
    np.testing.assert_allclose(actual, desired, rtol=0, atol=1e-12, err_msg=what)


@pytest.mark.parametrize("name", MDPS)
def test_expected_derivatives_are_exact_or_have_the_known_bias(name):
    (gradient, hessian), estimated, c, f, *_ = analysis(name)
    for estimator, (estimated_gradient, estimated_hessian) in estimated.items():
        for i, kind in enumerate(KINDS):
            close(estimated_gradient[i], gradient, kind)
            if estimator in EXACT:
                bias = np.zeros_like(hessian)
            elif estimator in ("likelihood_ratio", "clipped", "discovered"):
                bias = -c
            else:
                bias = -c - f[i]
            close(estimated_hessian[i] - hessian, bias, kind)
    # These logits are linear in the parameters.
    close(estimated["score_function"][1][KINDS.index("exact")], 0.0)
    # The biases are there to be seen, and only the score function's depends on the
    # baseline.
    visible = 0.02 * np.linalg.norm(hessian)
    assert np.linalg.norm(c) > visible
    assert min(np.linalg.norm(c + x) for x in f) > visible
    assert np.linalg.norm(f[KINDS.index("returns")] - f[KINDS.index("exact")]) > visible


@pytest.mark.parametrize("name", MDPS)
def test_dice_and_loaded_dice_are_importance_weighted_returns(name):
    *_, away, (initial, moved) = analysis(name)
    assert abs(moved[0] - initial) > 0.01
    kinds = np.ones(len(KINDS))
    close(away["dice"], np.outer(moved, kinds))
    close(away["loaded_dice"], np.outer(moved - initial, kinds))


@pytest.mark.parametrize("name", MDPS)
def test_an_expansion_departs_from_the_return_by_the_power_after_its_order(name):
    *_, away, (initial, moved) = analysis(name)
    for estimator, power in (("likelihood_ratio", 2), ("second_order_expansion", 3)):
        # With the exact advantages, whose mean is zero at the start.
        error = away[estimator][:, KINDS.index("exact")] - (moved - initial)
        np.testing.assert_allclose(error[1] / error[2], 2**power, rtol=0.1)


def random_steps(seed, horizon=6, valid=4):
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(4, horizon))
    return [*steps, np.arange(horizon) < valid]


def test_second_order_expansion_is_loaded_dice_where_the_data_is_fresh():
    log_prob, _, reward, advantage, mask = random_steps(3)
    with jax.enable_x64(True):
        derivatives = [
            jax.jit(
                lambda x, surrogate=surrogate: (
                    jax.grad(surrogate)(x, log_prob, reward, advantage, mask),
                    jax.hessian(surrogate)(x, log_prob, reward, advantage, mask),
                )
            )(log_prob)
            for surrogate in (surrogates.loaded_dice, surrogates.second_order_expansion)
        ]
    for loaded, expansion in zip(*derivatives, strict=True):
        assert np.abs(loaded).max() > 0.5
        close(expansion, loaded)


def test_second_order_expansion_varies_less_away_from_the_data():
    mdp = enumeration.random_mdp(4, num_states=2, horizon=5)
    data = enumeration.enumerate_trajectories(mdp)
    theta, moved = np.random.default_rng(5).normal(size=(2, mdp.features.shape[-1]))

    def total_variance(theta, moved, surrogate):
        """Of the Hessian at `moved`, from one trajectory of `theta`."""
        behaviour = enumeration.log_probs(mdp, data, theta)
        zero = np.zeros((mdp.horizon, mdp.initial.size))
        advantage = advantages(mdp, data, theta, zero)[0][KINDS.index("exact")]
        advantage = enumeration.discounts(mdp) * advantage

        def of_one(point, state, action, behaviour, advantage, mask):
            log_prob = enumeration.log_policy(mdp, point)[state, action]
            return surrogate(log_prob, behaviour, 0 * advantage, advantage, mask)

        hessian = jax.vmap(jax.hessian(of_one), in_axes=(None, *[0] * 5))(
            moved, data.state, data.action, behaviour, advantage, data.mask
        )
        weight = enumeration.probabilities(mdp, data, theta)
        mean = jnp.tensordot(weight, hessian, axes=1)
        return jnp.sum(weight[:, None, None] * (hessian - mean) ** 2)

    with jax.enable_x64(True):
        loaded, expansion = (
            float(
                jax.jit(functools.partial(total_variance, surrogate=surrogate))(
                    theta, moved
                )
            )
            for surrogate in (surrogates.loaded_dice, surrogates.second_order_expansion)
        )
    assert expansion < 0.5 * loaded


def test_dice_on_td_residuals_is_loaded_dice_on_their_sums():
    discount = 0.9
    log_prob, behaviour, reward, value, mask = random_steps(0)
    gamma = discount ** np.arange(mask.size)
    alive_after = np.append(mask[1:], False)
    delta = reward + discount * np.where(alive_after, np.append(value[1:], 0), 0)
    delta = np.where(mask, delta - value, 0.0)
    advantage = np.array(
        [sum(gamma[: mask.size - t] * delta[t:]) for t in range(mask.size)]
    )

    def difference(log_prob):
        dice = surrogates.dice(log_prob, behaviour, gamma * delta, 0 * mask, mask)
        loaded = surrogates.loaded_dice(
            log_prob, behaviour, 0 * mask, gamma * advantage, mask
        )
        return dice - loaded

    with jax.enable_x64(True):
        value, gradient, hessian = jax.jit(
            lambda x: (
                difference(x),
                jax.grad(difference)(x),
                jax.hessian(difference)(x),
            )
        )(log_prob)
    close(value, np.sum(gamma * delta))
    close(gradient, 0.0)
    close(hessian, 0.0)


def test_detached_behaviour_keeps_the_derivatives_and_freezes_the_value():
    log_prob, _, reward, advantage, mask = random_steps(1)

    def frozen(log_prob):
        behaviour = jax.lax.stop_gradient(log_prob)
        return surrogates.dice(log_prob, behaviour, reward, advantage, mask)

    def recorded(x):
        return surrogates.dice(x, log_prob, reward, advantage, mask)

    with jax.enable_x64(True):
        close(jax.hessian(frozen)(log_prob), jax.hessian(recorded)(log_prob))
        close(frozen(log_prob), frozen(2 * log_prob))
        assert abs(recorded(log_prob) - recorded(2 * log_prob)) > 0.1


def test_clipped_is_the_minimum_and_stops_past_the_bound():
    log_ratio = np.log([0.5, 0.9, 1.0, 1.1, 1.5] * 2)
    advantage = np.repeat([2.0, -3.0], 5)
    ratio = np.exp(log_ratio)
    mask = np.ones(10, bool)
    low = np.minimum(ratio * advantage, np.clip(ratio, 0.8, 1.2) * advantage)
    moving = np.where(advantage > 0, ratio < 1.2, ratio > 0.8)

    def function(x):
        return surrogates.clipped(0.2)(x, np.zeros(10), np.zeros(10), advantage, mask)

    with jax.enable_x64(True):
        value, gradient = jax.value_and_grad(function)(log_ratio)
    close(value, low.sum())
    close(gradient, np.where(moving, ratio * advantage, 0.0))
    # A ratio that overflows is past the bound like any other.
    huge = jax.grad(function)(np.where(advantage > 0, 200.0, 0.0))
    np.testing.assert_allclose(huge, np.where(advantage > 0, 0.0, advantage), rtol=1e-6)


def test_drifts_are_mirror_learning_s_and_those_of_the_papers():
    ratio = np.array([0.2, 0.7, 1.0, 1.0, 1.3, 4.0] * 2)
    advantage = np.repeat([2.0, -3.0], 6)
    with jax.enable_x64(True):
        for drift in (surrogates.discovered_drift, surrogates.clipping_drift):
            here = functools.partial(drift, 0.0)
            slope = jax.vmap(jax.grad(lambda x, a: drift(x, a)))  # noqa: B023
            close(jax.vmap(here)(advantage), 0.0)
            close(slope(0 * advantage, advantage), 0.0)
            assert np.all(jax.vmap(drift)(np.log(ratio), advantage) >= 0)
        # As printed, with α = 2 and β = 0.6.
        x, y = (ratio - 1) * advantage, np.log(ratio) * advantage
        printed = np.where(
            advantage >= 0, x - 2 * np.tanh(x / 2), y - 0.6 * np.tanh(y / 0.6)
        )
        got = jax.vmap(surrogates.discovered_drift)(np.log(ratio), advantage)
        close(got, np.maximum(printed, 0))
        assert (printed > 0.1).sum() == 3

        zero, mask = np.zeros(12), np.ones(12, bool)
        clip = surrogates.drifting(surrogates.clipping_drift)
        for x in (np.log(ratio), np.log(ratio) + 1e-6):
            (value, gradient), (clipped_value, clipped_gradient) = (
                jax.value_and_grad(s)(x, zero, zero, advantage, mask)
                for s in (clip, surrogates.clipped(0.2))
            )
            close(value, clipped_value)
            close(gradient, clipped_gradient)
    # A ratio that overflows is rolled back like any other.
    far = np.full(12, 200.0, np.float32), np.zeros(12), np.zeros(12), advantage, mask
    huge = jax.grad(surrogates.discovered())(*far)
    np.testing.assert_array_equal(huge, 0.0)


@pytest.mark.parametrize("estimator", SURROGATES)
def test_padded_steps_change_nothing_whatever_stands_there(estimator):
    steps = random_steps(2)
    *arrays, mask = steps
    cut = [x[:4] for x in steps]
    padded = [
        np.where(mask, x, junk)
        for x, junk in zip(arrays, (np.nan, -np.inf, np.inf, np.nan), strict=True)
    ]
    function = jax.value_and_grad(SURROGATES[estimator])
    value, gradient = function(*padded, mask)
    cut_value, cut_gradient = function(*cut)
    np.testing.assert_allclose(value, cut_value, rtol=1e-6)
    np.testing.assert_allclose(gradient, np.append(cut_gradient, [0, 0]), rtol=1e-6)


@pytest.mark.parametrize("clip_range", [0, 0.0, -0.1, float("nan")])
def test_clip_range_must_be_positive(clip_range):
    with pytest.raises(ValueError, match=f"above 0; got {clip_range}"):
        surrogates.clipped(clip_range)
