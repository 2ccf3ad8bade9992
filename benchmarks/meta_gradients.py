"""Meta-gradients by each estimator, beside the exact one, on small random MDPs.

One inner step θ' = θ + α ĝ(θ; D) on N trajectories D of π_θ, then N trajectories of
π_θ'. The exact meta-gradient is that of

    I_N(θ) = E_{D~π_θ}[J(θ + α ĝ(θ; D))],

at that very N, a sum over every data set; as N → ∞ it is that of J(θ + α ∇J(θ)).
Dynamics are deterministic, so that there are A^T trajectories, and a data set is known
by how often each of them is in it. Run it under `jax.enable_x64(True)`.
"""

import itertools
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax import surrogates
from metarl_jax.intervals import summarise

NUM_STATES, NUM_ACTIONS, HORIZON = 3, 2, 3
INNER_LR = 0.5
META_BATCH = 40  # as many tasks as Rothfuss et al. average a meta-gradient over
ESTIMATORS = (
    "first order",
    "score function",
    "likelihood ratio (LVC)",
    "DiCE",
    "Loaded DiCE",
    "score correction (E-MAML)",
)
METRICS = {
    "bias": "norm of the mean error",
    "deviation_before": "standard deviation, all known but the data adapted on",
    "deviation": "standard deviation, N trajectories before and N after adaptation",
    "cosine": "mean cosine of one meta-gradient with the exact one",
    "cosine_of_batch": f"mean cosine of the mean of {META_BATCH} with the exact one",
}


class Problem(NamedTuple):
    """A deterministic MDP that starts in state 0, and a tabular softmax policy."""

    following: np.ndarray  # [S, A] the next state
    reward: np.ndarray  # [S, A]
    theta: np.ndarray  # [P] θ, the S · A logits


class Inner(NamedTuple):
    """What each of the M trajectories adds to ĝ and to a derivative of it.

    The estimators differ in the derivative. Each field may have a leading axis of
    estimators.
    """

    gradient: jax.Array  # [M, P] of the inner surrogate: ĝ
    hessian: jax.Array  # [M, P, P] of the same: what the meta-gradient goes through
    jacobian: jax.Array  # [M, P, P] of ĝ(θ; τ) = Σ_t ∇log π_t A_t itself
    correction: jax.Array  # [] 1 where E-MAML's score term is added, else 0


class Expectation(NamedTuple):
    """Over the data before adaptation, with J(θ') known."""

    meta_gradient: jax.Array  # [P] ∇I_N(θ)
    mean: jax.Array  # [P] of the estimator
    deviation: jax.Array  # [] the root of its total variance
    objective: jax.Array  # [] I_N(θ)


def random_problem(seed: int) -> Problem:
    """Draws rewards, logits, and dynamics with as many ways into a state as out."""
    rng = np.random.default_rng(seed)
    following = rng.permutation(np.repeat(np.arange(NUM_STATES), NUM_ACTIONS))
    shape = NUM_STATES, NUM_ACTIONS
    return Problem(
        following.reshape(shape),
        rng.normal(size=shape),
        rng.normal(scale=0.5, size=NUM_STATES * NUM_ACTIONS),
    )


def steps(problem: Problem) -> tuple[jax.Array, np.ndarray]:
    """States and actions of every trajectory, `[M, T]` each."""
    action = np.array(list(itertools.product(range(NUM_ACTIONS), repeat=HORIZON)))
    state = [jnp.zeros(len(action), int)]
    for t in range(HORIZON - 1):
        state.append(jnp.asarray(problem.following)[state[-1], action[:, t]])
    return jnp.stack(state, axis=1), action


def log_policy(theta: jax.Array | np.ndarray) -> jax.Array:
    """The logarithm of π_θ(a | s), `[S, A]`."""
    return jax.nn.log_softmax(theta.reshape(NUM_STATES, NUM_ACTIONS))


def log_probs(problem: Problem, theta: jax.Array | np.ndarray) -> jax.Array:
    """The logarithm of π_θ(a_t | s_t) along every trajectory, `[M, T]`."""
    return log_policy(theta)[steps(problem)]


