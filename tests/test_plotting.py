"""What is drawn is what was recorded."""

import csv
import functools
import io
import json
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from metarl_jax import plotting


def metric_rows(num_seeds):
    rows = []
    for step in range(1, 6):
        row = {"step": step, "return_before": -5.0, "return_after": float(step)}
        row["seconds"] = 0.5 * step
        if num_seeds > 1:
            row["seeds"] = {
                "return_before": [-5.0] * num_seeds,
                "return_after": [step + i - 0.5 for i in range(num_seeds)],
            }
        rows.append(row)
    rows[2]["return_after"] = None  # was not finite
    return rows


def evaluation(shift=0.0) -> Any:
    row = {
        "return_mean": [-4.0 + shift, -2.0, -1.0],
        "return_iqm": [-4.0, -2.0, -1.0],
        "return_ci": [[-5.0, -3.0], [-3.0, -1.5], [-1.5, -0.5]],
    }
    level = {
        "return_mean": [0.0] * 3,
        "return_iqm": [0.0] * 3,
        "return_ci": [[0.0, 0.0]] * 3,
    }
    return {
        **row,
        "references": {"random initialisation": row, "oracle": level},
        "published": {"A paper": [-4.5, -2.5, -1.0, -0.5]},
        "adaptation_step": [0, 1, 2],
        "num_tasks": 4,
        "num_episodes": 2,
        "num_seeds": 2,
    }


