"""An update that is not finite anywhere is left out whole, by every algorithm."""

import importlib
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metarl_jax
from metarl_jax import outer_loop
from metarl_jax.algorithms.maml import maml
from metarl_jax.envs.bandit import bernoulli_bandit
from metarl_jax.envs.point_navigation import point_navigation
from metarl_jax.policies.memory import memory_policy
from metarl_jax.policies.mlp import MLPPolicy, mlp_policy
from metarl_jax.policies.recurrent import GRU
from metarl_jax.policy_gradient import Batch
from metarl_jax.trust_region import TrustRegion
from metarl_jax.updates import descend, keep_finite

ALGORITHMS = sorted(
    path.stem
    for path in (Path(metarl_jax.__file__).parent / "algorithms").glob("*.py")
    if path.stem != "__init__"
)
# What takes the size of an update, where it is no `outer_optimizer`.
SIZES = {
    "maml": lambda lr: {"outer_optimizer": TrustRegion(max_kl=lr)},
    "reptile": lambda lr: {"outer_lr": lr},
    "pearl": lambda lr: {
        "optimizer": optax.sgd(lr),
        **{"num_train_tasks": 2, "num_initial_episodes": 2, "num_updates": 2},
        **{"hidden_sizes": (3,), "encoder_hidden_sizes": (3,)},
    },
    "amago": lambda lr: {
        "optimizer": optax.sgd(lr),
        **{"num_updates": 2, "batch_size": 4, "hidden_sizes": (3,)},
    },
    # From an optimiser that moves nothing, small perturbations of it change no action.
    "learned_optimizer": lambda lr: {"outer_optimizer": optax.sgd(lr), "sigma": 1.0},
    "varibad": lambda lr: {"outer_optimizer": optax.sgd(lr), "core": GRU(3)},
    "hyperx": lambda lr: {
        **{"outer_optimizer": optax.sgd(lr), "core": GRU(3)},
        **{"novelty_hidden_sizes": (3,), "novelty_output_size": 2},
    },
}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_what_is_not_finite_is_skipped_whatever_it_is(name):
    """Rewards and sizes of the update, each in one member of a sweep."""
    algorithm = getattr(importlib.import_module(f"metarl_jax.algorithms.{name}"), name)
    size = SIZES.get(name, lambda lr: {"outer_optimizer": optax.sgd(lr)})

    def built(unit, lr):
        tasks = bernoulli_bandit(num_arms=2, horizon=3)
        plain = tasks.env.step_env

        def step_env(*args):
            obs, state, reward, *rest = plain(*args)
            return obs, state, unit * (reward + 1.0), *rest

        tasks.env.step_env = step_env
        policy = mlp_policy(tasks, hidden_sizes=(3,), value_head=True)
        if name in ("rl2", "dpt", "ad", "amago"):
            policy = memory_policy(tasks, GRU(3))
        return algorithm(tasks, policy, num_tasks=2, num_episodes=3, **size(lr))

    units = [1.0, jnp.nan, jnp.inf, 1e30, 1.0]
    lrs = [1e-3, 1e-3, 1e-3, 1e-3, jnp.inf]
    units, lrs = jnp.array(units), jnp.array(lrs)
    # In one program what begins might be made twice, and rounded in two ways.
    old = jax.jit(jax.vmap(lambda *a: built(*a).init(jax.random.key(0))))(units, lrs)
    new, info = jax.jit(
        jax.vmap(lambda old, *a: built(*a).step(jax.random.key(2), old))
    )(old, units, lrs)
    # Names of optima are learned from whatever the rewards are, if they are finite.
    fine = [True, False, False, name in ("dpt", "ad"), False]
    np.testing.assert_array_equal(info.skipped, np.logical_not(fine))
    learned = ("agent", "critic", "decoder", "outer_state", "optimizer_state", "bonus")
    for field in learned:
        if hasattr(old, field):
            jax.tree.map(
                lambda a, b: np.testing.assert_array_equal(
                    a[info.skipped], b[info.skipped]
                ),
                getattr(old, field),
                getattr(new, field),
            )
    # Of a rule that is learned the fresh agent carries the rule, and its own parameters
    # are as they were drawn.
    rules = ("lpg", "lpo", "learned_optimizer", "meta_gradients")
    part = "inner_state" if name in rules else "params"
    moved = optax.tree.sub(getattr(new.agent, part), getattr(old.agent, part))
    assert max(np.abs(x[0]).max() for x in jax.tree.leaves(moved)) > 0
    if hasattr(info, "accepted"):
        np.testing.assert_array_equal(info.accepted, fine)
    if name == "amago":
        np.testing.assert_array_equal(info.num_dropped, [0, 2, 2, 0, 0])
    if name == "pearl":
        np.testing.assert_array_equal(info.num_dropped, [0, 18, 18, 0, 0])


