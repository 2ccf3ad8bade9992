"""VariBAD against plain loops, on trials whose episodes end early."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import struct
from gymnax.environments import environment, spaces
from jax import jit
from microscopic import Info

from metarl_jax import make_experiment, rollout, trials
from metarl_jax.algorithms.varibad import _drawn, evidence_lower_bounds, varibad
from metarl_jax.distributions import DiagGaussian
from metarl_jax.envs.dark_room import dark_room
from metarl_jax.envs.grid_navigation import grid_navigation
from metarl_jax.envs.grids import shown
from metarl_jax.envs.gymnax_family import gymnax_family
from metarl_jax.experiments.grid_varibad import grid_varibad
from metarl_jax.methods.varibad import build as varibad_method
from metarl_jax.policies.belief import belief_policy
from metarl_jax.policies.decoders import (
    RewardPerState,
    reward_per_state_decoder,
    transition_decoder,
)
from metarl_jax.policies.memory import memory_policy
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.policies.recurrent import GRU
from metarl_jax.runs import schema
from metarl_jax.runs.evaluation import evaluate_run
from metarl_jax.settings import Mlp
from metarl_jax.training import train

N, E, T, D = 3, 2, 3, 2
DISCOUNT, GAE_LAMBDA, ENTROPY, VALUE, KL = 0.9, 0.7, 0.03, 0.4, 0.6
KEY = jax.random.key(3)


@struct.dataclass(kw_only=True)
class State(environment.EnvState):
    """The number of steps taken."""


@struct.dataclass(kw_only=True)
class Params(environment.EnvParams):
    reward: jax.Array  # [3] of each action


class Ending(environment.Environment):
    """Three actions lead to a state each; the last of them ends the episode."""

    def reset_env(self, key, params):
        return jnp.zeros(3), State(time=0)

    def step_env(self, key, state, action, params):
        state = State(time=state.time + 1)
        reward = params.reward[action]
        return jax.nn.one_hot(action, 3), state, reward, action == 2, {}

    def action_space(self, params=None):
        return spaces.Discrete(3)

    def observation_space(self, params):
        return spaces.Box(0.0, 1.0, (3,))


TASKS = gymnax_family(
    Ending(), lambda key: Params(reward=jax.random.normal(key, (3,))), horizon=T
)
HEAD = mlp_policy(TASKS, hidden_sizes=(4,), activation=jnp.tanh, value_head=True)
CRITIC = mlp_policy(TASKS, hidden_sizes=(3,), value_head=True)
DECODER = RewardPerState(3, hidden_sizes=(4,))
POLICY = belief_policy(TASKS, HEAD, GRU(5), latent_size=D)


def build(**kwargs):
    kwargs = {"latent_size": D, "decoder": DECODER, "num_minibatches": 1, **kwargs}
    return varibad(TASKS, HEAD, core=GRU(5), num_tasks=N, num_episodes=E, **kwargs)


@pytest.fixture(scope="module")
def start():
    """A state whose biases are not zero, or their place would not matter."""
    algorithm = build(critic=CRITIC)
    state = jit(algorithm.init)(jax.random.key(0))
    return jax.tree.map(
        lambda x: (
            x + 0.3 * jnp.cos(1.0 + jnp.arange(x.size)).reshape(x.shape)
            if x.dtype == jnp.float32
            else x
        ),
        state,
    )._replace(agent=state.agent)


def with_optimizers(start, algorithm):
    """The same state for an algorithm whose optimisers remember nothing."""
    names = ("policy_optimizer_state", "belief_optimizer_state")
    given = jax.eval_shape(algorithm.init, KEY)
    return start._replace(**{name: getattr(given, name) for name in names})


@pytest.fixture(scope="module")
def data(start):
    """The trials `[N, L]` that a step with `KEY` sees."""
    key_tasks, key_collect, _, _ = jax.random.split(KEY, 4)

    @jit
    def collect(key, key_task):
        trajectories = rollout.collect(
            key, TASKS, POLICY, start.agent, TASKS.sample(key_task), num_episodes=E
        )[1]
        return trials.stream(trajectories)

    keys = jax.random.split(key_collect, N), jax.random.split(key_tasks, N)
    steps = jax.vmap(collect)(*keys)
    lengths = steps.mask.sum(axis=1)
    assert len(set(lengths.tolist())) > 1
    assert lengths.min() < E * T
    return steps


def dense(x, layer):
    return x @ layer["kernel"] + layer.get("bias", 0.0)


def plain_gru(p, state, x):
    a = jnp.split(x @ p["input_kernel"] + p["bias"], 3)
    b = jnp.split(state @ p["recurrent_kernel"], 3)
    r, z = jax.nn.sigmoid(a[0] + b[0]), jax.nn.sigmoid(a[1] + b[1])
    new = jnp.tanh(a[2] + r * (b[2] + p["recurrent_bias"]))
    return (1 - z) * new + z * state


def plain_beliefs(encoder, trial):
    """Means and log standard deviations before each step and after the last."""
    p, state, x, beliefs = encoder["params"], jnp.zeros(5), jnp.zeros(7), []
    for t in range(len(trial) + 1):
        state = plain_gru(p["core"], state, x)
        y = dense(state, p["readout"])
        beliefs.append((y[:D], y[D:]))
        if t < len(trial):
            step = trial[t]
            x = jnp.array([*np.eye(3)[step.action], step.reward, *step.next_obs])
    return beliefs


def plain_decoder(decoder, latent):
    p = decoder["params"]
    return dense(jax.nn.relu(dense(latent, p["hidden_0"])), p["logits"])


def plain_kl(q, p):
    (m, s), (n, u) = q, p
    ratio = jnp.exp(2 * s) / jnp.exp(2 * u) + (m - n) ** 2 / jnp.exp(2 * u)
    return sum(0.5 * (ratio - 1) + u - s)


def plain_bounds(noise, beliefs, decoder, trial):
    """By the definition: for every belief, every step of the trial."""
    before, terms = (jnp.zeros(D), jnp.zeros(D)), []
    for e, (mean, log_std) in zip(noise, beliefs, strict=False):
        logits = plain_decoder(decoder, mean + jnp.exp(log_std) * e)
        log_likelihood = 0.0
        for step in trial:
            p = 1 / (1 + jnp.exp(-logits[int(np.argmax(step.next_obs))]))
            log_likelihood += jnp.log(p if step.reward > 0 else 1 - p)
        terms.append((log_likelihood, plain_kl((mean, log_std), before)))
        before = mean, log_std
    return terms


def as_lists(steps):
    """Trials as lists of the steps that were taken."""
    return [
        [
            jax.tree.map(lambda x, i=i, t=t: np.asarray(x[i, t]), steps)
            for t in range(E * T)
            if steps.mask[i, t]
        ]
        for i in range(N)
    ]


def plain_advantages(rewards, values):
    """By the definition: a double sum over the steps of a whole trial."""
    values = [*values, 0.0]
    delta = [r + DISCOUNT * values[t + 1] - values[t] for t, r in enumerate(rewards)]
    decay = DISCOUNT * GAE_LAMBDA
    return [
        sum(decay ** (k - t) * delta[k] for k in range(t, len(delta)))
        for t in range(len(delta))
    ]


def plain_act(params, trial, beliefs):
    """Log-probabilities of all actions and values, step by step."""
    log_probs, values, first = [], [], 0
    for t, step in enumerate(trial):
        seen = jnp.concatenate([step.obs, *beliefs[t]])
        p, q = (params[name]["params"] for name in ("policy", "critic"))
        hidden = jnp.tanh(dense(seen, p["hidden_0"]))
        log_probs.append(jax.nn.log_softmax(dense(hidden, p["logits"])))
        seen = jnp.append(seen, jnp.array([t, t - first]) / (E * T))
        hidden = jax.nn.relu(dense(seen, q["hidden_0"]))
        values.append(dense(hidden, q["value"])[0])
        if step.terminated or step.truncated:
            first = t + 1
    return log_probs, values


@pytest.mark.parametrize("policy_moves_encoder", [False, True])
def test_the_step_is_a_plain_loop_s(start, data, policy_moves_encoder):
    """One step of plain gradient descent on each of the two losses."""

    def run(lr, discount, gae_lambda, entropy, value, kl):
        algorithm = build(
            critic=CRITIC,
            num_epochs=1,
            num_belief_epochs=1,
            outer_optimizer=optax.sgd(lr),
            belief_optimizer=optax.sgd(lr),
            policy_moves_encoder=policy_moves_encoder,
            discount=discount,
            gae_lambda=gae_lambda,
            entropy_coeff=lambda step: entropy * step,
            value_coeff=value,
            kl_coeff=kl,
        )
        state = with_optimizers(start, algorithm)
        return algorithm.step(KEY, state._replace(step=start.step + 1))

    # Every number may be traced: a sweep is one program; its first member is checked.
    settings = [0.1, DISCOUNT, GAE_LAMBDA, ENTROPY, VALUE, KL]
    state, info = jax.tree.map(
        lambda x: x[0], jit(jax.vmap(run))(*(jnp.array([x, x / 2]) for x in settings))
    )

    trial_list = as_lists(data)
    params = {**start.agent.params, "critic": start.critic, "decoder": start.decoder}
    held = [plain_beliefs(params["encoder"], trial) for trial in trial_list]
    advantage, target = [], []
    for trial, beliefs in zip(trial_list, held, strict=True):
        values = [float(v) for v in plain_act(params, trial, beliefs)[1]]
        rewards = [float(step.reward) for step in trial]
        advantage.append(plain_advantages(rewards, values))
        target.append(np.array(advantage[-1]) + values)
    everything = np.concatenate(advantage)
    scale, variance = everything.std(), np.var(np.concatenate(target))

    def policy_loss(params):
        total = 0.0
        for i, trial in enumerate(trial_list):
            beliefs = held[i]
            if policy_moves_encoder:
                beliefs = plain_beliefs(params["encoder"], trial)
            log_probs, values = plain_act(params, trial, beliefs)
            for t, step in enumerate(trial):
                # Fresh data: the gradient of the clipped ratio is that of log π.
                a = (advantage[i][t] - everything.mean()) / scale
                entropy = -jnp.sum(jnp.exp(log_probs[t]) * log_probs[t])
                error = (values[t] - target[i][t]) ** 2 / variance
                total += (
                    VALUE * error - ENTROPY * entropy - a * log_probs[t][step.action]
                )
        return total / len(everything)

    key_order, key_updates = jax.random.split(jax.random.split(KEY, 4)[3])
    order = jax.random.permutation(jax.random.split(key_order, 1)[0], N)
    keys = jax.random.split(jax.random.split(key_updates, 1)[0], N)

    def belief_loss(params):
        total, count, first = 0.0, 0, []
        for key, i in zip(keys, order, strict=True):
            trial = trial_list[i]
            noise = jax.random.normal(key, (E * T + 1, D))
            beliefs = plain_beliefs(params["encoder"], trial)
            terms = plain_bounds(noise, beliefs, params["decoder"], trial)
            total += sum(KL * kl - log_p for log_p, kl in terms)
            first += terms
            count += len(terms)
        return total / count, jnp.mean(jnp.array(first), axis=0)

    # Not compiled: a program of so many small steps compiles for longer than it runs.
    moved = jax.grad(policy_loss)(params)
    new = jax.tree.map(lambda p, g: p - 0.1 * g, params, moved)
    gradient, (log_likelihood, information) = jax.grad(belief_loss, has_aux=True)(new)
    new = jax.tree.map(lambda p, g: p - 0.1 * g, new, gradient)
    actual = {**state.agent.params, "critic": state.critic, "decoder": state.decoder}
    for path, leaf in jax.tree_util.tree_leaves_with_path(new):
        was, now = params, actual
        for entry in path:
            was, now = was[entry.key], now[entry.key]
        np.testing.assert_allclose(now, leaf, rtol=1e-3, atol=1e-5, err_msg=str(path))
        # With a critic of its own the policy's value head is idle, and a critic's
        # actions always are.
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        idle = "policy/params/value" in name or "critic/params/logits" in name
        assert (np.abs(leaf - was).max() > 1e-5) != idle, name
    assert (optax.tree.norm(moved["encoder"]) > 1e-3) == policy_moves_encoder
    np.testing.assert_allclose(info.log_likelihood, log_likelihood, rtol=1e-4)
    np.testing.assert_allclose(info.information, information, rtol=1e-4)
    assert not info.skipped
    # The next trial begins as the first did: training leaves no memory behind.
    jax.tree.map(np.testing.assert_array_equal, state.agent.memory, start.agent.memory)


def test_stepping_is_unrolling_and_a_belief_knows_the_past_only(start, data):
    params, steps = start.agent.params, jax.tree.map(lambda x: x[0], data)
    apply, memory = jit(POLICY.apply), POLICY.initial_memory()
    beliefs = jit(POLICY.beliefs)(params, memory, steps)
    distributions, values = jit(POLICY.unroll)(params, memory, steps)
    for t, step in enumerate(as_lists(data)[0]):
        belief = POLICY.belief(params, memory)
        np.testing.assert_allclose(belief.mean, beliefs.mean[t], atol=1e-5)
        np.testing.assert_allclose(belief.log_std, beliefs.log_std[t], atol=1e-5)
        distribution, value, memory = apply(params, memory, step.obs)
        np.testing.assert_allclose(
            distribution.logits, distributions.logits[t], atol=1e-5
        )
        np.testing.assert_allclose(value, values[t], atol=1e-5)
        memory = POLICY.observe(memory, step)
    # The last reward of an episode reaches the belief that the next one begins with.
    ends = np.flatnonzero(steps.terminated | steps.truncated)
    k = int(ends[0])
    changed = steps._replace(reward=steps.reward.at[k].add(1.0))
    other = jit(POLICY.beliefs)(params, POLICY.initial_memory(), changed)
    same = np.all(beliefs.mean == other.mean, axis=1)
    assert same[: k + 1].all()
    assert not same[k + 1 :].any()


def test_the_belief_lives_as_long_as_the_trial(start):
    agent, task = start.agent, TASKS.sample(KEY)
    algorithm = build()

    @jit
    def act(key, agent):
        return rollout.collect(key, TASKS, POLICY, agent, task, num_episodes=1)

    after_one, first = act(KEY, agent)
    assert algorithm.adapt(KEY, after_one, first) is after_one
    _, second = act(KEY, after_one)
    _, again = act(KEY, agent)
    assert first.log_prob[0, 0] == again.log_prob[0, 0] != second.log_prob[0, 0]


def test_ratios_are_one_before_the_first_update(start):
    """What was inferred step by step when acting is what training sees."""

    @jit
    def clipped(lr):
        algorithm = build(
            critic=CRITIC,
            num_epochs=2,
            outer_optimizer=optax.sgd(lr),
            belief_optimizer=optax.set_to_zero(),
            clip_range=1e-5,
        )
        return algorithm.step(KEY, with_optimizers(start, algorithm))[1]

    info = clipped(0.0)
    assert info.clip_fraction == 0
    assert info.kl < 1e-7
    # As soon as the policy moves, nearly every ratio leaves so small a range.
    assert clipped(0.1).clip_fraction > 0.5


def random_gaussians(key, shape):
    mean, log_std = jax.random.normal(key, (2, *shape))
    return DiagGaussian(mean, 0.5 * log_std)


@pytest.mark.parametrize("name", ["per state", "transition"])
def test_bounds_are_the_double_sum(name, data):
    """Of each belief over every step, past and future, and of nothing padded."""
    steps, trial = jax.tree.map(lambda x: x[0], data), as_lists(data)[0]
    beliefs = random_gaussians(KEY, (E * T + 1, D))
    latents = beliefs.sample(KEY)
    if name == "per state":
        # Observations that are not one-hot, and another threshold.
        decoder = RewardPerState(
            4, threshold=0.3, one_hot=lambda obs: jnp.roll(jnp.append(obs, 0.0), 1)
        )
    else:
        decoder = transition_decoder(TASKS, decode_state=True)
    poisoned = steps._replace(
        reward=jnp.where(steps.mask, steps.reward, 1e6),
        next_obs=jnp.where(steps.mask[:, None], steps.next_obs, 1e6),
    )
    params = decoder.init(KEY, latents, steps)
    log_likelihood, divergence = jit(
        lambda key: evidence_lower_bounds(
            key, beliefs, lambda x: decoder.apply(params, x, poisoned)
        )
    )(KEY)

    def network(p, x, first):
        for layer in (first, "hidden_0", "hidden_1"):
            if layer in p:
                x = jax.nn.relu(dense(x, p[layer]))
        return dense(x, p["mean"])

    p, zero = params["params"], (jnp.zeros(D), jnp.zeros(D))
    pairs = list(zip(beliefs.mean, beliefs.log_std, strict=True))
    for i, latent in enumerate(latents):
        total = 0.0
        for step in trial:
            if name == "per state":
                hidden = jax.nn.relu(dense(latent, p["hidden_0"]))
                hidden = jax.nn.relu(dense(hidden, p["hidden_1"]))
                logit = dense(hidden, p["logits"])[1 + int(np.argmax(step.next_obs))]
                pays = 1 / (1 + np.exp(-logit))
                total += np.log(pays if step.reward > 0.3 else 1 - pays)
                continue
            before = np.array([*step.obs, *np.eye(3)[step.action]])
            for q, x, target in (
                (p["reward"], [*before, *step.next_obs], step.reward[None]),
                (p["state"], before, step.next_obs),
            ):
                kernel = jnp.concatenate(
                    [q["from_latent"]["kernel"], q["from_step"]["kernel"]]
                )
                bias = q["from_latent"]["bias"]
                joined = {**q, "first": {"kernel": kernel, "bias": bias}}
                mean = network(joined, jnp.array([*latent, *x]), "first")
                total -= np.sum((target - mean) ** 2 + np.log(2 * np.pi)) / 2
        np.testing.assert_allclose(log_likelihood[i], total, rtol=1e-4)
        kl = plain_kl(pairs[i], pairs[i - 1] if i else zero)
        np.testing.assert_allclose(divergence[i], kl, rtol=1e-3)


def test_what_a_belief_says_of_states_is_the_mean_over_it(data):
    """Against the integral over one latent number."""
    decoder = RewardPerState(3, hidden_sizes=(8,))
    params = decoder.init(KEY, jnp.zeros((1, 1)), jax.tree.map(lambda x: x[0], data))
    beliefs = DiagGaussian(
        jnp.array([[0.5], [-2.0]]), jnp.log(jnp.array([[2.0], [0.3]]))
    )
    actual = decoder.apply(
        params, KEY, beliefs, num_samples=20_000, method="which_pays"
    )
    z = np.linspace(-8, 8, 2001)
    weight = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
    for i in range(2):
        m = float(beliefs.mean[i, 0]) + np.exp(float(beliefs.log_std[i, 0])) * z
        logits = jax.vmap(lambda x: plain_decoder(params, x[None]))(m)
        odds = np.exp(logits)
        expected = weight @ (odds / odds.sum(axis=1, keepdims=True))
        np.testing.assert_allclose(actual[i], expected, atol=0.01)
    assert np.ptp(actual) > 0.1


def test_bounds_of_some_estimate_those_of_all(data):
    steps = jax.tree.map(lambda x: x[0], data)
    length = E * T
    # Beliefs so sure that a sample is the mean: what is left at random is the draw.
    mean = jax.random.normal(KEY, (length + 1, D))
    beliefs = DiagGaussian(mean, jnp.full_like(mean, -20.0))
    decoder = transition_decoder(TASKS)
    params = decoder.init(KEY, mean, steps)

    def bounds(key, num_bounds, num_decoded):
        some, which, scale = _drawn(key, steps, num_decoded)
        assert which.shape == (num_decoded,)
        return evidence_lower_bounds(
            jax.random.fold_in(key, 1),
            beliefs,
            lambda x: scale * decoder.apply(params, x, some),
            num_bounds=num_bounds,
        )

    everything = decoder.apply(params, mean, steps)
    actual = bounds(KEY, length + 1, length)[0]
    np.testing.assert_allclose(actual, everything, rtol=1e-4)
    keys = jax.random.split(KEY, 4000)
    some, information = jax.jit(jax.vmap(lambda key: bounds(key, 2, 3)))(keys)
    assert jnp.sum(some != 0, axis=1).max() == 2
    expected = evidence_lower_bounds(KEY, beliefs, jnp.sum)[1]
    np.testing.assert_allclose(information[0], expected, rtol=1e-5)
    error = some.std(axis=0) / np.sqrt(len(keys))
    np.testing.assert_array_less(jnp.abs(some.mean(axis=0) - everything), 5 * error)


@pytest.mark.parametrize(
    ("policy", "kwargs", "message"),
    [
        (HEAD, {"num_bounds": 0}, "num_bounds .* got 0"),
        (HEAD, {"num_bounds": 99}, "num_bounds must be at most .*; got 99"),
        (HEAD, {"num_decoded": 98}, "num_decoded must be at most .*; got 98"),
        (HEAD, {"num_minibatches": 3}, "must divide num_tasks; got 3 and 4"),
        (HEAD, {"num_belief_epochs": 0}, "num_belief_epochs .* got 0"),
        (HEAD, {"latent_size": 0}, "latent_size .* got 0"),
        (HEAD, {"discount": 1.5}, "discount must be between 0 and 1; got 1.5"),
        (HEAD, {"clip_range": 0.0}, "clip_range must be above 0; got 0.0"),
        (HEAD, {"kl_coeff": -1.0}, "kl_coeff must be at least 0; got -1.0"),
        (memory_policy(TASKS, GRU(5)), {}, "policy without one is required"),
        (HEAD, {"critic": memory_policy(TASKS, GRU(5))}, "critic has memory"),
    ],
)
def test_wrong_arguments_are_refused(policy, kwargs, message):
    with pytest.raises(ValueError, match=message):
        varibad(TASKS, policy, num_tasks=4, **kwargs)


@pytest.mark.parametrize(
    ("world", "options"),
    [
        ("grid-navigation", {"show_task": True}),
        ("grid-navigation", {"observation": "coordinates", "show_task": True}),
        ("cartpole", {}),
    ],
)
def test_a_reward_per_state_needs_states_that_are_shown(world, options):
    options = {"decoder": "reward-per-state", **options}
    with pytest.raises(ValueError, match=r"are one-hot, .* are not: \["):
        make_experiment(world, method="varibad", **options)


@pytest.mark.parametrize("family", [grid_navigation, dark_room])
@pytest.mark.parametrize("observation", ["one_hot", "coordinates"])
def test_a_cell_is_a_state_however_it_is_shown(family, observation):
    which = reward_per_state_decoder(family(size=3, observation=observation)).one_hot
    cells = [jnp.array([x, y]) for x in range(3) for y in range(3)]
    seen = [which(shown(cell, 3, observation)) for cell in cells]
    np.testing.assert_array_equal(seen, np.eye(9))


def test_the_entropy_s_weight_falls_where_it_is_told_to(monkeypatch):
    monkeypatch.setattr(
        "metarl_jax.methods.varibad.make_varibad", lambda *_, **chosen: chosen
    )
    given, options = (grid_navigation(), Mlp()), {"entropy_coeff": 0.4}
    assert varibad_method(*given, **options)["entropy_coeff"] == 0.4
    falling = varibad_method(*given, **options, entropy_decay_steps=4)["entropy_coeff"]
    np.testing.assert_allclose(
        [falling(step) for step in (0, 2, 4, 5)], [0.4, 0.2, 0, 0]
    )
    with pytest.raises(ValueError, match=r"entropy_decay_steps .* got 0"):
        varibad_method(*given, entropy_decay_steps=0)


@pytest.mark.parametrize("observation", ["one_hot", "coordinates"])
def test_what_is_drawn_of_a_grid_is_recorded_beside_the_exact_posterior(
    tmp_path, observation
):
    """Through a run's files, of an agent that has not been trained."""
    experiment = grid_varibad(
        num_tasks=2,
        num_episodes=1,
        horizon=30,
        size=3,
        observation=observation,
        hidden_sizes=(3,),
        decoder_hidden_sizes=(3,),
        num_minibatches=1,
        num_steps=1,
    )
    info, run = Info(jnp.zeros(()), jnp.zeros(()), jnp.asarray(False)), tmp_path / "run"
    idle = experiment.algorithm._replace(step=lambda key, state: (state, info))
    experiment = experiment._replace(algorithm=idle)
    train(experiment, name="grid-varibad", output_dir=run, quiet=True)
    evaluate_run(experiment, run, num_tasks=2, num_adaptation_steps=0, quiet=True)
    recorded = schema.read_json(run / "goal_beliefs.json")
    learned, exact = np.array(recorded["learned"]), np.array(recorded["exact"])
    assert learned.shape == exact.shape == (2, 31, 5, 5)
    np.testing.assert_allclose(learned.sum(axis=(2, 3)), 1.0, atol=0.01)
    assert recorded["horizon"] == 30
    found = []
    for n in range(2):
        possible = {(x, y) for x in range(5) for y in range(5) if max(x, y) > 1}
        goal = tuple(recorded["goal"][n])
        for t in range(31):
            cell = tuple(recorded["cell"][n][t])
            possible = {goal} if cell == goal else possible - {cell}
            expected = np.zeros((5, 5))
            expected[tuple(np.transpose(list(possible)))] = 1 / len(possible)
            np.testing.assert_allclose(exact[n, t], expected, atol=1e-4)
        found.append(len(possible) == 1)
    # One of the two walks meets its goal, where cells are shown so.
    assert observation == "coordinates" or sorted(found) == [False, True]
