"""RL² against a plain loop, on trials whose episodes end early."""

import dataclasses
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import struct
from gymnax.environments import environment, spaces
from jax import jit

from metarl_jax import make_experiment, rollout
from metarl_jax.algorithms.rl2 import rl2
from metarl_jax.distributions import Categorical
from metarl_jax.envs.bandit import bernoulli_bandit
from metarl_jax.envs.gymnax_family import gymnax_family
from metarl_jax.experiments.bandit_rl2 import bandit_rl2
from metarl_jax.experiments.grid_rl2 import grid_rl2
from metarl_jax.methods.rl2 import build as rl2_method
from metarl_jax.policies.hypernetwork import hypernetwork_policy, normc
from metarl_jax.policies.memory import memory_policy
from metarl_jax.policies.mlp import MLPPolicy
from metarl_jax.policies.recurrent import GRU
from metarl_jax.settings import PPO, Memory
from metarl_jax.trust_region import TrustRegion

N, E, T = 4, 3, 4
DISCOUNT, GAE_LAMBDA, CLIP, ENTROPY, VALUE = 0.9, 0.7, 0.05, 0.03, 0.4
KEY = jax.random.key(3)


@struct.dataclass(kw_only=True)
class State(environment.EnvState):
    """The number of steps taken."""


@struct.dataclass(kw_only=True)
class Params(environment.EnvParams):
    reward: jax.Array  # [3] of each action


class Ending(environment.Environment):
    """The last of three actions ends the episode."""

    def reset_env(self, key, params):
        return jnp.ones(1), State(time=0)

    def step_env(self, key, state, action, params):
        state = State(time=state.time + 1)
        return jnp.ones(1), state, params.reward[action], action == 2, {}

    def action_space(self, params=None):
        return spaces.Discrete(3)

    def observation_space(self, params):
        return spaces.Box(1.0, 1.0, (1,))


TASKS = gymnax_family(
    Ending(), lambda key: Params(reward=jax.random.normal(key, (3,))), horizon=T
)


class Sum(NamedTuple):
    """A policy whose memory is the sum of all rewards and how many steps it took."""

    def init(self, key, memory, obs):
        logits, value = jnp.array([[0.4, 0.1, -0.6], [0.2, -0.3, 0.1]]), jnp.ones(2)
        return {"logits": logits, "value": 0.3 * value}

    def apply(self, params, memory, obs):
        features = jnp.stack([memory[0], memory[1] / 10])
        logits = features @ params["logits"]
        return Categorical(logits), features @ params["value"], memory

    def initial_memory(self):
        return jnp.zeros(2)

    def observe(self, memory, transition):
        return memory + jnp.stack([transition.reward, 1.0])


def collect(params):
    """The trials that a step with `KEY` sees, as plain lists of their taken steps."""
    key_tasks, key_collect, key_shuffle = jax.random.split(KEY, 3)
    task_batch = jax.vmap(TASKS.sample)(jax.random.split(key_tasks, N))
    policy = Sum()

    def one_task(key, task):
        agent = rollout.Agent(params, policy.initial_memory())
        return rollout.collect(key, TASKS, policy, agent, task, num_episodes=E)[1]

    data = jit(jax.vmap(one_task))(jax.random.split(key_collect, N), task_batch)
    return data, key_shuffle


def plain_advantages(rewards, values):
    """By the definition: a double sum over the steps of a whole trial."""
    values = [*values, 0.0]
    delta = [r + DISCOUNT * values[t + 1] - values[t] for t, r in enumerate(rewards)]
    decay = DISCOUNT * GAE_LAMBDA
    return [
        sum(decay ** (k - t) * delta[k] for k in range(t, len(delta)))
        for t in range(len(delta))
    ]


def unpacked(data):
    """Trials as lists of `(episode, action, log_prob, reward)` of the steps taken."""
    return [
        [
            (e, data.action[i, e, t], data.log_prob[i, e, t], data.reward[i, e, t])
            for e in range(E)
            for t in range(T)
            if data.mask[i, e, t]
        ]
        for i in range(N)
    ]