@pytest.mark.parametrize(
    ("new", "seen", "skipped"),
    [
        ((1.0, jnp.inf), 0.0, False),  # infinite it was from the beginning
        ((1.0, 2.0), 0.0, False),
        ((jnp.inf, 2.0), 0.0, True),
        ((1.0, 2.0), jnp.nan, True),
        ((1.0, 2.0), -jnp.inf, True),
    ],
)
def test_only_what_ceases_to_be_finite_counts(new, seen, skipped):
    key = jax.random.key(0)
    old = (jnp.zeros(()), jnp.asarray(jnp.inf), jnp.zeros((), int), key)
    new = (*jax.tree.map(jnp.asarray, new), jnp.ones((), int), jax.random.key(1))
    kept, was_skipped = keep_finite(new, old, {"norm": jnp.array([0.0, seen])})
    assert was_skipped == skipped
    for got, expected in zip(kept, old if skipped else new, strict=True):
        assert (got == expected).all()


def test_each_array_s_program_holds_its_own_check_alone():
    """Not that of all others: programs would grow with the square of their number."""
    state = {str(i): jnp.ones(5 + i) for i in range(20)}
    program = jax.jit(keep_finite).lower(state, state, ()).compile()
    assert program.as_text().count(" and(") < 5 * len(state)


def test_an_optimiser_that_waits_for_a_plateau_is_told_the_loss():
    optimizer = optax.chain(
        optax.sgd(1.0), optax.contrib.reduce_on_plateau(factor=0.5, patience=1)
    )
    params, state = jnp.zeros(()), optimizer.init(jnp.zeros(()))
    steps = []
    for loss in (3.0, 2.0, 2.0, 2.0):
        before = params
        params, state = descend(optimizer, state, params, jnp.ones(()), jnp.array(loss))
        steps.append(float(before - params))
    assert steps == [1.0, 1.0, 0.5, 0.25]


