"""Sweeps: what is asked, real runs in Ray's workers, and what is made of them."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from microscopic import microscopic
from test_cli import fails

from metarl_jax import cli
from metarl_jax.choice import Choice
from metarl_jax.runs import files, history, schema
from metarl_jax.runs.evaluation import _rows
from metarl_jax.sweeps import figure, ray_tune, sweep, table
from metarl_jax.sweeps.combinations import Range, combinations, name_of

SMALL = [
    *("--num-tasks", "2", "--num-episodes", "2", "--horizon", "3"),
    *("--num-steps", "4", "--num-arms", "3", "--checkpoint-every", "2"),
    *("--num-eval-tasks", "3", "--num-eval-episodes", "2"),
    *("--num-adaptation-steps", "1", "--outer-optimizer", "adam", "--first-order"),
]
SWEEP = ["sweep", "bandit-maml", "--vary", "inner-lr", "0.5", "2", "8"]
SWEEP += ["--vary", "hidden-sizes", "4 3", *SMALL, "--output-dir", "swept"]
LOW, HIGH, LOST = (f"inner-lr={rate},hidden-sizes=4x3" for rate in (0.5, 2, 8))


@pytest.fixture
def no_ray(monkeypatch):
    """Fails if a run is asked for."""

    def run_all(*args, **kwargs):
        raise AssertionError("a cluster was asked for something")

    monkeypatch.setattr(ray_tune, "run_all", run_all)


def run_sweep(directory):
    """Runs the command as a user does: Ray's own warnings are not ours to fail by."""
    result = subprocess.run(
        [sys.executable, "-m", "metarl_jax.cli", *SWEEP],
        cwd=directory,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr + result.stdout
    assert not result.stderr
    return result.stdout


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], ["vary", "none"]),
        (["--vary"], ["--vary", "option"]),
        (["--vary", "inner-lr"], ["inner-lr", "at least one"]),
        (["--vary", "inner-l", "1"], ["'inner-l'", "inner-lr?"]),
        (["--vary", "seed", "1"], ["'seed'"]),
        (["--vary", "inner-lr", "1", "x"], ["--inner-lr", "number", "'x'"]),
        (["--vary", "inner-lr", "1", "1.0"], ["inner-lr", "differ", "1 twice"]),
        (["--vary", "inner-lr", "1", "-1"], ["inner_lr", "above 0", "-1"]),
        (["--vary", "num-steps", "3", "0"], ["num_steps", "at least 1", "0"]),
        (["--vary", "activation", "gelu"], ["'gelu'", "relu"]),
        (["--vary", "first-order", "no"], ["--first-order", "true or false", "'no'"]),
        (["--vary", "hidden-sizes", "3 a"], ["--hidden-sizes", "whole", "'3 a'"]),
        (["--vary", "inner-lr", "1", "--inner-lr", "2"], ["inner-lr", "both"]),
        (["--vary", "inner-lr", "1", "--vary", "inner_lr", "2"], ["inner-lr", "once"]),
        (["--vary", "inner-lr", "uniform:1:2"], ["inner-lr", "num_samples"]),
        (["--vary", "inner-lr", "uniform:1:2", "3"], ["inner-lr", "one range"]),
        (
            ["--vary", "inner-lr", "uniform:2:1", "--num-samples", "2"],
            ["inner-lr", "greater", "uniform:2:1"],
        ),
        (
            ["--vary", "inner-lr", "loguniform:0:1", "--num-samples", "2"],
            ["inner-lr", "above 0", "loguniform:0:1"],
        ),
        (
            ["--vary", "inner-lr", "1", "2", "--num-samples", "3"],
            ["num_samples", "at most", "3", "2"],
        ),
        (
            ["--vary", "inner-lr", "uniform:1:2", "--num-samples", "1000000"],
            ["at most 1000 runs", "1000000"],
        ),
        (
            ["--vary", "num-tasks", "uniform:1:3000000000", "--num-samples", "2"],
            ["num-tasks", "largest index", "uniform:1:3e+09"],
        ),
        (
            [
                word
                for option in ("inner-lr", "max-kl", "discount", "gae-lambda")
                for word in ("--vary", option, *map(str, range(10)))
            ],
            ["at most 1000 runs", "10000"],
        ),
        (["--vary", "inner-lr", "1", "--cpus-per-run", "nan"], ["cpus_per_run", "nan"]),
        (["--vary", "inner-lr", "1", "--gpus-per-run", "nan"], ["share", "nan"]),
        (["--vary", "inner-lr", "1", "--num-seeds", "0"], ["num_seeds", "1", "0"]),
        (["--vary", "inner-lr", "1", "--output-dir", "full"], ["full", "not empty"]),
        (["--vary", "inner-lr", "1", "--output-dir", "full/a"], ["full/a", "file"]),
        (
            ["--vary", "inner-lr", "1", "--cpus-per-run", "0"],
            ["cpus_per_run", "above 0"],
        ),
        (["--vary", "inner-lr", "1", "--gpus-per-run", "1.5"], ["share", "1.5"]),
        (["--vary", "inner-lr", "1", "--address", "here"], ["host:port", "'here'"]),
        (
            ["--vary", "inner-lr", "1", "--address", "localhost:1"],
            ["no Ray cluster at localhost:1"],
        ),
        (["--vary", "inner-lr", "1", "--cpus-per-rn", "1"], ["--cpus-per-run?"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_mistake_is_answered_in_one_sentence(
    args, words, no_ray, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    sentence = fails(capsys, ["sweep", "bandit-maml", *args])
    for word in words:
        assert word in sentence
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "full"]


def test_without_ray_one_sentence_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    assert 'pip install -e ".[sweep]"' in fails(capsys, SWEEP)
    assert not list(tmp_path.iterdir())


def test_only_a_sweep_imports_ray():
    code = "import sys; from metarl_jax import cli, training, plotting, reproduction"
    code += "; from metarl_jax.sweeps import sweep; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_runs_in_workers_are_those_of_train(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runs, asked = Path("swept/runs"), []

    def train(inner_lr, output_dir):
        args = ["train", "bandit-maml", *SMALL, "--hidden-sizes", "4", "3"]
        args += ["--inner-lr", inner_lr, "--output-dir", str(output_dir)]
        assert cli.main(args) == 0

    def rows(run):
        """What a run learned and reached, without the clock."""
        metrics = history.read(Path(run))
        return [{**row, "seconds": None} for row in metrics], schema.read_json(
            Path(run) / "evaluation.json"
        )["returns"]

    def alike(ours, theirs):
        assert ours[1] == theirs[1]
        for one, other in zip(ours[0], theirs[0], strict=True):
            assert list(one) == list(other)
            for key in one.keys() - {"seconds"}:
                np.testing.assert_allclose(one[key], other[key], rtol=1e-5)

    def begin(wanted, *_, **__):
        """A sweep that is stopped; it had come to a checkpoint of its first run."""
        asked.append([run.name for run in wanted])
        return {}

    # Nothing has run yet; then one run was killed, and of one the record is lost.
    with monkeypatch.context() as patched:
        patched.setattr(ray_tune, "run_all", begin)
        assert "every run of the sweep failed" in fails(capsys, SWEEP, status=1)
    assert asked == [[LOW, HIGH, LOST]]
    train("0.5", runs / LOW)
    before = rows(runs / LOW)
    (runs / LOW / "evaluation.json").unlink()
    shutil.rmtree(runs / LOW / "checkpoints" / "4")
    (runs / LOST).mkdir()
    (runs / LOST / "metrics.jsonl").touch()

    # It is continued, what is new is what `train` makes, and what fails keeps neither
    # from going on.
    output = run_sweep(tmp_path)
    alike(rows(runs / LOW), before)
    assert rows(runs / LOW)[0][:2] == before[0][:2]
    first = json.loads((runs / LOW / "metrics.jsonl").read_text().splitlines()[0])
    assert first["seconds"] > 0
    train("2", "alone")
    alone = rows("alone")
    alike(rows(runs / HIGH), alone)
    assert re.search(rf"[123]/3  {re.escape(HIGH)}  return", output)
    assert Path("swept/sweep.png").stat().st_size > 10_000
    *finished, failed = schema.read_json(Path("swept/sweep.json"))["runs"]
    by_name = {run["name"]: run for run in finished}
    assert by_name.keys() == {LOW, HIGH}
    assert {run["status"] for run in finished} == {"finished"}
    assert by_name[HIGH]["return_mean"] == np.mean(alone[1], (0, 1)).tolist()
    last = [run["return_mean"][-1] for run in finished]
    assert last == sorted(last, reverse=True)
    assert (failed["name"], failed["status"]) == (LOST, "failed")
    assert "not empty" in failed["error"]
    assert str(tmp_path) not in json.dumps(failed)
    assert f"{LOST}: ValueError: output directory {LOST} is not empty" in output

    # Called again, what failed is tried again, and nothing when nothing did; another
    # sweep is refused.
    monkeypatch.setattr(ray_tune, "run_all", begin)
    capsys.readouterr()
    assert cli.main(SWEEP) == 0
    shutil.rmtree(runs / LOST)
    shutil.copytree("alone", runs / LOST)
    assert cli.main(SWEEP) == 0
    assert asked[1:] == [[LOST]]
    assert f"{by_name[HIGH]['return_mean'][-1]:.2f}" in capsys.readouterr().out
    assert "seed = 0" in fails(capsys, [*SWEEP, "--seed", "1"])
    assert "discount = 0.99" in fails(capsys, [*SWEEP, "--discount", "0.5"])


def test_a_run_that_gives_up_says_why_and_does_not_raise(tmp_path, monkeypatch):
    monkeypatch.setattr(Choice, "load", lambda choice: microscopic)
    settings = {"seed": 0, "num_seeds": 1, "checkpoint_every": 2, "max_skipped": 2}
    run = ray_tune.Run("x=1", {"name": "bandit"}, {"skip": (1, 2)}, settings)
    config = {"run": run._asdict(), "directory": str(tmp_path)}
    error = ray_tune._run_in_worker(config)["error"]
    assert error.startswith("FloatingPointError: 2 updates in a row, up to step 3")
    assert error.endswith("saved in x=1")


def test_combinations_are_a_grid_or_drawn():
    grid = combinations({"a": [1, 2], "b": ["x", "y"]})
    assert [tuple(c.values()) for c in grid] == [(1, "x"), (1, "y"), (2, "x"), (2, "y")]
    vary = {
        "a": Range(0.001, 10, geometric=True, whole=False),
        "b": Range(1, 3, geometric=False, whole=True),
        "c": [True, False],
    }
    drawn = combinations(vary, num_samples=400, seed=3)
    assert drawn == combinations(vary, num_samples=400, seed=3)
    assert len({name_of(c) for c in drawn}) == 400
    a = np.array([c["a"] for c in drawn])
    assert np.all((a >= 0.001) & (a <= 10))
    # Uniform in the logarithm: a quarter in each of four decades.
    counts = np.histogram(np.log10(a), np.arange(-3, 2))[0]
    assert np.all(np.abs(counts - 100) < 4 * np.sqrt(75))
    assert {c["b"] for c in drawn} == {1, 2, 3}
    assert {c["c"] for c in drawn} == {True, False}
    # All that there are, and no more.
    few = combinations({"b": vary["b"], "c": vary["c"]}, num_samples=6)
    assert len({name_of(c) for c in few}) == 6
    with pytest.raises(ValueError, match="found 6"):
        combinations({"b": vary["b"], "c": vary["c"]}, num_samples=7)


def test_names_can_be_directories_and_tell_values_apart():
    options = {"inner_lr": 1e-05, "sizes": (64, 64), "on": True, "name": "a/b c"}
    assert name_of(options) == "inner-lr=1e-05,sizes=64x64,on=true,name=a-b-c"
    assert name_of({"x": 0.1}) != name_of({"x": 0.1 + 1e-12})
    assert name_of({"x": ()}) == "x=none"


def recorded(vary, returns):
    """A record of a sweep as if its runs had had these returns, best first."""
    runs = [
        {
            "name": name_of(combination),
            "options": combination,
            "status": "finished",
            "adaptation_unit": "adaptation steps",
            "adaptation_step": [0, 1],
            "return_mean": [0.0, value],
            "return_ci": [[0.0, 0.0], [value - 1, value + 1]],
            "interval": "95 % interval over tasks",
            "num_tasks": 3,
            "num_episodes": 2,
            "training_seconds": 1.0,
        }
        for combination, value in zip(combinations(vary), returns, strict=True)
    ]
    unfinished = {"name": "u", "status": "unfinished", "error": None}
    unfinished["options"] = {option: values[0] for option, values in vary.items()}
    runs = [*sorted(runs, key=lambda run: -run["return_mean"][1]), unfinished]
    return {"experiment": "e", "vary": vary, "num_seeds": 1, "runs": runs}


def test_what_is_drawn_depends_on_what_varies():
    def drawn(vary, returns):
        return figure.sweep_figure(recorded(vary, returns)).axes

    (axes,) = drawn({"inner_lr": [0.1, 0.01, 1.0], "b": [7]}, [3.0, 1.0, 2.0])
    (line,) = axes.lines
    np.testing.assert_array_equal(line.get_xdata(), [0.01, 0.1, 1.0])
    np.testing.assert_array_equal(line.get_ydata(), [1.0, 3.0, 2.0])
    assert (axes.get_xscale(), axes.get_xlabel()) == ("log", "inner-lr")
    assert axes.get_ylabel() == "return after 1 adaptation step"

    (axes,) = drawn({"a": [1, 2, 3], "b": ["x", "y"]}, range(6))
    assert axes.get_xscale() == "linear"
    curves = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    assert curves == {"x": [0, 2, 4], "y": [1, 3, 5]}

    axes, bar = drawn({"a": range(1, 8), "b": range(1, 9)}, range(56))
    assert len(axes.collections[0].get_offsets()) == 56
    assert bar.get_ylabel() == "return after 1 adaptation step"

    (axes,) = drawn({"a": ["x", "y", "z"]}, [1.0, 3.0, 2.0])
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["a y", "a z", "a x"]


def test_the_table_has_the_best_first_and_says_what_is_missing():
    text = table.layout(recorded({"a": [1, 2], "b": [True]}, [-3.0, -2.0]))
    assert [line.split() for line in text.splitlines()[1:]] == [
        [
            *("a", "b", "after", "0", "after", "1"),
            *("95", "%", "interval", "over", "tasks", "seconds"),
        ],
        ["2", "true", "0.00", "-2.00", "[-3.00,", "-1.00]", "1"],
        ["1", "true", "0.00", "-3.00", "[-4.00,", "-2.00]", "1"],
        ["1", "true", "–", "unfinished"],
    ]
    assert "1 seed × 3 held-out tasks × 2 episodes" in text


def test_a_run_that_is_not_a_number_is_not_the_best(tmp_path):
    experiment = microscopic()
    protocol = experiment.evaluation
    rows = []
    for name, values in (("x=1", [[1.0, np.nan]]), ("x=2", [[1.0, -7.0]])):
        returns = np.array([values, [[2.0, -8.0]]]).transpose(1, 0, 2)
        result = files.jsonable(
            {
                **_rows(returns),
                "interval": "95 % interval over tasks",
                "references": {},
                "published": {},
                "num_seeds": 2,
                "adaptation_unit": "adaptation steps",
                "adaptation_step": list(range(protocol.num_adaptation_steps + 1)),
                "return_mean_by_seed": returns.mean(axis=1),
                "num_tasks": protocol.num_tasks,
                "num_episodes": protocol.num_episodes,
                "evaluation_seed": 0,
                "training_steps": experiment.num_steps,
                **dict.fromkeys(("training_seconds", "compile_seconds"), 1.0),
                **dict.fromkeys(("evaluation_seconds", "peak_memory_mib"), 1.0),
                "device": "cpu",
            }
        )
        run = tmp_path / "runs" / name
        run.mkdir(parents=True)
        files.write_json(run / "evaluation.json", result)
        rows.append(sweep._row(tmp_path, {"x": int(name[-1])}, experiment, None))
    best, other = sorted(rows, key=sweep._rank)
    assert (best["name"], other["return_mean"][-1]) == ("x=2", None)
    record = {"experiment": "e", "vary": {"x": [1, 2]}, "num_seeds": 1}
    text = table.layout({**record, "runs": [best, other]})
    assert "x=1: tasks not finite: 0, 1" in text
    figure.draw({**record, "runs": [best, other]}, tmp_path / "sweep.png")
    files.write_json(tmp_path / "runs" / "x=1" / "evaluation.json", {})
    with pytest.raises(ValueError, match=r"x=1/evaluation\.json: adaptation_step"):
        sweep._row(tmp_path, {"x": 1}, experiment, None)
    (tmp_path / "sweep.json").write_text("[]")
    with pytest.raises(ValueError, match=r"sweep\.json is no record of a sweep"):
        sweep._check_same_sweep(tmp_path, sweep.Plan(Choice("bandit"), {}, {"x": [1]}))


def test_a_worker_keeps_to_its_share(monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    assert ray_tune._environment(3, 0) == {"NPROC": "3", "JAX_PLATFORMS": "cpu"}
    assert ray_tune._environment(0.5, 0)["NPROC"] == "1"
    shared = ray_tune._environment(1, 0.5)
    assert shared == {"NPROC": "1", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.375"}
    nodes = [
        {"Alive": True, "Resources": {"CPU": 4.0}},
        {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 1.0}},
        {"Alive": False, "Resources": {"CPU": 64.0}},
    ]
    assert ray_tune._check_room(nodes, 3, 0, None) == "3 at once"
    assert ray_tune._check_room(nodes, 1, 0.5, None) == "2 at once"
    with pytest.raises(ValueError, match=r"asks for 9 CPUs.* 8 CPUs"):
        ray_tune._check_room(nodes, 9, 0, None)
    with pytest.warns(UserWarning, match="waiting"):
        ray_tune._check_room(nodes, 1, 2, "auto")
