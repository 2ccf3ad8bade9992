"""Hessians of a value by each estimator, beside the exact one, on and off policy.

The toy experiment of Tang et al. 2021 (arXiv 2106.13125, Fig. 1): random MDPs, the
behaviour uniform, the target π = (1 - ε) uniform + ε (one action in each state), and of
every estimate from N trajectories of the behaviour the correlation with the exact
derivative of V(s_0), over all its entries. Run it under `jax.enable_x64(True)`.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax import surrogates
from metarl_jax.intervals import summarise
from metarl_jax.returns import generalised_advantages

DISCOUNT, HORIZON = 0.8, 20
MIXTURES = (0.0, 0.2, 0.5, 0.8)  # ε
CHUNK = 10  # trajectories whose Hessian is computed at once
SURROGATES: dict[str, surrogates.Surrogate] = {
    "score function": surrogates.score_function,
    "DiCE": surrogates.dice,
    "Loaded DiCE": surrogates.loaded_dice,
    "likelihood ratio (LVC)": surrogates.likelihood_ratio,
    "second-order expansion": surrogates.second_order_expansion,
}
# The same correlations from the authors' code on single MDPs, by ε; the paper itself
# has curves only. Its second-order estimate has a one-step residual in the place of the
# advantage in the terms of first order, and so differs from Loaded DiCE at ε = 0 too.
REFERENCE = {
    "0.0": {
        "gradient": {
            "DiCE": [0.900, 0.816, 0.972],
            "Loaded DiCE": [0.990, 0.988, 0.996],
            "likelihood ratio (LVC)": [0.990, 0.988, 0.996],
            "second-order expansion": [0.986, 0.950, 0.976],
        },
        "hessian": {
            "DiCE": [0.648, 0.561, 0.810],
            "Loaded DiCE": [0.935, 0.929, 0.974],
            "likelihood ratio (LVC)": [0.853, 0.829, 0.871],
            "second-order expansion": [0.888, 0.938, 0.959],
        },
    },
    "0.5": {
        "gradient": {
            "DiCE": [0.880, 0.784],
            "Loaded DiCE": [0.808, 0.917],
            "likelihood ratio (LVC)": [0.920, 0.921],
            "second-order expansion": [0.902, 0.986],
        },
        "hessian": {
            "DiCE": [0.596, 0.218],
            "Loaded DiCE": [0.631, 0.283],
            "likelihood ratio (LVC)": [0.659, 0.620],
            "second-order expansion": [0.838, 0.908],
        },
    },
}


class MDP(NamedTuple):
    """A discounted MDP that starts in state 0."""

    transition: np.ndarray  # [S, A, S] p(s' | s, a)
    reward: np.ndarray  # [S, A]
    critic: np.ndarray  # [S] the value of the uniform policy, with an error
    preferred: np.ndarray  # [S] the action that the target policy prefers


def value(mdp: MDP, theta: jax.Array | np.ndarray) -> jax.Array:
    """V of the policy softmax(θ), (I - γ P_π)⁻¹ r_π, `[S]`."""
    policy = jax.nn.softmax(theta)
    transition = jnp.einsum("sa,sat->st", policy, mdp.transition)
    reward = jnp.sum(policy * mdp.reward, axis=1)
    return jnp.linalg.solve(jnp.eye(len(reward)) - DISCOUNT * transition, reward)


def random_mdp(
    seed: int,
    *,
    num_states: int = 10,
    num_actions: int = 5,
    concentration: float = 0.001,
) -> MDP:
    """Draws p(· | s, a) from a Dirichlet distribution and r(s, a) from U[0, 1].

    The critic's error is normal with standard deviation ‖V‖ / |S|, as in the authors'
    code.
    """
    rng = np.random.default_rng(seed)
    shape = num_states, num_actions
    mdp = MDP(
        rng.dirichlet(np.full(num_states, concentration), size=shape),
        rng.uniform(size=shape),
        np.zeros(num_states),
        rng.integers(num_actions, size=num_states),
    )
    exact = np.asarray(value(mdp, np.zeros(shape)))
    error = rng.normal(size=num_states) * np.linalg.norm(exact) / num_states
    return mdp._replace(critic=exact + error)


def target(mdp: MDP, mixture: float) -> np.ndarray:
    """θ of the policy (1 - ε) uniform + ε (the preferred action), `[S, A]`."""
    num_actions = mdp.reward.shape[1]
    chosen = np.eye(num_actions)[mdp.preferred]
    return np.log(mixture * chosen + (1 - mixture) / num_actions)


def rollouts(
    key: jax.Array, mdp: MDP, *, num_trajectories: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Acts uniformly: states, actions and next states, `[N, T]` each."""
    log_transition = jnp.log(mdp.transition)
    num_actions = mdp.reward.shape[1]

    def step(state, key):
        key_action, key_state = jax.random.split(key)
        action = jax.random.randint(key_action, state.shape, 0, num_actions)
        following = jax.random.categorical(key_state, log_transition[state, action])
        return following, (state, action, following)

    start = jnp.zeros(num_trajectories, int)
    rows = jax.lax.scan(step, start, jax.random.split(key, HORIZON))[1]
    state, action, following = (x.T for x in rows)
    return state, action, following


