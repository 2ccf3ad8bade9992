"""Meta-gradients against finite differences through whole lives, written out here.

Only acting is the library's, which has tests of its own; the rule, its targets and what
a life is judged by are plain loops.
"""

from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metarl_jax import lifetimes
from metarl_jax.algorithms.meta_gradients import meta_gradients
from metarl_jax.distributions import Categorical
from metarl_jax.envs.two_colors import two_colors
from metarl_jax.types import Agent

W, T, K, L = 2, 4, 3, 2
FIRST: dict[Any, float] = {
    "learning_rate": 0.3,
    "discount": 0.8,
    "gae_lambda": 0.7,
    "entropy_coeff": 0.2,
}
VALUE_COEFF = 0.5
KEY = jax.random.key(5)


class Linear(NamedTuple):
    """Logits and a value that are linear in the observation; of JAX's own float."""

    size: int
    num_actions: int = 4

    def init(self, key, memory, obs):
        return {
            "logits": 0.5 * jax.random.normal(key, (self.size, self.num_actions)),
            "value": 0.5 * jax.random.normal(key, (self.size,)),
        }

    def apply(self, params, memory, obs):
        logits = jnp.dot(obs, params["logits"])
        return Categorical(logits), jnp.dot(obs, params["value"]), memory

    def initial_memory(self):
        return ()


TASKS = two_colors(size=2, horizon=5, swap_period=3)
POLICY = Linear(12)


def build(**kwargs):
    kwargs = {"num_tasks": 2, "num_episodes": W, "rollout_length": T, **kwargs}
    return meta_gradients(
        TASKS,
        POLICY,
        num_inner_steps=K,
        learned=tuple(FIRST),
        value_coeff=VALUE_COEFF,
        outer_optimizer=optax.sgd(1.0),
        **FIRST,
        **kwargs,
    )


@cache
def compiled(bootstrap, distance, differentiation="mixed"):
    """A first state and the compiled step, in float64."""
    with jax.enable_x64(True):
        algorithm = build(
            num_bootstrap_steps=bootstrap,
            distance=distance,
            differentiation=differentiation,
            lifetime=2 * (K + 1),
        )
        return algorithm.init(jax.random.key(0)), jax.jit(algorithm.step)


def moved(*program):
    """The first life, and minus how far each number went: the meta-gradient."""
    state, step = compiled(*program)
    with jax.enable_x64(True):
        new, info = step(KEY, state)
        assert not info.skipped
        life = jax.tree.map(lambda x: x[0], state.lives)
        offsets = new.lives.agent.inner_state.rule["offsets"]
        return life, {name: -float(x[0]) for name, x in offsets.items()}


def plain_numbers(offsets):
    def logistic(x):
        return 1 / (1 + np.exp(-x))

    return {
        name: logistic(np.log(first / (1 - first)) + offsets[name])
        if name in ("discount", "gae_lambda")
        else first * np.exp(offsets[name])
        for name, first in FIRST.items()
    }


def plain_targets(params, data, discount, gae_lambda):
    """Advantages and targets of the value, by a loop back over every stream."""
    advantage = np.zeros((W, T))
    value = np.asarray(data.obs @ params["value"])
    after = np.asarray(data.next_obs @ params["value"])
    for w in range(W):
        carry = 0.0
        for t in reversed(range(T)):
            ended = data.terminated[w, t] or data.truncated[w, t]
            delta = data.reward[w, t] + discount * after[w, t] - value[w, t]
            carry = delta + discount * gae_lambda * (0.0 if ended else carry)
            advantage[w, t] = carry
    return advantage, advantage + value


def plain_loss(params, data, advantage, target, entropy_coeff):
    log_p = jax.nn.log_softmax(data.obs @ params["logits"])
    chosen = jnp.take_along_axis(log_p, data.action[..., None], axis=-1)[..., 0]
    entropy = -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)
    error = (data.obs @ params["value"] - target) ** 2
    return jnp.mean(
        -chosen * advantage - entropy_coeff * entropy + VALUE_COEFF * error / 2
    )


