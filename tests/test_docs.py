"""The documentation: links lead somewhere, commands parse, quotes are true."""

import ast
import importlib
import inspect
import json
import re
import shlex
from pathlib import Path
from statistics import median

import numpy as np
import pytest

from metarl_jax import catalogue
from metarl_jax.cli import (
    animate,
    evaluate,
    export,
    parsing,
    plot,
    report,
    reproduce,
    sweep,
    train,
)
from metarl_jax.cli import (
    inspect as inspecting,
)
from metarl_jax.cli import (
    record as recording,
)
from metarl_jax.cli.main import COMMANDS
from metarl_jax.reproduction import TABLES
from metarl_jax.sweeps import table as sweep_table

ROOT = Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]
IDS = [str(page.relative_to(ROOT)) for page in PAGES]
RESULTS = ROOT / "benchmarks" / "results"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXTRAS = {"torch", "tensorflow", "onnxruntime", "stable_baselines3", "metaworld", "ray"}
PLACEHOLDERS = {"WORLD", "METHOD", "POLICY", "RUN", "NAME", "TABLE", "EXPERIMENT"}

pages = pytest.mark.parametrize("page", PAGES, ids=IDS)


def blocks(page, language):
    return [text for kind, text in FENCE.findall(page.read_text()) if kind == language]


def anchors(page):
    """The names of a page's headings, as they are linked to."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pages
def test_links_lead_somewhere(page):
    text = FENCE.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.is_file(), target
        assert there.is_relative_to(ROOT), target
        assert not anchor or anchor in anchors(there), target


def test_every_page_and_figure_is_linked_to():
    linked = set()
    for page in PAGES:
        targets = re.findall(r"\]\(([^)\s#]+)", FENCE.sub("", page.read_text()))
        linked |= {(page.parent / t).resolve() for t in targets if "://" not in t}
    there = {p for p in (ROOT / "docs").rglob("*") if p.suffix in (".md", ".png")}
    assert there <= linked, there - linked


def test_the_readme_is_short_and_names_all_there_is():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) < 200
    for names in (*map(catalogue.entries, catalogue.SHELVES), TABLES):
        for name in names:
            assert f"`{name}`" in text, name


@pages
def test_python_compiles(page):
    for code in blocks(page, "python"):
        ast.parse(code)


def test_modules_and_names_of_python_blocks_are_there():
    for page in PAGES:
        for code in blocks(page, "python"):
            for node in ast.walk(ast.parse(code)):
                if isinstance(node, ast.ImportFrom) and node.module:
                    try:
                        module = importlib.import_module(node.module)
                    except ModuleNotFoundError as error:
                        # An extra, or what an extra of it would bring.
                        if {error.name, node.module.partition(".")[0]} & EXTRAS:
                            continue
                        raise
                    for alias in node.names:
                        assert hasattr(module, alias.name), (page, alias.name)
                called = getattr(node, "func", None)
                if ast.unparse(called or node).startswith("metarl_jax."):
                    check_call(node)


def check_call(node):
    """That a name of the package is there, with the keywords that it is given."""
    import metarl_jax

    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return
    function = getattr(metarl_jax, node.func.attr)
    arguments = [None] * len(node.args)
    inspect.signature(function).bind(*arguments, **{k.arg: None for k in node.keywords})


def commands():
    """Every `metarl-jax` command that is shown, without comments."""
    found = {}
    for page, name in zip(PAGES, IDS, strict=True):
        text = page.read_text()
        lines = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
        # A command in a sentence may be broken over two lines.
        inline = re.findall(r"`(metarl-jax [^`]*)`", FENCE.sub("", text))
        for line in [*lines, *(" ".join(x.split()) for x in inline)]:
            line = line.partition("&& ")[2] or line
            if not line.startswith("metarl-jax"):
                continue
            words = shlex.split(line, comments=True)[1:]
            parts = {part for word in words for part in re.split(r"[\[\]:.-]", word)}
            if not parts & PLACEHOLDERS:
                found[" ".join(words)] = (name, words)
    return found


def check_training(words, more):
    """Parses as `train` and `sweep` do, and builds nothing."""
    name, words = parsing.split_name(words)
    if name is not None and catalogue.is_own(name):
        return  # a file of the reader's
    if any(catalogue.is_own(word) for word in words):
        return
    # What is resumed says itself what it is; the documentation's run is this one.
    choice, words = parsing.take_choice(name or "point-nav-maml", words)
    groups = parsing.groups_of(choice.load())
    types = parsing.group_types(groups)
    kinds = {**{group: kind() for group, kind in types.items()}, **more}
    words = [word for word in words if word not in ("-h", "--help")]
    options = parsing.parse(parsing.arguments("", kinds), words, prog="")
    if hasattr(options, "sweep"):
        assert sweep._varied(options.sweep.vary, groups, words, prog="")


def check_command(words):
    command, rest = words[0], words[1:]
    assert command in COMMANDS
    if command == "train":
        check_training(
            rest, {"run": train.RunOptions(), "devices": train.DeviceOptions()}
        )
    elif command == "sweep" and rest:
        check_training(rest, {"sweep": sweep.SweepOptions()})
    elif command == "reproduce" and rest:
        name, rest = parsing.split_name(rest)
        assert name in TABLES
        parsing.parse(reproduce.ReproduceOptions, rest, prog="")
    elif command not in ("train", "sweep", "reproduce", "list") and rest:
        kinds: dict = {"evaluate": evaluate.EvaluateOptions, "plot": plot.PlotOptions}
        kinds |= {"export": export.ExportOptions, "report": report.ReportOptions}
        kinds |= {"inspect": inspecting.InspectOptions}
        kinds |= {"animate": animate.AnimateOptions}
        kinds |= {"record": recording.RecordOptions}
        parsing.parse(kinds[command], rest, prog="")


def test_every_command_that_is_shown_can_be_given():
    shown = commands()
    assert len(shown) > 20
    for page, words in shown.values():
        try:
            check_command(words)
        except (AssertionError, ValueError) as error:
            raise AssertionError(f"{page}: metarl-jax {shlex.join(words)}") from error


@pytest.mark.parametrize(
    "words",
    ["train point-nav --inner-rl 1", "train point-navy", "plot", "reproduce rl3"],
)
def test_a_command_that_cannot_be_given_is_found(words):
    with pytest.raises((AssertionError, ValueError)):
        check_command([*words.split(), *["--nothing"] * (words == "plot")])


# What a table of results quotes, and the record that it quotes.


def rows(page):
    """The rows of a page's tables, by their first cell."""
    lines = (ROOT / "docs" / "results" / page).read_text().splitlines()
    cells = [
        [cell.strip(" *") for cell in line.strip("|").split("|")]
        for line in lines
        if line.startswith("|")
    ]
    return {row[0]: row[1:] for row in cells}


