"""OPEN: a step is that of a plain loop over parameters; what it is told is counted."""

import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metarl_jax import actor_critic, rollout, surrogates
from metarl_jax.algorithms.learned_optimizer import learned_optimizer
from metarl_jax.envs.two_colors import two_colors
from metarl_jax.optimizer_network import (
    DECAYS,
    OptimizerNetwork,
    Told,
    dormancy,
    network_optimizer,
    told_of,
)
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.policies.separate import separate_policy
from metarl_jax.published import open_optimizer
from metarl_jax.types import Agent

FOLDER = os.environ.get("METARL_JAX_OPEN")
published = pytest.mark.skipif(
    FOLDER is None, reason="METARL_JAX_OPEN does not say where OPEN's optimisers are"
)
KEY = jax.random.key(5)
TASKS = two_colors(size=2, horizon=6, swap_period=3)
POLICY = separate_policy(TASKS, hidden_sizes=(4,))
PARAMS = {"a": {"w": jnp.array([[0.3, -0.5], [1.0, 0.2], [0.0, -2.0]])}, "b": 0.7}
PARAMS = jax.tree.map(jnp.asarray, PARAMS)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def plain_step(rule, size, params, gradients, told, progress, epoch, noises):
    """Steps for every gradient in turn, by loops over tensors and parameters."""
    net = jax.tree.map(lambda x: np.asarray(x, np.float64), rule)["params"]
    momentum = [np.zeros((*p.shape, 6)) for p in params]
    carry = [np.zeros((*p.shape, size)) for p in params]
    all_steps = []
    for gradient, noise in zip(gradients, noises, strict=True):
        steps = [np.zeros(p.shape) for p in params]
        for i, (p, g) in enumerate(zip(params, gradient, strict=True)):
            features = np.zeros((*p.shape, 19))
            for at in np.ndindex(p.shape):
                for j, d in enumerate((0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)):
                    momentum[i][(*at, j)] *= d
                    momentum[i][(*at, j)] += (1 - d) * g[at]
                    m = momentum[i][(*at, j)]
                    features[(*at, 1 + j)] = np.sign(m)
                    features[(*at, 7 + j)] = np.log(abs(m) + 1e-13)
                features[(*at, 0)] = p[at]
                features[(*at, 13)] = np.sign(g[at])
                features[(*at, 14)] = np.log(abs(g[at]) + 1e-13)
            for j in range(15):
                square = np.mean(features[..., j] ** 2)
                features[..., j] /= np.sqrt(square + 1e-5)
            for at in np.ndindex(p.shape):
                unit = told.dormancy[i][at[-1]] if np.ndim(told.dormancy[i]) else 1.0
                features[at][15:] = progress, told.depth[i], epoch, unit
                x, h = features[at], carry[i][at]
                gru = net["gru"]

                def affine(name, x, gru=gru):
                    return x @ gru[name]["kernel"] + gru[name].get("bias", 0.0)

                r = sigmoid(affine("ir", x) + affine("hr", h))
                z = sigmoid(affine("iz", x) + affine("hz", h))
                new = np.tanh(affine("in", x) + r * affine("hn", h))
                x = carry[i][at] = (1 - z) * new + z * h
                for k in range(2):
                    layer, norm = net[f"hidden_{k}"], net[f"norm_{k}"]
                    x = x @ layer["kernel"] + layer["bias"]
                    x = (x - x.mean()) / np.sqrt(x.var() + 1e-6)
                    x = np.maximum(x * norm["scale"] + norm["bias"], 0.0)
                u, e, n = x @ net["output"]["kernel"] + net["output"]["bias"]
                moved = 1e-3 * u * np.exp(1e-3 * e)
                steps[i][at] = moved + 1e-3 * n * told.noisy[i] * noise[i][at]
        mean = sum(x.sum() for x in steps) / sum(x.size for x in steps)
        steps = [mean - x for x in steps]
        params = [p + x for p, x in zip(params, steps, strict=True)]
        all_steps.append(steps)
    return all_steps


