"""Disco103: ours gives what the authors' code recorded; formulas are plain loops."""

import os
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.envs.catch import catch
from metarl_jax.envs.point_navigation import point_navigation
from metarl_jax.published import disco_103
from metarl_jax.update_rules import disco
from metarl_jax.update_rules.disco_learner import DiscoAgent, disco_learner
from metarl_jax.update_rules.update_network import UpdateNetwork

FOLDER = os.environ.get("METARL_JAX_DISCO")
WHERE = Path(FOLDER or ".")
published = pytest.mark.skipif(
    FOLDER is None,
    reason="METARL_JAX_DISCO does not say where disco_103.npz and its record are",
)


@pytest.fixture(scope="module")
def recorded():
    """One step of the authors' learner, batch first."""
    with np.load(WHERE / "disco_103_one_step.npz") as file:
        arrays = {name.rstrip("/"): file[name] for name in file.files}

    def flipped(name):
        return jnp.asarray(arrays[name]).swapaxes(0, 1)

    def predictions(prefix):
        names = ("logits", "y", "z", "aux_pi", "q")
        return disco.Predictions(*(flipped(f"{prefix}/{name}") for name in names))

    def rule_state(prefix):
        rnn = f"{prefix}/rnn/lstm/meta_rnn_state"
        averages = [
            disco.Average(
                *(
                    arrays[f"{prefix}/{which}_ema/{part}"]
                    for part in ("moment1", "moment2", "decay_product")
                )
            )
            for which in ("adv", "td")
        ]
        return disco.RuleState(
            arrays[f"{rnn}/hidden"], arrays[f"{rnn}/cell"], *averages
        )

    experience = disco.Experience(
        flipped("action"),
        flipped("reward")[:, 1:],
        ~flipped("discount")[:, 1:],
        flipped("behaviour_out/logits"),
    )
    return arrays, predictions, rule_state, experience


@published
def test_the_published_rule_says_what_was_recorded(recorded):
    arrays, predictions, rule_state, experience = recorded
    agent, slow = predictions("agent_out"), predictions("meta_out/target_out")
    targets, estimates, state = jax.jit(UpdateNetwork().apply)(
        disco_103(WHERE / "disco_103.npz"),
        rule_state("meta_state_before"),
        agent,
        slow,
        experience,
    )

    def check(ours, name, atol=1e-4):
        theirs = arrays[name]
        if np.ndim(ours) > 1:
            ours = np.swapaxes(ours, 0, 1)
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=atol, err_msg=name)

    check(targets.logits, "meta_out/pi")
    check(targets.y, "meta_out/y")
    check(targets.z, "meta_out/z")
    check(estimates.q, "meta_out/q_value")
    # Theirs are up to 2e-4 from what float64 gives of the same predictions.
    check(estimates.q_target, "meta_out/q_target", 3e-4)
    check(estimates.advantage, "meta_out/adv", 3e-4)
    check(estimates.q_advantage, "meta_out/qv_adv", 3e-4)
    check(estimates.td_error, "meta_out/q_td", 3e-4)
    for ours, theirs in zip(
        jax.tree.leaves(state),
        jax.tree.leaves(rule_state("meta_state_after")),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)

    said = disco.taken(agent, experience.action)
    each = disco.losses(said, experience, targets, estimates.td_error)
    means = {"pi": "pi_loss", "next_pi": "aux_kl_loss", "q": "q_loss"}
    for ours, theirs in means.items():
        check(jnp.mean(each[ours]), f"log/{theirs}")
    # Theirs leaves out the first step of an episode.
    begins = ~arrays["discount"][:-1].swapaxes(0, 1)
    check(jnp.mean(each["total"], where=~begins), "log/total_loss")


KEY = jax.random.key(3)
B, T, A = 2, 4, 3