def record(name):
    return json.loads((RESULTS / name).read_text())


def test_navigation_quotes_its_record():
    quoted, result = rows("navigation.md"), record("point-nav-maml.json")
    assert quoted["ours, mean"] == [f"{x:.2f}" for x in result["return_mean"]]
    assert quoted["interquartile mean"] == [f"{x:.2f}" for x in result["return_iqm"]]
    assert quoted[result["interval"]] == [
        f"{low:.1f} … {high:.1f}" for low, high in result["return_ci"]
    ]


def test_a_comparison_has_every_one_of_its_arms():
    import comparison
    import memories
    import transitions

    for path in (comparison.RECORD, comparison.TUNED):
        methods = record(path.name)["methods"]
        assert list(comparison.NAMES) == [*methods, comparison.SCRATCH]
    # Each was tuned alike, and what was taken had returned most of the four best.
    for name, row in methods.items():
        found = row["search"]
        assert found["vary"] == comparison.varied(name)
        assert len(found["runs"]) == 16
        runs = sorted(found["runs"], key=lambda run: -run["return_mean"][-1])
        best = [{option: run[option] for option in found["vary"]} for run in runs[:4]]
        assert found["chosen"].items() <= row["options"].items()
        if name in comparison.NOT_META:
            assert found["chosen"] == best[0]
            continue
        finalists = found["finalists"]
        assert len(finalists) == 4
        assert all(finalist["options"] in best for finalist in finalists)
        reached = [np.mean(x["return_mean_by_seed"], axis=0)[-1] for x in finalists]
        assert [len(x["return_mean_by_seed"]) for x in finalists] == [3] * 4
        assert found["chosen"] == finalists[np.argmax(reached)]["options"]
    arms = [f"{world}/{core}" for world in memories.WORLDS for core in memories.CORES]
    assert list(record("memories.json")["arms"]) == arms
    assert list(record("transitions.json")["arms"]) == transitions.ARMS