def log_prob(problem: Problem, theta: jax.Array | np.ndarray) -> jax.Array:
    """The logarithm of p_θ(τ), `[M]`."""
    return jnp.sum(log_probs(problem, theta), axis=1)


def values(problem: Problem, theta: jax.Array | np.ndarray) -> jax.Array:
    """V_t(s) of π_θ within the horizon, `[T, S]`, by the backward recursion."""
    value, rows = jnp.zeros(NUM_STATES), []
    for _ in range(HORIZON):
        action_value = problem.reward + value[problem.following]
        value = jnp.sum(jnp.exp(log_policy(theta)) * action_value, axis=1)
        rows.append(value)
    return jnp.stack(rows[::-1])


def expected_return(problem: Problem, theta: jax.Array) -> jax.Array:
    """J(θ)."""
    return values(problem, theta)[0, 0]


def returns(problem: Problem) -> tuple[jax.Array, jax.Array]:
    """Rewards r_t and returns to go G_t along every trajectory, `[M, T]` each."""
    reward = jnp.asarray(problem.reward)[steps(problem)]
    return reward, jnp.cumsum(reward[:, ::-1], axis=1)[:, ::-1]


def advantages(problem: Problem, theta: jax.Array | np.ndarray) -> jax.Array:
    """G_t - V_t(s_t) along every trajectory, `[M, T]`."""
    state, _ = steps(problem)
    return returns(problem)[1] - values(problem, theta)[jnp.arange(HORIZON), state]


def inner_updates(problem: Problem) -> Inner:
    """Makes the inner update of every one of ESTIMATORS, `[6, ...]`.

    The baseline is the exact value at θ, held constant. DiCE takes none, so what it
    adapts by, and the meta-gradient that is exact for it, are its own.
    """
    behaviour = log_probs(problem, problem.theta)
    reward, to_go = returns(problem)
    mask = jnp.ones_like(reward, bool)

    def derivatives(surrogate, advantage):
        def of_each(theta):
            return jax.vmap(surrogate)(
                log_probs(problem, theta), behaviour, reward, advantage, mask
            )

        return jax.jacobian(of_each)(problem.theta), jax.hessian(of_each)(problem.theta)

    advantage = advantages(problem, problem.theta)
    gradient, jacobian = derivatives(surrogates.score_function, advantage)
    _, ratio = derivatives(surrogates.likelihood_ratio, advantage)
    _, loaded = derivatives(surrogates.loaded_dice, advantage)
    dice_gradient, dice = derivatives(surrogates.dice, advantage)
    _, dice_jacobian = derivatives(surrogates.score_function, to_go)
    rows = [
        Inner(gradient, jnp.zeros_like(jacobian), jacobian, jnp.array(0.0)),
        Inner(gradient, jacobian, jacobian, jnp.array(0.0)),
        Inner(gradient, ratio, jacobian, jnp.array(0.0)),
        Inner(dice_gradient, dice, dice_jacobian, jnp.array(0.0)),
        Inner(gradient, loaded, jacobian, jnp.array(0.0)),
        Inner(gradient, jacobian, jacobian, jnp.array(1.0)),
    ]
    return jax.tree.map(lambda *x: jnp.stack(x), *rows)


def data_sets(
    num_trajectories: int, num_kinds: int = NUM_ACTIONS**HORIZON
) -> tuple[np.ndarray, np.ndarray]:
    """Lists every multiset of N trajectories.

    Returns:
      How often each of M kinds is in it, `[D, M]`, and the logarithm of the number of
      orders that it can be drawn in, `[D]`.
    """
    places = num_trajectories + num_kinds - 1
    bars = np.array(list(itertools.combinations(range(places), num_kinds - 1)))
    bars = np.pad(bars, ((0, 0), (1, 1)), constant_values=((0, 0), (-1, places)))
    counts = np.diff(bars, axis=1) - 1
    log_factorial = np.array([math.lgamma(i + 1) for i in range(num_trajectories + 1)])
    log_orders = log_factorial[-1] - np.sum(log_factorial[counts], axis=1)
    return counts.astype(float), log_orders