def drawn(seed=0):
    """Predictions of an agent and its slow copy, and what happened."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return jnp.asarray(rng.normal(size=(B, T + 1, *shape)), jnp.float32)

    def predictions():
        y, q = disco.PREDICTION_SIZE, disco.VALUE_BINS
        return disco.Predictions(
            normal(A), normal(y), normal(A, y), normal(A, A), 3 * normal(A, q)
        )

    action = jnp.asarray(rng.integers(A, size=(B, T + 1)), jnp.int32)
    ended = jnp.zeros((B, T), bool).at[0, 1].set(True)
    experience = disco.Experience(action, normal()[:, 1:], ended, normal(A))
    return predictions(), predictions(), experience


@pytest.fixture(scope="module")
def network():
    module = UpdateNetwork(size=6, lifetime_size=5)
    state = module.initial_state()
    params = module.init(KEY, state, *drawn())
    return params, state, jax.jit(module.apply)


def test_what_actions_are_called_does_not_matter(network):
    """Targets of exchanged actions are exchanged; all else is as it was."""
    params, state, apply = network
    order = np.array([2, 0, 1])
    agent, slow, experience = drawn()

    def exchanged(p):
        return disco.Predictions(
            p.logits[..., order],
            p.y,
            p.z[..., order, :],
            p.next_logits[..., order, :][..., order],
            p.q[..., order, :],
        )

    inverse = jnp.asarray(np.argsort(order), jnp.int32)
    other = experience._replace(
        action=inverse[experience.action],
        behaviour_logits=experience.behaviour_logits[..., order],
    )
    targets, _, after = apply(params, state, agent, slow, experience)
    expected = targets._replace(logits=targets.logits[..., order])
    actual, _, same = apply(params, state, exchanged(agent), exchanged(slow), other)
    for x, y in zip(
        jax.tree.leaves((actual, same)), jax.tree.leaves((expected, after)), strict=True
    ):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4)
    assert np.std(targets.logits) > 1e-3


def test_what_the_rule_reads_of_policies_and_values_is_constant(network):
    """In the meta-gradient; what has no given meaning is not (the authors' transforms).

    The first update of a life is scaled by nothing: a later one is asked.
    """
    params, state, _ = network
    agent, slow, experience = drawn()
    module = UpdateNetwork(size=6, lifetime_size=5)
    state = state._replace(hidden=jnp.full(5, 0.3))

    @jax.jit
    def gradients(agent, slow):
        def said(agent, slow):
            targets, _, after = module.apply(params, state, agent, slow, experience)
            return sum(jnp.sum(x**2) for x in jax.tree.leaves((targets, after)))

        return jax.grad(said, argnums=(0, 1))(agent, slow)

    for gradient in gradients(agent, slow):
        for name in ("logits", "next_logits", "q"):
            np.testing.assert_array_equal(getattr(gradient, name), 0.0, err_msg=name)
        for name in ("y", "z"):
            assert np.abs(getattr(gradient, name)).max() > 0, name


def test_values_are_a_plain_loop_s():
    agent, slow, experience = jax.tree.map(np.asarray, drawn(1))
    found = jax.jit(disco.values)(*drawn(1))
    bins = np.arange(-300, 301)

    def softmax(x):
        e = np.exp(x - x.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    def value_of(logits):
        x = np.sum(softmax(logits.astype(np.float64)) * bins, axis=-1)
        # The root of h(v) = x, found by halving.
        low, high = np.full(x.shape, -1e5), np.full(x.shape, 1e5)
        for _ in range(80):
            middle = (low + high) / 2
            h = np.sign(middle) * (np.sqrt(np.abs(middle) + 1) - 1) + middle / 1000
            low, high = np.where(h < x, middle, low), np.where(h < x, high, middle)
        return low

    pi, mu = softmax(agent.logits), softmax(experience.behaviour_logits)
    q = value_of(slow.q)
    v = np.sum(pi * q, axis=-1)
    for b in range(B):
        following = 0.0
        for t in reversed(range(T)):
            a = experience.action[b, t]
            gamma = 0.0 if experience.ended[b, t] else 0.997
            target = experience.reward[b, t] + gamma * (v[b, t + 1] + following)
            np.testing.assert_allclose(found.q_target[b, t], target, rtol=1e-4)
            np.testing.assert_allclose(
                found.advantage[b, t], target - v[b, t], rtol=1e-3, atol=1e-3
            )
            trace = 0.95 * min(1.0, pi[b, t, a] / mu[b, t, a])
            following = trace * (target - q[b, t, a])


@pytest.mark.parametrize("value", [-5e4, -1.0, -1e-4, 0.0, 0.3, 7.0, 1e4])
def test_two_bins_stand_for_a_value(value):
    weights = disco.two_bins(jnp.asarray(value))
    assert np.count_nonzero(weights) <= 2
    np.testing.assert_allclose(np.sum(weights), 1.0, rtol=1e-5)
    back = disco.scalar(jnp.log(weights))
    np.testing.assert_allclose(back, value, rtol=2e-3, atol=1e-5)


def test_losses_vanish_where_an_agent_predicts_what_it_is_told():
    agent, _, experience = drawn()
    before = jax.tree.map(lambda x: x[:, :-1], agent)
    action = experience.action[:, :-1]
    targets = disco.Targets(before.logits, before.y, disco.of_action(before.z, action))
    said = disco.taken(agent, experience.action)
    each = disco.losses(said, experience, targets, jnp.zeros((B, T)))
    for name in ("pi", "y", "z"):
        np.testing.assert_allclose(each[name], 0.0, atol=1e-5)
    assert each["next_pi"][0, 1] == 0.0  # nothing follows an end
    assert (each["next_pi"] > 0).sum() == B * T - 1


def test_of_one_action_is_said_what_is_said_of_it_among_all():
    agent = DiscoAgent(A, (4,), model_size=3, head_size=5, prediction_size=7)
    obs = jax.random.normal(KEY, (B, T, 6))
    action = jax.random.randint(KEY, (B, T), 0, A)
    params = agent.init(KEY, obs)
    of_all: Any = agent.apply(params, obs)
    of_one: Any = agent.apply(params, obs, action)
    assert of_all.z.shape == (B, T, A, 7)
    assert of_one.z.shape == (B, T, 7)
    chex.assert_trees_all_close(disco.taken(of_all, action), of_one, rtol=1e-5)
    assert np.std(of_all.next_logits, axis=2).max() > 1e-4  # actions differ


def test_an_agent_learns_nothing_before_there_is_a_batch():
    tasks = catch(rows=3, columns=3, permuted_buttons=False)
    learner = disco_learner(
        tasks,
        UpdateNetwork().init(KEY, UpdateNetwork().initial_state(), *drawn()),
        hidden_sizes=(4,),
        model_size=3,
        head_size=3,
        num_envs=2,
        num_steps=5,
        replay_size=5,
        batch_size=4,
    )
    task = tasks.sample(KEY)
    state = jax.jit(learner.init)(KEY, task)
    step = jax.jit(learner.step)
    assert learner.num_steps == 10
    seen = [state]
    for i in range(3):
        state, info = step(jax.random.key(i), task, state)
        seen.append(state)
        assert info.skipped == (i == 0)
    same = jax.tree.map(np.array_equal, seen[0].params, seen[1].params)
    assert all(jax.tree.leaves(same))
    for name in ("params", "optimizer_state", "rule"):
        changed = jax.tree.map(
            lambda x, y: bool(jnp.any(x != y)),
            getattr(seen[1], name),
            getattr(seen[2], name),
        )
        assert any(jax.tree.leaves(changed)), name
    # The slow copy follows what the parameters were.
    for slow, old, new in zip(
        *(jax.tree.leaves(x) for x in (seen[3].slow, seen[2].slow, seen[2].params)),
        strict=True,
    ):
        np.testing.assert_allclose(slow, 0.9 * old + 0.1 * new, rtol=1e-4, atol=1e-7)


def test_what_a_learner_cannot_do_is_refused():
    with pytest.raises(ValueError, match="for discrete actions"):
        disco_learner(point_navigation(horizon=3), {})
    with pytest.raises(ValueError, match="replay_size must be at least batch_size 9"):
        disco_learner(catch(), {}, batch_size=9, replay_size=8)
    with pytest.raises(ValueError, match="num_steps must be at least 2"):
        disco_learner(catch(), {}, num_steps=1)


def test_a_file_that_is_another_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(ValueError, match="must hold lstm/lstm/linear/w"):
        disco_103(tmp_path / "other.npz")