def estimates(
    key: jax.Array, mdp: MDP, theta: jax.Array | np.ndarray, *, num_trajectories: int
) -> dict[str, dict[str, jax.Array]]:
    """Estimates gradient and Hessian of V(s_0) at θ with every one of SURROGATES.

    Advantages are Monte-Carlo up to the horizon and the critic's value after it. DiCE
    has the rewards alone.

    Args:
      key: consumed.
      mdp: the MDP.
      theta: `[S, A]` logits of the target policy.
      num_trajectories: N, a multiple of CHUNK.

    Returns:
      By surrogate, `"gradient"` `[C, S, A]` and `"hessian"` `[C, S, A, S, A]`, the
      means over each CHUNK of trajectories.
    """
    state, action, following = rollouts(key, mdp, num_trajectories=num_trajectories)
    reward, critic = jnp.asarray(mdp.reward)[state, action], jnp.asarray(mdp.critic)
    never = jnp.zeros_like(state, bool)
    advantage = jax.vmap(
        partial(generalised_advantages, discount=DISCOUNT, gae_lambda=1.0)
    )(reward, critic[state], critic[following], never, never)
    discounts = DISCOUNT ** jnp.arange(HORIZON)
    chunks = jax.tree.map(
        lambda x: x.reshape(-1, CHUNK, HORIZON),
        (state, action, discounts * reward, discounts * advantage),
    )
    behaviour = jnp.full((CHUNK, HORIZON), -jnp.log(mdp.reward.shape[1]))

    def derivatives(surrogate, chunk):
        state, action, reward, advantage = chunk

        def mean(theta):
            log_prob = jax.nn.log_softmax(theta)[state, action]
            mask = jnp.ones_like(state, bool)
            return jnp.mean(
                jax.vmap(surrogate)(log_prob, behaviour, reward, advantage, mask)
            )

        return {
            "gradient": jax.grad(mean)(theta),
            "hessian": jax.hessian(mean)(theta),
        }

    return {
        name: jax.lax.map(partial(derivatives, surrogate), chunks)
        for name, surrogate in SURROGATES.items()
    }


def accuracies(
    key: jax.Array, mdp: MDP, theta: jax.Array | np.ndarray, *, sizes: Sequence[int]
) -> dict[str, dict[str, jax.Array]]:
    """Correlates estimates from the first n of all trajectories with the truth.

    Args:
      key: consumed.
      mdp: the MDP.
      theta: `[S, A]` logits of the target policy.
      sizes: n, multiples of CHUNK.

    Returns:
      By surrogate, of `"gradient"` and `"hessian"`, `[len(sizes)]`.
    """

    def start_value(theta):
        return value(mdp, theta)[0]

    exact = {
        "gradient": jax.grad(start_value)(theta),
        "hessian": jax.hessian(start_value)(theta),
    }

    def correlation(by_chunk, truth):
        totals = jnp.cumsum(by_chunk.reshape(len(by_chunk), -1), axis=0)
        totals = totals[np.array(sizes) // CHUNK - 1]
        return jnp.corrcoef(totals, truth.reshape(1, -1))[-1, :-1]

    estimated = estimates(key, mdp, theta, num_trajectories=max(sizes))
    return {
        name: jax.tree.map(correlation, derivatives, exact)
        for name, derivatives in estimated.items()
    }


def experiment(sizes: Sequence[int], *, num_mdps: int) -> dict[str, Any]:
    """Measures the accuracies at every ε, on many MDPs; the seeds are 0, 1, ..."""
    run = jax.jit(partial(accuracies, sizes=sizes))
    mdps = [random_mdp(seed) for seed in range(num_mdps)]

    def summary(curves):  # [K, len(sizes)] -> over the MDPs
        result = summarise(curves[None])
        interval = np.stack([result.ci_low, result.ci_high], axis=-1)
        return {"mean": result.mean.tolist(), "ci": interval.tolist()}

    accuracy = {}
    for mixture in MIXTURES:
        rows = [
            jax.device_get(run(jax.random.key(seed), mdp, target(mdp, mixture)))
            for seed, mdp in enumerate(mdps)
        ]
        accuracy[str(mixture)] = {
            order: {
                name: summary(np.array([row[name][order] for row in rows]))
                for name in SURROGATES
            }
            for order in ("gradient", "hessian")
        }
    return {
        "what": "correlation with the exact derivative, mean and 95 % interval "
        "over MDPs, by ε",
        "num_trajectories": list(sizes),
        "num_mdps": num_mdps,
        "seeds": list(range(num_mdps)),
        "num_states": 10,
        "num_actions": 5,
        "concentration": 0.001,
        "discount": DISCOUNT,
        "horizon": HORIZON,
        "accuracy": accuracy,
        "reference": REFERENCE,
    }
