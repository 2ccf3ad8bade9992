"""Meta-gradient estimators: scalars whose derivatives estimate those of a return.

Every estimator here is a function `(log_prob, behaviour_log_prob, reward, advantage,
mask) -> scalar` of one trajectory, summed over its valid steps; batch with `jax.vmap`.
Ascending it ascends J(θ) = E_{τ~π_θ}[Σ_t γ^t r_t]. They agree on the gradient of J at
the parameters that sampled the data. They differ in the Hessian, and a meta-gradient
through an inner update θ' = θ + α ∇ surrogate needs it: the derivative of θ' is
I + α ∇² surrogate.

Args, all `[T]`, and of them only `log_prob` is differentiated:
  log_prob: log π_θ(a_t | o_t), a function of the parameters.
  behaviour_log_prob: the same of the policy that sampled the actions, as recorded
    (`Trajectory.log_prob`): a constant, so that ratios are importance weights also
    after the parameters have moved (a line search, several epochs on the same data).
    Passing `stop_gradient(log_prob)` instead has the same derivatives where the
    data is fresh and none of that: every ratio is then 1, whatever the parameters.
  reward: r_t; read by `dice` alone.
  advantage: A_t; read by all others.
  mask: bool, whether the step was taken. What stands in the other arguments where it
    is false is never used, NaN included, and receives a zero gradient.

No discount is applied here. To be exact for J, pass γ^t r_t and γ^t A_t, t counted from
the episode's start, with A_t = Σ_{k≥t} γ^{k-t} r_k - b(o_t) for any baseline b, or the
exact A^π(o_t, a_t), or generalised advantages whose value function is exact. Leaving
γ^t out, as is usual, weights late steps more than J does; with γ = 1 it is the same.

What holds for the expectation over trajectories of the policy π_θ, with H = ∇²J:

  estimator               ∇ surrogate   ∇² surrogate
  score_function          ∇J            H - C - Cᵀ - F   depends on the baseline
  likelihood_ratio        ∇J            H - C - Cᵀ
  clipped                 ∇J            H - C - Cᵀ
  discovered              ∇J            H - C - Cᵀ
  dice                    ∇J            H
  loaded_dice             ∇J            H
  second_order_expansion  ∇J            H

  C = E Σ_t γ^t ∇log π_t ∇Q_t(s_t, a_t)ᵀ   how the return of later actions changes,
  F = E Σ_t γ^t A_t ∇log π_t ∇log π_tᵀ     the square of the score.

C vanishes where an action decides nothing but its own reward, as in a bandit; F does
not. The price of exactness is variance: it grows along the trajectory
with the cumulative products, and `likelihood_ratio` leaves C out to escape it. Away
from the parameters that sampled the data the products also grow with the ratios
themselves; `second_order_expansion` keeps at most two of them.

All this is about one expected return. The meta-gradient of MAML's objective, the
expected return after an update from *sampled* data, has one more term; see
`metarl_jax.algorithms.maml`.
"""

from collections.abc import Callable
from functools import partial

import chex
import jax
import jax.numpy as jnp

from metarl_jax.validation import check_above_zero, check_functions