def plain_pass(params, trial):
    """Log-probabilities of all actions and values, step by step."""
    total, count, log_probs, values = 0.0, 0, [], []
    for _, _, _, reward in trial:
        features = jnp.array([total, count / 10])
        log_probs.append(jax.nn.log_softmax(features @ params["logits"]))
        values.append(features @ params["value"])
        total, count = total + reward, count + 1
    return log_probs, values


def after_a_step(value):
    """A schedule that is there after one step, and at no other."""
    return lambda step: value * step


@pytest.mark.parametrize(
    ("num_exploration_episodes", "scheduled", "task_group_size"),
    [(0, lambda value: value, None), (1, after_a_step, 1)],
    ids=["numbers", "schedules and groups"],
)
def test_the_step_is_a_plain_loop_s(
    num_exploration_episodes, scheduled, task_group_size
):
    """Two epochs of two minibatches by plain gradient descent."""
    lr = 2.0

    def run(lr, clip, entropy, value, discount, gae_lambda):
        algorithm = rl2(
            TASKS,
            Sum(),
            num_tasks=N,
            num_episodes=E,
            num_exploration_episodes=num_exploration_episodes,
            num_epochs=2,
            num_minibatches=2,
            outer_optimizer=optax.sgd(lr),
            clip_range=clip,
            entropy_coeff=scheduled(entropy),
            value_coeff=value,
            discount=discount,
            gae_lambda=scheduled(gae_lambda),
            task_group_size=task_group_size,
        )
        start = algorithm.init(jax.random.key(0))
        return algorithm.step(KEY, start._replace(step=start.step + 1))

    # Every number may be traced: a sweep is one program; its first member is checked.
    settings = [lr, CLIP, ENTROPY, VALUE, DISCOUNT, GAE_LAMBDA]
    state, info = jax.tree.map(
        lambda x: x[0], jit(jax.vmap(run))(*(jnp.array([x, x / 2]) for x in settings))
    )

    start = Sum().init(None, None, None)
    data, key_shuffle = collect(start)
    trial_list = unpacked(data)
    lengths = [len(trial) for trial in trial_list]
    assert len(set(lengths)) > 1
    assert not data.mask.all()
    advantage, target = [], []
    for trial in trial_list:
        counted = [float(r) * (e >= num_exploration_episodes) for e, _, _, r in trial]
        values = [float(v) for v in plain_pass(start, trial)[1]]
        advantage.append(plain_advantages(counted, values))
        target.append([a + v for a, v in zip(advantage[-1], values, strict=True)])
    everything = np.concatenate(advantage)
    advantage = [
        (np.array(a) - everything.mean()) / everything.std() for a in advantage
    ]

    def loss(params, members):
        total, count, clipped = 0.0, 0, 0
        variance = np.var(np.concatenate([target[i] for i in members]))
        for i in members:
            log_probs, values = plain_pass(params, trial_list[i])
            for t, (_, action, old, _) in enumerate(trial_list[i]):
                a = advantage[i][t]
                ratio = jnp.exp(log_probs[t][action] - old)
                kept = jnp.minimum(ratio * a, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * a)
                entropy = -jnp.sum(jnp.exp(log_probs[t]) * log_probs[t])
                error = (values[t] - target[i][t]) ** 2 / variance
                total += VALUE * error - kept - ENTROPY * entropy
                clipped += kept < ratio * a
                count += 1
        return total / count, clipped

    params, clipped = start, 0
    # Not compiled: a program of so many small steps compiles for longer than it runs.
    for key in jax.random.split(key_shuffle, 2):
        order = np.asarray(jax.random.permutation(key, N)).reshape(2, -1)
        for members in order:
            gradient, count = jax.grad(loss, has_aux=True)(params, members)
            params = jax.tree.map(lambda p, g: p - lr * g, params, gradient)
            clipped += int(count)
    assert clipped >= 3
    for name in ("logits", "value"):
        np.testing.assert_allclose(
            state.agent.params[name], params[name], rtol=1e-3, atol=1e-5
        )
        assert np.abs(params[name] - start[name]).max() > 0.05
    returns = np.sum(np.where(data.mask, data.reward, 0.0), axis=-1).mean(axis=0)
    np.testing.assert_allclose(info.episode_returns, returns, rtol=1e-5)
    assert info.return_before == info.episode_returns[0]
    assert info.return_after == info.episode_returns[-1]


