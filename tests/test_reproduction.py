"""Published tables: what agrees, what is kept of a run that was killed, what is shown.

Run as a script it computes a table whose second cell kills the process.
"""

import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import scipy.stats

from metarl_jax import cli
from metarl_jax.cli import reproduce as command
from metarl_jax.envs.bandit import correlated_bandit
from metarl_jax.experiments.bandit_rl2 import bandit_rl2
from metarl_jax.intervals import summarise
from metarl_jax.reproduction import TABLES, figure, load_table
from metarl_jax.reproduction.learned import curve, learned
from metarl_jax.reproduction.measuring import (
    agent_returns,
    best_of,
    exact,
    measure,
    trial_returns,
)
from metarl_jax.reproduction.pearl_half_circle import pearl_half_circle
from metarl_jax.reproduction.table import (
    Cell,
    Measurement,
    Table,
    compared,
    layout,
    measured,
    reproduce,
)
from metarl_jax.runs.files import read_config
from metarl_jax.strategies import bandit

VALUES = {("a", "x"): 1.0, ("a", "y"): 2.0, ("b", "x"): 3.0, ("b", "y"): 4.0}


def small_table(calls, deadly=None, **options):
    """Four cells that write down when they are measured; one may be deadly."""

    def cell(row, column, value):
        def run(directory):
            calls.append((row, column))
            if (row, column) == deadly:
                os.kill(os.getpid(), signal.SIGKILL)
            return Measurement(value + np.array([-0.1, 0.0, 0.1]), "c = 0.5")

        published = None if row == "a" else 3.0
        reason = "the reason" if column == "y" else ""
        quick = (row, column) != ("a", "y")
        return Cell(row, column, run, published, quick=quick, reason=reason)

    cells = tuple(cell(*key, value) for key, value in VALUES.items())
    return Table("small", "A paper", "apples", cells, **options)


def test_a_measurement_s_mean_and_error():
    rng = np.random.default_rng(0)
    one, seeds = rng.normal(size=400), rng.normal(size=(5, 400))
    seeds += rng.normal(size=(5, 1))
    record = measured(Measurement(one))
    error = one.std(ddof=1) / 20
    assert record["mean"] == pytest.approx(one.mean())
    assert record["standard_error"] == pytest.approx(error)
    np.testing.assert_allclose(
        record["ci"], scipy.stats.t.interval(0.95, 399, one.mean(), error)
    )
    assert (record["num_seeds"], record["num_instances"]) == (1, 400)
    # What a seed's instances share is not averaged away by having many of them.
    record = measured(Measurement(seeds))
    error = seeds.mean(1).std(ddof=1) / np.sqrt(5)
    assert record["standard_error"] == pytest.approx(error)
    assert (record["num_seeds"], record["num_instances"]) == (5, 400)
    np.testing.assert_allclose(record["seed_means"], seeds.mean(1))
    # All seeds meet the same instances: their error is in every mean.
    summary = summarise(seeds[..., None], shared_tasks=True)
    assert record["ci"] == [summary.ci_low[0], summary.ci_high[0]]
    assert record["interval"] == "95 % interval over seeds and instances"
    record = measured(exact(6.66))
    assert (record["mean"], record["standard_error"], record["ci"]) == (
        6.66,
        0.0,
        [6.66, 6.66],
    )


def test_intervals_of_three_seeds_hold_the_truth():
    # Wang's and Duan's cells: many instances, that all seeds meet, and few seeds.
    rng, held = np.random.default_rng(0), []
    for seed_std in (0.0, 0.05, 0.5) * 400:
        values = rng.normal(size=400) + rng.normal(size=(3, 400))
        values += seed_std * rng.normal(size=(3, 1))
        low, high = measured(Measurement(values))["ci"]
        held.append(low < 0 < high)
    coverage = np.mean(np.reshape(held, (-1, 3)), axis=0)
    assert np.all((coverage > 0.93) & (coverage < 0.99)), coverage


def test_what_is_not_finite_is_named_and_never_the_best(tmp_path):
    values = np.array([1.0, np.nan, 3.0])
    cell = Cell("a", "x", lambda _: Measurement(values), 2.0, optimum=1.0)
    other = Cell("b", "x", lambda _: Measurement(np.ones(3)), 1.0)
    table = Table("small", "A paper", "apples", (cell, other))
    result = reproduce(table, tmp_path, quiet=True)
    assert result["cells"][0]["mean"] is None
    text = layout(result)
    assert "a, x: 1 of 3 are not finite" in text
    assert text.splitlines()[2].split() == ["a", "NaN"]
    assert "1 of 1 published cells agree." in text
    figure.draw(result, tmp_path / "table.png")
    assert best_of("abc", np.array([np.nan, -2.0, -1.0])) == "c"


