"""HyperX's bonuses against plain loops, and what is VariBAD's of it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import jit

from metarl_jax.algorithms.hyperx import hyperx
from metarl_jax.algorithms.varibad import varibad
from metarl_jax.bonuses import Moments, hyperstate_bonus, join_moments, no_moments
from metarl_jax.distributions import DiagGaussian
from metarl_jax.envs.bandit import bernoulli_bandit
from metarl_jax.policies.decoders import RewardPerState, transition_decoder
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.policies.recurrent import GRU
from metarl_jax.runs.experiment import Evaluation, Experiment
from metarl_jax.training import train
from metarl_jax.types import Trajectory

N, L, D, O = 3, 4, 2, 3  # noqa: E741
GAMMA, K = 0.9, 8
KEY = jax.random.key(5)
BANDITS = bernoulli_bandit(num_arms=2, horizon=3)
HEAD = mlp_policy(BANDITS, hidden_sizes=(3,), value_head=True)
SMALL = {
    **{"novelty_hidden_sizes": (4,), "novelty_output_size": 2, "novelty_scale": 3.0},
    **{"num_minibatches": 1, "discount": GAMMA, "decay_steps": K},
}
LENGTHS = (4, 2, 3)


def trials(key):
    """Trials `[N, L]` of different lengths, and beliefs `[N, L + 1]`."""
    keys = jax.random.split(key, 5)
    ones = jnp.ones((N, L))
    mask = jnp.arange(L) < jnp.array(LENGTHS)[:, None]
    cells = jax.random.randint(keys[0], (2, N, L), 0, O)
    obs, next_obs = jax.nn.one_hot(cells, O)
    # Nothing that stands on padding may count.
    reward = jnp.where(mask, 3.0 * jax.random.normal(keys[1], (N, L)), 1e3)
    action = jax.random.randint(keys[2], (N, L), 0, 2)
    false = jnp.zeros((N, L), bool)
    steps = Trajectory(obs, action, 0 * ones, reward, next_obs, false, false, mask)
    mean, log_std = jax.random.normal(keys[3], (2, N, L + 1, D))
    return steps, DiagGaussian(mean, 0.3 * log_std)


def dense(x, layer):
    return np.asarray(x) @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])


def plain_network(params, x):
    p = params["params"]
    return dense(np.maximum(dense(x, p["hidden_0"]), 0), p["output"])


def plain_error(name, params, latent, steps, i, t):
    """Half the squared error of a reward, or how unlikely it is that a state paid."""
    p, reward = params["params"], float(steps.reward[i, t])
    if name == "per state":
        logit = dense(np.maximum(dense(latent, p["hidden_0"]), 0), p["logits"])
        pays = 1 / (1 + np.exp(-logit[int(np.argmax(steps.next_obs[i, t]))]))
        return -np.log(pays if reward > 0 else 1 - pays)
    q, action = p["reward"], np.eye(2)[int(steps.action[i, t])]
    x = np.concatenate([steps.obs[i, t], action, steps.next_obs[i, t]])
    hidden = dense(latent, q["from_latent"]) + x @ np.asarray(q["from_step"]["kernel"])
    return 0.5 * (dense(np.maximum(hidden, 0), q["mean"])[0] - reward) ** 2


@pytest.mark.parametrize("name", ["transition", "per state"])
def test_rewards_and_statistics_are_a_plain_loop_s(name):
    """Of three steps of training, each with trials of its own."""
    decoder = {
        "transition": transition_decoder(BANDITS, hidden_sizes=(4,)),
        "per state": RewardPerState(O, hidden_sizes=(4,)),
    }[name]
    novelty_coeff, error_coeff, lr = 2.0, 0.7, 0.01
    bonus = hyperstate_bonus(
        decoder,
        novelty_coeff=novelty_coeff,
        error_coeff=error_coeff,
        novelty_optimizer=optax.sgd(lr),
        num_novelty_epochs=1,
        **SMALL,
    )
    steps, beliefs = trials(KEY)
    one = jax.tree.map(lambda x: x[0], (steps, beliefs))
    told = decoder.init(KEY, jnp.zeros((1, D)), one[0])
    state, step = bonus.init(KEY, *one), jit(bonus.step)
    seen: dict[str, list[float]] = {"novelty": [], "error": [], "reward": []}
    clipped = 0
    for k in range(3):
        steps, beliefs = trials(jax.random.fold_in(KEY, k))
        key = jax.random.fold_in(KEY, 10 + k)
        reward, new, info = step(key, state, told, steps, beliefs)
        keys = jax.random.split(jax.random.split(key)[0], N)
        raw: dict[tuple, dict[str, float]] = {}
        states = []
        for i in range(N):
            after = jax.tree.map(lambda x, i=i: x[i, 1:], beliefs)
            latents = np.asarray(after.sample(keys[i]))
            so_far = dict.fromkeys(seen, 0.0)
            for t in range(LENGTHS[i]):
                h = np.concatenate(
                    [steps.next_obs[i, t], after.mean[t], after.log_std[t]]
                )
                states.append(h)
                apart = plain_network(state.predictor, h) - plain_network(
                    state.random, h
                )
                raw[i, t] = {
                    "novelty": np.mean(apart**2),
                    "error": plain_error(name, told, latents[t], steps, i, t),
                    "reward": float(steps.reward[i, t]),
                }
                for what, value in raw[i, t].items():
                    so_far[what] = GAMMA * so_far[what] + value
                    seen[what].append(so_far[what])
        std = {what: np.std(values) for what, values in seen.items()}
        for (i, t), values in raw.items():
            n, e = (values[what] / std[what] for what in ("novelty", "error"))
            clipped += max(n, e) > 10
            added = novelty_coeff * min(n, 10) + error_coeff * min(e, 10)
            expected = values["reward"] + (1 - k / K) * std["reward"] * added
            np.testing.assert_allclose(reward[i, t], expected, rtol=1e-3)
        np.testing.assert_array_equal(reward[~steps.mask], 1e3)
        means = {w: np.mean([v[w] for v in raw.values()]) for w in ("novelty", "error")}
        np.testing.assert_allclose(info.novelty, means["novelty"], rtol=1e-3)
        np.testing.assert_allclose(info.error, means["error"], rtol=1e-3)

        def loss(predictor, states=states, random=state.random):
            total = 0.0
            for h in states:
                p = predictor["params"]
                hidden = jax.nn.relu(
                    h @ p["hidden_0"]["kernel"] + p["hidden_0"]["bias"]
                )
                out = hidden @ p["output"]["kernel"] + p["output"]["bias"]
                total += jnp.mean((out - plain_network(random, h)) ** 2)
            return total / len(states)

        moved = jax.grad(loss)(state.predictor)
        assert optax.tree.norm(moved) > 1e-2
        for got, was, g in zip(
            *map(jax.tree.leaves, (new.predictor, state.predictor, moved)), strict=True
        ):
            np.testing.assert_allclose(got, was - lr * g, rtol=1e-3, atol=1e-5)
        jax.tree.map(np.testing.assert_array_equal, new.random, state.random)
        state = new
    assert state.num_steps == 3


def test_the_random_network_is_larger_than_what_learns_it():
    def drawn(scale):
        bonus = hyperstate_bonus(
            RewardPerState(O),
            novelty_coeff=1.0,
            error_coeff=1.0,
            novelty_optimizer=optax.adam(1e-4),
            num_novelty_epochs=1,
            **{**SMALL, "novelty_scale": scale},
        )
        one = jax.tree.map(lambda x: x[0], trials(KEY))
        return bonus.init(KEY, *one)

    one, ten = drawn(1.0), drawn(10.0)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(10 * a, b), one[1], ten[1])
    jax.tree.map(np.testing.assert_array_equal, one.predictor, ten.predictor)


@pytest.mark.parametrize("sizes", [(1, 1), (5, 1, 7)])
def test_moments_joined_are_those_of_everything(sizes):
    """In float64 on far from zero, where Σx² - (Σx)² / n would keep nothing."""
    drawn = np.random.default_rng(0)
    groups = [1e4 + drawn.normal(size=(n, 2)) for n in sizes]
    moments = no_moments()
    for group in groups:
        x = np.append(group, np.full((1, 2), np.inf), axis=0)
        mask = np.isfinite(x)
        moments = join_moments(moments, jnp.asarray(x, jnp.float32), mask)
        assert isinstance(moments, Moments)
    everything = np.concatenate(groups).astype(np.float32).astype(float)
    assert moments.number == everything.size
    np.testing.assert_allclose(moments.mean, everything.mean(), rtol=1e-6)
    variance = moments.squares / moments.number
    np.testing.assert_allclose(variance, everything.var(), rtol=2e-2)


@pytest.mark.parametrize(("taken", "part"), [(0, 1.0), (4, 0.5), (7, 0.125), (8, 0.0)])
def test_bonuses_fall_to_nothing_at_the_end_of_training(taken, part, added):
    np.testing.assert_allclose(added(taken), part * added(0), rtol=1e-5)
    assert added(0) > 0.1
    assert added(K + 5) == 0


@pytest.fixture(scope="module")
def added():
    """What is added to a reward on average after so many steps."""
    decoder = RewardPerState(O, hidden_sizes=(4,))
    bonus = hyperstate_bonus(
        decoder,
        novelty_coeff=1.0,
        error_coeff=1.0,
        novelty_optimizer=optax.sgd(0.1),
        num_novelty_epochs=1,
        **SMALL,
    )
    steps, beliefs = trials(KEY)
    one = jax.tree.map(lambda x: x[0], (steps, beliefs))
    told = decoder.init(KEY, jnp.zeros((1, D)), one[0])
    state = bonus.init(KEY, *one)

    @jit
    def mean(taken):
        before = state._replace(num_steps=taken)
        return bonus.step(KEY, before, told, steps, beliefs)[2].added

    return lambda taken: float(mean(jnp.asarray(taken, jnp.int32)))


def small(algorithm, **kwargs):
    sizes = {"num_tasks": 2, "num_episodes": 2, "num_minibatches": 1, "latent_size": D}
    return algorithm(BANDITS, HEAD, core=GRU(3), discount=GAMMA, **sizes, **kwargs)


NOVEL = {"novelty_hidden_sizes": (3,), "novelty_output_size": 2, "decay_steps": K}


def test_without_weight_it_is_varibad_bit_for_bit():
    """Over two steps, of the program that otherwise learns something else."""

    def run(init, step, *arguments):
        state = init(KEY)
        for i in range(2):
            state, info = step(jax.random.key(i), state, *arguments)
        return state, info

    def step(key, state, weight):
        built = small(hyperx, novelty_coeff=weight, error_coeff=weight, **NOVEL)
        return built.step(key, state)

    plain, paid = small(varibad), small(hyperx, **NOVEL)
    # Two programs agree in their bits if operations are joined as they are for users.
    options = {"xla_cpu_use_fusion_emitters": True}
    theirs, _ = run(plain.init, jit(plain.step, compiler_options=options))
    step = jit(step, compiler_options=options)
    (mine, info), (other, _) = (run(paid.init, step, w) for w in (0.0, 1.0))
    assert theirs.bonus == ()
    for name in ("agent", "critic", "decoder", "belief_optimizer_state"):
        jax.tree.map(
            np.testing.assert_array_equal, getattr(mine, name), getattr(theirs, name)
        )
    moved = optax.tree.sub(mine.agent.params["policy"], other.agent.params["policy"])
    assert optax.tree.norm(moved) > 1e-5
    assert info.bonus.novelty > 0
    assert info.bonus.added == 0


def test_the_bonuses_of_every_seed_are_read_again_with_the_rest(tmp_path):
    """From a run's checkpoint: a step is a function of the state alone."""
    experiment = Experiment(BANDITS, small(hyperx, **NOVEL), 2, Evaluation(1, 1, 1))
    where = {"name": "hyperx", "num_seeds": 2, "quiet": True}
    run = train(experiment, output_dir=tmp_path / "run", **where)
    again = train(experiment, resume=tmp_path / "run", **where)
    jax.tree.map(np.testing.assert_array_equal, again.state, run.state)
    np.testing.assert_array_equal(again.state.bonus.num_steps, [2, 2])
    first, second = again.state.bonus.novelty.mean
    assert first != second
