"""A user's own file and package, through the command, outside of the repository."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FILE = '''
"""An experiment of one's own: the parameters of a policy walk at random."""
import jax
from microscopic import microscopic

from metarl_jax import Evaluation, Experiment
from metarl_jax.envs.bandit import bernoulli_bandit
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.types import Agent, MetaAlgorithm


def walk(*, num_steps: int = 6, work: int = 0):
    """Walks at random.

    Args:
      num_steps: how far.
      work: how slowly.
    """
    tasks = bernoulli_bandit(num_arms=2, horizon=2)
    policy = mlp_policy(tasks, hidden_sizes=())
    walker = microscopic(num_steps=num_steps, work=work).algorithm
    empty = jax.numpy.zeros((0, 2))

    def state_of(params, walked):
        return walked._replace(agent=Agent(params), nothing=walked.agent)

    def init(key):
        return state_of(policy.init(key, (), jax.numpy.ones(1)), walker.init(key))

    def step(key, state):
        walked = state._replace(agent=state.nothing, nothing=(None, empty))
        walked, info = walker.step(key, walked)
        w = walked.agent.params["w"][0]
        params = jax.tree.map(lambda x: 0.9 * x + w, state.agent.params)
        return state_of(params, walked), info

    algorithm = MetaAlgorithm(init, step, lambda key, agent, data: agent, policy)
    return Experiment(tasks, algorithm, num_steps, Evaluation(2, 2, 1))
'''
PACKAGE = """
from metarl_jax.catalogue import load
from metarl_jax.recipe import World

arms = load("bandit", "worlds")._replace(defaults={"gradient": {"num_steps": 1}})
"""


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Runs the command in an empty directory; returns its output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / ".state"))
    # The first is what an installation does, the second where the helper of tests is.
    paths = [str(HERE.parent), str(HERE), str(tmp_path / "installed")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))

    def run(*args, status=0):
        result = subprocess.run(
            [sys.executable, "-m", "metarl_jax.cli", *args],
            capture_output=True,
            text=True,
        )
        assert result.returncode == status, result.stderr
        return result.stdout if status == 0 else result.stderr

    return run


def saved_steps():
    names = [path.name for path in Path("run/checkpoints").glob("*")]
    return [int(name) for name in names if name.isdigit()]


def test_a_file_is_trained_killed_resumed_evaluated_and_named_again(command, tmp_path):
    own = tmp_path / "mine.py"
    own.write_text(FILE)
    long = ["--num-steps", "100000", "--work", "300", "--checkpoint-every", "3"]
    train = [sys.executable, "-m", "metarl_jax.cli", "train", "mine.py:walk", *long]
    with subprocess.Popen([*train, "--output-dir", "run"]) as process:
        while not saved_steps():
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    # From elsewhere: the record says where the file is.
    metrics = tmp_path / "run" / "metrics.jsonl"
    total = str(max(saved_steps()) + 100)
    own.with_name("elsewhere").mkdir()
    os.chdir("elsewhere")
    result = command("train", "--resume", "../run", "--num-steps", total)
    assert "continues after step" in result
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert steps == list(range(1, int(total) + 1))
    assert "learning_curve.png" in command("plot", "../run")
    assert "mine-walk: 1 seed" in command("evaluate", "../run", "--num-tasks", "3")

    own.write_text(FILE.replace("An experiment", "Another"))
    sentence = command("evaluate", "../run", status=2)
    assert "has changed" in sentence
    assert "--experiment mine.py:walk" in sentence
    assert sentence.count("\n") == 1
    again = command("evaluate", "../run", "--experiment", "../mine.py:walk")
    assert "mine-walk: 1 seed" in again


def test_a_stranger_s_record_executes_nothing(command, tmp_path):
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    for place in (stranger / "evil.py", tmp_path / "evil.py"):
        place.write_text("from pathlib import Path\nPath('/tmp').joinpath\n1 / 0\n")
        source = {
            "path": str(place),
            "sha256": hashlib.sha256(place.read_bytes()).hexdigest(),
        }
        config = {
            "experiment": "x",
            "chosen": {"name": f"{place}:x", "sources": {"name": source}},
            "options": {},
            "seed": 0,
            "num_seeds": 1,
        }
        (stranger / "config.json").write_text(json.dumps(config))
        for args in (["evaluate", "stranger"], ["train", "--resume", "stranger"]):
            sentence = command(*args, status=2)
            assert "named again" in sentence
            assert "ZeroDivisionError" not in sentence


def test_a_package_offers_a_world(command, tmp_path):
    installed = tmp_path / "installed"
    info = installed / "others-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: others\nVersion: 1.0\n"
    )
    (info / "entry_points.txt").write_text("[metarl_jax.worlds]\narms = others:arms\n")
    (installed / "others.py").write_text(PACKAGE)
    assert "  arms " in command("list")
    small = ["--num-tasks", "2", "--num-episodes", "1", "--num-eval-tasks", "2"]
    small += ["--outer-optimizer", "adam", "--horizon", "2", "--hidden-sizes", "2"]
    small += ["--num-adaptation-steps", "1", "--num-eval-episodes", "1"]
    result = command("train", "arms", "--method", "fomaml", *small)
    assert "arms-fomaml: 1 seed × 2 held-out tasks" in result
    assert (tmp_path / "runs" / "arms-fomaml-seed0" / "evaluation.json").exists()