@pytest.mark.parametrize(
    ("mean", "agrees"), [(10.0, True), (10.29, True), (10.31, False), (9.69, False)]
)
def test_agreement_is_two_standard_errors_of_the_difference(mean, agrees):
    # Errors 0.09 (ours), 0.12 (theirs, 1.2 / √100) and no rounding: 2 · 0.15.
    table = Table("t", "T", "q", (), published_instances=100, rounding=0.0)
    record = {"mean": mean, "standard_error": 0.09, "std": 1.2}
    entry = compared(table, Cell("a", "x", exact, 10.0, reason="known"), record)
    assert entry["agrees"] is agrees
    assert entry.get("reason") == (None if agrees else "known")
    assert entry["allowed_difference"] == pytest.approx(0.3)
    assert entry["difference"] == pytest.approx(mean - 10.0)
    # A relative tolerance counts where it is wider.
    assert compared(
        table._replace(tolerance=0.04), Cell("a", "x", exact, 10.0), record
    )["agrees"]
    rounded = table._replace(rounding=0.6)
    entry = compared(rounded, Cell("a", "x", exact, 10.0), record)
    assert entry["allowed_difference"] == pytest.approx(
        2 * np.hypot(0.15, 0.6 / 12**0.5)
    )


def test_passing_the_optimum_is_seen():
    record = {"mean": 5.0, "standard_error": 0.1, "std": 1.0}
    for lower_is_better, optimum, passes in [
        (False, 4.6, True),
        (False, 4.8, False),
        (True, 5.4, True),
        (True, 5.2, False),
        (True, 4.0, False),
    ]:
        table = Table("t", "T", "q", (), lower_is_better=lower_is_better)
        entry = compared(table, Cell("a", "x", exact, optimum=optimum), record)
        assert entry["passes_optimum"] is passes
        assert "agrees" not in entry


