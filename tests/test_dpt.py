"""DPT: its loss is least at the posterior, and is a plain loop's."""

from functools import partial
from itertools import product
from math import factorial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import struct
from gymnax.environments import environment, spaces
from jax import jit
from scipy import integrate, special, stats

from metarl_jax import rollout
from metarl_jax.algorithms.dpt import SkewedBehaviour, dpt
from metarl_jax.choice import Choice
from metarl_jax.distributions import Categorical
from metarl_jax.envs import bandit
from metarl_jax.envs.gymnax_family import gymnax_family
from metarl_jax.envs.point_navigation import point_navigation
from metarl_jax.policies.mlp import mlp_policy

KEY = jax.random.key(5)


class Uniform(NamedTuple):
    """Acts uniformly, without memory."""

    num_actions: int = 2

    def init(self, key, memory, obs):
        return {}

    def apply(self, params, memory, obs):
        return Categorical(jnp.zeros(self.num_actions)), jnp.zeros(()), memory

    def initial_memory(self):
        return ()


class Table(NamedTuple):
    """Logits for every count of successes and failures of two arms."""

    def init(self, key, memory, obs):
        return jax.random.normal(key, (3, 3, 3, 3, 2))

    def apply(self, params, memory, obs):
        logits = params[tuple(memory.ravel())]
        return Categorical(logits), jnp.zeros(()), memory

    def initial_memory(self):
        return jnp.zeros((2, 2), jnp.int32)

    def observe(self, memory, transition):
        failed = jnp.where(transition.reward > 0.5, 0, 1)
        return memory.at[transition.action, failed].add(1)


def test_the_loss_is_least_at_the_posterior():
    """Its gradient is that of the cross-entropy to P(an arm is best | data), exactly.

    Three pulls of two Bernoulli arms: every data set of up to two pulls is enumerated,
    and the posterior computed by quadrature. The logits' gradient, P(data) (π - p) / 3,
    is zero where π is the posterior p, and the loss is convex in them.
    """
    num_tasks = 100_000

    def run(params):
        algorithm = dpt(
            bandit.bernoulli_bandit(num_arms=2, horizon=3),
            Table(),
            behaviour=Uniform(),
            num_tasks=num_tasks,
            outer_optimizer=optax.sgd(1.0),
        )
        state = algorithm.init(KEY)
        state = state._replace(agent=state.agent._replace(params=params))
        new_state, info = algorithm.step(KEY, state)
        return params - new_state.agent.params, info

    params = np.array(Table().init(jax.random.key(0), None, None))
    gradient, info = jit(run)(params)

    expected, error = np.zeros((2, *params.shape))
    loss = np.zeros(3)
    for counts in product(range(3), repeat=4):
        s1, f1, s2, f2 = counts
        if (pulls := sum(counts)) > 2:
            continue
        orders = factorial(pulls) / np.prod([factorial(n) for n in counts])
        evidence = special.beta(1 + s1, 1 + f1) * special.beta(1 + s2, 1 + f2)
        probability = orders * 0.5**pulls * evidence
        first, second = stats.beta(1 + s1, 1 + f1), stats.beta(1 + s2, 1 + f2)
        better, _ = integrate.quad(lambda p: first.pdf(p) * second.cdf(p), 0, 1)  # noqa: B023
        posterior = np.array([better, 1 - better])
        log_policy = np.log(special.softmax(params[counts]))
        expected[counts] = probability * (np.exp(log_policy) - posterior) / 3
        error[counts] = np.sqrt(probability / num_tasks) / 3
        loss[pulls] -= probability * posterior @ log_policy
    assert np.abs(expected).max() > 20 * error.max()
    assert (np.abs(gradient - expected) <= 4 * error).all()
    np.testing.assert_allclose(info.loss, loss.mean(), rtol=0.01)
    np.testing.assert_allclose(info.last_loss, loss[2], rtol=0.01)
    assert abs(loss[2] / loss.mean() - 1) > 0.03
    np.testing.assert_allclose(info.gradient_norm, np.linalg.norm(gradient), rtol=1e-5)


@struct.dataclass(kw_only=True)
class State(environment.EnvState):
    """The number of steps taken."""


@struct.dataclass(kw_only=True)
class Params(environment.EnvParams):
    shift: jax.Array


class Countdown(environment.Environment):
    """Shows the time; the last of three actions ends the episode and pays 1."""

    def reset_env(self, key, params):
        return jnp.zeros(1), State(time=0)

    def step_env(self, key, state, action, params):
        state = State(time=state.time + 1)
        obs = jnp.full(1, state.time, jnp.float32)
        return obs, state, jnp.float32(action == 2), action == 2, {}

    def action_space(self, params=None):
        return spaces.Discrete(3)

    def observation_space(self, params):
        return spaces.Box(0.0, 9.0, (1,))


class Sum(NamedTuple):
    """Its memory is the sum of all actions."""

    def init(self, key, memory, obs):
        return jnp.array([0.3, -0.2, 0.5])

    def apply(self, params, memory, obs):
        return Categorical(params * (memory + obs[0])), jnp.zeros(()), memory

    def initial_memory(self):
        return jnp.zeros(())

    def observe(self, memory, transition):
        return memory + transition.action