Surrogate = Callable[[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]
# `(log ρ, A) -> drift`, one number of one step.
Drift = Callable[[jax.Array, jax.Array], jax.Array]

# Beyond this e^x is 1e20 and more: what saturates has done so, and nothing overflows.
_MAX_LOG_RATIO = 46.0


def _valid(mask: jax.Array, *arrays: jax.Array) -> list[jax.Array]:
    """Replaces padded entries by zero.

    Before any product or exponential, not after: the derivative of a `where` around
    exp(x) or x · y multiplies a zero by whatever stands on the padded step.
    """
    chex.assert_rank([mask, *arrays], 1)
    chex.assert_equal_shape([mask, *arrays])
    return [jnp.where(mask, x, jnp.zeros_like(x)) for x in arrays]


def score_function(
    log_prob: jax.Array,
    behaviour_log_prob: jax.Array,
    reward: jax.Array,
    advantage: jax.Array,
    mask: jax.Array,
) -> jax.Array:
    """The score-function surrogate, Σ_t log π(a_t | o_t) A_t.

    What most published code differentiates (Finn et al. 2017, arXiv 1703.03400). Its
    gradient is exact, its Hessian is E Σ_t A_t ∇² log π_t: it lacks both the square of
    the score and the dependence of later returns on the parameters, and changes with
    the baseline (Al-Shedivat et al. 2018, arXiv 1710.03641; Foerster et al. 2018,
    arXiv 1802.05098). With the value for a baseline and a softmax of logits that are
    linear in the parameters the Hessian is zero, and the meta-gradient, but for noise,
    the first-order one. Its value means nothing, and it has no off-policy correction.

    Args:
      log_prob: `[T]` log π_θ(a_t | o_t), differentiable.
      behaviour_log_prob: `[T]`, unused.
      reward: `[T]`, unused.
      advantage: `[T]` A_t, times γ^t to be exact for J.
      mask: `[T]` bool.

    Returns:
      A scalar, the sum over valid steps.
    """
    del behaviour_log_prob, reward
    log_prob, advantage = _valid(mask, log_prob, advantage)
    return jnp.sum(log_prob * advantage)


def likelihood_ratio(
    log_prob: jax.Array,
    behaviour_log_prob: jax.Array,
    reward: jax.Array,
    advantage: jax.Array,
    mask: jax.Array,
) -> jax.Array:
    """The low-variance curvature (LVC) surrogate, Σ_t ρ_t A_t.

    ρ_t = π(a_t | o_t) / π_behaviour(a_t | o_t), one step's importance weight. The
    gradient is exact on fresh data; the Hessian lacks only C + Cᵀ, the dependence of
    later returns on the parameters, and does not change with the baseline (Rothfuss et
    al. 2019, arXiv 1810.06784). In a bandit it is exact. Also the objective of TRPO:
    off the behaviour policy it is the first-order model of J around that policy.

    Args:
      log_prob: `[T]` log π_θ(a_t | o_t), differentiable.
      behaviour_log_prob: `[T]` the same of the policy that acted, constant.
      reward: `[T]`, unused.
      advantage: `[T]` A_t, times γ^t to be exact for J.
      mask: `[T]` bool.

    Returns:
      A scalar, the sum over valid steps.
    """
    del reward
    log_ratio, advantage = _valid(mask, log_prob - behaviour_log_prob, advantage)
    return jnp.sum(jnp.exp(log_ratio) * advantage)


def dice(
    log_prob: jax.Array,
    behaviour_log_prob: jax.Array,
    reward: jax.Array,
    advantage: jax.Array,
    mask: jax.Array,
) -> jax.Array:
    """The infinitely differentiable Monte-Carlo estimator (DiCE), Σ_t □_{≤t} r_t.

    □_{≤t} = Π_{s≤t} π(a_s | o_s) / π_behaviour(a_s | o_s), the importance weight of
    everything up to step t. Exact in the derivatives of every order (Foerster et al.
    2018, arXiv 1802.05098). It takes no baseline, so its variance is the highest;
    `loaded_dice` is the same with one: given the TD residuals
    δ_t = r_t + γ V(o_{t+1}) - V(o_t) in the place of r_t, this is, up to a constant,
    `loaded_dice` of the λ = 1 advantages of V.

    With a recorded `behaviour_log_prob` its expectation is J(θ) at every θ, also
    away from the behaviour policy. With `stop_gradient(log_prob)`, the form of the
    paper, its *value* is Σ_t r_t whatever the parameters, so that finite differences
    see nothing of the derivatives that autodiff gives.

    Args:
      log_prob: `[T]` log π_θ(a_t | o_t), differentiable.
      behaviour_log_prob: `[T]` the same of the policy that acted, constant.
      reward: `[T]` r_t, times γ^t to be exact for J.
      advantage: `[T]`, unused.
      mask: `[T]` bool.

    Returns:
      A scalar, the sum over valid steps.
    """
    del advantage
    log_ratio, reward = _valid(mask, log_prob - behaviour_log_prob, reward)
    return jnp.sum(jnp.exp(jnp.cumsum(log_ratio)) * reward)


def loaded_dice(
    log_prob: jax.Array,
    behaviour_log_prob: jax.Array,
    reward: jax.Array,
    advantage: jax.Array,
    mask: jax.Array,
) -> jax.Array:
    """The Loaded DiCE surrogate, Σ_t (□_{≤t} - □_{<t}) A_t.

    □_{≤t} as in `dice`, and □_{<t} without step t (Farquhar et al. 2019, arXiv
    1909.10549). The difference is zero in value and carries the derivatives of step
    t's own choice, weighted by those of the choices before it, so a baseline
    changes no derivative's expectation. Exact in every order for Monte-Carlo
    advantages (λ = 1) with any baseline, and for the exact advantages of the behaviour
    policy, where the expectation is J(θ) - J(θ_behaviour) at every θ; otherwise as
    biased as the advantages are.

    Args:
      log_prob: `[T]` log π_θ(a_t | o_t), differentiable.
      behaviour_log_prob: `[T]` the same of the policy that acted, constant.
      reward: `[T]`, unused.
      advantage: `[T]` A_t, times γ^t to be exact for J.
      mask: `[T]` bool.

    Returns:
      A scalar, the sum over valid steps.
    """
    del reward
    log_ratio, advantage = _valid(mask, log_prob - behaviour_log_prob, advantage)
    log_before = jnp.cumsum(log_ratio) - log_ratio
    # □_{≤t} - □_{<t} = □_{<t} (ρ_t - 1), with no difference of two near-equal numbers.
    return jnp.sum(jnp.exp(log_before) * jnp.expm1(log_ratio) * advantage)


def second_order_expansion(
    log_prob: jax.Array,
    behaviour_log_prob: jax.Array,
    reward: jax.Array,
    advantage: jax.Array,
    mask: jax.Array,
) -> jax.Array:
    """The second-order expansion (TayPO-2), Σ_t (1 + Σ_{s<t} (ρ_s - 1)) (ρ_t - 1) A_t.

    `loaded_dice` is Σ_t Π_{s<t} (1 + (ρ_s - 1)) (ρ_t - 1) A_t; this keeps the terms of
    at most two factors ρ - 1, and `likelihood_ratio`, up to a constant, those of one
    (Tang et al. 2020, arXiv 2003.06259; as a Hessian estimator, Tang et al. 2021, arXiv
    2106.13125). On fresh data, where ρ = 1, gradient and Hessian are those of
    `loaded_dice` to the last digit. As the parameters move away from the data the
    expectation departs from J(θ) - J(θ_behaviour) by the third power of the change in
    the policy, and no product of more than two ratios inflates the variance.

    Args:
      log_prob: `[T]` log π_θ(a_t | o_t), differentiable.
      behaviour_log_prob: `[T]` the same of the policy that acted, constant.
      reward: `[T]`, unused.
      advantage: `[T]` A_t of the behaviour policy, times γ^t to be exact for J.
      mask: `[T]` bool.

    Returns:
      A scalar, the sum over valid steps.
    """
    del reward
    log_ratio, advantage = _valid(mask, log_prob - behaviour_log_prob, advantage)
    change = jnp.expm1(log_ratio)
    before = jnp.cumsum(change) - change
    return jnp.sum((1 + before) * change * advantage)


def clipped(clip_range: float | jax.Array = 0.2) -> Surrogate:
    """Makes the PPO-clipped surrogate, Σ_t min(ρ_t A_t, clip(ρ_t, 1 ± ε) A_t).

    ρ_t as in `likelihood_ratio`, and on fresh data, where ρ_t = 1, the same in value
    and all derivatives. Once ρ_t has left [1 - ε, 1 + ε] in the direction that A_t
    rewards, the step has no gradient (Schulman et al. 2017, arXiv 1707.06347; as an
    outer surrogate with ε = 0.3, Rothfuss et al. 2019, arXiv 1810.06784).

    Args:
      clip_range: ε > 0.

    Returns:
      A surrogate of the module's signature. It reads `log_prob`,
      `behaviour_log_prob`, `advantage` (times γ^t to be exact for J) and `mask`, all
      `[T]`.

    Raises:
      ValueError: if `clip_range` is a number and not above 0.
    """
    check_above_zero(clip_range=clip_range)

    def surrogate(log_prob, behaviour_log_prob, reward, advantage, mask):
        del reward
        log_ratio, advantage = _valid(mask, log_prob - behaviour_log_prob, advantage)
        # The minimum of the two products, by the advantage's sign: a minimum has no
        # derivative at a tie, and before the first update every step is one. The upper
        # bound is set before the exponential, where an overflow cannot reach it.
        positive = advantage >= 0
        upper = jnp.minimum(log_ratio, jnp.log1p(clip_range))
        ratio = jnp.exp(jnp.where(positive, upper, log_ratio))
        ratio = jnp.where(positive, ratio, jnp.maximum(ratio, 1 - clip_range))
        return jnp.sum(ratio * advantage)

    return surrogate


def clipping_drift(
    log_ratio: jax.Array, advantage: jax.Array, *, clip_range: float | jax.Array = 0.2
) -> jax.Array:
    """The drift of PPO's clip, ReLU((ρ - clip(ρ, 1 ± ε)) A).

    What `clipped` takes off the likelihood ratio: ρ A less this is its minimum
    (Kuba et al. 2022, arXiv 2201.02373, section 4).

    Args:
      log_ratio: `[]` log ρ.
      advantage: `[]` A.
      clip_range: ε > 0.

    Returns:
      `[]`, 0 where ρ is within 1 ± ε.
    """
    ratio = jnp.exp(jnp.minimum(log_ratio, _MAX_LOG_RATIO))
    beyond = ratio - jnp.clip(ratio, 1 - clip_range, 1 + clip_range)
    return jax.nn.relu(beyond * advantage)


def discovered_drift(
    log_ratio: jax.Array,
    advantage: jax.Array,
    *,
    alpha: float | jax.Array = 2.0,
    beta: float | jax.Array = 0.6,
) -> jax.Array:
    """The drift of discovered policy optimisation (DPO).

      A ≥ 0: ReLU((ρ - 1) A - α tanh((ρ - 1) A / α))
      A < 0: ReLU(log(ρ) A - β tanh(log(ρ) A / β))

    The closed form in which Lu et al. 2022 (arXiv 2210.05639, section 5.2) wrote down
    what their learned drift does: where the update is made likelier it is rolled back,
    not just stopped, as the policy moves far; where A < 0 it is cautious in log ρ.
    Never negative, and 0 with slope 0 at ρ = 1, as mirror learning asks of a drift
    (Kuba et al. 2022, arXiv 2201.02373). So is the curvature there.

    Args:
      log_ratio: `[]` log ρ.
      advantage: `[]` A.
      alpha: α > 0.
      beta: β > 0.

    Returns:
      `[]`.
    """
    positive = advantage >= 0
    change = jnp.expm1(jnp.minimum(log_ratio, _MAX_LOG_RATIO))
    x = jnp.where(positive, change, log_ratio) * advantage
    scale = jnp.where(positive, alpha, beta).astype(x.dtype)
    return jax.nn.relu(x - scale * jnp.tanh(x / scale))


def drifting(drift: Drift) -> Surrogate:
    """Makes the surrogate of a drift function, Σ_t ρ_t A_t - f(ρ_t, A_t).

    A drift f is never negative, and 0 with slope 0 at ρ = 1: then on fresh data the
    gradient is that of `likelihood_ratio`, and mirror learning improves by it
    monotonically (Kuba et al. 2022, arXiv 2201.02373). PPO's clip is one
    (`clipping_drift`), `discovered_drift` another, and one can be learned
    (`metarl_jax.algorithms.lpo`).

    Args:
      drift: f, `(log ρ, A) -> []`; finite, with finite derivatives, at (0, 0).

    Returns:
      A surrogate of the module's signature. It reads `log_prob`,
      `behaviour_log_prob`, `advantage` (times γ^t to be exact for J) and `mask`, all
      `[T]`.

    Raises:
      ValueError: if `drift` is not a function.
    """
    check_functions(drift=drift)

    def surrogate(log_prob, behaviour_log_prob, reward, advantage, mask):
        del reward
        log_ratio, advantage = _valid(mask, log_prob - behaviour_log_prob, advantage)
        gain = jnp.exp(jnp.minimum(log_ratio, _MAX_LOG_RATIO)) * advantage
        return jnp.sum(gain - jax.vmap(drift)(log_ratio, advantage))

    return surrogate


def discovered(
    alpha: float | jax.Array = 2.0, beta: float | jax.Array = 0.6
) -> Surrogate:
    """Makes the surrogate of discovered policy optimisation, Σ_t ρ_t A_t - f(ρ_t, A_t).

    f is `discovered_drift`, in the place of PPO's clip (Lu et al. 2022, arXiv
    2210.05639). On fresh data, where ρ_t = 1, the same in value and the first two
    derivatives as `likelihood_ratio`.

    Args:
      alpha: α > 0, where A ≥ 0: how far (ρ - 1) A goes before it is rolled back.
      beta: β > 0, where A < 0: the same of log(ρ) A.

    Returns:
      A surrogate of the module's signature, which reads what `drifting` reads.

    Raises:
      ValueError: if α or β is a number and not above 0.
    """
    check_above_zero(alpha=alpha, beta=beta)
    return drifting(partial(discovered_drift, alpha=alpha, beta=beta))
