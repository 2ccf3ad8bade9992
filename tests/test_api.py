"""What is importable from the package itself, as a notebook uses it."""

import doctest
import importlib

import jax
import numpy as np
import pytest

import metarl_jax
from metarl_jax import acting, trials
from metarl_jax.cli import main
from metarl_jax.envs.bandit import bernoulli_bandit
from metarl_jax.policies.memory import memory_policy
from metarl_jax.policies.recurrent import GRU

KEY = jax.random.key(0)
SMALL = {"num_tasks": 2, "num_episodes": 2, "num_steps": 2, "hidden_sizes": (3,)}
SMALL |= {"outer_optimizer": "adam"}
COUNTS = {"num_tasks": 3, "num_episodes": 2, "num_adaptation_steps": 1}


@pytest.fixture(scope="module", autouse=True)
def quickly_compiled():
    """Compiling is what these cost."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def trained():
    seen = []
    experiment = metarl_jax.make_experiment("bandit", horizon=4, **SMALL)
    run = metarl_jax.train(
        experiment,
        seed=3,
        num_seeds=2,
        callback=lambda step, info: seen.append((step, info)),
        quiet=True,
    )
    return run, seen


HOMES = ["acting", "envs.gymnasium_family", "envs.gymnax_family", "export.writing"]


@pytest.mark.parametrize("name", [*HOMES, "learned", "training"])
def test_examples_of_docstrings_are_true(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testmod(importlib.import_module(f"metarl_jax.{name}"))
    assert tried > 0
    assert not failed
    assert not list(tmp_path.iterdir())  # nothing is written unless it is asked for


def test_every_name_is_there_and_has_an_example():
    for name in metarl_jax.__all__:
        found = getattr(metarl_jax, name)
        assert name in dir(metarl_jax)
        if not isinstance(found, type) and name not in ("start", "observe"):
            assert ">>>" in found.__doc__
    with pytest.raises(AttributeError, match="no attribute 'tarin'"):
        _ = metarl_jax.tarin  # type: ignore


def test_a_callback_is_told_of_every_step(trained):
    run, seen = trained
    assert [step for step, _ in seen] == [1, 2]
    assert run.run_dir is None
    for row, (_, info) in zip(run.metrics, seen, strict=True):
        assert info.return_after.shape == (2,)
        np.testing.assert_allclose(row["seeds"]["return_after"], info.return_after)


def test_a_run_that_is_written_and_loaded_is_the_one_that_is_not(
    trained, tmp_path, monkeypatch
):
    run, _ = trained
    written = metarl_jax.train(
        run.experiment, seed=3, num_seeds=2, output_dir=tmp_path / "run", quiet=True
    )
    assert [row["return_after"] for row in written.metrics] == [
        row["return_after"] for row in run.metrics
    ]
    loaded = metarl_jax.load_run(tmp_path / "run", seed=1)
    assert (loaded.seed, loaded.num_seeds, loaded.step) == (4, 1, 2)
    jax.tree.map(
        lambda x, y: np.testing.assert_array_equal(x, y[1]),
        loaded.agent,
        run.agent,
    )
    # One seed meets the tasks that it meets among others.
    curves = metarl_jax.adaptation_curve(run, **COUNTS)
    assert curves.shape == (2, 3, 2)
    np.testing.assert_allclose(
        metarl_jax.adaptation_curve(loaded, **COUNTS), curves[1], rtol=1e-5
    )
    result = metarl_jax.evaluate(tmp_path / "run", **COUNTS)
    np.testing.assert_allclose(result["returns"], curves, atol=1e-3)
    assert not (tmp_path / "run" / "evaluation.json").exists()
    comparison = metarl_jax.compare({"ours": result, "same": run}, **COUNTS)
    assert [line.split("|")[1].strip() for line in comparison.table.splitlines()] == [
        *("run", "---", "ours", "same")
    ]
    assert comparison.figure.axes

    # The command line builds it again from its record.
    monkeypatch.chdir(tmp_path)
    small = [*("--num-tasks", "2"), *("--num-episodes", "1")]
    assert main(["evaluate", "run", *small]) == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda path: metarl_jax.load_run(path / "no"), "not a directory"),
        (lambda path: metarl_jax.evaluate(3), "directory of a run, is required"),
        (lambda path: metarl_jax.compare([]), "at least one"),
        (lambda path: metarl_jax.make_experiment("bandi"), "did you mean bandit"),
        (lambda path: metarl_jax.make_experiment("bandit", nun=1), "no option nun"),
        (lambda path: acting.start(3), "got int"),
    ],
)
def test_mistakes_are_refused(wrong, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        wrong(tmp_path)


def alone(run):
    """The first seed of a run."""
    state = jax.tree.map(lambda leaf: leaf[0], run.state)
    return run._replace(state=state, num_seeds=1)


def in_a_plain_loop(actor, tasks, task, num_episodes):
    """Acts in a compiled environment as in one of another's."""
    key = jax.random.key(5)
    for _ in range(num_episodes):
        obs, state = tasks.env.reset_env(key, task)
        for t in range(tasks.horizon):
            action, actor = metarl_jax.act(actor, obs)
            key, key_step = jax.random.split(key)
            obs, state, reward, *_ = tasks.env.step_env(key_step, state, action, task)
            last = t == tasks.horizon - 1
            actor = metarl_jax.observe(actor, float(reward), obs, truncated=last)
    return actor