def through_update(
    frequency: jax.Array, derivative: jax.Array, gradient: jax.Array
) -> jax.Array:
    """Pulls gradients at θ' back through θ' = θ + α ĝ(θ; D), `[D, P] -> [D, P]`.

    Args:
      frequency: `[D, M]` of each trajectory in each data set.
      derivative: `[M, P, P]` of ĝ by trajectory, symmetric.
      gradient: `[D, P]`.
    """
    step = jnp.einsum("dm,mij,dj->di", frequency, derivative, gradient)
    return gradient + INNER_LR * step


def scores(problem: Problem) -> jax.Array:
    """∇log p_θ(τ) of every trajectory, `[M, P]`."""
    return jax.jacobian(partial(log_prob, problem))(problem.theta)


def expectation(
    problem: Problem, inner: Inner, counts: jax.Array, log_orders: jax.Array
) -> Expectation:
    """Sums over every data set.

    ∇I_N = Σ_D p(D) [(I + α ∇ĝ)ᵀ ∇J(θ') + (J(θ') - I_N) ∇log p(D)].

    Args:
      problem: the MDP and θ.
      inner: the estimator.
      counts: `[D, M]`, of `data_sets`.
      log_orders: `[D]`, of `data_sets`.
    """
    weight = jnp.exp(log_orders + counts @ log_prob(problem, problem.theta))
    frequency = counts / jnp.sum(counts[0])
    adapted = problem.theta + INNER_LR * frequency @ inner.gradient
    value, gradient = jax.vmap(jax.value_and_grad(partial(expected_return, problem)))(
        adapted
    )
    objective = weight @ value
    score = (value - objective)[:, None] * (counts @ scores(problem))
    estimate = through_update(frequency, inner.hessian, gradient)
    estimate = estimate + inner.correction * score
    mean = weight @ estimate
    return Expectation(
        weight @ (through_update(frequency, inner.jacobian, gradient) + score),
        mean,
        jnp.sqrt(weight @ jnp.sum((estimate - mean) ** 2, axis=1)),
        objective,
    )


def limiting_bias(problem: Problem) -> jax.Array:
    """The relative bias as N → ∞, `[6]`.

    E-MAML's has no limit to be computed: it is zero at every N.
    """
    objective = partial(expected_return, problem)

    def adapted(theta):
        return theta + INNER_LR * jax.grad(objective)(theta)

    exact = jax.grad(lambda theta: objective(adapted(theta)))(problem.theta)
    probability = jnp.exp(log_prob(problem, problem.theta))[None]
    gradient = jax.grad(objective)(adapted(problem.theta))[None]
    inner = inner_updates(problem)

    def bias(hessian):
        error = through_update(probability, hessian, gradient)[0] - exact
        return jnp.linalg.norm(error) / jnp.linalg.norm(exact)

    return jnp.where(inner.correction, 0.0, jax.vmap(bias)(inner.hessian))


def draw(
    key: jax.Array,
    problem: Problem,
    inner: Inner,
    objective: jax.Array,
    *,
    num_trajectories: int,
    num_draws: int,
) -> jax.Array:
    """Draws meta-gradients from N trajectories before and N after adaptation.

    The baseline after adaptation is the exact value of π_θ'; that of E-MAML's score
    term is I_N(θ), which the tasks of a large meta-batch would estimate.

    Returns:
      `[num_draws, P]`.
    """
    key_before, key_after = jax.random.split(key)

    def frequencies(key, log_prob):  # [R, M] -> [R, M]
        shape = num_trajectories, num_draws
        drawn = jax.random.categorical(key, log_prob, shape=shape)
        kinds = jnp.arange(log_prob.shape[1])
        return jnp.mean(drawn[..., None] == kinds, axis=0, dtype=float)

    def policy_gradients(theta):  # by trajectory, [M, P]
        score = jax.jacobian(partial(log_probs, problem))(theta)
        return jnp.einsum("mt,mtp->mp", advantages(problem, theta), score)

    behaviour = log_prob(problem, problem.theta)
    before = frequencies(key_before, jnp.tile(behaviour, (num_draws, 1)))
    adapted = problem.theta + INNER_LR * before @ inner.gradient
    after = frequencies(key_after, jax.vmap(partial(log_prob, problem))(adapted))
    gradient = jnp.einsum("rm,rmp->rp", after, jax.vmap(policy_gradients)(adapted))
    excess = after @ returns(problem)[1][:, 0] - objective
    score = num_trajectories * before @ scores(problem)
    estimate = through_update(before, inner.hessian, gradient)
    return estimate + inner.correction * excess[:, None] * score