def test_what_learns_is_told_what_the_policy_is_not():
    """A step by plain gradient descent, one step of a trial after the other."""
    tasks = TASKS._replace(
        expected_reward=lambda task, steps: 1.0 - task.reward[steps.action]
    )
    policy = memory_policy(TASKS, GRU(3), hidden_sizes=(2,))
    critic = MLPPolicy(num_actions=1, hidden_sizes=(4,), value_head=True)
    algorithm = rl2(
        tasks,
        policy,
        critic=critic,
        critic_sees=lambda task: 2.0 * task.reward[:2],
        expected_rewards=True,
        num_tasks=N,
        num_episodes=E,
        num_epochs=1,
        num_minibatches=1,
        outer_optimizer=optax.sgd(1.0),
        critic_optimizer=optax.sgd(0.5),
        entropy_coeff=ENTROPY,
        value_coeff=VALUE,
        discount=DISCOUNT,
        gae_lambda=GAE_LAMBDA,
    )
    start = algorithm.init(jax.random.key(0))
    state, info = jit(algorithm.step)(KEY, start)
    key_tasks, key_collect, _ = jax.random.split(KEY, 3)
    task_batch = jax.vmap(TASKS.sample)(jax.random.split(key_tasks, N))
    data = jit(
        jax.vmap(
            lambda key, task: rollout.collect(
                key, TASKS, policy, start.agent, task, num_episodes=E
            )[1]
        )
    )(jax.random.split(key_collect, N), task_batch)
    places = [
        [(i, e, t) for e in range(E) for t in range(T) if data.mask[i, e, t]]
        for i in range(N)
    ]

    @jit
    def plain(params, told, time, memory, transition):
        acting, theta = params
        distribution, own, new = policy.apply(theta, memory, transition.obs)
        # What a GRU recalls is its state, which the critic does not move.
        recalled = jax.lax.stop_gradient(new.state)
        seen = jnp.concatenate([recalled, told, time[None]])
        value = critic.apply(acting, (), seen)[1]
        return distribution.logits, value, own, policy.observe(new, transition)

    def walk(params, i):
        memory, outputs = policy.initial_memory(), []
        told = 2.0 * task_batch.reward[i, :2]
        for step, place in enumerate(places[i]):
            transition = jax.tree.map(lambda x, at=place: x[at], data)
            *output, memory = plain(
                params, told, jnp.float32(step / (E * T)), memory, transition
            )
            outputs.append(output)
        return outputs

    first = start.critic, start.agent.params
    values = [[float(output[1]) for output in walk(first, i)] for i in range(N)]
    advantage = [
        plain_advantages([1.0 - float(data.reward[at]) for at in places[i]], values[i])
        for i in range(N)
    ]
    target = [np.add(advantage[i], values[i]) for i in range(N)]
    everything = np.concatenate(advantage)
    variance = np.var(np.concatenate(target))

    def loss(params):
        total, unexplained = 0.0, 0.0
        for i in range(N):
            for t, (logits, value, own) in enumerate(walk(params, i)):
                at = places[i][t]
                a = (advantage[i][t] - everything.mean()) / everything.std()
                log_probs = jax.nn.log_softmax(logits)
                ratio = jnp.exp(log_probs[data.action[at]] - data.log_prob[at])
                entropy = -jnp.sum(jnp.exp(log_probs) * log_probs)
                error = (value - target[i][t]) ** 2 / variance
                unexplained += error
                error += (own - target[i][t]) ** 2 / variance
                total += VALUE * error - ratio * a - ENTROPY * entropy
        return total / len(everything), unexplained / len(everything)

    (by_critic, by_policy), unexplained = jax.grad(loss, has_aux=True)(first)
    moved = optax.tree.sub(start.critic, state.critic)
    assert optax.tree.norm(moved) > 1e-3
    close = partial(np.testing.assert_allclose, rtol=2e-3, atol=1e-5)
    jax.tree.map(lambda m, g: close(m, 0.5 * g), moved, by_critic)
    moved = optax.tree.sub(start.agent.params, state.agent.params)
    jax.tree.map(close, moved, by_policy)
    close(info.explained_variance, 1.0 - unexplained)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({}, "must be given, without a memory of its own; got None"),
        ({"critic": Sum()}, "without a memory of its own; got Sum"),
        ({"policy": Sum()}, "what a MemoryPolicy recalls; got Sum"),
        ({"critic_sees": lambda task: task.reward[0]}, "make a vector of a task"),
        ({"critic_sees": 3}, "critic_sees must be a function; got 3"),
        ({"critic_sees": lambda task: task.goal}, "of a task of Ending; got .*goal"),
        ({"critic_sees": None, "expected_rewards": True}, "tells them, .* got Ending"),
        ({"expected": lambda task, steps: steps.reward[0]}, r"make \[4\] numbers"),
        ({"expected": lambda task: task.reward}, "expected_reward must be a function"),
    ],
)
def test_what_cannot_be_told_is_refused(kwargs, message):
    given = {"policy": memory_policy(TASKS, GRU(2)), **kwargs}
    tasks = TASKS
    if "expected" in given:
        tasks = TASKS._replace(expected_reward=given.pop("expected"))
        given |= {"critic_sees": None, "expected_rewards": True}
    with pytest.raises(ValueError, match=message):
        rl2(tasks, **{"critic_sees": lambda task: task.reward, **given})


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def policies(hidden_size=8):
    return memory_policy(TASKS, GRU(hidden_size)), memory_policy(
        TASKS, GRU(hidden_size)
    )


