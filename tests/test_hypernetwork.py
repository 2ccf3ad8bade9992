"""Weights produced by a memory, against weights set by hand."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit
from jax.flatten_util import ravel_pytree

from metarl_jax import trials
from metarl_jax.distributions import Categorical
from metarl_jax.envs.bandit import bernoulli_bandit
from metarl_jax.policies import hypernetwork
from metarl_jax.policies.hypernetwork import Hypernetwork, hypernetwork_policy
from metarl_jax.policies.memory import MemoryPolicy, memory_policy
from metarl_jax.policies.recurrent import GRU
from metarl_jax.types import Trajectory

L, H = 7, 5


class Matrices(nn.Module):
    """A base of another kind: its observations are matrices, a parameter a number."""

    num_actions: int = 3
    action_dim: int | None = None

    @nn.compact
    def __call__(self, memory, obs):
        mixed = nn.DenseGeneral(3, axis=(-2, -1), name="mix")(obs)
        scale = self.param("scale", nn.initializers.constant(0.7), ())
        return Categorical(scale * jnp.sin(mixed)), scale + mixed[..., 0], memory

    def initial_memory(self):
        return ()


def random_steps(obs_shape, seed=0):
    rng = np.random.default_rng(seed)
    obs = rng.normal(size=(L, *obs_shape)).astype(np.float32)
    nothing = np.zeros(L, bool)
    return Trajectory(
        obs=obs,
        action=rng.integers(3, size=L),
        log_prob=np.zeros(L, np.float32),
        reward=rng.normal(size=L).astype(np.float32),
        next_obs=obs,
        terminated=nothing,
        truncated=nothing,
        mask=~nothing,
    )


def plain_unravel(flat, tree):
    """Cuts a vector into the leaves of a nest of dictionaries, in their keys' order."""
    if not isinstance(tree, dict):
        size = int(np.prod(tree.shape))
        return np.reshape(flat[:size], tree.shape), flat[size:]
    leaves = {}
    for name in sorted(tree):
        leaves[name], flat = plain_unravel(flat, tree[name])
    return leaves, flat


@pytest.fixture(scope="module")
def small():
    """A policy whose base is `Matrices`, and a stream of its steps."""
    base = Matrices()
    policy = MemoryPolicy(GRU(H), Hypernetwork(base))
    steps = random_steps((2, 2))
    memory = policy.initial_memory()
    params = jit(policy.init)(jax.random.key(0), memory, steps.obs[0])
    shapes = jax.eval_shape(base.init, jax.random.key(0), (), steps.obs[0])
    return base, policy, params, shapes, steps, jit(partial(trials.replay, policy))


def with_kernel(params, kernel):
    generator = params["params"]["head"]["generator"]._replace(kernel=kernel)
    return {"params": {**params["params"], "head": {"generator": generator}}}


def test_without_a_kernel_no_history_matters(small):
    base, policy, params, shapes, steps, replay = small
    generator = params["params"]["head"]["generator"]
    assert not generator.kernel.any()
    weights, rest = plain_unravel(np.asarray(generator.bias), shapes)
    assert rest.size == 0
    # The base network's own initialisation, a constant among it.
    assert weights["params"]["scale"] == np.float32(0.7)
    expected = base.apply(weights, (), steps.obs)[:2]

    def check(replayed, close):
        for a, b in zip(*map(jax.tree.leaves, (replayed, expected)), strict=True):
            assert np.allclose(a, b, rtol=0, atol=1e-6) == close

    memory = policy.initial_memory()
    other = random_steps((2, 2), seed=1)._replace(obs=steps.obs)
    check(replay(params, memory, steps), True)
    check(replay(params, memory, other), True)
    check(replay(with_kernel(params, generator.kernel + 0.1), memory, other), False)