def test_the_loss_is_a_plain_loop_s():
    """Over trials of three episodes that end early, each step once."""
    num_tasks, num_episodes, num_reported = 5, 3, 2
    tasks = gymnax_family(
        Countdown(),
        lambda key: Params(shift=jax.random.randint(key, (), 0, 3)),
        horizon=4,
    )

    def optimal_action(task, obs):
        return (task.shift + obs[0].astype(int)) % 3

    algorithm, in_groups = (
        dpt(
            tasks,
            Sum(),
            optimal_action=optimal_action,
            behaviour=Uniform(3),
            num_tasks=num_tasks,
            num_episodes=num_episodes,
            num_reported=num_reported,
            task_group_size=size,
        )
        for size in (None, 2)
    )
    state = algorithm.init(KEY)
    new_state, info = jit(algorithm.step)(KEY, state)
    same = jit(in_groups.step)(KEY, state)
    chex.assert_trees_all_close((new_state, info), same, rtol=1e-5)

    key_tasks, key_collect, key_report = jax.random.split(KEY, 3)
    shifts = jax.vmap(tasks.sample)(jax.random.split(key_tasks, num_tasks))

    def acts(key, actor, agent, count):
        def one_task(key, task):
            return rollout.collect(
                key, tasks, actor, agent, task, num_episodes=num_episodes
            )[1]

        some = jax.tree.map(lambda x: x[:count], shifts)
        return jit(jax.vmap(one_task))(jax.random.split(key, count), some)

    data = acts(key_collect, Uniform(3), rollout.Agent({}), num_tasks)
    assert not data.mask.all()
    losses, last_losses = [], []
    for i in range(num_tasks):
        total = 0
        for e, t in product(range(num_episodes), range(4)):
            if data.mask[i, e, t]:
                logits = np.array([0.3, -0.2, 0.5]) * (total + t)
                optimum = (int(shifts.shift[i]) + t) % 3
                losses.append(-np.log(special.softmax(logits))[optimum])
                total += int(data.action[i, e, t])
        last_losses.append(losses[-1])
    np.testing.assert_allclose(info.loss, np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(info.last_loss, np.mean(last_losses), rtol=1e-5)
    acted = acts(key_report, Sum(), state.agent, num_reported)
    returns = np.where(acted.mask, acted.reward, 0).sum(-1).mean(0)
    np.testing.assert_allclose(info.return_before, returns[0], rtol=1e-6)
    np.testing.assert_allclose(info.return_after, returns[2], rtol=1e-6)


def test_the_behaviour_s_moments():
    """Of (1 - ω) p + ω e for three actions, computed by hand."""
    count = 100_000
    behaviour = SkewedBehaviour(3)
    keys = jax.random.split(KEY, count)
    begin = jit(jax.vmap(lambda key: behaviour.begin(key, jnp.zeros(3))))
    p = np.exp(begin(keys))
    weight, squared, mixed = 0.5, 0.35, 0.15  # E ω, E ω² = E (1 - ω)², E ω (1 - ω)
    assert weight == squared + mixed
    second = squared / 6 + 2 * mixed / 9 + squared / 3
    cross = squared / 12 + 2 * mixed / 9
    close = partial(np.testing.assert_allclose, atol=0.005)
    close(p.sum(axis=1), 1)
    close(p.T @ p / count, np.where(np.eye(3), second, cross))
    close(np.mean(p == 1), 1 / 33)
    # An action of probability zero is not taken.
    distribution, _, _ = behaviour.apply({}, begin(keys[:500]), None)
    chosen = distribution.sample(jax.random.key(1))
    assert (p[np.arange(500), chosen] > 0).all()


@pytest.mark.parametrize(
    "family",
    [
        bandit.bernoulli_bandit,
        bandit.correlated_bandit,
        bandit.informative_bandit,
        bandit.gaussian_bandit,
    ],
)
def test_the_optimal_arm_is_named(family):
    tasks = family()
    for task in map(tasks.sample, jax.random.split(KEY, 5)):
        arm = tasks.optimal_action(task, jnp.ones(1))
        best = tasks.oracles["optimal arm"](None, task)
        assert task.mean[arm] * tasks.horizon == pytest.approx(best)


@pytest.mark.parametrize(("world", "core"), [("gaussian-", "transformer"), ("", "gru")])
def test_bandits_of_both_kinds_can_be_trained_on(world, core):
    build = Choice(f"{world}bandit", "dpt").load()
    algorithm = build(core=core, size=8, num_tasks=8, horizon=4).algorithm
    state = jax.eval_shape(algorithm.init, KEY)
    assert jax.eval_shape(algorithm.step, KEY, state)[0] == state


def test_wrong_arguments_are_refused():
    tasks = bandit.bernoulli_bandit(num_arms=2)
    policy = mlp_policy(tasks, hidden_sizes=())
    with pytest.raises(ValueError, match=r"num_episodes must be .* got 0"):
        dpt(tasks, policy, num_episodes=0)
    with pytest.raises(ValueError, match="PointNavigation names none"):
        dpt(point_navigation(), policy)
    with pytest.raises(ValueError, match=r"not discrete; got None for .*Box"):
        dpt(point_navigation(), policy, optimal_action=lambda task, obs: task.goal)
    with pytest.raises(ValueError, match=r"shape \(2,\); .* shape \(3,\)"):
        dpt(tasks, policy, behaviour=Uniform(3))