@pytest.mark.parametrize(
    "policy",
    [
        memory_policy(TASKS, GRU(8)),
        # Not Bias-HyperInit: with it the first policy would have no use for its memory.
        hypernetwork_policy(TASKS, GRU(8), hidden_sizes=(4,), initialisation=normc),
    ],
    ids=["gru", "hypernetwork"],
)
def test_ratios_are_one_before_the_first_update(policy):
    """What was computed step by step when acting is what training sees."""

    @jit
    def clipped(num_tasks_key, lr):
        algorithm = rl2(
            TASKS,
            policy,
            num_tasks=8,
            num_episodes=E,
            num_epochs=2,
            num_minibatches=1,
            outer_optimizer=optax.sgd(lr),
            clip_range=1e-5,
        )
        state = algorithm.init(jax.random.key(0))
        return algorithm.step(num_tasks_key, state)[1]

    info = clipped(KEY, 0.0)
    assert info.clip_fraction == 0
    assert info.kl < 1e-9
    # As soon as the policy moves, nearly every ratio leaves so small a range.
    assert clipped(KEY, 0.1).clip_fraction > 0.5


def test_memory_lives_as_long_as_the_trial():
    policy, _ = policies()
    algorithm = rl2(TASKS, policy, num_tasks=N, num_episodes=E)
    agent, task = jit(algorithm.init)(jax.random.key(0)).agent, TASKS.sample(KEY)

    @jit
    def act(key, agent):
        return rollout.collect(key, TASKS, policy, agent, task, num_episodes=1)

    after_one, first = act(KEY, agent)
    # Adaptation is the identity and so hands the memory on.
    assert algorithm.adapt(KEY, after_one, first) is after_one
    assert np.abs(after_one.memory.state).max() > 0
    last = int(np.sum(first.mask)) - 1
    assert after_one.memory.reward == first.reward[0, last] != 0
    assert after_one.memory.start == 1
    _, second = act(KEY, after_one)
    _, again = act(KEY, agent)
    assert first.log_prob[0, 0] == again.log_prob[0, 0] != second.log_prob[0, 0]