def test_a_killed_table_goes_on_where_it_stood(tmp_path):
    repository = str(Path(__file__).parent.parent)
    killed = subprocess.run(
        [sys.executable, __file__, str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": repository},
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert "1/4  a, x … " in killed.stdout
    (kept,) = (tmp_path / "out" / "cells").glob("*.json")
    before = kept.read_bytes()
    calls = []
    table = small_table(calls)
    result = reproduce(table, tmp_path / "out", quiet=True)
    assert calls == [("a", "y"), ("b", "x"), ("b", "y")]
    assert kept.read_bytes() == before
    assert json.loads((tmp_path / "out" / "table.json").read_text()) == result
    assert [cell["mean"] for cell in result["cells"]] == pytest.approx([1, 2, 3, 4])
    assert result["cells"][0]["setting"] == "c = 0.5"
    # What was published is looked up anew; nothing is measured.
    cells = (*table.cells[:3], table.cells[3]._replace(published=4.0))
    again = reproduce(table._replace(cells=cells), tmp_path / "out", quiet=True)
    assert len(calls) == 3
    assert [cell.get("agrees") for cell in result["cells"]] == [None, None, True, False]
    assert again["cells"][3]["agrees"]


def test_quick_leaves_cells_out_and_a_directory_is_one_table_s(tmp_path):
    calls = []
    table = small_table(calls)
    result = reproduce(table, tmp_path, quick=True, quiet=True)
    assert ("a", "y") not in calls
    assert result["left_out"] == 1
    for wrong, seed in [(table, 1), (table._replace(name="other"), 0)]:
        with pytest.raises(ValueError, match="cell of small with seed 0"):
            reproduce(wrong, tmp_path, seed=seed, quiet=True)
    (tmp_path / "cells" / "b--x.json").write_text("[]")
    with pytest.raises(ValueError, match="holds no measured cell; remove it"):
        reproduce(table, tmp_path, quiet=True)
    twice = table._replace(cells=(*table.cells, table.cells[0]))
    with pytest.raises(ValueError, match="two cells of the same row and column"):
        reproduce(twice, tmp_path / "new", quiet=True)


def test_layout_and_figure(tmp_path):
    table = small_table([], notes=("A note.",))
    result = reproduce(table, tmp_path, quick=True, quiet=True)
    text = layout(result)
    lines = text.splitlines()
    assert lines[0] == "A paper: apples"
    assert lines[2].split() == ["a", "1.00", "–"]
    assert lines[3].split() == ["b", "3.00", "4.00*"]
    assert lines[4].split() == ["published", "3", "3"]
    assert "1 of 2 published cells agree." in text
    assert "Cells still to be computed: 1." in text
    assert "* b, y: 4.00 ± 0.25, published 3: the reason" in text
    assert lines[-1] == "A note."

    drawn = figure.table_figure(result)
    panels = [axes for axes in drawn.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in panels] == ["x", "y"]
    points = [
        (line.get_marker(), line.get_xdata()[0], line.get_ydata()[0])
        for line in panels[1].lines
        if line.get_marker() != "None" and len(line.get_xdata())
    ]
    assert points == [("D", 3.0, 1), ("o", pytest.approx(4.0), 1)]
    # The legend offers what there is.
    labels = [text.get_text() for text in drawn.legends[0].get_texts()]
    ours = ["ours, agrees with the published", "ours, differs"]
    assert labels == [*ours, "ours, nothing published", "published"]
    only = {**result, "cells": result["cells"][:1]}
    (label,) = figure.table_figure(only).legends[0].get_texts()
    assert label.get_text() == "ours, nothing published"
    assert "over instances" in drawn.get_suptitle()
    path = figure.draw(result, tmp_path / "table.png")
    assert path.read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match="no cell"):
        figure.draw({**result, "cells": []}, path)


def test_a_setting_is_chosen_on_instances_of_its_own():
    asked = []

    def returns(key, setting, num_instances):
        asked.append((jax.random.key_data(key).tolist(), setting, num_instances))
        return np.full((num_instances, 1), -((setting - 0.3) ** 2))

    options = {"num_instances": 7, "settings": (0.1, 0.2, 0.5), "num_tuning": 4}
    key = jax.random.key(0)
    measurement = measure(key, returns, symbol="c", **options)
    assert measurement.setting == "c = 0.2"
    assert measurement.values.shape == (7,)
    assert [(s, n) for _, s, n in asked] == [(0.1, 4), (0.2, 4), (0.5, 4), (0.2, 7)]
    assert asked[-1][0] == jax.random.key_data(key).tolist()
    assert all(data != asked[-1][0] for data, *_ in asked[:3])
    lowest = measure(key, returns, lower_is_better=True, **options)
    np.testing.assert_allclose(lowest.values, -0.04)


def test_returns_of_a_trial_and_regret():
    tasks = correlated_bandit(family="easy", horizon=5)
    build = functools.partial(bandit.epsilon_greedy, 2)

    def random(epsilon):
        return build(epsilon=epsilon)

    key = jax.random.key(0)
    gained = trial_returns(tasks, random, num_rounds=2)(key, 1.0, 700)
    lacking = trial_returns(tasks, random, num_rounds=2, oracle="optimal arm")(
        key, 1.0, 700
    )
    assert gained.shape == (700, 2)
    np.testing.assert_allclose(gained + lacking, 4.5, rtol=1e-5)
    # Uniform play gains ½ a pull; a standard error is 0.04.
    np.testing.assert_allclose(gained.mean(0), 2.5, atol=0.17)
    assert len(np.unique(gained[:500, 0] - gained[100:600, 0])) > 1


def test_a_learned_cell_goes_on_with_a_run_that_was_stopped(tmp_path):
    options: dict[str, Any] = {
        "num_arms": 2,
        "horizon": 2,
        "num_tasks": 4,
        "size": 2,
        "hidden_sizes": (3,),
        "whole_transitions": True,
        "num_steps": 2,
    }
    tasks = bandit_rl2(**options).tasks

    def rewards(algorithm, agent):
        return agent_returns(tasks, algorithm)(jax.random.key(0), agent, 600)[:, 0]

    cell = learned("bandit-rl2", options, rewards, seeds=(3, 4))
    whole = cell(tmp_path / "whole")
    assert whole.setting == (
        "bandit-rl2 --num-arms 2 --horizon 2 --num-tasks 4 --size 2 --hidden-sizes 3 "
        "--whole-transitions --num-steps 2"
    )
    assert whole.values.shape == (2, 600)
    assert set(np.unique(whole.values)) == {0.0, 1.0, 2.0}
    # Its curve is what its seeds' metrics say, of trials of two pulls.
    assert whole.curve is not None
    assert whole.curve["environment_steps"] == [8, 16]
    for seed, returns in zip((3, 4), np.transpose(whole.curve["return"]), strict=True):
        rows = (tmp_path / "whole" / f"seed-{seed}" / "metrics.jsonl").read_text()
        there = [json.loads(row)["return_after"] for row in rows.splitlines()]
        np.testing.assert_allclose(returns, there, atol=6e-4)
    # Of the two seeds' runs one stopped halfway, and one before its first record.
    once = learned("bandit-rl2", {**options, "num_steps": 1}, rewards, seeds=(3,))
    once(tmp_path / "cut")
    (tmp_path / "cut" / "seed-4" / "checkpoints").mkdir(parents=True)
    np.testing.assert_array_equal(cell(tmp_path / "cut").values, whole.values)
    # Its seconds are those of the training, over all stops, and of measuring.
    free = learned("bandit-rl2", options, lambda *_: np.zeros(1), seeds=(3, 4))
    lines = [
        (tmp_path / "cut" / f"seed-{seed}" / "metrics.jsonl").read_text().splitlines()
        for seed in (3, 4)
    ]
    trained = sum(json.loads(rows[-1])["seconds"] for rows in lines)
    assert 0 < trained <= free(tmp_path / "cut").seconds < trained + 0.1
    # Two more steps from there, of other trials.
    started = learned(
        "bandit-rl2", {**options, "horizon": 3}, rewards, seeds=(3, 4), start=options
    )(tmp_path / "more")
    assert started.setting == whole.setting.replace("--horizon 2", "--horizon 3") + (
        f" --start-from {whole.setting}"
    )
    for seed in (3, 4):
        config = read_config(tmp_path / "more" / f"seed-{seed}")
        assert config["start_from"]["options"]["horizon"] == 2
        first = tmp_path / "more" / "start" / f"seed-{seed}" / "metrics.jsonl"
        assert first.read_text().count('"step"') == 2
    assert started.curve is not None
    assert started.curve["environment_steps"] == [16 + 12, 16 + 24]
    # Of trials as long as those before, the curve is of all training.
    # And the runs before are those of another cell, which are not trained again.
    longer = learned(
        *("bandit-rl2", options, rewards),
        **{"seeds": (3, 4), "start": options, "start_in": "whole"},
    )
    kept = [tmp_path / "whole" / f"seed-{i}" / "metrics.jsonl" for i in (3, 4)]
    before = [path.read_text() for path in kept]  # with the seconds that it took
    everything = longer(tmp_path / "longer").curve
    assert [path.read_text() for path in kept] == before
    assert not (tmp_path / "longer" / "start").exists()
    assert everything is not None
    assert everything["environment_steps"] == [8, 16, 24, 32]
    assert everything["return"][:2] == whole.curve["return"]
    with pytest.raises(ValueError, match=r"num_tasks = 4 .* resumed with 8"):
        learned("bandit-rl2", {**options, "num_tasks": 8}, rewards, seeds=(3,))(
            tmp_path / "cut"
        )


def test_a_curve_is_of_all_episodes_of_a_trial_and_of_equal_pieces():
    rows = [{"episode_returns": [i, 0.5]} for i in range(120)]
    made = curve([rows, rows[::-1]], 10)
    assert made is not None
    assert len(made["return"]) == len(made["environment_steps"]) == 60
    assert made["environment_steps"][:2] == [20, 40]
    assert made["environment_steps"][-1] == 1200
    assert made["return"][1] == [2.5 + 0.5, 116.5 + 0.5]
    fewer = curve([rows[:100]], 10)
    assert fewer is not None
    assert fewer["environment_steps"] == list(range(20, 1001, 20))  # and none of one
    assert curve([rows], None) is None
    assert curve([[{"loss": 1.0, "return_after": 3.0}]], 10) is None


def test_what_was_trained_is_drawn_as_it_learned(tmp_path):
    result = reproduce(small_table([]), tmp_path, quiet=True)
    path = tmp_path / "curves.png"
    assert figure.draw_curves(result, path) is None
    assert not path.exists()
    made = {"environment_steps": [1_000_000, 2_000_000], "return": [[1, 2], [3, 5]]}
    first = {**result["cells"][0], "curve": made, "mean": 4.0, "published": 4.5}
    cells = [first, *result["cells"][1:]]
    drawn = figure.curves_figure({**result, "cells": cells}, [first])
    (axes,) = drawn.axes
    lines = {str(line.get_label()): line for line in axes.lines}
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [1, 2])
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [1, 3])
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), [2, 5])
    assert set(lines["published"].get_ydata()) == {4.5}
    assert set(lines["when trained"].get_ydata()) == {4.0}
    (axes,) = figure.curves_figure({**result, "lower_is_better": True}, [first]).axes
    assert len(axes.lines) == 2  # a regret is not on the axis of returns
    # A trial's episodes are of the same runs: one curve, and no episode's return.
    second = {**first, "column": "another", "mean": 2.0}
    (axes,) = figure.curves_figure(result, [first, second]).axes
    assert axes.get_title(loc="left") == first["row"]
    assert len(axes.lines) == 2
    assert figure.draw_curves({**result, "cells": cells}, path) == path