def write_run(path, name="thing", num_seeds=2):
    path.mkdir()
    config = {"experiment": name, "options": {}, "seed": 0, "num_seeds": num_seeds}
    (path / "config.json").write_text(json.dumps(config))
    lines = [json.dumps(row) for row in metric_rows(num_seeds)]
    # A training process may be writing the last line right now.
    (path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 6, "ret')
    (path / "evaluation.json").write_text(json.dumps(evaluation()))
    tasks = [
        {"goal": [0.3, -0.2], "paths": [[[[0, 0], [0.1, 0.1]]]] * 3} for _ in range(2)
    ]
    (path / "paths.json").write_text(json.dumps({"tasks": tasks}))
    (path / "goal_beliefs.json").write_text(json.dumps(held_beliefs()))
    return path


def curves(figure):
    """The labelled lines of a figure's first axes."""
    lines = figure.axes[0].get_lines()
    return {
        line.get_label(): np.asarray(line.get_ydata(), float)
        for line in lines
        if not line.get_label().startswith("_")
    }


def test_learning_curves_are_the_recorded_returns():
    alone = curves(plotting.learning_curve({"thing": metric_rows(2)}))
    np.testing.assert_array_equal(alone["after adaptation"], [1, 2, np.nan, 4, 5])
    np.testing.assert_array_equal(alone["before adaptation"], [-5] * 5)
    two = plotting.learning_curve({"a": metric_rows(1), "b": metric_rows(2)})
    assert set(curves(two)) == {
        f"{run}, {when} adaptation" for run in "ab" for when in ("before", "after")
    }


def test_the_seconds_axis_reads_the_recorded_seconds():
    figure = plotting.learning_curve({"thing": metric_rows(1)})
    figure.draw_without_rendering()
    (top,) = figure.axes[0].child_axes
    low, high = figure.axes[0].get_xlim()
    assert top.get_xlim() == pytest.approx((0.5 * low, 0.5 * high))


def test_adaptation_curves_show_references_and_published_values():
    figure = plotting.adaptation_curve({"thing": evaluation()})
    drawn = curves(figure)
    np.testing.assert_array_equal(drawn["meta-learned"], [-4, -2, -1])
    np.testing.assert_array_equal(drawn["oracle"], [0, 0, 0])
    assert "random initialisation" in drawn
    # Published values beyond the steps that were measured would have no counterpart.
    np.testing.assert_array_equal(drawn["A paper (published)"], [-4.5, -2.5, -1.0])
    several = plotting.adaptation_curve({"a": evaluation(), "b": evaluation(1.0)})
    assert set(curves(several)) == {"a", "b", "A paper (published)"}
    # What the curve counts is said below it.
    assert several.axes[0].get_xlabel() == "adaptation steps"
    episodes = {**evaluation(), "adaptation_unit": "episodes of experience"}
    both = plotting.adaptation_curve({"a": evaluation(), "b": episodes})
    label = both.axes[0].get_xlabel()
    assert label == "adaptation steps or episodes of experience"


def efficiency():
    fast = {
        "return_mean": [20.0, 480.0, None],
        "return_ci": [[10, 30], [470, 490], [None, None]],
    }
    slow = {"return_mean": [20.0, 21.0, 300.0], "return_ci": [[19, 22]] * 3}
    return {
        "learners": {"fast": fast, "slow": slow},
        "steps": [10, 100, 1000],
        "level": 450.0,
        "num_tasks": 3,
    }


def test_sample_efficiency_is_drawn_as_far_as_it_was_measured():
    figure = plotting.sample_efficiency(efficiency())
    drawn = curves(figure)
    assert set(drawn) == {"fast", "slow"}
    np.testing.assert_array_equal(drawn["fast"], [20, 480, np.nan])
    np.testing.assert_array_equal(drawn["slow"], [20, 21, 300])
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    assert axes.texts[0].get_text() == "450"
    assert [450, 450] in [list(line.get_ydata()) for line in axes.get_lines()]


def held_beliefs():
    """Two trials of two episodes of three steps; the first finds the goal in step 4."""
    rng = np.random.default_rng(0)
    learned = rng.uniform(size=(2, 7, 3, 3))
    exact = np.full((2, 7, 3, 3), 1 / 9)
    exact[0, 4:] = 0.0
    exact[0, 4:, 2, 1] = 1.0
    cell = rng.integers(3, size=(2, 7, 2))
    arrays = {"learned": learned, "exact": exact, "cell": cell}
    recorded = {name: x.tolist() for name, x in arrays.items()}
    return {**recorded, "goal": [[2, 1], [0, 2]], "horizon": 3}


def test_beliefs_are_drawn_by_x_and_y_from_the_start_to_the_end():
    recorded = held_beliefs()
    figure = plotting.goal_beliefs(recorded)
    grids = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    rows = np.reshape(np.array(grids, object), (2, 2, 7))
    for n, name in np.ndindex(2, 2):
        values = np.array(recorded[("learned", "exact")[name]][n])
        # Up to the step that finds the goal, or all of them; the end is the last.
        steps = [[0, 1, 2, 2, 3, 4, 6], [0, 1, 2, 4, 5, 6, 6]][n]
        for t, axes in zip(steps, rows[n, name], strict=True):
            (image,) = axes.images
            np.testing.assert_array_equal(image.get_array(), values[t].T)
            assert image.origin == "lower"
            path, here, star = (line.get_xydata() for line in axes.get_lines())
            first = {3: 3, 4: 3, 5: 3, 6: 3}.get(t, 0)
            np.testing.assert_array_equal(path, recorded["cell"][n][first : t + 1])
            np.testing.assert_array_equal(here[0], recorded["cell"][n][t])
            np.testing.assert_array_equal(star[0], recorded["goal"][n])
    titles = [axes.get_title() for axes in rows[0, 0]]
    assert titles[0] == "at the start"
    assert titles[-2:] == ["found, step 4", "the end, step 6"]
    assert rows[1, 0, -2].get_title() == "after 6 steps"


def test_no_text_of_a_figure_is_cut_off_or_covers_the_axes():
    rows = metric_rows(2)
    long_names = {f"a-rather-long-directory-name-{i}": rows for i in range(4)}
    for figure in (
        plotting.learning_curve(long_names),
        plotting.adaptation_curve({"thing": evaluation()}),
        plotting.sample_efficiency(efficiency()),
    ):
        figure.draw_without_rendering()
        (legend,) = figure.legends
        box = legend.get_window_extent()
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1
        assert box.y0 >= figure.bbox.y0
        assert not box.overlaps(figure.axes[0].get_window_extent())
        assert figure.axes[0].get_window_extent().height > 0.4 * figure.bbox.height


def test_figures_are_files_and_runs_of_one_name_are_told_apart(tmp_path):
    one, other = write_run(tmp_path / "one"), write_run(tmp_path / "other")
    written = plotting.plot_run(one)
    assert [path.name for path in written] == [
        "learning_curve.png",
        "adaptation_curve.png",
        "paths.png",
        "goal_beliefs.png",
    ]
    for path in written:
        assert path.parent == one
        assert imread(path).std() > 0.05  # something is on it
    assert plotting.runs._labels([one, other], [{"experiment": "thing"}] * 2) == [
        "one",
        "other",
    ]
    together = plotting.plot_runs([one, other], tmp_path / "new" / "figures")
    assert [path.name for path in together] == [
        "learning_curve.png",
        "adaptation_curve.png",
    ]
    assert all(path.exists() for path in together)

    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty holds no config\.json"):
        plotting.plot_run(tmp_path / "empty")
    (tmp_path / "empty" / "config.json").write_text((one / "config.json").read_text())
    with pytest.raises(ValueError, match="nothing recorded to draw"):
        plotting.plot_run(tmp_path / "empty")


def write_seed(path, seed, returns=None, **more):
    """A run of one seed, of which returns `[N, K + 1]` were recorded."""
    write_run(path, num_seeds=1)
    config = json.loads((path / "config.json").read_text()) | {"seed": seed} | more
    (path / "config.json").write_text(json.dumps(config))
    if returns is None:
        returns = np.random.default_rng(seed).normal(size=(4, 3))
    result = evaluation() | {"num_seeds": 1, "returns": [np.array(returns).tolist()]}
    result["return_mean"] = np.mean(returns, axis=0).tolist()
    (path / "evaluation.json").write_text(json.dumps(result))
    return np.array(returns)


def test_runs_of_other_seeds_are_one_curve(tmp_path):
    names = [tmp_path / f"seed{seed}" for seed in range(3)]
    returns = [write_seed(path, seed) for seed, path in enumerate(names)]
    together = plotting.read_runs(names)
    (rows,), (result,) = together.metrics.values(), together.evaluations.values()
    assert rows[0]["seeds"]["return_after"] == [1.0] * 3
    assert (rows[0]["return_after"], rows[0]["seconds"]) == (1.0, 0.5)
    assert rows[2]["return_after"] is None  # was not finite
    # An interval over three seeds, by its formula.
    means = np.mean(returns, axis=1)
    half = 4.302653 * means.std(axis=0, ddof=1) / 3**0.5
    low, high = np.array(result["return_ci"]).T
    np.testing.assert_allclose(result["return_mean"], means.mean(axis=0))
    np.testing.assert_allclose([means.mean(axis=0) - half], [low], rtol=1e-5)
    np.testing.assert_allclose([means.mean(axis=0) + half], [high], rtol=1e-5)
    assert (result["num_seeds"], result["interval"]) == (3, "95 % interval over seeds")
    assert result["references"]["oracle"]["return_mean"] == [0, 0, 0]
    # The same seed, another option, or wanting it: then they are told apart.
    again = write_run(tmp_path / "again", num_seeds=1)
    assert len(plotting.read_runs([names[0], again]).metrics) == 2
    write_seed(tmp_path / "other", 7, options={"inner_lr": 1.0})
    assert len(plotting.read_runs([*names, tmp_path / "other"]).metrics) == 2
    assert list(plotting.read_runs(names, each=True).metrics) == [
        *("seed0", "seed1", "seed2")
    ]
    # Measured on other numbers of tasks they learn together and are measured apart.
    changed = json.loads((names[2] / "evaluation.json").read_text()) | {"num_tasks": 9}
    (names[2] / "evaluation.json").write_text(json.dumps(changed))
    with pytest.warns(UserWarning, match="held-out tasks 4 and 9"):
        apart = plotting.read_runs(names)
    assert (len(apart.metrics), len(apart.evaluations)) == (1, 3)


def test_curves_have_the_labels_that_they_are_given(tmp_path):
    names = [tmp_path / "one", tmp_path / "two"]
    for seed, path in enumerate(names):
        write_seed(path, seed)
    records = plotting.read_runs(names, labels=["ours"])
    assert list(records.metrics) == list(records.evaluations) == ["ours"]
    for labels, words in ((["a", "b"], "labels must be 1.*one and .*two"), (["a"], "")):
        if words:
            with pytest.raises(ValueError, match=words):
                plotting.read_runs(names, labels=labels)
    with pytest.raises(ValueError, match="different ones; got a, a"):
        plotting.read_runs(names, labels=["a", "a"], each=True)


def test_learning_is_drawn_against_what_it_took(tmp_path):
    write_seed(tmp_path / "run", 0, environment_steps=200)
    records = plotting.read_runs([tmp_path / "run"])
    for x, along, name in (
        ("steps", [1, 2, 3, 4, 5], "meta-training step"),
        ("environment-steps", [200, 400, 600, 800, 1000], "environment steps"),
        ("seconds", [0.5, 1.0, 1.5, 2.0, 2.5], "seconds of training"),
    ):
        axes = plotting.draw(records, x=x)["learning_curve"].axes[0]
        np.testing.assert_array_equal(axes.get_lines()[0].get_xdata(), along)
        assert axes.get_xlabel() == name
    with pytest.raises(ValueError, match="must be one of steps, env"):
        plotting.learning_curve(records.metrics, x="hours")
    rows = {"old": metric_rows(1)}
    with pytest.raises(ValueError, match="old does not say it"):
        plotting.learning_curve(rows, x="environment-steps")


def test_figures_are_written_in_the_format_that_is_asked_for(tmp_path):
    run = write_run(tmp_path / "run")
    beginnings = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}
    for kind, beginning in beginnings.items():
        written = plotting.plot_runs([run], tmp_path / kind, image_format=kind)
        assert {path.suffix for path in written} == {f".{kind}"}
        assert len(written) == 4
        first = [path.read_bytes() for path in written]
        assert all(data.startswith(beginning) for data in first)
        again = plotting.plot_runs([run], tmp_path / kind, image_format=kind)
        assert [path.read_bytes() for path in again] == first  # the same file
    # One PDF of a page for each figure; no folder of that name.
    (pages,) = plotting.plot_runs([run], tmp_path / "new" / "all.pdf")
    assert pages.is_file()
    assert b"/Count 4" in pages.read_bytes()
    for output, kind, words in (
        ("all.png", None, "one figure, and there are 4: learning_curve, adapt"),
        ("all.svg", None, "a PDF, of a page for each, is required"),
        ("all.pdf", "png", "the format must be that of"),
        ("figures", "gif", "one of png, pdf, svg; got 'gif'"),
    ):
        with pytest.raises(ValueError, match=words):
            plotting.plot_runs([run], tmp_path / output, image_format=kind)
        assert not (tmp_path / output).exists()
    (run / "metrics.jsonl").unlink()
    for name in ("paths.json", "goal_beliefs.json"):
        (run / name).unlink()
    (one,) = plotting.plot_runs([run], tmp_path / "curve.svg")
    assert one.read_bytes().startswith(b"<?xml")


