"""Policies with memory: plain formulas, and stepping against unrolling."""

import types
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit
from jax.test_util import check_grads

from metarl_jax import rollout, trials
from metarl_jax.algorithms.rl2 import rl2
from metarl_jax.envs.bandit import bernoulli_bandit
from metarl_jax.envs.point_navigation import point_navigation
from metarl_jax.policies.hypernetwork import hypernetwork_policy, normc
from metarl_jax.policies.linear_recurrent import LinearRecurrent
from metarl_jax.policies.memory import memory_policy
from metarl_jax.policies.recurrent import GRU, LSTM
from metarl_jax.policies.transformer import Transformer
from metarl_jax.settings import INITIALISATIONS, trials_for_device
from metarl_jax.types import Trajectory

E, T, LENGTHS = 3, 5, (3, 5, 2)
CORES = {
    "gru": GRU(6),
    "lstm": LSTM(6),
    # Its window ends inside the trial, so that slots of the cache are used again.
    "transformer": Transformer(size=8, num_layers=2, num_heads=2, context=4),
    "linear": LinearRecurrent(size=6, state_size=4),
}
TASKS = bernoulli_bandit(num_arms=3, horizon=T)
POLICIES = {
    name: memory_policy(TASKS, core, hidden_sizes=(5,)) for name, core in CORES.items()
}
POLICIES["whole transitions"] = memory_policy(
    TASKS, GRU(6), hidden_sizes=(5,), whole_transitions=True
)
POLICIES["hypernetwork"] = hypernetwork_policy(
    TASKS, GRU(6), hidden_sizes=(5,), initialisation=normc
)


def random_trial(seed=0):
    """Episodes of 3, 5 and 2 steps in 5 slots each; the padding is poisoned."""
    rng = np.random.default_rng(seed)
    mask = np.arange(T) < np.array(LENGTHS)[:, None]
    ends = np.arange(T) == np.array(LENGTHS)[:, None] - 1
    obs = rng.normal(size=(E, T, 1)).astype(np.float32)
    obs[~mask] = 1e6
    reward = np.where(mask, rng.normal(size=(E, T)), 1e6).astype(np.float32)
    return Trajectory(
        obs=obs,
        action=rng.integers(3, size=(E, T)),
        log_prob=rng.normal(size=(E, T)).astype(np.float32),
        reward=reward,
        next_obs=obs,
        terminated=ends & (np.array(LENGTHS) < T)[:, None],
        truncated=ends & (np.array(LENGTHS) == T)[:, None],
        mask=mask,
    )


@pytest.fixture(scope="module", params=POLICIES)
def stepped(request):
    """A policy and what it does step by step: memories and outputs of each step."""
    policy = POLICIES[request.param]
    memory = policy.initial_memory()
    params = jit(policy.init)(jax.random.key(0), memory, jnp.zeros(1))
    apply, trial = jit(policy.apply), random_trial()
    memories, outputs = [memory], []
    for e in range(E):
        for t in range(LENGTHS[e]):
            transition = jax.tree.map(lambda x, e=e, t=t: x[e, t], trial)
            *output, memory = apply(params, memory, transition.obs)
            memory = policy.observe(memory, transition)
            memories.append(memory)
            outputs.append(output)
    return policy, params, memories, outputs


@pytest.mark.parametrize("first", [0, 1])
def test_unrolling_is_stepping(stepped, first):
    """From the start of a trial, and from the memory after its first episode."""
    policy, params, memories, outputs = stepped
    done = sum(LENGTHS[:first])
    steps = trials.stream(jax.tree.map(lambda x: x[first:], random_trial()))
    actual = jit(partial(trials.replay, policy))(params, memories[done], steps)
    expected = jax.tree.map(lambda *xs: np.stack(xs), *outputs[done:])
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a[: len(b)], b, rtol=1e-4, atol=1e-5)
        assert np.std(b) > 1e-3