def test_adaptation_to_a_plain_loop_is_that_to_the_same_log(trained):
    run = alone(trained[0])
    tasks, task = run.experiment.tasks, run.experiment.tasks.sample(KEY)
    actor = in_a_plain_loop(run, tasks, task, num_episodes=2)
    data = actor.trajectories()
    assert data.reward.shape == (2, 4)
    assert data.mask.all()
    distribution, _, _ = run.policy.apply(run.agent.params, (), data.obs)
    np.testing.assert_allclose(
        data.log_prob, distribution.log_prob(data.action), rtol=1e-5
    )
    log = [
        {"obs": np.ones((5, 1)), "action": data.action[e], "reward": data.reward[e]}
        for e in range(2)
    ]
    logged = metarl_jax.trajectories_from_episodes(log, run)
    adapted = [run.algorithm.adapt(KEY, run.agent, x).params for x in (data, logged)]
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), *adapted)
    assert max(jax.tree.leaves(moved)) < 1e-6
    with pytest.raises(ValueError, match="observe must tell"):
        acting.act(acting.act(run, np.ones(1))[1], np.ones(1))
    with pytest.raises(ValueError, match="act must come"):
        acting.observe(actor, 0.0, np.ones(1))
    for obs, message in ((np.ones(2), "shape"), (np.full(1, np.nan), "finite")):
        with pytest.raises(ValueError, match=message):
            acting.act(run, obs)


def test_a_memory_lives_through_a_plain_loop_as_through_a_rollout():
    tasks = bernoulli_bandit(num_arms=3, horizon=2)
    policy = memory_policy(tasks, GRU(4))
    obs, _ = tasks.reset(KEY, tasks.sample(KEY))
    params = policy.init(KEY, policy.initial_memory(), obs)
    agent = metarl_jax.training.Agent(params, policy.initial_memory())
    actor = acting.Actor(tasks, policy, agent, KEY)
    actor = in_a_plain_loop(actor, tasks, tasks.sample(KEY), num_episodes=3)
    data = actor.trajectories()
    replayed, _ = trials.replay(policy, params, agent.memory, trials.stream(data))
    np.testing.assert_allclose(
        replayed.log_prob(trials.stream(data).action),
        trials.stream(data).log_prob,
        rtol=1e-5,
    )


EPISODE = {"obs": np.zeros((4, 2)), "action": np.zeros(3), "reward": np.ones(3)}
EPISODE["log_prob"] = np.zeros(3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"obs": np.zeros((3, 2))}, "4 observations for 3 rewards"),
        ({"action": np.zeros(2)}, "action of episode 1 must have the 3 steps"),
        ({"reward": np.ones((3, 1))}, "vector"),
        ({"reward": []}, "at least one step"),
        ({"reward": [1, np.nan, 1]}, "reward of episode 1 must be finite"),
        ({"log_prob": None}, "needs log_prob"),
        ({"terminated": [0, 1, 0]}, "must not go on"),
        ({"obs": np.zeros((4, 3))}, "same shapes"),
    ],
)
def test_a_log_that_does_not_fit_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        metarl_jax.trajectories_from_episodes([EPISODE, {**EPISODE, **change}])
    with pytest.raises(ValueError, match="horizon's 2"):
        metarl_jax.trajectories_from_episodes([EPISODE], horizon=2)


def test_how_an_episode_ended_is_kept():
    ended = metarl_jax.trajectories_from_episodes(
        [
            {**EPISODE, "terminated": True},
            EPISODE,
            {**EPISODE, "terminated": [0, 0, 1]},
            tuple(EPISODE.values()),
        ],
        horizon=5,
    )
    assert ended.terminated.argmax(axis=1)[[0, 2]].tolist() == [2, 2]
    assert ended.terminated.sum(axis=1).tolist() == [1, 0, 1, 0]
    assert ended.truncated.sum(axis=1).tolist() == [0, 1, 0, 1]
    assert ended.mask.sum(axis=1).tolist() == [3] * 4
    assert ended.reward[:, 3:].sum() == 0


def test_a_notebook_s_bar_is_drawn_in_its_place(monkeypatch):
    from rich.console import Console

    from metarl_jax.runs import progress

    shown = []
    cell = type("Cell", (), {"show": lambda self, *args: shown.append(args)})
    monkeypatch.setattr(progress, "_Cell", cell)
    console = Console(force_jupyter=True)
    with progress.TrainingProgress(console, num_steps=3, step=0) as bar:
        bar.update(1, -2.0, 4.0)
    assert shown[0][:2] == (1, 3)
    assert "return -2 → 4" in shown[0][2]