def check_steps(rule, network):
    rng = np.random.default_rng(0)
    told = Told(
        {"a": {"w": jnp.array([0.4, 1.6])}, "b": jnp.ones(())},
        {"a": {"w": jnp.asarray(0.5)}, "b": jnp.ones(())},
        {"a": {"w": jnp.ones(())}, "b": jnp.zeros(())},
    )
    optimizer = network_optimizer(rule, network)
    update = jax.jit(
        lambda g, s, p, key: optimizer.update(
            g, s, p, told=told, progress=0.25, epoch_progress=0.5, key=key
        )
    )
    state, params = optimizer.init(PARAMS), PARAMS
    gradients, noises, found = [], [], []
    for i in range(3):
        gradient = jax.tree.map(
            lambda p: jnp.asarray(rng.normal(size=p.shape) * 0.1, jnp.float32), PARAMS
        )
        gradient["a"]["w"] = gradient["a"]["w"].at[0, 0].set(0.0)
        key = jax.random.key(i)
        noise = np.asarray(jax.random.normal(key, (7,)))
        noises.append([noise[:6].reshape(3, 2), noise[6]])
        steps, state = update(gradient, state, params, key)
        params = optax.apply_updates(params, steps)
        gradients.append(leaves(gradient))
        found.append(leaves(steps))
    flat = Told(*(leaves(x) for x in told))
    expected = plain_step(
        rule, network.size, leaves(PARAMS), gradients, flat, 0.25, 0.5, noises
    )
    assert max(np.abs(x).max() for step in expected for x in step) > 1e-4
    for ours, plain in zip(found, expected, strict=True):
        for x, y in zip(ours, plain, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-6)
    total = sum(float(jnp.sum(x)) for x in found[-1])
    np.testing.assert_allclose(total, 0.0, atol=1e-6)


def leaves(tree):
    return [np.asarray(x) for x in jax.tree.leaves(tree)]


def drawn(network):
    rule = optax.tree.random_like(KEY, network.zeros())
    return jax.tree.map(lambda x: 0.5 * x, rule)


def test_steps_are_those_of_a_plain_loop():
    network = OptimizerNetwork(3, 5)
    check_steps(drawn(network), network)


@published
@pytest.mark.parametrize("name", ["breakout", "asterix", "gridworld", "multi"])
def test_steps_by_what_was_published_are_those_of_a_plain_loop(name):
    check_steps(*open_optimizer(Path(FOLDER or ".") / f"{name}.npy"))


def test_momentum_is_an_average_that_begins_at_zero():
    network = OptimizerNetwork(2, 2)
    optimizer = network_optimizer(network.zeros(), network)
    params = {"x": jnp.zeros(1)}
    ones = {"x": jnp.ones(1)}
    told = Told(ones, {"x": jnp.ones(())}, {"x": jnp.ones(())})
    state: Any = optimizer.init(params)
    update: Any = optimizer.update
    for i in range(2):
        steps, state = update(
            ones, state, params, told=told, progress=0.0, epoch_progress=0.0, key=KEY
        )
        expected = 1 - np.asarray(DECAYS) ** (i + 1)
        np.testing.assert_allclose(state.momentum[0], expected, rtol=2e-3)
    assert steps["x"] == 0  # a network of zeros moves nothing


def test_dormancy_is_one_in_the_mean():
    found = dormancy(jnp.array([1.0, 3.0, 0.0, 4.0]))
    np.testing.assert_allclose(found, [0.5, 1.5, 0, 2], atol=1e-6)
    np.testing.assert_allclose(dormancy(jnp.zeros(3)), 1.0)


def test_what_is_told_of_layers_is_what_comes_out_of_them():
    params: Any = POLICY.init(KEY, (), TASKS.blank())
    obs = jax.random.normal(KEY, (5, *TASKS.blank().shape))
    told = jax.jit(lambda params: told_of(POLICY, params, obs))(params)
    jax.tree.map(lambda *_: None, told.dormancy, params)  # of the same structure
    actor = params["actor"]["params"]
    x = np.asarray(obs)
    for i, name in enumerate(("hidden_0", "logits")):
        x = x @ actor[name]["kernel"] + actor[name]["bias"]
        x = np.maximum(x, 0) if name != "logits" else x
        mean = np.abs(x).mean(axis=0)
        for parameter in ("kernel", "bias"):
            one = told.dormancy["actor"]["params"][name][parameter]
            np.testing.assert_allclose(one, mean / mean.mean(), rtol=1e-4, atol=1e-6)
            assert told.depth["actor"]["params"][name][parameter] == i
            assert told.noisy["actor"]["params"][name][parameter] == 1
    for name in ("hidden_0", "output"):
        assert told.noisy["critic"]["params"][name]["bias"] == 0
    assert told.depth["critic"]["params"]["output"]["bias"] == 1
    shared = mlp_policy(TASKS, hidden_sizes=(4,), value_head=True)
    params = shared.init(KEY, (), TASKS.blank())
    noisy: Any = told_of(shared, params, obs).noisy["params"]
    for name, expected in (("hidden_0", 1), ("logits", 1), ("value", 0)):
        assert noisy[name]["bias"] == expected