@pytest.mark.parametrize("core", [GRU(3), LSTM(3)], ids=["gru", "lstm"])
def test_gates_have_the_slope_of_what_they_compute(core):
    """By finite differences in double precision, and the slope's own slope by them."""
    with jax.enable_x64(True):
        xs = jax.random.normal(jax.random.key(0), (4, 2), jnp.float64)
        params = core.init(jax.random.key(1), core.initial_state(), xs[0])
        params, state = jax.tree.map(
            lambda x: jax.random.normal(jax.random.key(2), x.shape, jnp.float64),
            (params, core.initial_state()),
        )
        unroll = partial(core.apply, method="unroll")
        check_grads(jit(unroll), (params, state, xs), order=2, atol=1e-6, rtol=1e-6)


def test_from_the_start_of_a_trial_no_memory_is_needed(stepped):
    """And a transformer is spared the slots that are empty."""
    policy, params, memories, _ = stepped
    steps = trials.stream(random_trial())
    replay = partial(trials.replay, policy)
    for a, b in zip(
        *(jax.tree.leaves(jit(replay)(params, m, steps)) for m in (None, memories[0])),
        strict=True,
    ):
        np.testing.assert_allclose(a[: sum(LENGTHS)], b[: sum(LENGTHS)], rtol=1e-4)

    def largest(memory):
        program = jax.make_jaxpr(replay)(params, memory, steps)
        sizes = {x.aval.size for eqn in program.eqns for x in eqn.outvars}
        return max(sizes)

    if isinstance(policy.core, Transformer):
        assert largest(None) < largest(memories[0])