@pytest.mark.parametrize(
    ("name", "method", "pages"),
    [
        ("emaml-whole", "emaml", ("results/methods.md", "algorithms/emaml.md")),
        ("anil-navigation", "maml", ("results/methods.md",)),
        ("anil-navigation", "anil", ("results/methods.md",)),
    ],
)
def test_variants_of_a_method_quote_their_records(name, method, pages):
    there = record(f"{name}.json")["methods"][method]
    low, high = there["return_ci"][1]
    for page in pages:
        text = " ".join((ROOT / "docs" / page).read_text().split())
        assert f"{there['return_mean'][1]:.1f} ({low:.1f} … {high:.1f})" in text


def test_the_pairs_quote_their_record():
    import matrix

    page = (ROOT / "docs" / "results" / "matrix.md").read_text()
    rows = record("matrix.json")["pairs"]
    assert matrix.table(rows) in page
    assert sum(map(matrix.learned, rows.values())) >= 20


@pytest.mark.parametrize(
    ("page", "script", "part"),
    [
        ("results/exploration.md", "exploration", "arms"),
        ("algorithms/amago.md", "off_policy", "arms"),
        ("algorithms/amago.md", "offline", "seeds"),
        ("datasets.md", "in_context", "learners"),
        ("discovered-rule.md", "disco", "worlds"),
        ("discovered-rule.md", "discovering", "arms"),
        ("learners.md", "learners", "arms"),
        ("results/methods.md", "comparison", "methods"),
        ("results/methods.md", "comparison-tuned", "methods"),
        ("results/memories.md", "memories", "arms"),
        ("results/hypernetworks.md", "hypernetworks", "arms"),
        ("results/mdps.md", "transitions", "arms"),
        ("results/robots.md", "robot_learning", "arms"),
        ("results/step-times.md", "devices", "rows"),
        ("results/dependent-arms.md", "two_step", None),
    ],
)
def test_a_page_says_what_its_script_makes_of_its_record(page, script, part):
    there = record(f"{script}.json")
    laid_out = importlib.import_module(script.partition("-")[0]).laid_out
    assert (
        laid_out(there if part is None else there[part])
        in (ROOT / "docs" / page).read_text()
    )


def test_a_rule_of_disco_s_kind_quotes_its_record():
    arms = record("discovering.json")["arms"]
    page = " ".join((ROOT / "docs" / "discovered-rule.md").read_text().split())
    arm = arms["learned"]
    assert f"({arm['num_parameters']:,} parameters)" in page
    assert f"in {arm['meta_steps']} steps of 16 lives" in page
    assert f"three of them: {arm['cpu_seconds']:.0f} s of a core" in page
    assert f"after {arm['compile_seconds']:.0f} s of compiling" in page
    assert f"of {arm['optimum']:.1f} that is possible" in page
    by_hand = arm["actor_critic"]
    assert f"learning rate ({by_hand['learning_rate']:g})" in page
    assert f"weight of the entropy ({by_hand['entropy_coeff']:g})" in page
    before, after = (np.mean(x, axis=0) for x in arm["returns"].values())
    ahead = after - arm["returns_of_actor_critic"]
    assert np.sign(np.round(ahead)).tolist() == [-1, -1, 0, 1, 1, 1]
    assert after[-1] - before[-1] > 6
    assert arms["authors' sizes"]["hardware"]["cores"] == 2


def test_further_worlds_quote_their_record():
    import world_learning

    page = (ROOT / "docs" / "results" / "worlds.md").read_text()
    arms = record("world_learning.json")["arms"]
    assert world_learning.laid_out(arms) in page
    assert world_learning.safety(arms) in page
    # Nobody walks shorter than the shortest path.
    for name, arm in arms.items():
        if name.startswith("maze/"):
            optimum = arm["references"]["shortest path"][0]
            assert max(low for low, _ in arm["return_ci"]) <= optimum
    arm = arms["metaworld-ml1/rl2"]
    success = arm["measures"]["success"]
    ml1 = (ROOT / "docs" / "worlds" / "metaworld-ml1.md").read_text()
    page = rows("../worlds/metaworld-ml1.md")
    told = record("metaworld_counting.json")["always"]
    assert f"has {told['return']:.0f} and always" in ml1
    assert told["success"] == 1.0
    episodes = ("first", "second", "third, longer than the trials of training")
    for i, name in enumerate(episodes):
        low, high = (100 * x for x in success["ci"][i])
        worst, best = arm["return_ci"][i]
        assert page[name] == [
            f"{100 * success['mean'][i]:.0f} ({low:.0f} to {high:.0f})",
            f"{arm['return_mean'][i]:.0f} ({worst:.0f} to {best:.0f})",
        ]