def test_tables_are_what_was_recorded(tmp_path):
    run = write_run(tmp_path / "run", name="a_b & 5%")
    *_, as_csv, as_latex = plotting.plot_runs([run], tmp_path / "out", tables=True)
    rows = list(csv.DictReader(io.StringIO(as_csv.read_text())))
    assert [row["mean"] for row in rows if row["row"] == "meta-learned"] == [
        *("-4.0", "-2.0", "-1.0")
    ]
    second = rows[1]
    assert (second["run"], second["adaptation_step"]) == ("a_b & 5%", "1")
    assert (second["ci_low"], second["ci_high"]) == ("-3.0", "-1.5")
    published = [row["mean"] for row in rows if row["row"] == "A paper"]
    assert published == ["-4.5", "-2.5", "-1.0", "-0.5"]
    text = as_latex.read_text()
    assert r"meta-learned & $-4.00$ {\small $[-5.00, -3.00]$} & " in text
    assert r"oracle & $0.00$ & $0.00$ & $0.00$ \\" in text
    assert "% mean and 95" in text
    assert text.count("&") - text.count(r"\&") == 3 * text.count(r"\\") - 2
    several = plotting.as_latex({"a_b & 5%": evaluation(), "other": evaluation(1.0)})
    assert r"a\_b \& 5\% & $-4.00$" in several
    assert "oracle" not in several
    lost = evaluation() | {"return_mean": [None, -2.0, -1.0]}
    assert r"x & -- & $-2.00$" in plotting.as_latex({"x": lost, "y": evaluation()})
    assert plotting.as_csv({"x": lost}).splitlines()[1].startswith("x,meta-learned,0,,")


