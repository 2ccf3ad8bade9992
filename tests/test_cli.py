"""The command line, from a stranger's first mistake to a finished run."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from microscopic import microscopic

from metarl_jax import catalogue, cli
from metarl_jax.choice import Choice
from metarl_jax.cli import screen, train
from metarl_jax.runs import machine

SMALL = [
    *("--num-tasks", "2", "--num-episodes", "2", "--horizon", "3"),
    *("--hidden-sizes", "4", "--num-steps", "2", "--num-arms", "3"),
    *("--num-eval-tasks", "3", "--num-eval-episodes", "2"),
    *("--num-adaptation-steps", "2", "--num-seeds", "2"),
    *("--outer-optimizer", "adam"),  # compiles faster
]


@pytest.fixture
def tiny(monkeypatch):
    """Puts a microscopic experiment in the place of point-nav-maml."""

    def experiment(*, num_steps: int = 4, work: int = 0, skip: tuple[int, ...] = ()):
        """A random walk.

        Args:
          num_steps: how many.
          work: how slow.
          skip: which are
            skipped.
        """
        return microscopic(num_steps=num_steps, work=work, skip=skip)

    monkeypatch.setattr(Choice, "load", lambda choice: experiment)


def fails(capsys, args, status=2):
    """Returns the one sentence with which a command is refused."""
    assert cli.main(args) == status
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("metarl-jax: error: ")
    return line.removeprefix("metarl-jax: error: ")


def test_what_needs_no_jax_does_not_import_it():
    code = (
        "import sys; from metarl_jax.cli import main\n"
        "for args in (['--help'], ['list'], ['train', '--help'], ['train', 'nothing'],"
        " ['sweep', '--help']): main(args)\n"
        "heavy = {'jax', 'gymnax', 'matplotlib', 'orbax', 'ray'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    repository = str(Path(__file__).parent.parent)
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": repository},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    for shelf in catalogue.SHELVES:
        for name in catalogue.entries(shelf):
            assert result.stdout.count(f"  {name} ") >= 4


def test_a_mesh_divides_the_cpu_before_jax_looks_for_devices():
    code = (
        "from metarl_jax.choice import Choice\n"
        "from metarl_jax.cli.train import take_devices\n"
        "mesh = take_devices(ARGUMENTS, CONFIG, prog='')\n"
        "Choice('bandit-maml').load()\n"
        "import jax; print(mesh, jax.device_count())"
    )
    cores = machine.usable_cores()
    for arguments, config, answer in [
        (["--mesh", "tasks=3,seeds=2"], None, "tasks=3,seeds=2 6"),
        ([], {"mesh": "tasks=2"}, "tasks=2 2"),  # of the run to be resumed
        ([], {"mesh": None}, "None 1"),
        (["--seed", "3"], None, f"auto {cores}"),
    ]:
        result = subprocess.run(
            [
                *(sys.executable, "-c"),
                f"ARGUMENTS, CONFIG = {arguments}, {config}\n{code}",
            ],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
            capture_output=True,
            text=True,
        )
        assert result.stdout.split("\n")[0] == answer, result.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["trian"], ["'trian'", "train", "evaluate", "plot", "list"]),
        (["train"], ["needs the name", "metarl-jax list"]),
        (["train", "point-nav-mamal"], ["'point-nav-mamal'", "point-nav-maml?"]),
        (["train", "point-nav-maml", "--num-taks", "3"], ["--num-taks", "--num-tasks"]),
        (["train", "point-nav-maml", "3"], ["unknown argument '3'"]),
        (
            ["train", "point-nav-maml", "--num-tasks", "x"],
            ["--num-tasks", "whole", "'x'"],
        ),
        (
            ["train", "point-nav-maml", "--inner-lr", "x"],
            ["--inner-lr", "number", "'x'"],
        ),
        (["train", "point-nav-maml", "--num-tasks"], ["--num-tasks", "value"]),
        (["train", "point-nav-maml", "--num-tasks", "-3"], ["num_tasks", "1", "-3"]),
        (["train", "point-nav-maml", "--horizon", "0"], ["horizon", "1", "0"]),
        (["train", "point-nav-maml", "--num-steps", "0"], ["num_steps", "1", "0"]),
        (
            ["train", "point-nav-maml", "--inner-lr", "-1"],
            ["inner_lr", "above 0", "-1"],
        ),
        (["train", "point-nav-maml", "--num-eval-tasks", "0"], ["num_", "1", "0"]),
        (
            ["train", "point-nav-maml", "--activation", "gelu"],
            ["'gelu'", "relu", "tanh"],
        ),
        (["train", "point-nav-maml", "--seed", "-1"], ["seed", "0", "-1"]),
        (["train", "point-nav-maml", "--num-seeds", "0"], ["num_seeds", "1", "0"]),
        (
            ["train", "point-nav-maml", "--seed-group-size", "0"],
            ["seed_group_size", "1", "0"],
        ),
        (["train", "point-nav-maml", "--output-dir", "full"], ["full", "not empty"]),
        (
            ["train", "point-nav-maml", "--output-dir", "full/a"],
            ["full/a", "is a file"],
        ),
        (["train", "point-nav-maml", "--resume", "no"], ["no is not a directory"]),
        (["train", "--resume", "full"], ["full", "config.json"]),
        (["train", "point-nav-maml", "--mesh", "task=3"], ["mesh", "'task'"]),
        (
            ["train", "point-nav-maml", "--mesh", "tasks=64"],
            ["tasks=64", "64 devices"],
        ),
        (
            ["train", "point-nav-maml", "--process-id", "1"],
            ["process_id", "coordinator"],
        ),
        (["evaluate", "no"], ["no is not a directory"]),
        (["evaluate"], ["the directory of a run"]),
        (["evaluate", "--seed", "3"], ["RUN", "required"]),
        (["train", "point-nav-maml", "--hidden-sizes", "3", "a"], ["whole", "'3 a'"]),
        (["plot", "no"], ["no is not a directory"]),
        (["plot"], ["at least one run"]),
        (["plot", "full", "--output", ""], ["--output", "a path", "''"]),
        (["plot", "full", "--output="], ["--output", "a path", "''"]),
        (["train", "point-nav-maml", "--output-dir", ""], ["--output-dir", "a path"]),
        (["train", "point-nav-maml", "--mesh", ""], ["mesh", "''"]),
        (
            [
                *("train", "point-nav-maml", "--coordinator", "256.1.1.1:80"),
                *("--num-processes", "2", "--process-id", "1"),
            ],
            ["coordinator", "'256.1.1.1:80'"],
        ),
        (["reproduce"], ["needs a table", "rl2-bandits"]),
        (["reproduce", "rl2-bandit"], ["'rl2-bandit'", "rl2-bandits?"]),
        (["reproduce", "rl2-bandits", "--quik"], ["--quik", "--quick"]),
        (["reproduce", "rl2-bandits", "--seed", "-1"], ["seed", "0", "-1"]),
        (
            ["reproduce", "varibad-gridworld", "--output-dir", "full/a"],
            ["full/a", "cannot be created"],
        ),
        (["list", "all"], ["no arguments", "all"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value[0], str) else None,
)
def test_a_mistake_is_answered_in_one_sentence(
    args, words, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    sentence = fails(capsys, args)
    for word in words:
        assert word in sentence
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "full"]


def test_train_evaluate_plot_and_resume(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "bandit-maml", *SMALL]) == 0
    run = Path("runs/bandit-maml-seeds0-1")
    output = capsys.readouterr().out
    assert "compiling the meta-training step … " in output
    assert "step 2/2" in output
    assert "\x1b" not in output
    assert {p.name for p in run.iterdir() if not p.name.startswith("events.out")} == {
        "config.json",
        "metrics.jsonl",
        "checkpoints",
        "evaluation.json",
        "learning_curve.png",
        "adaptation_curve.png",
    }
    assert any(run.glob("events.out.tfevents.*"))
    config = json.loads((run / "config.json").read_text())
    assert config["options"]["num_arms"] == 3
    assert config["options"]["inner_lr"] == 1.0  # a default
    assert config["num_seeds"] == 2
    assert config["versions"]["jax"]
    row = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    assert row["step"] == 1
    assert {"return_before", "return_after", "skipped", "seconds", "kl"} <= set(row)
    assert len(row["seeds"]["return_after"]) == 2

    def read():
        result = json.loads((run / "evaluation.json").read_text())
        curves = [result, *result["references"].values()]
        for curve in curves:
            assert np.shape(curve["return_iqm"]) == np.shape(curve["return_mean"])
            low, high = np.transpose(curve["return_ci"])
            assert np.all(low <= curve["return_mean"])
            assert np.all(curve["return_mean"] <= high)
        return result

    result = read()
    assert result["adaptation_step"] == [0, 1, 2]
    assert len(result["references"]) >= 3
    assert (result["num_tasks"], result["num_episodes"]) == (3, 2)
    assert result["num_seeds"] == 2
    assert result["training_steps"] == 2
    assert result["actions"] == "sampled"
    assert np.shape(result["return_mean_by_seed"]) == (2, 3)

    args = ["--num-tasks", "4", "--num-adaptation-steps", "1", "--seed", "3"]
    assert cli.main(["evaluate", str(run), *args]) == 0
    again = read()
    assert again["adaptation_step"] == [0, 1]
    assert (again["num_tasks"], again["evaluation_seed"]) == (4, 3)
    assert again["training_seconds"] == result["training_seconds"]
    output = capsys.readouterr().out
    assert "bandit-maml: 2 seeds × 4 held-out tasks × 2 episodes" in output
    assert "return after adaptation steps" in output
    assert "95 % interval over seeds" in output
    not_finite = {**again, "num_not_finite": [0, 2], "num_seeds": 1}
    del not_finite["interval"]  # as older records
    assert again["measures"] == {}
    not_finite["measures"] = {"collisions": {"mean": [0.25, None]}}
    output = screen.evaluation_table(not_finite)
    assert "95 % bootstrap interval over tasks" in output
    (line,) = (x for x in output.splitlines() if "not finite" in x)
    assert line.split()[-2:] == ["0", "2"]
    (line,) = (x for x in output.splitlines() if "collisions" in x)
    assert line.split() == ["collisions", "0.25", "–"]

    assert cli.main(["plot", str(run), "--output", "figures"]) == 0
    figures = sorted(p.name for p in Path("figures").iterdir())
    assert figures == ["adaptation_curve.png", "learning_curve.png"]
    capsys.readouterr()

    sentence = fails(capsys, ["train", "--resume", str(run), "--inner-lr", "0.5"])
    assert "inner_lr = 1.0" in sentence
    assert "0.5" in sentence
    sentence = fails(capsys, ["train", "cartpole-maml", "--resume", str(run)])
    assert "bandit-maml" in sentence
    assert "cartpole-maml" in sentence
    sentence = fails(capsys, ["evaluate", str(run), "--num-episodes", "0"])
    assert "num_episodes" in sentence


def test_help_lists_the_options_of_the_experiment_and_the_run(tiny, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(["train", "point-nav-maml", "--help"])
    assert not exit_.value.code
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "A random walk." in text
    assert "--skip [INT [INT ...]] which are skipped." in text
    assert "--checkpoint-every INT" in text
    assert "--resume PATH" in text


NAMES = [":smile: $a$_^", "_", "%s {0} /] x", "a\nb", "'\"`"]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_of_a_directory_is_shown_as_it_is(
    name, tiny, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(train, "evaluate_and_draw", lambda *args: 0)
    monkeypatch.chdir(tmp_path)
    options = ["--output-dir", name, "--checkpoint-every", "3"]
    assert cli.main(["train", "point-nav-maml", *options]) == 0
    capsys.readouterr()
    assert cli.main(["train", "--resume", name, "--num-steps", "6"]) == 0
    assert f"{name} continues after step 4\n" in capsys.readouterr().out
    shutil.copytree(name, "[/x] [red]")
    for args in ([name], [name, "[/x] [red]"]):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert cli.main(["plot", *args, "--output", "figures"]) == 0
    assert Path("figures/learning_curve.png").exists()


class Ascii(io.TextIOWrapper):
    def __init__(self):
        super().__init__(io.BytesIO(), encoding="ascii")


def closed_pipe():
    reading, writing = os.pipe()
    os.close(reading)
    return os.fdopen(writing, "w")


def full():
    return os.fdopen(os.open("/dev/full", os.O_WRONLY), "w")


@pytest.mark.parametrize("screen", [closed_pipe, full, Ascii, lambda: None])
@pytest.mark.parametrize(
    "args",
    [
        ["list"],
        ["train", "point-nav-maml"],
        ["evaluate", "--help"],
        ["train", "--help"],
    ],
)
def test_the_screen_decides_nothing(args, screen, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "evaluate_and_draw", lambda *args: 0)
    stream = screen()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        try:
            status = cli.main(args)
        except SystemExit as exit_:  # help, which is not the way to anything
            status = exit_.code or 0
        assert status == 0
    if isinstance(stream, Ascii):
        shown = stream.buffer.getvalue().decode("ascii")
        what = "compiling the meta-training step ... "
        assert (what in shown) == (args == ["train", "point-nav-maml"])
        assert ("usage" in shown) == ("--help" in args)
    if stream is not None:
        stream.close()  # as at the end of the process
    if args == ["train", "point-nav-maml"]:
        (path,) = Path("runs").glob("*/metrics.jsonl")
        assert len(path.read_text().splitlines()) == 4


def test_closed_streams_are_no_files_of_a_run():
    code = (
        "import os, sys; from metarl_jax.cli import main\n"
        "main(['list']); main(['lits'])\n"
        "null = os.stat(os.devnull)\n"
        "found = [os.path.samestat(os.fstat(i), null) for i in range(3)]\n"
        "sys.exit(found != [True, True, True])"
    )
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    shell = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command]
    assert subprocess.run(shell, env=environment).returncode == 0


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)],
)
def test_a_stopped_run_ends_well_and_is_resumed_by_its_directory(
    number, status, tiny, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("ignored here, as `nohup` has it, and so by what is run")
    metrics = tmp_path / "a run" / "metrics.jsonl"

    def interrupt():
        while not metrics.exists():
            time.sleep(0.01)
        time.sleep(0.3)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    args = ["--num-steps", "100000", "--work", "300", "--output-dir", "a run"]
    assert cli.main(["train", "point-nav-maml", *args]) == status
    thread.join()
    done = len(metrics.read_text().splitlines())
    output = capsys.readouterr().out
    assert f"stopped after step {done}, saved" in output
    assert "metarl-jax train --resume 'a run'" in output

    # Nothing but the directory is needed: the rest stands in it.
    def no_evaluation(experiment, run_dir):
        assert (experiment.num_steps, str(run_dir)) == (done + 2, "a run")
        return 0

    monkeypatch.setattr(train, "evaluate_and_draw", no_evaluation)
    args = ["--resume", "a run", "--num-steps", str(done + 2)]
    assert cli.main(["train", *args]) == 0
    assert f"continues after step {done}" in capsys.readouterr().out
    assert len(metrics.read_text().splitlines()) == done + 2


def test_too_many_skipped_updates_exit_with_1(tiny, tmp_path, capsys):
    args = ["--skip", "1", "2", "--max-skipped", "2", "--output-dir", str(tmp_path)]
    sentence = fails(capsys, ["train", "point-nav-maml", *args], status=1)
    assert "2 updates in a row, up to step 3, were not finite" in sentence
