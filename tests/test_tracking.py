"""Curves go to whoever keeps them, by one callback."""

import sys
import types

import numpy as np
import pytest

import metarl_jax
from metarl_jax import tracking, training
from metarl_jax.cli import main

SMALL = {"num_tasks": 2, "num_episodes": 2, "num_steps": 2, "hidden_sizes": (3,)}


@pytest.fixture
def service(monkeypatch):
    """Something with the interface that both services share."""
    said = []
    module = types.ModuleType("trackio")
    module.init = lambda **options: said.append(("init", options))
    module.log = lambda values, step: said.append((step, values))
    module.finish = lambda: said.append("finish")
    monkeypatch.setitem(sys.modules, "trackio", module)
    return said


def test_scalars_are_finite_and_means_over_seeds():
    info = {"a": np.float32(2), "b": np.array([1.0, 3.0]), "c": np.inf, "d": np.eye(2)}
    assert tracking.scalars(info) == {"a": 2.0, "b": 2.0}


def test_every_step_is_logged_and_the_run_closed(service):
    experiment = metarl_jax.make_experiment("bandit", horizon=3, **SMALL)
    config = {"lr": 1}
    with tracking.track("trackio", project="p", name="n", config=config) as callback:
        trained = metarl_jax.train(experiment, callback=callback, quiet=True)
    assert service[0] == ("init", {"project": "p", "name": "n", "config": {"lr": 1}})
    assert service[-1] == "finish"
    for (step, values), row in zip(service[1:-1], trained.metrics, strict=True):
        assert step == row["step"]
        assert values["return_after"] == pytest.approx(row["return_after"])


def test_a_run_that_fails_is_closed_too(service):
    with pytest.raises(RuntimeError), tracking.track("trackio"):
        raise RuntimeError
    assert service[-1] == "finish"


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match=r"wandb is not installed; pip install"):
        tracking.track("wandb")
    with pytest.raises(ValueError, match="mlflow"):
        tracking.track("mlflow")


def test_the_command_line_tracks(service, monkeypatch):
    def train(experiment, *, callback, **options):
        assert not {"track", "project"} & options.keys()
        callback(1, {"return_after": np.float32(0.5)})
        return training.Trained(None, None, 1, True, experiment)

    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr("metarl_jax.cli.train.evaluate_and_draw", lambda *_: 0)
    words = ["--num-tasks", "2", "--hidden-sizes", "3", "--project", "mine"]
    assert main(["train", "bandit", *words, "--track", "trackio"]) == 0
    options = service[0][1]
    assert options["project"] == "mine"
    assert options["config"]["hidden_sizes"] == (3,)
    assert service[1:] == [(1, {"return_after": 0.5}), "finish"]


def test_wandb_keeps_offline_what_it_is_given(tmp_path, capfd):
    wandb = pytest.importorskip("wandb")
    del wandb
    with tracking.track("wandb", directory=tmp_path, offline=True) as callback:
        callback(1, {"return_after": np.float32(0.5)})
    assert "return_after 0.5" in capfd.readouterr().err  # what it says at the end
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    assert list(folder.glob("*.wandb"))


def test_trackio_keeps_what_it_is_given(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    trackio = pytest.importorskip("trackio")
    del trackio
    with tracking.track("trackio", project="ours") as callback:
        callback(1, {"return_after": np.float32(0.5)})
    assert any(b"return_after" in p.read_bytes() for p in tmp_path.rglob("ours*"))