def walks(goal, num_rounds):
    """Straight paths to a goal, a share of the way in each round."""
    line = np.linspace(0, 1, 5)[:, None]
    return [[(k * line * goal).tolist()] for k in range(num_rounds)]


def planar(goals, num_rounds=4, size=3) -> Any:
    """What `paths.json` holds of a method with beliefs of some numbers."""
    goals = np.array(goals, float)
    rng = np.random.default_rng(0)
    paths = {"paths": num_rounds, "belief_paths": num_rounds}
    tasks = [
        {"goal": goal.tolist(), **{k: walks(goal / n, n) for k, n in paths.items()}}
        for goal in goals
    ]
    mean = rng.normal(size=(len(goals), num_rounds, size))
    beliefs = {"goal": goals.tolist(), "mean": mean.tolist()}
    return {"tasks": tasks, "beliefs": {**beliefs, "std": np.abs(mean).tolist()}}


@pytest.mark.parametrize("draw", [plotting.paths, plotting.beliefs])
@pytest.mark.parametrize(
    "goals",
    [[[0.9, 0.1], [-0.8, 0.0], [0.5, 0.1]], [[0.1, 9], [0, -8]], [[0.4, 0.4]]],
    ids=["wide", "tall", "one"],
)
def test_planes_have_room_for_their_names_and_leave_none_empty(draw, goals):
    figure = draw(planar(goals))
    figure.draw_without_rendering()
    width, height = figure.bbox.width, figure.bbox.height
    (legend,) = figure.legends
    boxes = [legend.get_window_extent()]
    for axes in figure.axes:
        boxes.append(axes.get_tightbbox())
        assert axes.get_aspect() == 1
        assert not legend.get_window_extent().overlaps(axes.get_tightbbox())
    for box in boxes:
        assert box.x0 > 0
        assert box.y0 > 0
        assert box.x1 < width
        assert box.y1 < height
    for one, other in zip(figure.axes, figure.axes[1:], strict=False):
        assert not one.title.get_window_extent().overlaps(
            other.title.get_window_extent()
        )
    # No band is empty: what is drawn reaches near all four sides.
    dots = 0.35 * figure.dpi
    panels = [axes.get_tightbbox() for axes in figure.axes]
    assert height - max(box.y1 for box in panels) < dots
    assert min(box.y0 for box in panels) - boxes[0].y1 < dots
    if len(goals) > 2:
        assert min(box.x0 for box in panels) < 2 * dots
        assert width - max(box.x1 for box in panels) < 2 * dots
    # All paths are within.
    (x0, x1), (y0, y1) = figure.axes[0].get_xlim(), figure.axes[0].get_ylim()
    assert np.all((np.array(goals) > [x0, y0]) & (np.array(goals) < [x1, y1]))