def cosine(x: jax.Array, y: jax.Array) -> jax.Array:
    """The cosines of vectors `[R, P]` with one vector `[P]`, `[R]`."""
    return x @ y / (jnp.linalg.norm(x, axis=1) * jnp.linalg.norm(y))


def measure(
    key: jax.Array,
    problem: Problem,
    counts: jax.Array,
    log_orders: jax.Array,
    *,
    num_trajectories: int,
    num_draws: int,
) -> dict[str, jax.Array]:
    """Measures every estimator on one MDP at one N: METRICS, `[6]` each."""

    def one(inner):
        exact = expectation(problem, inner, counts, log_orders)
        drawn = draw(
            key,
            problem,
            inner,
            exact.objective,
            num_trajectories=num_trajectories,
            num_draws=num_draws,
        )
        norm = jnp.linalg.norm(exact.meta_gradient)
        squares = jnp.sum((drawn - exact.mean) ** 2, axis=1)
        batches = jnp.mean(drawn.reshape(-1, META_BATCH, drawn.shape[1]), axis=1)
        return {
            "bias": jnp.linalg.norm(exact.mean - exact.meta_gradient) / norm,
            "deviation_before": exact.deviation / norm,
            "deviation": jnp.sqrt(jnp.mean(squares)) / norm,
            "cosine": jnp.mean(cosine(drawn, exact.meta_gradient)),
            "cosine_of_batch": jnp.mean(cosine(batches, exact.meta_gradient)),
        }

    return jax.lax.map(one, inner_updates(problem))


def experiment(
    sizes: Sequence[int], *, num_mdps: int, num_draws: int
) -> dict[str, Any]:
    """Measures every estimator at every N, on many MDPs.

    Ratios to the norm of a gradient that may be small have long tails, so the summary
    over MDPs is the interquartile mean.

    Args:
      sizes: N, in the order of the results.
      num_mdps: the seeds are 0, 1, ...
      num_draws: of `draw`, a multiple of META_BATCH.
    """
    problems = [random_problem(seed) for seed in range(num_mdps)]
    rows = []  # by N and MDP
    for size in sizes:
        run = jax.jit(partial(measure, num_trajectories=size, num_draws=num_draws))
        sets = jax.device_put(data_sets(size))
        rows.append(
            [
                jax.device_get(run(jax.random.key(seed), problem, *sets))
                for seed, problem in enumerate(problems)
            ]
        )
    limits = np.array([jax.jit(limiting_bias)(problem) for problem in problems])

    def summary(curves):  # [K, N] -> over the MDPs
        result = summarise(curves[None])
        interval = np.stack([result.iqm_ci_low, result.iqm_ci_high], axis=-1)
        return {"iqm": result.iqm.tolist(), "ci": interval.tolist()}

    estimators = {}
    for i, name in enumerate(ESTIMATORS):
        estimators[name] = {
            metric: summary(np.array([[x[metric][i] for x in row] for row in rows]).T)
            for metric in METRICS
        }
        estimators[name]["limiting_bias"] = summary(limits[:, i : i + 1])
    return {
        "what": "interquartile mean and 95 % interval over MDPs; bias "
        "and deviation relative to the norm of the exact meta-gradient",
        "metrics": METRICS,
        "num_trajectories": list(sizes),
        "num_mdps": num_mdps,
        "seeds": list(range(num_mdps)),
        "num_draws": num_draws,
        "num_states": NUM_STATES,
        "num_actions": NUM_ACTIONS,
        "horizon": HORIZON,
        "inner_lr": INNER_LR,
        "meta_batch": META_BATCH,
        "estimators": estimators,
    }