def test_a_trust_region_s_step_keeps_to_its_divergence():
    policy, other = policies()
    max_kl = 0.02
    algorithm = rl2(
        TASKS,
        policy,
        critic=other,
        num_tasks=64,
        num_episodes=E,
        num_epochs=1,
        outer_optimizer=TrustRegion(max_kl=max_kl),
    )
    state = jit(algorithm.init)(jax.random.key(0))
    new_state, info = jit(algorithm.step)(KEY, state)
    assert 0.3 * max_kl < info.kl <= max_kl * 1.01
    assert not info.skipped
    # The next trial begins as the first did: training leaves no memory behind.
    assert_equal(new_state.agent.memory, policy.initial_memory())
    for name in ("agent", "critic"):
        old, new = getattr(state, name), getattr(new_state, name)
        if name == "agent":
            old, new = old.params, new.params
        moved = optax.tree.sub(new, old)
        # A policy's own value head is not used where there is a critic, nor a critic's
        # action head; all the rest learns.
        for path, leaf in jax.tree_util.tree_leaves_with_path(moved):
            unused = "value" if name == "agent" else "logits"
            still = np.linalg.norm(leaf) < 1e-8
            assert still == (unused in jax.tree_util.keystr(path)), path


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_minibatches": 3}, "num_minibatches must divide num_tasks; got 3 and 4"),
        ({"task_group_size": 0}, "task_group_size"),
        ({"num_exploration_episodes": 2}, "leave one of 2 episodes; got 2"),
        ({"outer_optimizer": TrustRegion()}, "critic of its own is required"),
        ({"discount": 1.5}, "discount must be between 0 and 1; got 1.5"),
        ({"clip_range": 0.0}, "clip_range must be above 0; got 0.0"),
    ],
)
def test_wrong_arguments_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        rl2(TASKS, Sum(), num_tasks=4, **kwargs)


@pytest.mark.parametrize("core", ["gru", "lstm", "transformer", "linear"])
def test_every_core_can_be_trained(core):
    check_shapes(bandit_rl2(core=core, size=8, num_tasks=4, num_minibatches=2))


@pytest.mark.parametrize("name", ["bias-hyperinit", "kaiming", "normc", "hyperfan-in"])
def test_every_hypernetwork_can_be_trained(name):
    recipe = dataclasses.replace(grid_rl2, policy="hypernetwork")
    experiment = recipe(initialisation=name, size=8, num_tasks=4)
    params = check_shapes(experiment).agent.params["params"]
    # For each of 5 actions and the value: a number for each of 25 cells, and a bias.
    assert params["head"]["generator"].kernel.shape == (8, 26 * 6)


@pytest.mark.parametrize("mode", ["strict", "float64"])
@pytest.mark.parametrize("world", ["bandit", "tabular-mdp", "two-step"])
def test_what_is_told_is_traced_in_every_mode(world, mode):
    strict = jax.numpy_dtype_promotion("strict")
    with strict if mode == "strict" else jax.enable_x64(True):
        told = {"told_critic": True, "expected_rewards": True}
        check_shapes(make_experiment(world, method="rl2", num_tasks=16, **told))


def check_shapes(experiment):
    """Checks that a step keeps the state's shapes; returns these."""
    algorithm = experiment.algorithm
    state = jax.eval_shape(algorithm.init, KEY)
    new_state, _ = jax.eval_shape(algorithm.step, KEY, state)
    assert new_state == state
    return state


def test_what_changes_while_training_does_so_in_the_steps_that_it_is_given(
    monkeypatch,
):
    monkeypatch.setattr("metarl_jax.methods.rl2.make_rl2", lambda *_, **chosen: chosen)
    given = bernoulli_bandit(), Memory()
    options = {"ppo": PPO(decay_steps=8), "entropy_coeff": 0.4}
    together = rl2_method(*given, **options)["entropy_coeff"]
    alone = rl2_method(*given, **options, entropy_decay_steps=4)["entropy_coeff"]
    np.testing.assert_allclose(
        [[weight(step) for step in (0, 2, 4, 8)] for weight in (together, alone)],
        [[0.4, 0.3, 0.2, 0.0], [0.4, 0.2, 0.0, 0.0]],
        atol=1e-7,
    )
    rising = PPO(decay_steps=8, gae_lambda=0.6)
    gae_lambda = rl2_method(*given, ppo=rising, final_gae_lambda=1.0)["gae_lambda"]
    np.testing.assert_allclose(
        [gae_lambda(step) for step in (0, 4, 8, 9)], [0.6, 0.8, 1.0, 1.0]
    )
    with pytest.raises(ValueError, match=r"final_gae_lambda .* got 1\.5"):
        rl2_method(*given, ppo=rising, final_gae_lambda=1.5)