@pytest.mark.parametrize("size", [1, 2, 5])
def test_beliefs_of_any_size_are_drawn_and_their_axes_named(size):
    recorded = planar([[0.9, 0.1], [-0.8, 0.3]], num_rounds=2, size=size)
    recorded["beliefs"]["std"][0][0] = [0.0] * size
    recorded["beliefs"]["mean"][1][1][0] = None  # was not finite
    figure = plotting.beliefs(recorded)
    *planes, belief = figure.axes[3:]
    assert [axes.get_xlabel() for axes in planes] == ["x", "x"]
    assert planes[0].get_ylabel() == "y"
    named = (belief.get_xlabel(), belief.get_ylabel())
    assert named == ("first direction", "second direction")


def test_a_value_alone_is_a_point():
    (row, *_) = metric_rows(2)
    for figure in (
        plotting.learning_curve({"thing": [row]}),
        plotting.learning_curve({"a": [row], "b": metric_rows(1)}),
    ):
        lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
        first = lines.get("after adaptation") or lines["a, after adaptation"]
        assert (first.get_marker(), first.get_markevery()) == ("o", [0])
    assert lines["b, after adaptation"].get_marker() == "None"
    alone = plotting.learning_curve({"thing": [row]}).axes[0]
    assert [tick for tick in alone.get_xticks() if 0.5 <= tick <= 1.5] == [1]
    rows = metric_rows(1)
    rows[1]["return_after"] = None  # now the first has no neighbour
    drawn = plotting.learning_curve({"thing": rows}).axes[0].get_lines()[0]
    assert drawn.get_markevery() == [0]


