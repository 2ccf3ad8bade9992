"""Every trajectory of a small tabular MDP, and the exact quantities it gives.

The truth against which the estimators are held. Float64 throughout: run it under
`jax.enable_x64(True)`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class MDP(NamedTuple):
    """A finite-horizon MDP; an episode ends on entering a terminal state."""

    initial: np.ndarray  # [S] p(s_0)
    transition: np.ndarray  # [S, A, S] p(s' | s, a)
    reward: np.ndarray  # [S, A, S]
    terminal: np.ndarray  # [S] bool
    features: np.ndarray  # [S, A, D] the policy is softmax_a(features @ θ)
    discount: float
    horizon: int


class Trajectories(NamedTuple):
    """All M trajectories with non-zero probability, padded to the horizon."""

    env_prob: np.ndarray  # [M] p(s_0) Π p(s_{t+1} | s_t, a_t), the policy left out
    state: np.ndarray  # [M, T]
    action: np.ndarray  # [M, T]
    next_state: np.ndarray  # [M, T]
    reward: np.ndarray  # [M, T]
    terminated: np.ndarray  # [M, T]
    mask: np.ndarray  # [M, T]


def random_mdp(
    seed: int,
    *,
    num_states: int = 3,
    num_actions: int = 2,
    num_params: int | None = None,
    num_terminal: int = 0,
    horizon: int = 3,
    discount: float = 0.8,
) -> MDP:
    """Draws an MDP. `num_params=None` makes the policy tabular."""
    rng = np.random.default_rng(seed)
    initial = rng.dirichlet(np.ones(num_states))
    terminal = np.arange(num_states) >= num_states - num_terminal
    initial = np.where(terminal, 0.0, initial)
    if num_params is None:
        features = np.eye(num_states * num_actions)
    else:
        features = rng.normal(size=(num_states * num_actions, num_params))
    return MDP(
        initial=initial / initial.sum(),
        # Uneven, so that an action decides where the next one is taken.
        transition=rng.dirichlet(
            np.full(num_states, 0.4), size=(num_states, num_actions)
        ),
        reward=rng.normal(size=(num_states, num_actions, num_states)),
        terminal=terminal,
        features=features.reshape(num_states, num_actions, -1),
        discount=discount,
        horizon=horizon,
    )


def enumerate_trajectories(mdp: MDP) -> Trajectories:
    """Lists the trajectories by depth-first search."""
    num_states, num_actions, _ = mdp.transition.shape
    finished = []

    def extend(prob, steps, state):
        if len(steps) == mdp.horizon or (steps and steps[-1][4]):
            padding = [(0, 0, 0, 0.0, False, False)] * (mdp.horizon - len(steps))
            finished.append((prob, steps + padding))
            return
        for action in range(num_actions):
            for following in range(num_states):
                p = mdp.transition[state, action, following]
                if p > 0:
                    reward = mdp.reward[state, action, following]
                    end = bool(mdp.terminal[following])
                    step = (state, action, following, reward, end, True)
                    extend(prob * p, [*steps, step], following)

    for state in range(num_states):
        if mdp.initial[state] > 0:
            extend(mdp.initial[state], [], state)
    probs, rows = zip(*finished, strict=True)
    columns = [np.array([[step[i] for step in row] for row in rows]) for i in range(6)]
    return Trajectories(np.array(probs), *columns)


def log_policy(mdp: MDP, theta: jax.Array) -> jax.Array:
    """log π_θ(a | s), `[S, A]`."""
    return jax.nn.log_softmax(mdp.features @ theta)


def log_probs(mdp: MDP, data: Trajectories, theta: jax.Array) -> jax.Array:
    """log π_θ(a_t | s_t) along every trajectory, `[M, T]`."""
    return log_policy(mdp, theta)[data.state, data.action]


def probabilities(mdp: MDP, data: Trajectories, theta: jax.Array) -> jax.Array:
    """p_θ(τ), `[M]`."""
    log_prob = jnp.where(data.mask, log_probs(mdp, data, theta), 0.0)
    return data.env_prob * jnp.exp(jnp.sum(log_prob, axis=1))


def discounts(mdp: MDP) -> np.ndarray:
    """γ^t, `[T]`."""
    return mdp.discount ** np.arange(mdp.horizon)


def expected_return(mdp: MDP, data: Trajectories, theta: jax.Array) -> jax.Array:
    """J(θ) = Σ_τ p_θ(τ) Σ_t γ^t r_t."""
    returns = jnp.sum(discounts(mdp) * data.reward * data.mask, axis=1)
    return jnp.sum(probabilities(mdp, data, theta) * returns)


def state_distributions(mdp: MDP, theta: jax.Array) -> jax.Array:
    """p_θ(s_t = s and the episode goes on), `[T, S]`, by the forward recursion."""
    policy = jnp.exp(log_policy(mdp, theta))
    alive = ~mdp.terminal
    rows = [jnp.asarray(mdp.initial)]
    for _ in range(mdp.horizon - 1):
        rows.append(jnp.einsum("s,sa,sap->p", rows[-1], policy, mdp.transition) * alive)
    return jnp.stack(rows)


def action_values(mdp: MDP, theta: jax.Array) -> jax.Array:
    """Q_t(s, a) of π_θ within the horizon, `[T, S, A]`, by the backward recursion."""
    policy = jnp.exp(log_policy(mdp, theta))
    value = jnp.zeros(mdp.initial.shape)
    rows = []
    for _ in range(mdp.horizon):
        after = mdp.reward + mdp.discount * jnp.where(mdp.terminal, 0.0, value)
        rows.append(jnp.sum(mdp.transition * after, axis=-1))
        value = jnp.sum(policy * rows[-1], axis=-1)
    return jnp.stack(rows[::-1])