def test_a_cell_out_of_reach_is_named_and_has_no_number(tmp_path):
    table = small_table([])
    cells = (*table.cells, Cell("b", "z", None, 5.0, reason="it takes a week"))
    result = reproduce(table._replace(cells=cells), tmp_path, quiet=True)
    assert result["left_out"] == 0
    assert result["not_reached"] == [
        {"row": "b", "column": "z", "published": 5.0, "reason": "it takes a week"}
    ]
    text = layout(result)
    assert "b, z: not reached: it takes a week" in text
    row, published = text.splitlines()[3:5]
    assert row.split()[-2:] == ["not", "reached"]
    assert published.split()[-1] == "5"
    figure.draw(result, tmp_path / "table.png")


@pytest.mark.parametrize("name", TABLES)
def test_every_table(name, tmp_path):
    table = load_table(name)(seed=0)
    assert table.name == name
    places = [(cell.row, cell.column) for cell in table.cells]
    assert len(set(places)) == len(places)
    assert any(cell.quick for cell in table.cells)
    # Its exact cells, or what takes no training and little time.
    instant = (
        *("Bayes optimum", "Bayes-optimal", "known goal", "known MDP"),
        *("straight to the goal", "random arms"),
    )
    cells = tuple(c for c in table.cells if c.row in instant)
    result = reproduce(table._replace(cells=cells), tmp_path, quiet=True)
    mean = {(c["row"], c["column"]): c["mean"] for c in result["cells"]}
    assert not any(cell.get("passes_optimum") for cell in result["cells"])
    known = {
        "rl2-bandits": {("Bayes optimum", "n=10 k=5"): 6.659988},
        "wang-bandits": {
            ("Bayes optimum", "easy"): 0.625,
            ("Bayes optimum", "11 arms"): 4.45,
        },
        "varibad-gridworld": {
            ("Bayes-optimal", "episode 1"): 4.0,
            ("Bayes-optimal", "episode 4"): 11.0714286,
        },
        # 13.4846 by a plain loop over the twenty held-out goals.
        "pearl-half-circle": {
            ("straight to the goal", "episode 6"): pytest.approx(13.4846, abs=0.1)
        },
        # A random arm lacks 5/6 - 1/2 in every pull.
        "dpt-bandits": {("random arms", "5 arms"): pytest.approx(100 / 3, abs=0.4)},
        # 21.82 ± 0.07 an episode over 1000 other MDPs.
        "rl2-mdps": {("known MDP", "n=10"): pytest.approx(218.2, abs=2.4)},
    }
    for place, value in known[name].items():
        assert mean[place] == (
            pytest.approx(value, abs=1e-5) if isinstance(value, float) else value
        )