def test_names_are_drawn_as_they_are(tmp_path):
    names = ["cost $5", "a$b_$x", "_under", "x^{", "$\\frac$", "\udcff"]
    kinds: list[tuple[Any, Any]] = [
        (plotting.learning_curve, metric_rows(1)),
        (plotting.adaptation_curve, evaluation()),
    ]
    for draw, record in kinds:
        figure = draw(dict.fromkeys(names, record))
        figure.draw_without_rendering()
        texts = [text.get_text() for text in figure.legends[0].get_texts()]
        for name in names[:-1]:
            assert any(name in text.replace(r"\$", "$") for text in texts)
        draw({"cost $5 and $6": record}).draw_without_rendering()
    result = evaluation()
    result["references"] = {"an $oracle$": result["references"]["oracle"]}
    result["published"] = {"$ublished$": [1.0]}
    plotting.adaptation_curve({"x": result}).draw_without_rendering()


def test_a_run_is_not_compared_with_itself(tmp_path):
    run = write_run(tmp_path / "run")
    again = tmp_path / "again"
    again.symlink_to(run)
    for other in (run, tmp_path / "x" / ".." / "run", again):
        with pytest.raises(ValueError, match=r"must be different ones; got .* twice"):
            plotting.plot_runs([run, other], tmp_path)


def test_runs_that_were_evaluated_differently_are_not_silently_compared(tmp_path):
    one, other = write_run(tmp_path / "one"), write_run(tmp_path / "other")
    changed = {**evaluation(), "num_tasks": 40, "num_seeds": 1}
    (other / "evaluation.json").write_text(json.dumps(changed))
    message = "evaluated differently: held-out tasks 4 and 40"
    with pytest.warns(UserWarning, match=message):
        plotting.plot_runs([one, other], tmp_path)
    results = {"one": evaluation(), "other": changed}
    (said,) = plotting.adaptation_curve(results).axes[0].texts
    assert message in said.get_text()
    assert "over tasks" in said.get_text()
    # Each run by itself is as it is, and so are runs of other seeds.
    (said,) = plotting.adaptation_curve({"other": changed}).axes[0].texts
    assert "evaluated" not in said.get_text()
    words = " ".join(said.get_text().split())
    assert "over tasks, 1 seed × 40 held-out tasks × 2 episodes" in words
    plotting.plot_run(other)