def picked(lengths, horizon, strides):
    """A plain loop: which (episode, step) are chosen of episodes of these lengths."""
    (n, m), last = strides, len(lengths) - 1
    chosen = list(enumerate(lengths))[min(n // 2, last) :: n]
    m = math.ceil(min(m, 2 * horizon) * max(length for _, length in chosen) / horizon)
    numbered, number = {}, 0
    for row, (episode, length) in enumerate(chosen):
        for step in range(length):
            numbered[number + step] = (row, episode, step)
        number += -(-horizon // m) * m if length == horizon else length
    phase = min(m // 2, horizon - 1)
    picks = [at for i, at in numbered.items() if i % m == phase]
    return picks or [numbered[max(numbered)]]


every = jax.jit(outer_loop._every, static_argnums=0)


@pytest.mark.parametrize(
    ("horizon", "lengths"),
    [
        (12, [12] * 5),
        (12, [3] * 5),
        (12, [1] * 5),
        (12, [12, 2, 7, 12, 1]),
        (12, [3, 1, 2, 3, 2]),
        (12, [1, 1, 1, 1, 11]),
        (10, [10] * 5),
        (3, [3] * 5),
        (3, [1, 2, 3, 3, 1]),
        (12, [1]),
    ],
)
@pytest.mark.parametrize("strides", [(1, 1), (1, 10), (2, 5), (7, 3)])
def test_the_metric_is_measured_on_a_share_of_the_steps_that_were_taken(
    horizon, lengths, strides
):
    mask = np.arange(horizon) < np.array(lengths)[:, None]
    place = np.stack(np.indices(mask.shape), axis=-1)
    batch = Batch(place, *[np.zeros(mask.shape)] * 4, mask)
    stacked = jax.tree.map(lambda x: jnp.asarray(np.stack([x, x])[:, None]), batch)
    fewer = every(strides, stacked)
    got = [tuple(x) for x in fewer.obs[1, 0][fewer.mask[1, 0]].tolist()]
    expected = picked(lengths, horizon, strides)
    assert got == [(episode, step) for _, episode, step in expected]
    # Of whole episodes it is every m-th step of each.
    n, m = strides
    if min(lengths) == horizon:
        index = tuple(
            slice(min(stride // 2, size - 1), None, stride)
            for stride, size in zip(strides, mask.shape, strict=True)
        )
        assert got == [tuple(x) for x in place[index].reshape(-1, 2).tolist()]
    elif n == 1:  # and otherwise a share of the steps, at least one
        m = math.ceil(min(m, 2 * horizon) * max(lengths) / horizon)
        full = lengths.count(horizon)
        assert len(got) >= 1
        assert abs(len(got) * m - sum(lengths)) <= m * (1 + full)


def test_a_family_of_short_episodes_moves_under_the_usual_strides():
    tasks = point_navigation(horizon=40)
    plain = tasks.env.step_env

    def step_env(*args):
        obs, state, reward, terminated, info = plain(*args)
        return obs, state, reward, terminated | (state.time >= 3), info

    tasks.env.step_env = step_env
    region = TrustRegion(before_strides=(2, 5), after_strides=(1, 10))
    policy = MLPPolicy(action_dim=2, hidden_sizes=(4,))
    built = maml(tasks, policy, num_tasks=2, num_episodes=8, outer_optimizer=region)
    state = built.init(jax.random.key(0))
    new, info = jax.jit(built.step)(jax.random.key(1), state)
    assert info.accepted
    assert not info.skipped
    assert 1e-3 < info.kl <= 0.01
    moved = optax.tree.norm(optax.tree.sub(new.agent.params, state.agent.params))
    assert moved > 1e-2


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"before_strides": (0, 1)}, "each of before_strides must be .* 1; got 0"),
        ({"after_strides": (1, 2.5)}, "each of after_strides .* got 2.5"),
        ({"after_strides": 3}, "after_strides .* got 3"),
        ({"after_strides": (1, 2, 3)}, "after_strides must be two strides"),
        ({"max_kl": 0.0}, "max_kl must be above 0; got 0.0"),
        ({"max_kl": float("nan")}, "max_kl .* got nan"),
        ({"max_kl": 1e-60}, "max_kl .* got 1e-60"),
        ({"max_kl": "0.1"}, "max_kl .* got '0.1'"),
        ({"damping": -1e-5}, "damping must be at least 0; got -1e-05"),
        ({"damping": 1e39}, r"damping .* got 1e\+39"),
        ({"num_cg_iterations": 0}, "num_cg_iterations must be a whole .* got 0"),
        ({"max_backtracks": True}, "max_backtracks .* got True"),
        ({"backtrack_ratio": 1.0}, "backtrack_ratio must be below 1; got 1.0"),
    ],
)
def test_a_trust_region_checks_its_settings_when_it_is_made(kwargs, message):
    with pytest.raises(ValueError, match=message):
        TrustRegion(**kwargs)