def test_host_worlds_quote_their_record():
    quoted, worlds = rows("../host_worlds.md"), record("worlds.json")["worlds"]
    for label, name in {
        "half-cheetah": "half-cheetah-velocity-mujoco",
        "ant, `ant-goal`": "ant-goal",
        "ant, `ant-direction`": "ant-direction",
        "ant, `ant-velocity`": "ant-velocity",
        "humanoid": "humanoid-direction",
    }.items():
        measured = worlds[name]
        assert quoted[label] == [
            f"{measured['compile_seconds']:.1f} s",
            f"{measured['steps_per_second']:,.0f}",
            f"{measured['simulator_steps_per_second']:,.0f}",
            f"{measured['share_of_simulator']:.0%}",
        ]


@pytest.mark.parametrize("name", ["bandit", "half-circle", "half-cheetah-velocity"])
def test_pages_of_worlds_say_what_is_so(name):
    import world_pages

    page = (world_pages.PAGES / f"{name}.md").read_text()
    assert world_pages.written(name, page) == page


def test_every_measured_world_has_a_page():
    import world_pages

    for name in record("references.json")["worlds"]:
        page = (world_pages.PAGES / f"{name}.md").read_text()
        assert page.startswith("# "), name
        assert name in page
        assert name in (world_pages.PAGES / "README.md").read_text()


def test_what_random_actions_get_of_an_arm_is_what_was_measured():
    page = (ROOT / "docs" / "worlds" / "metaworld-ml1.md").read_text()
    for name in ("metaworld-ml1", "metaworld-ml10", "metaworld-ml45"):
        found = record("references.json")["worlds"][name]["random actions"]
        assert f"{found['mean']:.0f} ± {found['half_width']:.0f}" in page


def cell(table, row, column):
    cells = record(f"reproductions/{table}/table.json")["cells"]
    (found,) = [c for c in cells if (c["row"], c["column"]) == (row, column)]
    return found


@pytest.mark.parametrize(
    ("page", "table", "names", "columns", "digits"),
    [
        (
            "bandits.md",
            "rl2-bandits",
            {"RL²": "RL²", "Gittins index": "Gittins index"},
            [
                *("n=10 k=5", "n=10 k=10", "n=10 k=50", "n=100 k=5", "n=100 k=10"),
                *("n=100 k=50", "n=500 k=5", "n=500 k=10", "n=500 k=50"),
            ],
            2,
        ),
        ("mdps.md", "rl2-mdps", {"RL²": "RL²"}, ["n=10", "n=25"], 2),
        (
            "../algorithms/dpt.md",
            "dpt-bandits",
            {
                name: name
                for name in (
                    "DPT",
                    "Thompson sampling",
                    "UCB, as compared with",
                    "UCB, best of twenty",
                    "greedy",
                    "random arms",
                )
            },
            ["5 arms"],
            2,
        ),
        (
            "dependent-arms.md",
            "wang-bandits",
            {name: name for name in ("RL²", "Thompson sampling", "Gittins index")}
            | {"UCB1, best of eleven settings": "UCB1"}
            | {"Bayes optimum": "Bayes optimum"},
            ["independent", "uniform", "easy", "medium", "hard"],
            2,
        ),
        (
            "grid.md",
            "varibad-gridworld",
            {name: name for name in ("VariBAD", "RL²", "posterior sampling", "random")},
            [f"episode {i}" for i in range(1, 7)],
            2,
        ),
        (
            "half-circle.md",
            "pearl-half-circle",
            {
                name: name
                for name in (
                    "PEARL",
                    "straight to the goal",
                    "exact posterior sampling",
                    "exact posterior, nearest first",
                    "random",
                )
            },
            [f"episode {i}" for i in range(1, 7)],
            2,
        ),
    ],
)
def test_published_tables_quote_their_records(page, table, names, columns, digits):
    quoted = rows(page)
    for label, row in names.items():
        for column, text in zip(columns, quoted[label], strict=False):
            there = cell(table, row, column)
            mean, *rest = text.split()
            assert abs(float(mean) - there["mean"]) <= 0.5001 * 10**-digits, text
            if rest and rest[0] == "±":
                low, high = there["ci"]
                assert rest[1] == f"{(high - low) / 2:.2f}", (label, column)
            elif rest:
                met = cell(table, f"{row}, goal met in %", column)["mean"]
                assert rest == [f"({met:.0f}%)"]


def test_every_seed_of_pearl_passes_posterior_sampling_where_its_page_says_so():
    cells = RESULTS / "reproductions" / "pearl-half-circle" / "cells"
    for episode in range(3, 7):
        pearl, sampling = (
            json.loads((cells / f"{row}--episode-{episode}.json").read_text())
            for row in ("pearl", "exact-posterior-sampling")
        )
        assert len(pearl["seed_means"]) == 3
        assert min(pearl["seed_means"]) > sampling["mean"]


