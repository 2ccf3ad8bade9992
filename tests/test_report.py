"""A report is one whole page that says what was recorded, and asks nobody for more."""

import base64
import json
import shlex
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest
from test_plotting import evaluation, write_run, write_seed

import metarl_jax
from metarl_jax import report
from metarl_jax.cli import main, parsing, train
from metarl_jax.runs import files

VOID = {"meta", "img"}


class Page(HTMLParser):
    """Checks that elements end as they begin, and keeps what is said."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.said = [], [], []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.said.append(data)
        if {"th", "td"} & set(self.open):
            self.rows[-1][-1] += data

    def named(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def row(self, name):
        (found,) = [row[1:] for row in self.rows if row and row[0] == name]
        return found


def page_of(path):
    page = Page(path.read_text(encoding="utf-8"))
    # Nothing is fetched and nothing executed.
    assert not {"script", "link", "iframe", "object"} & {n for n, _ in page.elements}
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset", "action"):
            assert attributes.get(name, "data:").startswith("data:")
        assert not any(name.startswith("on") for name in attributes)
    for image in page.named("img"):
        kind, _, data = image["src"].partition(";base64,")
        assert kind == "data:image/svg+xml"
        assert ElementTree.fromstring(base64.b64decode(data)).tag.endswith("svg")
        assert len(image["alt"]) > 20
    return page


def test_one_run_is_reported(tmp_path):
    write_seed(tmp_path / "run", 5, versions={"jax": "1.2.3"}, device="1 x thing")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config |= {"options": {"inner_lr": 0.1}, "environment_steps": 1000}
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    page = page_of(report.write_report([tmp_path / "run"], tmp_path / "new" / "a.html"))
    assert len(page.named("img")) == 4  # curves, paths and beliefs about goals
    assert page.row("oracle") == ["0.00"] * 3
    assert page.row("A paper (published)") == ["-4.50", "-2.50", "-1.00"]
    recorded = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    low, high = recorded["return_ci"][1]
    mean = recorded["return_mean"][1]
    assert page.row("meta-learned")[1] == f"{mean:.2f} [{low:.2f}, {high:.2f}]"
    for name, value in {
        "inner_lr": "0.1",
        "jax": "1.2.3",
        "device": "1 x thing",
        "seeds": "5",
        "meta-training steps done": "5",
        "environment steps, a seed": "5,000",
        "seconds of training": "2.5",
        "held-out tasks, a seed": "4",
    }.items():
        assert page.row(name) == [value]
    assert "trained from Python" in "".join(page.said)
    assert "metarl-jax evaluate run-again --num-tasks 4" in " ".join(page.said)


def test_several_runs_are_compared_what_differs_first(tmp_path):
    for number, lr in enumerate((0.1, 0.2)):
        options = {"alike": 3, "inner_lr": lr}
        write_seed(tmp_path / f"run{number}", number, options=options)
    directories = [tmp_path / "run0", tmp_path / "run1"]
    path = report.write_report(directories, tmp_path / "b.html", labels=["one", "two"])
    page = page_of(path)
    assert len(page.named("img")) == 3  # curves and performance profiles
    (told,) = (row for row in page.rows if row[0] == "one - two")
    assert "%" in told[2]
    assert "p corrected for 1 pair (Holm)" in "".join(page.said)
    recorded = json.loads((tmp_path / "run0" / "evaluation.json").read_text())
    assert page.row("one")[0].startswith(f"{recorded['return_mean'][0]:.2f} [")
    names = [row[0] for row in page.rows]
    assert page.row("inner_lr") == ["0.1", "0.2"]
    assert names.index("inner_lr") < names.index("alike")
    text = path.read_text()
    assert "<b>0.1</b>" in text
    assert "<b>3</b>" not in text
    again = report.write_report(directories, tmp_path / "c.html", labels=["one", "two"])
    assert again.read_text() == text


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", '"><img src=x>', "a&b"])
def test_names_are_text(name, tmp_path):
    run = write_run(tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config |= {"experiment": name, "options": {name: name}, "device": name}
    (run / "config.json").write_text(json.dumps(config))
    result = evaluation() | {"published": {name: [1.0]}}
    (run / "evaluation.json").write_text(json.dumps(result))
    page = page_of(report.write_report([run], tmp_path / "a.html"))
    assert page.row(name) == [name]
    assert page.row("device") == [name]
    assert page.row(f"{name} (published)") == ["1.00", "", ""]


@pytest.mark.parametrize(
    ("world", "method", "policy"),
    [
        ("point-nav", "maml", None),
        ("grid-navigation", "rl2", "hypernetwork"),
        ("bandit", "rl2", None),
        ("half-circle", "pearl", None),
        ("wang-rl2", None, None),
    ],
)
def test_the_command_that_repeats_a_run_means_its_options(world, method, policy):
    experiment = metarl_jax.make_experiment(
        world, method=method, policy=policy, num_steps=7
    )
    origin = experiment.origin
    config = {"experiment": origin.label, "chosen": origin.chosen, "seed": 3}
    config |= {"options": origin.options, "num_seeds": 2}
    words = report.repeated(files.jsonable(config))
    assert words is not None
    assert shlex.split(report._wrapped(words).replace("\\\n", "")) == words
    assert words[:3] == ["metarl-jax", "train", world]
    choice, rest = parsing.take_choice(world, words[3:])
    assert choice.method == method
    groups = {
        k: kind()
        for k, kind in parsing.group_types(parsing.groups_of(choice.load())).items()
    }
    kinds = {**groups, "run": train.RunOptions(), "devices": train.DeviceOptions()}
    parsed = parsing.parse(parsing.arguments("", kinds), rest, prog="")
    found = parsing.flattened(parsed, groups)
    assert files.jsonable(found) == files.jsonable(origin.options)
    assert (parsed.run.seed, parsed.run.num_seeds) == (3, 2)


def test_the_command_writes_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "run")
    assert main(["report", "run"]) == 0
    assert capsys.readouterr().out.strip() == "run/report.html"
    page_of(tmp_path / "run" / "report.html")
    for args, words in (
        (["report"], "at least one run"),
        (["report", "no"], "no is not a directory"),
        (["report", "run", "--output", "run"], "must be a file; run is a directory"),
        (["report", "run", "--x", "environment-steps"], "does not say it"),
    ):
        assert main(args) == 2
        assert words in capsys.readouterr().err
