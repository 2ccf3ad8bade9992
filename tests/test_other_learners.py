"""Other libraries' learners on tasks of ours, measured as ours are."""

import importlib.util

import jax
import learners
import numpy as np
import pytest

from metarl_jax.envs.classic_control import cartpole
from metarl_jax.envs.gymnasium_bridge import as_gymnasium
from metarl_jax.envs.reacher import reacher

TASKS = reacher(horizon=6)
TASK = TASKS.sample_heldout(jax.random.key(0))
HAS_RLLIB = all(importlib.util.find_spec(x) for x in ("torch", "tree", "lz4"))


def test_a_return_is_the_mean_over_episodes_until_their_ends(monkeypatch):
    """Beside single environments of the same seeds; poles fall at different times."""
    monkeypatch.setattr(learners, "NUM_EVAL_EPISODES", 5)
    tasks = cartpole(horizon=30)
    task, seed = tasks.sample(jax.random.key(1)), 3

    def act(obs):
        return np.asarray(obs[..., 2] > 0, int) ^ 1  # away from where the pole leans

    lengths = []
    for i in range(5):
        env = as_gymnasium(tasks, task, seed=10_000 + seed + i)
        obs, over, total = env.reset()[0], False, 0.0
        while not over:
            obs, reward, terminated, truncated, _ = env.step(int(act(obs)))
            total, over = total + reward, terminated or truncated
        lengths.append(total)
    assert len(set(lengths)) > 1
    assert max(lengths) < 30
    assert learners.mean_return(act, tasks, task, seed) == np.mean(lengths)


@pytest.mark.parametrize(
    ("name", "budget"),
    [
        ("PPO", (4, 32, 16, {"n_steps": 8, "batch_size": 16})),
        ("SAC", (2, 24, 12, {"learning_starts": 4, "batch_size": 4})),
    ],
)
@pytest.mark.filterwarnings("ignore")  # the library's own
def test_stable_baselines_learns_a_held_out_task(monkeypatch, name, budget):
    pytest.importorskip("stable_baselines3")
    monkeypatch.setattr(learners, "NUM_EVAL_EPISODES", 2)
    monkeypatch.setitem(learners.BUDGETS, name, budget)
    curve = learners.stable_baselines(name, TASKS, TASK, seed=0)
    steps, returns = zip(*curve, strict=True)
    assert steps[-1] == budget[1]
    assert list(steps) == sorted(steps)
    assert all(0 <= score <= TASKS.horizon for score in returns)
    assert len(set(returns)) > 1  # it acts otherwise after it learned


@pytest.mark.skipif(not HAS_RLLIB, reason="needs RLlib")
@pytest.mark.filterwarnings("ignore")  # the library's own
def test_rllib_learns_a_held_out_task(monkeypatch):
    monkeypatch.setattr(learners, "NUM_EVAL_EPISODES", 2)
    monkeypatch.setattr(learners, "NUM_ITERATIONS", 1)
    small = {"train_batch_size_per_learner": 48, "minibatch_size": 24, "num_epochs": 1}
    monkeypatch.setattr(learners, "RLLIB", small)

    def make():  # it is pickled, which families are not
        tasks = reacher(horizon=6)
        return tasks, tasks.sample_heldout(jax.random.key(0))

    (start, before), (steps, after) = learners.rllib_ppo(make, seed=0)
    assert start == 0
    assert steps >= 48
    assert before != after


def test_steps_to_a_level_are_those_before_it_was_measured():
    curve = [(0, 1.0), (10, 3.0), (20, 2.0), (30, 5.0)]
    assert learners.steps_to(curve, 3.0) == 10
    assert learners.steps_to(curve, 4.0) == 30
    assert learners.steps_to(curve, 6.0) is None