def test_weights_are_the_head_s_output_cut_by_a_plain_loop(small):
    base, policy, params, shapes, steps, replay = small
    generator = params["params"]["head"]["generator"]
    kernel = np.random.default_rng(2).normal(size=generator.kernel.shape)
    params = with_kernel(params, np.float32(kernel))
    actual = replay(params, policy.initial_memory(), steps)

    # The core's outputs, from a policy that only passes them on.
    class Identity(nn.Module):
        num_actions: int = 3
        action_dim: int | None = None

        def __call__(self, obs, y):
            return y, jnp.zeros(y.shape[:-1]), obs

    plain = MemoryPolicy(GRU(H), Identity())
    core = {"params": {"core": params["params"]["core"]}}
    ys = np.float64(trials.replay(plain, core, plain.initial_memory(), steps)[0])
    for t in range(L):
        flat = ys[t] @ kernel + np.float64(generator.bias)
        weights, _ = plain_unravel(np.float32(flat), shapes)
        expected = base.apply(weights, (), steps.obs[t])[:2]
        got = jax.tree.map(lambda x, t=t: x[t], actual)
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_the_core_learns_from_the_second_step_on(small):
    _, policy, params, _, steps, _ = small

    @jit
    def gradient(params):
        def total(params):
            memory = policy.initial_memory()
            distribution, value = trials.replay(policy, params, memory, steps)
            return jnp.sum(distribution.log_prob(steps.action) + value)

        return jax.grad(total)(params)

    def norms(gradient):
        return [np.linalg.norm(x) for x in jax.tree.leaves(gradient)]

    first = gradient(params)
    assert max(norms(first["params"]["core"])) == 0
    assert min(norms(first["params"]["head"])) > 1e-4
    moved = jax.tree.map(lambda p, g: p - 0.1 * g, params, first)
    assert min(norms(gradient(moved))) > 1e-4


def draw(name, size, num_hidden=400):
    """A generator for a network of 300 inputs, a hidden layer and 200 outputs."""
    base = nn.Sequential([nn.Dense(num_hidden), nn.Dense(200)])
    weights = base.init(jax.random.key(0), jnp.zeros(300))
    initialisation = getattr(hypernetwork, name)
    return weights, initialisation(jax.random.key(1), size, weights)


def test_initialisations():
    size = 16
    weights, generator = draw("bias_hyperinit", size)
    np.testing.assert_array_equal(generator.bias, ravel_pytree(weights)[0])
    _, generator = draw("kaiming", size)
    assert not generator.bias.any()
    np.testing.assert_allclose(np.var(generator.kernel), 2 / size, rtol=0.01)
    assert np.abs(generator.kernel).max() <= np.sqrt(6 / size)
    _, generator = draw("normc", size)
    assert not generator.bias.any()
    np.testing.assert_allclose(np.linalg.norm(generator.kernel, axis=0), 1, rtol=1e-5)
    np.testing.assert_allclose(np.mean(generator.kernel), 0, atol=0.01)


def test_hyperfan_in_keeps_the_variance():
    """Of a linear network's activations from layer to layer, by simulation."""
    weights, generator = draw("hyperfan_in", 16)
    rng = np.random.default_rng(0)
    y, x = rng.normal(size=16), rng.normal(size=300)
    y *= 4 / np.linalg.norm(y)  # so that its mean square is 1
    x *= np.sqrt(300) / np.linalg.norm(x)
    assert not generator.bias.any()
    made = ravel_pytree(weights)[1](jnp.float32(y @ generator.kernel))["params"]
    for layer in ("layers_0", "layers_1"):
        x = x @ made[layer]["kernel"] + made[layer]["bias"]
        # 200 or more numbers of a variance near 1: a standard error of a tenth or less.
        np.testing.assert_allclose(np.mean(x**2), 1.0, atol=0.25)


def test_wrong_arguments_are_refused():
    tasks = bernoulli_bandit(num_arms=3)
    with pytest.raises(ValueError, match=r"each of hidden_sizes must be .* got 0"):
        hypernetwork_policy(tasks, GRU(H), hidden_sizes=(0,))
    policy = MemoryPolicy(GRU(H), Hypernetwork(memory_policy(tasks, GRU(H))))
    memory = memory_policy(tasks, GRU(H)).initial_memory()
    with pytest.raises(ValueError, match=r"no memory.*; MemoryPolicy has"):
        policy.init(jax.random.key(0), memory, jnp.ones(1))