def test_a_file_s_order_is_that_of_its_own_names(tmp_path):
    rng, sizes = np.random.default_rng(1), (8, 16)
    network = OptimizerNetwork(*sizes)
    rule: Any = jax.tree.map(
        lambda x: rng.normal(size=x.shape).astype(np.float32), network.zeros()
    )
    ours = rule["params"]
    # As the authors' modules are called: a GRU, and a row of layers of which two are
    # nonlinearities.
    layers = ("hidden_0", "norm_0", None, "hidden_1", "norm_1", None, "output")
    theirs = {
        "params": {f"layers_{i}": ours[n] for i, n in enumerate(layers) if n},
        "gru_params": {"params": ours["gru"]},
    }
    flat, _ = jax.flatten_util.ravel_pytree(theirs)
    np.save(tmp_path / "some.npy", flat)
    read, module = open_optimizer(tmp_path / "some.npy")
    assert module == network
    jax.tree.map(np.testing.assert_array_equal, read, rule)
    np.save(tmp_path / "other.npy", flat[1:])
    with pytest.raises(ValueError, match="must hold 1211 or 3571 numbers in a row"):
        open_optimizer(tmp_path / "other.npy")


OPTIONS: dict[str, Any] = {
    "num_tasks": 2,
    "num_episodes": 2,
    "rollout_length": 6,
    "lifetime": 8,
    "num_epochs": 2,
    "num_minibatches": 2,
    "network": OptimizerNetwork(2, 3),
}


def test_an_update_tells_the_optimiser_how_far_it_is():
    """An optimiser that adds up what it is told takes the place of the network."""

    def init(params):
        return jnp.zeros(()), jnp.zeros(())

    def update(updates, state, params=None, *, part, key, **_):
        noise = jax.random.uniform(key)
        return optax.tree.zeros_like(updates), (state[0] + part, state[1] * 2 + noise)

    params = POLICY.init(KEY, (), TASKS.blank())
    optimizer: Any = optax.GradientTransformationExtraArgs(init, update)
    agent = Agent(params, (), optimizer.init(params))
    _, data = rollout.collect(
        KEY, TASKS, POLICY, agent, TASKS.sample(KEY), num_episodes=2
    )
    seen = []

    def tell(params, obs, key, part):
        seen.append(obs.shape)
        return {"part": part, "key": key}

    new = jax.jit(
        lambda agent: actor_critic.update_in_epochs(
            KEY,
            POLICY,
            agent,
            data,
            surrogates.clipped(0.2),
            optimizer=optimizer,
            num_epochs=3,
            num_minibatches=2,
            tell=tell,
        )
    )(agent)
    assert new.inner_state[0] == 2 * (0.0 + 0.5 + 1.0)
    assert new.inner_state[1] != 0
    assert seen[0][0] == 6  # half of two episodes of six steps


def test_a_known_rule_moves_an_agent_by_small_steps():
    rule = drawn(OPTIONS["network"])
    algorithm = learned_optimizer(TASKS, POLICY, rule=rule, **OPTIONS)
    agent = jax.jit(algorithm.init)(KEY).agent
    _, data = rollout.collect(
        KEY, TASKS, POLICY, agent, TASKS.sample(KEY), num_episodes=2
    )
    moved = jax.jit(algorithm.adapt)(KEY, agent, data)
    assert moved.inner_state.age == 1
    for x, y in zip(leaves(agent.params), leaves(moved.params), strict=True):
        assert 0 < np.abs(x - y).max() < 0.1


def test_what_it_cannot_do_is_refused():
    with pytest.raises(ValueError, match="rule must hold the parameters of"):
        learned_optimizer(TASKS, POLICY, rule=OptimizerNetwork(2, 4).zeros(), **OPTIONS)
    with pytest.raises(ValueError, match="at most the 12 steps of an update; got 13"):
        learned_optimizer(TASKS, POLICY, **{**OPTIONS, "num_minibatches": 13})