def test_returns_of_different_worlds_are_not_subtracted(tmp_path):
    runs = [tmp_path / name for name in ("one", "other")]
    for seed, run in enumerate(runs):
        write_seed(run, seed)
    alike = plotting.read_runs(runs, each=True)
    assert len(plotting.pairs(alike.evaluations)) == 1
    assert "performance_profiles" in plotting.draw(alike)
    for run, world in zip(runs, ("Maze, 20 steps", "Maze, 40 steps"), strict=True):
        record = json.loads((run / "evaluation.json").read_text())
        (run / "evaluation.json").write_text(json.dumps({**record, "world": world}))
    with pytest.warns(UserWarning, match="worlds Maze, 20 steps and Maze, 40 steps"):
        apart = plotting.read_runs(runs, each=True)
    assert plotting.pairs(apart.evaluations) == []
    assert set(plotting.draw(apart)) == {"learning_curve", "adaptation_curve"}


def test_a_figure_says_how_many_tasks_were_not_finite():
    result = {**evaluation(), "num_not_finite": [0, 3, 0]}
    result["return_mean"] = [-4.0, None, -1.0]
    figure = plotting.adaptation_curve({"thing": result})
    np.testing.assert_array_equal(curves(figure)["meta-learned"], [-4, np.nan, -1])
    assert "of 8 tasks up to 3" in figure.axes[0].texts[0].get_text()


NOTHING = object()


@pytest.mark.parametrize(
    ("file", "place", "value", "words"),
    [
        ("evaluation.json", [], {}, ["adaptation_step"]),
        ("evaluation.json", [], [], ["an object is required", "[]"]),
        ("evaluation.json", [], 3, ["an object is required", "3"]),
        ("evaluation.json", ["return_mean"], [1.0], ["return_mean", "[3]"]),
        ("evaluation.json", ["return_ci"], [[1], [1, 2], [3]], ["return_ci"]),
        ("evaluation.json", ["adaptation_step"], [0, 2, 1], ["0, 1, ..."]),
        ("evaluation.json", ["num_seeds"], None, ["num_seeds", "None"]),
        ("evaluation.json", ["references"], [], ["references", "an object"]),
        ("evaluation.json", ["references", "oracle"], 1, ["references, oracle"]),
        ("evaluation.json", ["published"], {"a": "b"}, ["published: a"]),
        ("evaluation.json", ["published"], NOTHING, ["published"]),
        ("paths.json", [], {}, ["tasks"]),
        ("paths.json", [], [1], ["an object is required"]),
        ("paths.json", ["tasks"], [], ["tasks", "a list"]),
        ("paths.json", ["tasks", 0, "goal"], [1], ["task 0", "goal"]),
        ("paths.json", ["tasks", 1, "paths"], [[[[0, 0]]]], ["task 1", "of 3"]),
        ("paths.json", ["tasks", 0, "paths", 0, 0], [[0]], ["paths", "[n, 2]"]),
        ("paths.json", ["beliefs"], {}, ["belief_paths"]),
        ("goal_beliefs.json", [], {}, ["goal"]),
        ("goal_beliefs.json", ["horizon"], 0, ["horizon", "at least 1"]),
        ("goal_beliefs.json", ["exact"], [], ["exact"]),
        ("metrics.jsonl", [], {"step": 1}, ["line 1", "seconds"]),
    ],
)
def test_a_record_that_cannot_be_drawn_is_named(tmp_path, file, place, value, words):
    run = write_run(tmp_path / "run")
    record = {} if file == "metrics.jsonl" else json.loads((run / file).read_text())
    if not place:
        record = value
    elif value is NOTHING:
        del record[place[0]]
    else:
        functools.reduce(lambda inner, key: inner[key], place[:-1], record)[
            place[-1]
        ] = value
    (run / file).write_text(json.dumps(record) + "\n")
    with pytest.raises(ValueError, match=r"^\S+ ?") as refused:
        plotting.plot_run(run)
    assert file in str(refused.value)
    for word in words:
        assert word in str(refused.value)
