"""Rounds of acting and adapting against a loop, and what the algorithms share of it."""

import importlib
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metarl_jax import policy_gradient, rollout, surrogates
from metarl_jax.adaptation import Scheme
from metarl_jax.envs.point_navigation import point_navigation
from metarl_jax.policies.memory import memory_policy
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.policies.recurrent import GRU

N, E, T, K = 2, 3, 4, 2
TASKS = point_navigation(horizon=T, goal_tolerance=0.1)
POLICY = mlp_policy(TASKS, hidden_sizes=(3,))
WEIGHTING = {"discount": 0.9, "gae_lambda": 0.8}
KEY = jax.random.key(7)


@pytest.mark.parametrize("task_group_size", [None, 1])
def test_rounds_are_those_of_a_loop_over_tasks(task_group_size):
    optimizer = optax.sgd(0.3, momentum=0.5)
    surrogate = surrogates.score_function
    scheme = Scheme(
        TASKS, POLICY, N, E, K, **WEIGHTING, task_group_size=task_group_size
    )
    step = scheme.ascent(surrogate, optimizer)
    agent = jax.jit(lambda key: scheme.first_agent(key, optimizer))(jax.random.key(0))

    @jax.jit
    def run(key, agent):
        return scheme.rounds(key, agent, step, record=lambda actor, batch: actor.params)

    @jax.jit
    def act(key, agent, task):
        data = rollout.collect(key, TASKS, POLICY, agent, task, num_episodes=E)[1]
        return data, policy_gradient.prepare(data, **WEIGHTING)

    @jax.jit
    def adapt(agent, batch):
        def loss(params):
            return -policy_gradient.surrogate_mean(POLICY, surrogate, params, batch)

        gradient = jax.grad(loss)(agent.params)
        update, state = optimizer.update(gradient, agent.inner_state)
        params = optax.apply_updates(agent.params, update)
        return agent._replace(params=params, inner_state=state)

    rounds = run(KEY, agent)
    key_tasks, key_before, key_after = jax.random.split(KEY, 3)
    seen, returns = [], np.zeros((N, K + 1))
    for i in range(N):
        task = TASKS.sample(jax.random.split(key_tasks, N)[i])
        actors, before, current = [], [], agent
        for k, key in enumerate([*jax.random.split(key_before, K), key_after]):
            data, batch = act(jax.random.split(key, N)[i], current, task)
            returns[i, k] = np.mean(np.sum(data.reward, axis=1, where=data.mask))
            if k < K:
                actors.append(current.params)
                before.append(batch)
                current = adapt(current, batch)
        actors, before = (
            jax.tree.map(lambda *x: jnp.stack(x), *y) for y in (actors, before)
        )
        seen.append((current, before, batch, actors))
    expected = jax.tree.map(lambda *x: jnp.stack(x), *seen)
    actual = rounds.agents, rounds.before, rounds.after, rounds.recorded
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4),
        (*actual, rounds.returns),
        (*expected, returns.mean(axis=0)),
    )
    assert rounds.ends == (rounds.returns[0], rounds.returns[-1])
    # The agents differ, and so does what they do.
    first = jax.tree.map(lambda x: x[:, 0], rounds.recorded)
    moved = optax.tree.sub(rounds.agents.params, first)
    assert all(jnp.any(x != 0) for x in jax.tree.leaves(moved))
    assert jnp.any(rounds.before.action[:, 0] != rounds.before.action[:, 1])


FAMILY = ("maml", "anil", "meta_sgd", "emaml", "cavia", "promp", "reptile", "es_maml")
WRONG = [
    ({"num_tasks": 0}, "num_tasks .* got 0"),
    ({"num_episodes": 1.5}, "num_episodes .* got 1.5"),
    ({"num_inner_steps": -1}, "num_inner_steps .* got -1"),
    ({"task_group_size": 0}, "task_group_size .* got 0"),
    ({"discount": 1.5}, "discount .* got 1.5"),
    ({"gae_lambda": -1.0}, "gae_lambda .* got -1.0"),
    ({"inner_optimizer": optax.sgd(-1.0)}, "inner_optimizer must go downhill"),
    ({"inner_optimizer": 3}, "inner_optimizer must be an optax .* got 3"),
    ({"inner_surrogate": max}, "inner_surrogate must make a scalar"),
    ({"outer_surrogate": max}, "outer_surrogate must make a scalar"),
    ({"outer_optimizer": 3}, "outer_optimizer must be an optax .* got 3"),
    ({"differentiation": "none"}, "differentiation must be one of .* got 'none'"),
    ({"policy": memory_policy(TASKS, GRU(3))}, "has memory"),
    ({"policy": 3}, "a policy must have init"),
    ({"tasks": 3}, "tasks must be a TaskDistribution"),
    ({"num_tasks": 4, "task_group_size": 3}, "divide num_tasks; got 3 and 4"),
    ({"num_tasks": 10**6, "num_episodes": 10**6}, "the episodes of num_tasks=1000000"),
]


@pytest.mark.parametrize("name", FAMILY)
def test_all_refuse_what_they_share_alike(name):
    algorithm = getattr(importlib.import_module(f"metarl_jax.algorithms.{name}"), name)
    known = inspect.signature(algorithm).parameters
    if name == "anil":  # the rest is MAML's
        maml = importlib.import_module("metarl_jax.algorithms.maml").maml
        known = {**known, **inspect.signature(maml).parameters}
    tried = [(wrong, said) for wrong, said in WRONG if set(wrong) <= set(known)]
    assert len(tried) > 12
    for wrong, said in tried:
        with pytest.raises(ValueError, match=said):
            algorithm(**{"tasks": TASKS, "policy": POLICY, **wrong})