def test_reproduce_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    calls = []
    table = lambda name: lambda seed: small_table(calls)  # noqa: E731
    monkeypatch.setattr(command, "load_table", table)
    assert cli.main(["reproduce", "rl2-bandits", "--quick"]) == 0
    output = capsys.readouterr().out
    assert "3/3  b, y … " in output
    assert "A paper: apples" in output
    files = {p.name for p in Path("reproductions/rl2-bandits").iterdir()}
    assert files == {"cells", "table.json", "table.png"}
    assert cli.main(["reproduce", "rl2-bandits"]) == 0
    assert len(calls) == 4
    assert cli.main(["reproduce", "rl2-bandits", "--seed", "1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "seed 0" in line


def test_goals_met_are_counted_in_the_trials_of_the_returns(tmp_path):
    table = pearl_half_circle(num_instances=8)
    cells = {(cell.row, cell.column): cell.measure for cell in table.cells}

    def measured_of(row):
        measure = cells[row, "episode 6"]
        assert measure is not None
        return measure(tmp_path / "a-cell")

    returns = measured_of("exact posterior sampling").values
    met = measured_of("exact posterior sampling, goal met in %").values
    assert returns.shape == (8,)
    np.testing.assert_array_equal(met, np.where(returns > 0, 100.0, 0.0))
    assert met.mean() > 0


if __name__ == "__main__":
    reproduce(small_table([], deadly=("a", "y")), sys.argv[1])
