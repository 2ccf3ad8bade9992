"""Training as a whole: recorded, saved, interrupted, damaged and continued."""

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from microscopic import microscopic
from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import masked_crc32c

from metarl_jax.runs import (
    checkpoints,
    files,
    grouping,
    history,
    interruption,
    locking,
    machine,
)
from metarl_jax.runs.events import EventFile
from metarl_jax.training import train


def run(path, *, resume=False, experiment=None, every=3, **kwargs):
    """Trains in a directory, or continues there."""
    kwargs |= {"resume": path} if resume else {"output_dir": path}
    if experiment is None:
        keys = ("num_steps", "size", "dtype", "work", "skip", "context")
        experiment = microscopic(**{k: kwargs.pop(k) for k in keys if k in kwargs})
    return train(
        experiment, name="microscopic", checkpoint_every=every, quiet=True, **kwargs
    )


def leaves(state):
    return [
        np.asarray(
            jax.random.key_data(leaf)
            if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            else leaf
        )
        for leaf in jax.tree.leaves(state)
    ]


def assert_same_state(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(leaves(one), leaves(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def metrics(path):
    """The recorded lines without what a clock said."""
    rows = []
    for line in (path / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line, parse_constant=lambda name: pytest.fail(name))
        assert row.pop("seconds") >= 0
        rows.append(row)
    return rows


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of 12 steps that nothing disturbed."""
    path = tmp_path_factory.mktemp("whole") / "run"
    return run(path, num_steps=12, every=5)


def steps_saved(path):
    # A kill may leave the directory of one that is not whole.
    names = [p.name for p in (path / "checkpoints").iterdir()]
    return sorted(int(name) for name in names if name.isdecimal())


def test_twice_n_steps_are_n_and_n_again(whole, tmp_path):
    first = run(tmp_path / "run", num_steps=6, every=4)
    assert first.finished
    assert first.step == 6
    assert steps_saved(tmp_path / "run") == [4, 6]
    second = run(tmp_path / "run", resume=True, num_steps=12, every=1)
    assert_same_state(second.state, whole.state)
    assert metrics(tmp_path / "run") == metrics(whole.run_dir)
    assert [row["step"] for row in metrics(whole.run_dir)] == list(range(1, 13))
    assert files.read_config(tmp_path / "run")["num_steps"] == 12

    # Every step is done: nothing is trained or changed. Options that came since and are
    # off are what there was.
    came = {"options": {"none": None, "off": False, "zero": 0.0}}
    third = run(tmp_path / "run", resume=True, num_steps=12, **came)
    assert third.finished
    assert_same_state(third.state, whole.state)
    assert metrics(tmp_path / "run") == metrics(whole.run_dir)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_run_saved(number, tmp_path):
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("ignored here, as `nohup` has it, and so by what is run")
    slow = microscopic(num_steps=100_000, work=300)

    def interrupt():
        while not (tmp_path / "run" / "metrics.jsonl").exists():
            time.sleep(0.01)
        time.sleep(0.3)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt)
    before = signal.getsignal(number)
    thread.start()
    trained = run(tmp_path / "run", experiment=slow, every=1000)
    thread.join()
    assert not trained.finished
    assert trained.signal == number
    assert 0 < trained.step < slow.num_steps
    assert signal.getsignal(number) is before
    assert len(metrics(tmp_path / "run")) == trained.step
    assert steps_saved(tmp_path / "run")[-1] == trained.step
    more = trained.step + 5
    resumed = run(tmp_path / "run", resume=True, num_steps=more, work=300, every=1000)
    alone = run(tmp_path / "alone", num_steps=more, work=300, every=1000)
    assert_same_state(resumed.state, alone.state)


def test_a_second_interrupt_is_immediate_and_compiling_can_be_left():
    with interruption.stop_on_signal() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        start, end = time.perf_counter(), threading.Event()
        assert interruption.unless_stopped(stop, lambda: end.wait(10)) is None
        assert time.perf_counter() - start < 1
        assert interruption.is_something_abandoned()
        end.set()
    assert interruption.unless_stopped(threading.Event(), lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        interruption.unless_stopped(threading.Event(), lambda: 1 / 0)


def test_killed_in_the_middle_of_a_save_loses_only_what_came_after(tmp_path):
    path = tmp_path / "run"
    repository = Path(__file__).parent.parent
    process = subprocess.Popen(
        [sys.executable, str(repository / "tests" / "microscopic.py"), str(path)],
        env={**os.environ, "PYTHONPATH": str(repository)},
        stdout=subprocess.DEVNULL,
    )
    saved = path / "checkpoints"

    def saving_after_a_save():
        names = os.listdir(saved) if saved.exists() else []
        return any(map(str.isdigit, names)) and any("tmp" in name for name in names)

    try:
        while process.poll() is None:
            if saving_after_a_save():
                # Held still while we look again: the save may just have ended.
                process.send_signal(signal.SIGSTOP)
                if saving_after_a_save():
                    break
                process.send_signal(signal.SIGCONT)
            time.sleep(0.002)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    unfinished = [p for p in saved.iterdir() if "tmp" in p.name]
    complete = [int(p.name) for p in saved.iterdir() if p.name.isdigit()]
    # As a process killed while it wrote a line would leave it.
    with open(path / "metrics.jsonl", "a") as file:
        file.write('{"step": 99')
    num_steps = max(complete) + 5
    resumed = run(path, resume=True, num_steps=num_steps, size=400_000, every=100)
    whole = run(tmp_path / "whole", num_steps=num_steps, size=400_000, every=100)
    assert_same_state(resumed.state, whole.state)
    assert metrics(path) == metrics(tmp_path / "whole")
    assert unfinished
    assert not any(p.exists() for p in unfinished)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def largest(step_dir):
    return max(
        (p for p in step_dir.glob("state/**/d/*") if p.is_file()),
        key=lambda p: p.stat().st_size,
    )


def change_record(step_dir, old, new):
    path = step_dir / "record" / "metadata"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


DAMAGE = {
    "truncated": lambda d: os.truncate(largest(d), largest(d).stat().st_size // 2),
    "flipped": lambda d: flip(largest(d)),
    "flipped manifest": lambda d: flip(d / "state" / "manifest.ocdbt"),
    "lost": lambda d: largest(d).unlink(),
    "empty": lambda d: (shutil.rmtree(d), d.mkdir()),
    "no record": lambda d: shutil.rmtree(d / "record"),
    "record changed": lambda d: change_record(d, '"seconds"', '"secondz"'),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(damage, whole, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(whole.run_dir, path)
    assert steps_saved(path) == [5, 10, 12]
    DAMAGE[damage](path / "checkpoints" / "12")
    with pytest.warns(UserWarning, match=r"checkpoints/12 is damaged") as warned:
        resumed = run(path, resume=True, num_steps=12)
    assert len(warned) == 1
    assert_same_state(resumed.state, whole.state)
    assert metrics(path) == metrics(whole.run_dir)
    assert steps_saved(path) == [5, 10, 12]

    # What was saved anew in its place is whole.
    manager = checkpoints.open_manager(path / "checkpoints", read_only=True)
    restored = checkpoints.restore(manager, jax.eval_shape(lambda: whole.state))
    checkpoints.close(manager)
    assert restored.step == 12
    assert_same_state(restored.state, whole.state)


def test_contents_that_orbax_does_not_doubt_are_checked(whole, tmp_path):
    # Another run's arrays in the place of this one's: intact files, wrong contents.
    other = run(tmp_path / "other", num_steps=5, every=5, seed=7)
    shutil.copytree(whole.run_dir, tmp_path / "run")
    saved = tmp_path / "run" / "checkpoints"
    shutil.rmtree(saved / "10")
    shutil.rmtree(saved / "12")
    shutil.rmtree(saved / "5" / "state")
    shutil.copytree(other.run_dir / "checkpoints" / "5" / "state", saved / "5/state")
    with (
        pytest.warns(UserWarning, match="checksum"),
        pytest.raises(ValueError, match=r"no checkpoint in .* can be read; damaged: 5"),
    ):
        run(tmp_path / "run", resume=True, num_steps=12)


def test_without_a_checkpoint_a_run_starts_over(whole, tmp_path, capsys):
    path = tmp_path / "run"
    shutil.copytree(whole.run_dir, path)
    shutil.rmtree(path / "checkpoints")
    again = microscopic(num_steps=12)
    with pytest.warns(UserWarning, match="no checkpoint of the 12 steps"):
        resumed = train(again, name="microscopic", resume=path, checkpoint_every=9)
    assert "no checkpoint yet: starts at step 0" in capsys.readouterr().out
    assert_same_state(resumed.state, whole.state)
    assert metrics(path) == metrics(whole.run_dir)
    beside = (path / history.DAMAGED).read_text()
    assert beside == (whole.run_dir / files.METRICS).read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, r"seed = 0 and cannot be resumed with 1"),
        ({"num_seeds": 2}, r"num_seeds = 1 and cannot be resumed with 2"),
        ({"options": {"inner_lr": 0.2}}, r"inner_lr = absent .* with 0.2"),
        ({"size": 4}, r"agent.params.w has shape \(3,\) of float32 .* \(4,\)"),
        ({"dtype": "bfloat16"}, r"agent.params.w has .* of float32 .* of bfloat16"),
        ({"output_dir": "elsewhere"}, "not both"),
        ({"every": 0}, "checkpoint_every must be .* at least 1; got 0"),
    ],
)
def test_a_resume_that_differs_is_refused(changes, message, whole):
    before = sorted((p, p.stat().st_mtime_ns) for p in whole.run_dir.rglob("*"))
    with pytest.raises(ValueError, match=message):
        run(whole.run_dir, resume=True, num_steps=20, **changes)
    assert before == sorted((p, p.stat().st_mtime_ns) for p in whole.run_dir.rglob("*"))


def test_a_run_starts_from_the_whole_state_of_another(whole, tmp_path):
    path = tmp_path / "run"
    started = run(path, start_from=whole.run_dir, num_steps=4, seed=3, every=9)
    experiment = microscopic()
    key = jax.random.split(jax.random.key(3))[1]
    expected = whole.state
    for i in range(4):
        expected, _ = experiment.algorithm.step(jax.random.fold_in(key, i), expected)
    assert_same_state(started.state, expected)
    assert int(started.state.count) == 16
    assert [row["step"] for row in metrics(path)] == [1, 2, 3, 4]
    recorded = files.read_config(path)["start_from"]
    assert recorded["run"] == str(whole.run_dir)
    assert recorded["step"] == 12

    # Trials, and so what is remembered of them, may be longer.
    longer = run(tmp_path / "longer", start_from=path, num_steps=1, context=5)
    assert longer.agent.memory.shape == (5,)
    assert int(longer.state.count) == 17

    # Killed before its first checkpoint, it begins there again.
    shutil.rmtree(path / "checkpoints")
    with pytest.warns(UserWarning, match="no checkpoint of the 4 steps"):
        again = run(path, resume=True, num_steps=4, seed=3)
    assert_same_state(again.state, expected)
    assert run(path, resume=True, num_steps=5, seed=3).step == 5
    other = shutil.copytree(whole.run_dir, tmp_path / "other")
    run(other, resume=True, num_steps=13)
    shutil.rmtree(path / "checkpoints")
    config = (path / files.CONFIG).read_text()
    config = config.replace(str(whole.run_dir), str(other))
    (path / files.CONFIG).write_text(config)
    with pytest.raises(ValueError, match=r"gone on to step 13 since .* its step 12"):
        run(path, resume=True, num_steps=4, seed=3)


def test_a_rate_that_is_all_gone_before_the_first_step_is_told(
    whole, tmp_path, recwarn
):
    def start(name, run_dir, options):
        path = tmp_path / name
        run(path, start_from=run_dir, num_steps=4, options=options)
        return path

    first = start("first", whole.run_dir, {"decay_steps": 13})
    start("none", first, {"decay_steps": None})
    start("longer", first, {"decay_steps": 17})
    assert not [w for w in recwarn if "decay_steps" in str(w.message)]
    with pytest.warns(UserWarning, match="decay_steps 16 are over .* counted 16"):
        start("over", first, {"decay_steps": 16})


def test_what_a_run_started_from_is_part_of_what_it_is(whole, tmp_path):
    configs = []
    for seed, start in ((0, None), (1, whole.run_dir), (2, whole.run_dir)):
        run(tmp_path / f"{seed}", num_steps=1, seed=seed, start_from=start)
        configs.append(files.read_config(tmp_path / f"{seed}"))
    assert grouping.by_method(configs) == [[0], [1, 2]]
    again = run(tmp_path / "again", num_steps=1, start_from=tmp_path / "1")
    assert again.state is not None
    nested = files.read_config(tmp_path / "again")["start_from"]
    assert nested["start_from"] == configs[1]["start_from"]
    assert grouping.by_method([*configs, files.read_config(tmp_path / "again")]) == [
        [0],
        [1, 2],
        [3],
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start_from": "nowhere"}, "nowhere is not a directory"),
        ({"size": 4}, r"agent.params.w has shape \(3,\) of float32 .* \(4,\)"),
        ({"num_seeds": 2}, "has num_seeds = 1, and a run .* as many; got 2"),
        ({"resume": True}, "not both"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(changes, message, whole, tmp_path):
    path = whole.run_dir if "resume" in changes else tmp_path / "run"
    with pytest.raises(ValueError, match=message):
        run(path, **{"start_from": whole.run_dir, "num_steps": 20, **changes})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("group_size", [None, 1, 2, 3])
def test_seeds_together_are_the_seeds_alone(group_size, tmp_path):
    groups = {"num_seeds": 3, "seed_group_size": group_size}
    together = run(tmp_path / "together", num_steps=4, seed=5, **groups)
    rows = metrics(tmp_path / "together")
    for i, seed in enumerate((5, 6, 7)):
        alone = run(tmp_path / f"{seed}", num_steps=4, seed=seed)
        for a, b in zip(leaves(together.state), leaves(alone.state), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-6)
        for row, row_alone in zip(rows, metrics(tmp_path / f"{seed}"), strict=True):
            members = row["seeds"]["return_after"]
            assert members[i] == pytest.approx(row_alone["return_after"], rel=1e-6)
            assert row["return_after"] == pytest.approx(np.mean(members), rel=1e-6)


def test_skipped_updates_are_counted_and_end_the_run(tmp_path):
    # Three in a row twice over, but never four; then a fourth across a resume.
    skip = (1, 2, 3, 5, 6, 7)
    trained = run(tmp_path / "run", num_steps=8, skip=skip, max_skipped=4)
    assert trained.finished
    rows = metrics(tmp_path / "run")
    assert [row["step"] - 1 for row in rows if row["skipped"]] == list(skip)
    assert rows[1]["return_before"] is None
    with pytest.raises(
        FloatingPointError, match=r"4 updates in a row, up to step 9, .*seed 0"
    ):
        run(
            tmp_path / "run",
            resume=True,
            num_steps=1000,
            skip=(*skip, 8),
            max_skipped=4,
        )
    # Saved with what was done, so that it can be looked at and continued.
    last = steps_saved(tmp_path / "run")[-1]
    assert last == len(metrics(tmp_path / "run")) >= 9


def test_one_trace_and_nothing_left_of_a_refused_run(tmp_path):
    traces = []
    run(tmp_path / "run", experiment=microscopic(num_steps=30, traces=traces))
    assert len(traces) == 1
    with pytest.raises(ValueError, match="run is not empty; an empty or new one"):
        run(tmp_path / "run")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file"):
        run(tmp_path / "file")

    fine = microscopic()

    def widening(key, state):
        state, info = fine.algorithm.step(key, state)
        return state._replace(count=state.count.astype(float)), info

    broken = fine._replace(algorithm=fine.algorithm._replace(step=widening))
    with pytest.raises(ValueError, match="must return a state of the structure"):
        run(tmp_path / "refused", experiment=broken)
    with pytest.raises(ValueError, match="must return a state of the structure"):
        run(tmp_path / "refused" / "deep", experiment=broken)
    assert not (tmp_path / "refused").exists()


def test_only_one_process_writes_in_a_directory(whole, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(whole.run_dir, path)
    code = (
        "import sys, time; from pathlib import Path\n"
        "from metarl_jax.runs import locking\n"
        "with locking.held(Path(sys.argv[1])): print(1, flush=True); time.sleep(60)"
    )
    before = sorted(path.rglob("*"))
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline() == b"1\n"
        named = rf"in use by process {process.pid} on {re.escape(socket.gethostname())}"
        for resume in (True, False):
            with pytest.raises(ValueError, match=named):
                run(path, resume=resume, num_steps=13)
        (tmp_path / "new").mkdir()
        with locking.held(tmp_path / "new"), pytest.raises(ValueError, match="in use"):
            run(tmp_path / "new")
        assert metrics(path) == metrics(whole.run_dir)
        process.kill()
    # The lock ended with its process.
    run(path, resume=True, num_steps=12)
    assert before == sorted(path.rglob("*"))


def test_a_lock_left_on_another_machine_is_said(whole, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(whole.run_dir, path)
    (path / locking.LOCK).write_text("process 3 on elsewhere since 2026-01-01 00:00:00")
    with pytest.warns(UserWarning, match="in use by process 3 on elsewhere since 2026"):
        run(path, resume=True, num_steps=12)
    run(path, resume=True, num_steps=12)


@pytest.mark.parametrize(
    "name",
    ["metrics.jsonl", "evaluation.json", "checkpoints", "checkpoints/5", "deep/a/link"],
)
@pytest.mark.parametrize("target", ["there", "there, relative", "/nowhere/at/all"])
def test_a_link_out_of_a_run_is_refused(name, target, whole, tmp_path):
    path, outside = tmp_path / "run", tmp_path / "outside"
    shutil.copytree(whole.run_dir, path)
    link = path / name
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.exists():
        shutil.move(link, outside)
    if target == "there, relative":
        target = os.path.relpath(outside, link.parent)
    link.symlink_to(outside if target == "there" else target)
    before = sorted((p, p.lstat().st_mtime_ns) for p in tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=r"is a link to .*, outside of the run"):
        run(path, resume=True, num_steps=20)
    assert before == sorted((p, p.lstat().st_mtime_ns) for p in tmp_path.rglob("*"))


def test_a_lock_that_is_another_s_file_is_not_written(tmp_path):
    path, outside = tmp_path / "run", tmp_path / "outside"
    path.mkdir()
    outside.write_text("kept")
    (path / locking.LOCK).hardlink_to(outside)
    with pytest.raises(ValueError, match="is no file of its own"):
        run(path)
    (path / locking.LOCK).unlink()
    os.mkfifo(path / locking.LOCK)
    with pytest.raises(ValueError, match="is no file of its own"):
        run(path)
    assert outside.read_text() == "kept"


def test_links_within_a_run_are_followed(whole, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(whole.run_dir, path)
    shutil.move(path / "checkpoints", path / "kept")
    (path / "checkpoints").symlink_to("kept")
    assert run(path, resume=True, num_steps=13).step == 13


@pytest.mark.parametrize("name", ["../../x", "a/b", "/x", "..", ".", "", "a\0b"])
def test_a_name_is_that_of_one_directory(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="name must be one that a directory can have"):
        train(microscopic(), name=name, quiet=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("file/x", "cannot be created"),
        ("file", "is a file"),
        ("/proc/nope/x", "cannot be created"),
        ("/dev/null", "is a file"),
        ("x" * 300, "cannot be created"),
        (os.fsdecode(b"caf\xe9"), "must be UTF-8"),
        ("lr=[0.1]/run*", r"must be one without \* \["),
    ],
)
def test_a_directory_is_made_before_anything_is_traced(path, message, tmp_path):
    traces = []
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=message):
        run(tmp_path / path, experiment=microscopic(traces=traces))
    assert not traces
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@contextlib.contextmanager
def files_of_at_most(num_bytes):
    """Makes a longer file fail as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    least = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1e9)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", least)


def test_a_full_disk_ends_the_run_in_a_sentence_and_loses_nothing(tmp_path):
    path = tmp_path / "run"
    with (
        files_of_at_most(4000),
        pytest.raises(
            OSError,
            match=r"metrics.jsonl cannot be written: File too large; .* --resume",
        ),
    ):
        run(path, num_steps=1000, every=5, work=30)
    (*_, line, cut) = (path / "metrics.jsonl").read_text().splitlines()
    with pytest.raises(ValueError, match="line 1"):
        json.loads(cut)
    step = json.loads(line)["step"]
    resumed = run(path, resume=True, num_steps=step + 5, every=5, work=30)
    assert_same_state(resumed.state, run(tmp_path / "one", num_steps=step + 5).state)
    assert len(metrics(path)) == step + 5


def test_events_are_left_out_where_they_cannot_be_written(tmp_path):
    def write(directory):
        file = EventFile(directory, None)
        for step in range(500):
            file.add(step, {"return": 1.0})
            file.flush()
        file.close()

    for most, directory in ((1000, tmp_path), (10**6, tmp_path / "nowhere")):
        with (
            files_of_at_most(most),
            pytest.warns(UserWarning, match="on without TensorBoard's events") as said,
        ):
            write(directory)
        assert len(said) == 1


def test_a_checkpoint_that_cannot_be_saved_ends_the_run_in_a_sentence(tmp_path, capfd):
    sentence = r"checkpoints could not be saved: File too large; .* --resume"
    with files_of_at_most(40_000), pytest.raises(OSError, match=sentence):
        run(tmp_path / "run", num_steps=1000, size=20_000)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("spec", ["", """ [tensorstore_spec='{"driver":"zarr"}']"""])
@pytest.mark.parametrize("before", [True, False])
def test_what_the_system_said_is_found_among_the_notes_of_the_storage(spec, before):
    code = " [os_error_code='28']"
    said = f'OUT: Error writing "a" in "/b: c/": No space left on device{spec}{code}'
    if before:
        said = said.replace(spec + code, code + spec)

    class Full:
        directory = "runs/a"

        def close(self):
            raise ValueError(said)

    sentence = "^a checkpoint in runs/a could not be saved: No space left on device$"
    with pytest.raises(OSError, match=sentence):
        checkpoints.close(Full())  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("gone", ["run", "run/metrics.jsonl"])
def test_a_directory_removed_under_a_run_is_noticed(gone, tmp_path):
    slow = microscopic(num_steps=100_000, work=300)

    def remove():
        metrics = tmp_path / "run" / "metrics.jsonl"
        while not metrics.exists() or not metrics.stat().st_size:
            time.sleep(0.01)
        os.rename(tmp_path / gone, tmp_path / "moved")

    thread = threading.Thread(target=remove)
    thread.start()
    with pytest.raises(OSError, match=r"metrics.jsonl was removed or replaced while"):
        run(tmp_path / "run", experiment=slow, every=100_000)
    thread.join()
    assert not (tmp_path / gone).exists()


def events(path):
    """Reads the events of each TensorBoard file, in the order they were written."""
    everything = []
    for file in sorted(path.glob("events.out.tfevents.*"), key=os.path.getmtime):
        data, found = file.read_bytes(), []
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            found.append(event_pb2.Event.FromString(data[12 : 12 + length]))
            for part, at in ((data[:8], 8), (data[12 : 12 + length], 12 + length)):
                assert struct.unpack_from("<I", data, at) == (masked_crc32c(part),)
            data = data[16 + length :]
        everything.append(found)
    return everything


def test_tensorboard_is_told_which_steps_are_written_again(whole, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(whole.run_dir, path)
    shutil.rmtree(path / "checkpoints" / "12")
    run(path, resume=True, num_steps=13)
    first, second = events(path)

    def curve(events):
        return {
            event.step: value.simple_value
            for event in events
            for value in event.summary.value
            if value.tag == "return_after"
        }

    assert first[0].file_version == second[0].file_version == "brain.Event:2"
    assert list(curve(first)) == list(range(1, 13))
    assert list(curve(second)) == [11, 12, 13]
    purged = [e.step for e in second if e.HasField("session_log")]
    assert purged == [11]
    for row in metrics(path):
        value = (curve(first) | curve(second))[row["step"]]
        assert value == pytest.approx(row["return_after"])


def test_the_compilation_cache_is_chosen_with_care(tmp_path, monkeypatch):
    before = jax.config.jax_compilation_cache_dir
    try:
        machine.enable_compilation_cache()
        assert jax.config.jax_compilation_cache_dir == before
        jax.config.update("jax_compilation_cache_dir", None)
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        machine.enable_compilation_cache()
        assert jax.config.jax_compilation_cache_dir is None
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        machine.enable_compilation_cache()
        chosen = Path(jax.config.jax_compilation_cache_dir)
        assert chosen == tmp_path / "metarl_jax" / "xla"
        assert chosen.is_dir()
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


DAMAGED_ENTRY = {
    "truncated": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "flipped": lambda data: data[:40] + bytes([data[40] ^ 8]) + data[41:],
    "overwritten": lambda data: b"\0" * len(data),
}


def test_damaged_entries_of_the_compilation_cache_are_made_anew(tmp_path):
    # In a process of its own, as JAX chooses its cache once.
    code = """if True:
        import sys, warnings, jax, jax.numpy as jnp
        from pathlib import Path
        from test_training import DAMAGED_ENTRY
        from metarl_jax.runs import machine
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        def compile():
            jax.clear_caches()
            lowered = jax.jit(lambda x: jnp.sin(x) + 1).lower(1.0)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                assert machine.compiled(lowered)(0.0) == 1
            return [str(warning.message) for warning in caught]
        assert compile() == []
        (path,) = Path(sys.argv[1]).glob("jit__lambda*-cache")
        data = path.read_bytes()
        for name, damage in DAMAGED_ENTRY.items():
            path.write_bytes(damage(data))
            (said,) = compile()
            assert "had 1 damaged entry, now removed" in said, (name, said)
            assert path.exists() and compile() == [], name
    """
    here = Path(__file__).parent
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={
            **os.environ,
            "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
            "PYTHONPATH": f"{here.parent}:{here}",
        },
        check=True,
    )