plain_gradient = jax.grad(plain_loss)


def descend(params, data, discount, gae_lambda, entropy_coeff, learning_rate):
    aims = plain_targets(params, data, discount, gae_lambda)
    gradient = plain_gradient(params, data, *aims, entropy_coeff)
    return jax.tree.map(lambda p, g: p - learning_rate * g, params, gradient)


@jax.jit
def act(key, params, task, streams):
    return lifetimes.act_all(
        key, TASKS, POLICY, Agent(params), task, streams, num_steps=T
    )


def lived(key, life, params, streams, offsets, num_updates):
    """Acts and learns by the rule, one update after the other."""
    numbers = plain_numbers(offsets)
    for one in jax.random.split(key, num_updates):
        streams, data = act(one, params, life.task, streams)
        params = descend(params, data, **numbers)
    return params, streams


@pytest.mark.parametrize("program", [(None, "kl"), (L, "kl", "plain")])
def test_a_meta_gradient_is_the_slope_of_what_becomes_of_a_life(program):
    bootstrap = program[0]
    life, gradient = moved(*program)
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.split(jax.random.split(KEY)[0], 2)[0], 3)
        start = life.agent.params, life.streams
        nothing = dict.fromkeys(FIRST, 0.0)
        here, streams = lived(keys[0], life, *start, nothing, K)
        numbers = {**plain_numbers(nothing), "entropy_coeff": 0.0}
        goal = here
        if bootstrap is not None:
            goal, streams = lived(keys[1], life, here, streams, nothing, L)
        _, data = act(keys[2], goal, life.task, streams)
        aims = plain_targets(here, data, numbers["discount"], numbers["gae_lambda"])
        goal = descend(goal, data, **numbers)

        def judged(offsets):
            params, _ = lived(keys[0], life, *start, offsets, K)
            if bootstrap is None:
                return plain_loss(params, data, *aims, 0.0)
            old, new = (
                jax.nn.log_softmax(data.obs @ p["logits"]) for p in (goal, params)
            )
            return jnp.mean(jnp.sum(jnp.exp(old) * (old - new), axis=-1))

        for name in FIRST:
            h = 1e-5
            up, down = (judged({**nothing, name: x}) for x in (h, -h))
            slope = (up - down) / (2 * h)
            assert abs(slope) > 1e-6
            np.testing.assert_allclose(gradient[name], slope, rtol=2e-5)


def test_with_no_bootstrap_and_squared_distance_it_is_the_meta_gradient_scaled():
    _, plain = moved(None, "kl")
    _, bootstrapped = moved(0, "squared")
    scale = 2 * FIRST["learning_rate"]
    for name, gradient in plain.items():
        np.testing.assert_allclose(bootstrapped[name], scale * gradient, rtol=1e-9)


def test_lives_end_and_begin_anew_with_the_rule_they_have_learned():
    state, step = compiled(None, "kl")
    first, ages, rules = state.lives.agent, [], []
    with jax.enable_x64(True):
        for i in range(3):
            state, _ = step(jax.random.key(i), state)
            ages.append(state.lives.age.tolist())
            rules.append(state.lives.agent.inner_state.rule["offsets"]["discount"])
    assert ages == [[K + 1] * 2, [0] * 2, [K + 1] * 2]
    assert all(np.all(a != b) for a, b in pairwise(rules))
    assert not np.allclose(first.params["value"], state.lives.agent.params["value"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learned": ()}, "learned must be some of"),
        ({"learned": ("value_coeff",)}, "learned must be one of"),
        ({"learned": ("discount",), "discount": 1.0}, "discount must begin above 0"),
        ({"learned": ("entropy_coeff",), "entropy_coeff": 0.0}, "must begin above 0"),
    ],
)
def test_what_cannot_be_learned_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        meta_gradients(TASKS, POLICY, **options)