def test_what_does_not_count_is_not_remembered(stepped):
    """Whatever is seen after an end, the next step is what it would have been."""
    policy, params, memories, outputs = stepped
    trial = jax.tree.map(lambda x: x[0, 0], random_trial())
    apply = jit(policy.apply)
    for before, expected in [(memories[2], outputs[2]), (memories[6], outputs[6])]:
        memory = before
        for _ in range(6):
            *_, after = apply(params, memory, 3.0 * jnp.ones(1))
            after = policy.observe(after, trial)
            memory = rollout.held(policy, jnp.asarray(False), after, memory)
        index = next(i for i, m in enumerate(memories) if m is before)
        obs = trials.stream(random_trial()).obs[index]
        *actual, _ = apply(params, memory, obs)
        for a, b in zip(
            jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_any_policy_with_memory_is_replayed_without_an_unroll(stepped):
    policy, params, memories, outputs = stepped
    slow = types.SimpleNamespace(apply=policy.apply, observe=policy.observe)
    steps = trials.stream(random_trial())
    distribution, value = jit(partial(trials.replay, slow))(params, memories[0], steps)
    count = sum(LENGTHS)
    logits = np.stack([d.logits for d, _ in outputs])
    np.testing.assert_allclose(
        distribution.logits[:count], logits, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(value[:count], [v for _, v in outputs], atol=1e-6)


def test_gradients_reach_every_parameter(stepped):
    policy, params, memories, _ = stepped
    steps = trials.stream(random_trial())

    def total(params):
        distribution, value = trials.replay(policy, params, memories[0], steps)
        both = distribution.log_prob(steps.action) + value
        return jnp.sum(both, where=steps.mask)

    for path, leaf in jax.tree_util.tree_leaves_with_path(jit(jax.grad(total))(params)):
        assert np.isfinite(leaf).all(), path
        assert np.linalg.norm(leaf) > 1e-4, path


class Echo(nn.Module):
    """A core that gives its input back."""

    def initial_state(self):
        return ()

    def __call__(self, state, x):
        return state, x

    def unroll(self, state, xs):
        return xs


@pytest.mark.parametrize("discrete", [True, False])
def test_what_the_core_sees(discrete):
    trial = random_trial()
    if discrete:
        policy = memory_policy(TASKS, Echo(), time_scale=8.0, whole_transitions=True)
        encode = np.eye(3).__getitem__
    else:
        policy, encode = memory_policy(point_navigation(), Echo()), np.asarray
        action = np.stack([trial.action, -trial.action], axis=-1)
        trial = trial._replace(action=action.astype(np.float32))
    memory = policy.initial_memory()
    params = policy.init(jax.random.key(0), memory, jnp.zeros(1))
    distribution, _ = trials.replay(policy, params, memory, trials.stream(trial))
    actual = distribution.logits if discrete else distribution.mean

    xs, action, reward, obs = [], np.zeros(3 if discrete else 2), 0.0, np.zeros(1)
    for e in range(E):
        for t in range(LENGTHS[e]):
            more = [len(xs) / 8.0, *obs] if discrete else []
            xs.append([*trial.obs[e, t], *action, reward, t == 0, *more])
            # An episode's last transition is there when the next one begins.
            action, reward = encode(trial.action[e, t]), trial.reward[e, t]
            obs = trial.obs[e, t]
    readout = params["params"]["head"]["logits" if discrete else "mean"]
    expected = np.array(xs, np.float32) @ readout["kernel"] + readout["bias"]
    np.testing.assert_allclose(actual[: len(xs)], expected, rtol=1e-5, atol=1e-5)


def plain(x, layer):
    return x @ np.float64(layer["kernel"]) + np.float64(layer.get("bias", 0.0))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def plain_gru(p, xs):
    h = np.zeros(6)
    for x in xs:
        a = np.split(x @ p["input_kernel"] + p["bias"], 3)
        b = np.split(h @ p["recurrent_kernel"], 3)
        r, z = sigmoid(a[0] + b[0]), sigmoid(a[1] + b[1])
        h = (1 - z) * np.tanh(a[2] + r * (b[2] + p["recurrent_bias"])) + z * h
        yield h


def plain_lstm(p, xs):
    h = c = np.zeros(6)
    for x in xs:
        gates = x @ p["input_kernel"] + p["bias"] + h @ p["recurrent_kernel"]
        i, f, o, g = np.split(gates, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        yield h


def plain_norm(x, p):
    x = (x - x.mean()) / np.sqrt(x.var() + 1e-6)
    return x * p["scale"] + p["bias"]


def gelu(x):
    return np.float64(jax.nn.gelu(jnp.float32(x)))


def plain_linear(p, xs):
    h = np.zeros((2, 4), complex)
    for x in xs:
        x = plain(x, p["input"])
        for i in range(2):
            q = jax.tree.map(np.float64, p[f"layers_{i}"])
            decay = np.exp(-np.exp(q["log_decay"]) + 1j * np.exp(q["log_phase"]))
            u = plain_norm(x, q["norm"])
            b = q["input_matrix"][:, :4] + 1j * q["input_matrix"][:, 4:]
            h[i] = decay * h[i] + np.sqrt(1 - np.abs(decay) ** 2) * (u @ b)
            c = q["output_matrix"][:4] - 1j * q["output_matrix"][4:]
            y = plain(gelu((h[i] @ c).real + q["skip"] * u), q["gate"])
            x = x + y[:6] * sigmoid(y[6:])
        yield x


def plain_transformer(p, xs):
    """Attention of each step to the last 4, rotated by complex numbers."""
    keys, values = [[], []], [[], []]
    for t, x in enumerate(xs):
        x = plain(x, p["input"])
        for i in range(2):
            q = p[f"blocks_{i}"]
            u = plain_norm(x, q["LayerNorm_0"])
            qkv = np.einsum("d,dhe->he", u, q["project"]["kernel"])
            query, key, value = np.split(qkv + q["project"]["bias"], 3, axis=1)
            turn = np.exp(1j * t * np.array([1.0, 0.01]))
            query, key = ((v[:, :2] + 1j * v[:, 2:]) * turn for v in (query, key))
            keys[i], values[i] = [*keys[i], key][-4:], [*values[i], value][-4:]
            y = np.zeros((2, 4))
            for head in range(2):
                dots = [(query[head] * k[head].conj()).real.sum() for k in keys[i]]
                weight = np.exp(np.array(dots) / 2)
                y[head] = weight / weight.sum() @ np.array([v[head] for v in values[i]])
            merge = q["merge"]
            x = x + np.einsum("he,hed->d", y, merge["kernel"]) + merge["bias"]
            hidden = gelu(plain(plain_norm(x, q["LayerNorm_1"]), q["expand"]))
            x = x + plain(hidden, q["contract"])
        yield plain_norm(x, p["norm"])


@pytest.mark.parametrize("name", CORES)
def test_a_core_is_its_formula(name):
    core, xs = CORES[name], np.random.default_rng(0).normal(size=(9, 3))
    state = core.initial_state()
    params = jit(core.init)(jax.random.key(1), state, xs[0])
    # Biases away from zero, or their place in the formula would not matter.
    params = jax.tree.map(
        lambda x: x + 0.1 * jnp.cos(jnp.arange(x.size)).reshape(x.shape), params
    )
    actual = jit(partial(core.apply, method="unroll"))(params, state, jnp.float32(xs))
    formula = {
        "gru": plain_gru,
        "lstm": plain_lstm,
        "linear": plain_linear,
        "transformer": plain_transformer,
    }[name]
    np.testing.assert_allclose(
        actual, list(formula(params["params"], xs)), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("make", [memory_policy, hypernetwork_policy])
def test_a_unit_of_values_changes_no_value_but_how_fast_it_moves(make):
    plain, scaled = (
        make(TASKS, GRU(6), hidden_sizes=(5,), value_scale=scale)
        for scale in (1.0, 50.0)
    )
    obs, key = jnp.ones(1), jax.random.key(0)

    def value_and_its_slopes(policy):
        params = policy.init(key, policy.initial_memory(), obs)
        return jax.value_and_grad(
            lambda params: policy.apply(params, policy.initial_memory(), obs)[1]
        )(params)

    (value, slopes), (same, steeper) = map(value_and_its_slopes, (plain, scaled))
    np.testing.assert_allclose(same, value, rtol=1e-5)
    if make is memory_policy:  # a hypernetwork has no head of its own
        for name in ("kernel", "bias"):
            old, new = (x["params"]["head"]["value"][name] for x in (slopes, steeper))
            np.testing.assert_allclose(new, 50.0 * old, rtol=1e-5)


@pytest.mark.parametrize(
    "mode",
    [lambda: jax.numpy_dtype_promotion("strict"), lambda: jax.enable_x64(True)],
    ids=["strict", "float64"],
)
@pytest.mark.parametrize("name", [*CORES, *INITIALISATIONS])
def test_every_memory_is_traced_in_settings_that_users_make(name, mode):
    with mode(), jax.numpy_rank_promotion("raise"):
        tasks = bernoulli_bandit(num_arms=3, horizon=T)
        if name in CORES:
            policy = POLICIES[name]
        else:
            policy = hypernetwork_policy(
                tasks, GRU(6), hidden_sizes=(5,), initialisation=INITIALISATIONS[name]
            )
        algorithm = rl2(tasks, policy, num_tasks=2, num_episodes=1)
        key = jax.random.key(0)
        state = jax.eval_shape(algorithm.init, key)
        assert jax.eval_shape(algorithm.step, key, state)[0] == state


@pytest.mark.parametrize(
    ("name", "length", "chosen"),
    [
        ("transformer", 10, 25),
        ("linear", 100, 2),
        ("linear", 900, 2),
        ("gru", 10, None),
    ],
)
def test_a_cpu_takes_as_many_trials_at_once_as_its_cache_holds(
    name, length, chosen, monkeypatch
):
    assert trials_for_device(None, POLICIES[name], length) == chosen
    assert trials_for_device(7, POLICIES[name], length) == 7
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert trials_for_device(None, POLICIES[name], length) is None
