"""What was recorded, and is not what it was: said, kept, never taken as right."""

import json
import re
import shutil

import pytest
from microscopic import microscopic

from metarl_jax import catalogue, cli
from metarl_jax.choice import Choice
from metarl_jax.options import fits
from metarl_jax.runs import config as configs
from metarl_jax.runs import files, history
from metarl_jax.runs.evaluation import newest
from metarl_jax.training import train

NUM_STEPS = 12


def run(path, *, num_steps=NUM_STEPS, resume=True, **kwargs):
    where = {"resume": path} if resume else {"output_dir": path}
    return train(
        microscopic(num_steps=num_steps),
        options={"inner_lr": 0.1, "sizes": (3, 3), "num_steps": num_steps},
        checkpoint_every=5,
        quiet=True,
        **where,
        **kwargs,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of 12 steps that nothing disturbed."""
    return run(tmp_path_factory.mktemp("whole") / "run", resume=False).run_dir


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "run")


def lines(path, name=files.METRICS):
    return (path / name).read_bytes().splitlines(keepends=True)


def changed(line):
    return line.replace(b'"return_after": -', b'"return_after": -1')


ALL = list(range(1, NUM_STEPS + 1))

# What is done to the lines, what is said, which steps are left, what is put beside.
DAMAGE = {
    "broken": (
        lambda x: [*x[:3], x[3][:9] + b"\n", *x[4:]],
        ["line 4 cannot be used", "nothing is left of step 4$"],
        [step for step in ALL if step != 4],
        1,
    ),
    "lost": (
        lambda x: x[:2] + x[6:],
        ["nothing is left of step 3-6$"],
        [1, 2, *range(7, 13)],
        0,
    ),
    "zeros": (
        lambda x: [*x[:5], bytes(40) + b"\n", *x[5:]],
        ["line 6 cannot be used and is kept in metrics.damaged.jsonl$"],
        ALL,
        1,
    ),
    "too many brackets": (
        lambda x: [b"[" * 100_000 + b"\n", b"3\n", b'{"step": true}\n', b"\xff\n", *x],
        ["line 1-4 cannot be used"],
        ALL,
        4,
    ),
    "out of order": (
        lambda x: x[6:] + x[:6],
        ["the lines were not in order of their steps and are now$"],
        ALL,
        0,
    ),
    "written twice": (
        lambda x: [line for line in x for _ in range(2)],
        ["line 2, 4, 6, 8, 10, ... cannot be used"],
        ALL,
        12,
    ),
    "changed": (
        lambda x: [*x[:6], changed(x[6]), *x[7:]],
        ["some line up to step 12 was changed after it was recorded"],
        ALL,
        0,
    ),
    "half of the last": (
        lambda x: [*x[:-1], x[-1][:-20]],
        ["the line of step 12 was taken from the checkpoint$"],
        ALL,
        0,
    ),
    "nothing left": (
        lambda x: [],
        ["the line of step 12 was taken", "nothing is left of step 1-11$"],
        [12],
        0,
    ),
}


@pytest.mark.parametrize("num_steps", [NUM_STEPS, NUM_STEPS + 1])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_lines_are_said_and_the_others_kept(damage, num_steps, whole, copy):
    damaged, said, steps, num_beside = DAMAGE[damage]
    (copy / files.METRICS).write_bytes(b"".join(damaged(lines(whole))))
    with pytest.warns(UserWarning, match=r"metrics\.jsonl: ") as warned:
        run(copy, num_steps=num_steps)
    (warning,) = warned
    for words in said:
        assert re.search(words, str(warning.message))
    left = lines(copy)
    steps = [*steps, 13][: len(steps) + num_steps - NUM_STEPS]
    assert [json.loads(line)["step"] for line in left] == steps
    unchanged = set(lines(whole)) & set(left)
    assert len(unchanged) == len(steps) - (damage == "changed") - (13 in steps)
    beside = copy / history.DAMAGED
    assert num_beside == (len(lines(copy, beside.name)) if beside.exists() else 0)
    if 13 in steps:  # a checkpoint of what was left: nothing more to say
        run(copy, num_steps=13)


def test_a_line_without_its_end_is_whole(whole, copy):
    (copy / files.METRICS).write_bytes(b"".join(lines(whole))[:-1])
    run(copy)
    assert lines(copy) == lines(whole)


def test_reading_leaves_out_what_it_names(whole, copy):
    rows = history.read(whole)
    assert [row["step"] for row in rows] == ALL
    (copy / files.METRICS).write_bytes(
        b"".join([b"x\n", *lines(whole)[::-1], b'{"step": 13'])
    )
    with pytest.warns(UserWarning, match="cannot use line 1, left out"):
        assert history.read(copy) == rows
    (copy / files.METRICS).unlink()
    assert history.read(copy) == []


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (["options", "inner_lr"], 0.2, "inner_lr = 0.2, trained with 0.1"),
        (["options", "sizes"], [3], r"sizes = \[3\], trained with \[3, 3\]"),
        (["options", "new"], 1, "new = 1, trained with absent"),
        (["seed"], 1, "seed = 1, trained with 0"),
        (["chosen"], {"name": "x"}, "chosen name = x, trained with experiment"),
        (["chosen", "method"], "promp", "chosen method = promp, trained with None"),
    ],
)
def test_an_edited_config_is_refused(keys, value, said, copy, monkeypatch):
    config = json.loads((copy / files.CONFIG).read_text())
    record = config
    for key in keys[:-1]:
        record = record[key]
    record[keys[-1]] = value
    (copy / files.CONFIG).write_text(json.dumps(config))
    # The command line builds the experiment from what is recorded.
    options, seed = config["options"], config["seed"]
    message = rf"config\.json was changed after the run was trained: {said}"
    with pytest.raises(ValueError, match=message):
        train(
            microscopic(num_steps=20),
            resume=copy,
            options=options,
            seed=seed,
            quiet=True,
        )
    with pytest.raises(ValueError, match=message):
        newest(microscopic(), copy, 1)


def test_an_option_may_have_come_but_not_gone(copy):
    path = copy / files.CONFIG
    config = json.loads(path.read_text())
    for off in (None, False, 0):
        options = {**config["options"], "x": off}
        path.write_text(json.dumps({**config, "options": options}))
        newest(microscopic(), copy, 1)
    record = {"config": json.loads(path.read_text())}
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match="x = absent, trained with 0"):
        configs.check_unedited(copy, record)
    # A seed is no option.
    path.write_text(json.dumps({**config, "seed": 1}))
    with pytest.raises(ValueError, match="seed = 1 and cannot be resumed with 0"):
        configs.check_same_run(copy, config)


def test_how_far_to_go_may_be_edited(copy):
    text = (copy / files.CONFIG).read_text()
    (copy / files.CONFIG).write_text(text.replace('"num_steps": 12', '"num_steps": 3'))
    assert run(copy).step == NUM_STEPS


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("3", "an object is required; got 3"),
        ('"x"', "an object is required; got 'x'"),
        ("[]", r"an object is required; got \[\]"),
        ("null", "an object is required; got None"),
        ("[" * 100_000, "nested too deeply"),
        ("9" * 10_000, "cannot be read as JSON"),
        ('{"a": "\xff', "cannot be read as JSON"),
        ("", "cannot be read as JSON"),
        ({"experiment": 3}, "experiment must be a string; got 3"),
        ({"options": []}, r"options: an object is required; got \[\]"),
        ({"mesh": 3}, "mesh must be a string; got 3"),
        ({"seed": -1}, "seed must be a whole number of at least 0; got -1"),
        ({"seed": True}, "seed must be a whole number"),
        ({"num_seeds": 0}, "num_seeds must be a whole number of at least 1"),
        ({"num_seeds": 1.5}, "num_seeds must be a whole number"),
        ({"checkpoint_every": "1"}, "checkpoint_every must be a whole number"),
        ({"seed_group_size": []}, "seed_group_size must be a whole number"),
        ({"chosen": 3}, "does not say what it trains"),
        ({"chosen": {"name": ["x"]}}, "does not say what it trains"),
        ({"options": {"hidden_sizes": None}}, "hidden_sizes = None, where"),
        ({"options": {"hidden_sizes": ["x"]}}, "hidden_sizes = .*, where"),
        ({"options": {"inner_lr": "x"}}, "inner_lr = 'x', where float is required"),
        ({"options": {"num_steps": 1.5}}, "num_steps = 1.5, where int is required"),
        ({"options": {"num_stops": 1}}, "the option num_stops, which"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_config_of_another_shape_is_one_sentence(config, words, tmp_path, capsys):
    if isinstance(config, dict):
        plain = {"experiment": "point-nav-maml", "options": {}, "seed": 0}
        config = json.dumps({**plain, "num_seeds": 1, **config})
    (tmp_path / files.CONFIG).write_text(config, encoding="latin-1")
    for args in (["train", "--resume"], ["evaluate"]):
        assert cli.main([*args, str(tmp_path)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert re.search(words, line)
    assert [p.name for p in tmp_path.iterdir()] == [files.CONFIG]


def test_every_default_fits_its_option():
    for name in catalogue.entries("experiments"):
        for options in Choice(name).load().groups().values():
            for option in options:
                value = json.loads(json.dumps(files.jsonable(option.default)))
                assert fits(option.kind, value), (name, option)