def test_every_seed_on_independent_arms_has_less_regret_than_its_page_says():
    cells = RESULTS / "reproductions" / "wang-bandits" / "cells"
    learned, ucb1 = (
        json.loads((cells / f"{row}--independent.json").read_text())
        for row in ("rl", "ucb1")
    )
    assert len(learned["seed_means"]) == 3
    assert max(learned["seed_means"]) < ucb1["mean"]


def test_published_tables_say_which_differences_are_real():
    import telling_apart

    for name, told in telling_apart.of_tables().items():
        assert told in (ROOT / "docs" / "results" / f"{name}.md").read_text()


def test_the_page_of_sweeps_prints_its_record():
    told = sweep_table.layout(record("sweep.json"))
    assert told in (ROOT / "docs" / "sweeps.md").read_text()


def test_learned_rules_quote_their_records():
    import telling_apart

    page = (ROOT / "docs" / "results" / "rules.md").read_text()
    for told in telling_apart.of_rules().values():
        assert told in page
    quoted = rows("rules.md")
    names = [name for name in ("lpg.json", "lpo.json") if (RESULTS / name).exists()]
    assert names
    for name in names:
        for rule, result in record(name)["rows"].items():
            ends = f"{result['low'][-1]:.1f} … {result['high'][-1]:.1f}"
            expected = [*(f"{x:.1f}" for x in result["return"]), ends]
            assert quoted[rule][: len(expected)] == expected
    for world, result in record("open_optimizer.json")["worlds"].items():
        digits = 2 if world == "catch" else 1
        label = {
            **{"breakout": "Breakout", "catch": "Catch", "cartpole": "CartPole"},
            "small": "CartPole, small agents",
        }
        for rule, row in result["rows"].items():
            if rule == "Adam, tuned":
                rule += f" ({result['learning_rate']:g})"
            expected = [f"{x:.{digits}f}" for x in row["return"]]
            low, high = row["low"][-1], row["high"][-1]
            expected += [f"{low:.{digits}f} … {high:.{digits}f}"]
            expected += [f"{row['cpu_seconds_a_life']:.1f}"]
            assert quoted[f"{label[world]}: {rule}"] == expected
    small = record("open_optimizer.json")["worlds"]["small"]
    adam, breakout, multi, here = (x["return"][-1] for x in small["rows"].values())
    words = " ".join(page.split())
    assert f"{small['generations']} generations of 16 pairs of such lives" in words
    assert f"{small['learning_cpu_seconds']} s of a core" in words
    assert f"gets to {here:.1f}, where" in words
    assert f"get to {breakout:.1f} and {multi:.1f}." in words
    assert f"the largest, gets to {adam:.1f}." in words
    for name, learner in (("two-colors", "fast"), ("two-colors-slow", "slow")):
        for method, row in record(f"{name}.json")["rows"].items():
            low, high = row["interval"]
            expected = f"{row['reward']:.3f} ({low:.3f} … {high:.3f})"
            label = "best fixed weight" if method == "fixed" else method
            ends = [
                f"{row[part][0]:.{digits}f} → {row[part][-1]:.{digits}f}"
                for part, digits in (("reward_after_swap", 3), ("weight_after_swap", 2))
            ]
            shown = [f"{row['chosen']:g}", expected, *ends]
            assert quoted[f"{learner}: {label}"] == shown
    colors = record("two-colors.json")["rows"]
    little, _, more, most = colors["fixed"]["tried"].values()
    page = " ".join((ROOT / "docs" / "results" / "rules.md").read_text().split())
    assert f"(a reward of {little:.3f}), and" in page
    seconds = [row["cpu_seconds"] for row in colors.values()]
    assert f"{min(seconds):.0f} to {max(seconds):.0f} CPU seconds a life" in page
    slow = record("two-colors-slow.json")["rows"].values()
    seconds = [row["cpu_seconds"] for row in slow]
    assert f"({min(seconds):.0f} to {max(seconds):.0f} of the slow one)" in page
    assert f"({more:.3f}, {most:.3f})" in page
    failed = [sum(x < 0.15 for x in row["seeds"]) for row in colors.values()]
    assert failed == [0, 2, 4]
    medians = [f"{median(row['seeds']):.3f}" for row in colors.values()]
    told = "{} for the fixed weight, {} and {} for the learned ones"
    assert told.format(*medians) in page
