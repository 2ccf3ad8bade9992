"""Several devices and several processes: the numbers of one, and the work divided."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from microscopic import microscopic
from test_training import assert_same_state, leaves, metrics, steps_saved

from metarl_jax.choice import Choice
from metarl_jax.runs import checkpoints, devices, files, machine, processes
from metarl_jax.runs.experiment import state_template
from metarl_jax.training import train

TESTS = Path(__file__).parent


def start(script, *args, num_devices):
    environment = {
        **os.environ,
        "PYTHONPATH": str(TESTS.parent),
        "JAX_NUM_CPU_DEVICES": str(num_devices),
    }
    return subprocess.Popen(
        [sys.executable, str(TESTS / script), *map(str, args)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process):
    """Waits for a process that is to end well, and returns what it printed."""
    output, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors
    return output


@pytest.fixture(scope="module")
def eight():
    return json.loads(end(start("eight_devices.py", num_devices=8)).splitlines()[-1])


def test_groups_on_eight_devices_equal_a_plain_loop(eight):
    assert len(eight["groups"]) == 5
    for found in eight["groups"].values():
        assert found["error"] < 1e-6
        assert found["sent"] == ["all-reduce"]  # the means and the gradient alone
        assert found["error_of_sums"] < 1e-6
        assert not found["sent_in_loops"]
        assert found["sent_at_last"] == ["all-reduce"]
        assert found["error_of_learned"] < 1e-6
        assert not found["learned_sent_in_loops"]
        assert found["learned_sent_at_last"] == ["all-reduce"]


def test_seeds_on_eight_devices_keep_to_themselves(eight):
    assert set(eight["seeds"]) == {"None", "1", "2"}
    for found in eight["seeds"].values():
        assert found["error"] < 1e-6
        assert found["sent"] == ["all-reduce"]  # the means over tasks alone


def test_devices_of_a_cpu_do_not_wait_for_one_another_s_factorisations(eight):
    assert max(eight["factorised"]) < 1e-4  # where they do, this never ends


def test_every_algorithm_s_step_is_that_of_one_device_and_shared_out(eight):
    algorithms = eight["algorithms"]
    assert {"maml", "promp", "rl2", "reptile", "es_maml"} <= set(algorithms)
    for name, found in algorithms.items():
        one, each = found["flops"]
        # Every device shuffles for all, and updates all parameters, of which a
        # recurrent policy has the more.
        shared = name in ("ad", "amago", "dpt", "pretraining", "rl2")
        assert 1 / 8 < each / one < (1 / 2 if shared else 1 / 5), name
        assert found["error"] < 1e-5, name
        assert found["moved"] > 1e-3, name


def test_who_asks_for_no_mesh_is_given_one_where_that_can_be(eight):
    found = eight["chosen"]
    assert found["tasks"] == found["resumed"] == "tasks=2"  # on fewer cores, too
    assert found["same"]
    assert found["seeds"] == "seeds=8"
    assert found["both"] == "tasks=2,seeds=4"
    for alone in ("neither", "indivisible", "host", "factorises"):
        assert found[alone] is None
    (warned,) = found["warned"]
    assert "many matrices are factorised at once (lapack_spotrf_ffi of 3x2x2)" in warned


@pytest.mark.parametrize(
    ("cores", "num_devices", "num_seeds", "expected"),
    [
        (1, 8, 8, None),
        (8, 1, 8, None),
        (2, 2, 1, "tasks=2"),
        (2, 2, 4, "seeds=2"),
        (2, 2, 3, "tasks=2"),
        (3, 4, 3, "seeds=3"),
        (7, 8, 3, "tasks=2,seeds=3"),
        (64, 64, 1, "tasks=10"),
    ],
)
def test_as_many_devices_as_cores_are_shared(
    cores, num_devices, num_seeds, expected, monkeypatch
):
    monkeypatch.setattr(machine, "usable_cores", lambda: cores)
    monkeypatch.setattr(jax, "device_count", lambda: num_devices)
    assert devices.auto_mesh((1, 2, 5, 10), num_seeds=num_seeds) == expected


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        (["max 100000"], 4),
        (["250000 100000"], 2),
        (["50000 100000"], 1),
        (["300000\n", "100000\n"], 3),
        (["-1\n", "100000\n"], 4),
        (["something else"], 4),
    ],
)
def test_cores_are_those_that_a_process_may_use(quota, cores, monkeypatch, tmp_path):
    names = [str(tmp_path / str(i)) for i in range(len(quota))]
    for name, text in zip(names, quota, strict=True):
        Path(name).write_text(text)
    monkeypatch.setattr(machine, "_QUOTAS", [(str(tmp_path / "none"),), names])
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 5, 6})
    assert machine.usable_cores() == cores


def test_memories_are_shared_where_a_device_has_many_trials():
    def counts(world, method, num_tasks):
        recipe = Choice(world, method).load()
        return recipe(num_tasks=num_tasks).device_counts

    assert counts("bandit", "maml", 12) == (1, 2, 3, 4, 6, 12)
    assert counts("bandit", "rl2", 1024) == (1, 2, 4)
    assert counts("bandit", "rl2", 128) == (1,)


@pytest.mark.parametrize(
    ("mesh", "message"),
    [
        ("task=2", r"axes tasks and seeds .*'task' in 'task=2'"),
        ("tasks=2,tasks=2", "once at most"),
        ("tasks", "tasks of the mesh must be .* at least 1; got ''"),
        ("seeds=0", "seeds of the mesh must be .* at least 1; got '0'"),
        ("tasks=4,seeds=3", "seeds of the mesh must divide num_seeds; got 3 and 4"),
        ("tasks=64,seeds=2", "needs 128 devices; there are .*JAX_NUM_CPU_DEVICES=128"),
        ("", "axes tasks and seeds .* got '' in ''"),
        ("tasks=²", "tasks of the mesh must be .* at least 1; got '²'"),
        ("tasks=" + "9" * 5000, "a number of devices that there can be; got '999"),
        (3, "mesh must be a string such as tasks=4,seeds=2, auto or None; got 3"),
    ],
)
def test_a_mesh_that_cannot_be_is_refused(mesh, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        train(
            microscopic(),
            name="microscopic",
            num_seeds=4,
            mesh=mesh,
            output_dir=tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, 2, None), "num_processes needs a coordinator; got 2"),
        (("here:1", None, 0), "here:1 needs num_processes"),
        (("here", 2, 0), "host:port or auto, .*; got 'here'"),
        ((":80", 2, 0), "host:port or auto, .*; got ':80'"),
        (("here:99999", 2, 0), "port from 1 to 65535; got 'here:99999'"),
        (("256.1.1.1:80", 2, 1), "address or the name .*; got '256.1.1.1:80'"),
        (("1.2.3:80", 2, 0), "address or the name .*; got '1.2.3:80'"),
        (("[::g]:80", 2, 0), "address or the name .*; got '\\[::g\\]:80'"),
        (("a..b:80", 2, 0), "address or the name .*; got 'a..b:80'"),
        (("here:1", 2, 2), "process_id must be .* below num_processes; got 2 of 2"),
        (("here:1", 0, 0), "num_processes must be at least 1 .*; got 0"),
    ],
)
def test_a_process_that_does_not_know_its_place_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        processes.join(*arguments)


def test_a_cpu_is_not_divided_without_end():
    with pytest.raises(ValueError, match=r"needs 4096 devices .* at most 2048"):
        devices.divide_cpu("tasks=4096")


def test_nobody_is_waited_for_without_end(monkeypatch):
    """Whoever is not process 0 is told that nobody answers, and then gives up."""
    monkeypatch.setattr(processes, "CONNECT_SECONDS", 0.2)
    there = f"localhost:{free_port()}"
    with (
        pytest.warns(UserWarning, match=f"nobody answers at the coordinator {there}"),
        pytest.raises(ValueError, match=f"nobody .* {there} within 0.2 seconds"),
    ):
        processes.join(there, 2, 1)


def test_process_0_must_be_able_to_listen():
    with socket.create_server(("", 0)) as listener:
        there = f"localhost:{listener.getsockname()[1]}"
        with pytest.raises(ValueError, match="process 0 must be able to listen at"):
            processes.join(there, 2, 0)


def test_a_finished_run_is_not_resumed_on_devices_that_cannot_share_its_tasks(eight):
    assert "got 3 devices and 4 tasks" in eight["resumed"]


def test_one_process_asks_itself():
    assert processes.on_first(lambda: "value") == "value"
    assert [processes.agreement()(wish) for wish in (True, False)] == [True, False]


def free_port():
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def test_two_processes_stopped_killed_and_resumed_are_one_run(tmp_path):
    mesh, num_seeds = "tasks=2,seeds=2", 2
    options = {"num_tasks": 4, "size": 1000, "work": 200}
    settings = {"num_seeds": num_seeds, "mesh": mesh, "checkpoint_every": 7}
    path = tmp_path / "run"

    def together(num_steps, **where):
        port = free_port()
        arguments = [json.dumps({**settings, **where})]
        arguments += [json.dumps({**options, "num_steps": num_steps}), port]
        return [
            start("one_of_several.py", *arguments, i, 2, num_devices=2)
            for i in range(2)
        ]

    def wait_for_a_checkpoint(after, members):
        while all(member.poll() is None for member in members):
            if (path / "checkpoints").exists():
                names = os.listdir(path / "checkpoints")
                steps = [int(name) for name in names if name.isdigit()]
                if steps and max(steps) > after:
                    return
            time.sleep(0.05)
        pytest.fail("\n".join(member.communicate()[1] for member in members))

    # A signal to the second stops both, after the same step.
    members = together(100_000, output_dir=str(path))
    wait_for_a_checkpoint(0, members)
    members[1].send_signal(signal.SIGTERM)
    outputs = [end(member) for member in members]
    stopped = steps_saved(path)[-1]
    assert [output.split()[-2:] for output in outputs] == [["after", str(stopped)]] * 2
    assert "continue with" in outputs[0]
    assert "continue with" not in outputs[1]  # the first speaks for both
    assert len(metrics(path)) == stopped

    members = together(100_000, resume=str(path))
    wait_for_a_checkpoint(stopped, members)
    for member in members:
        member.kill()
        member.communicate()
    num_steps = max(steps_saved(path)) + 5
    for member in together(num_steps, resume=str(path)):
        assert f"finished after {num_steps}" in end(member)

    # One process with the same mesh gives the same bits, one device nearly so.
    whole = tmp_path / "whole"
    alone = [json.dumps({**settings, "output_dir": str(whole)})]
    alone += [json.dumps({**options, "num_steps": num_steps})]
    end(start("one_of_several.py", *alone, num_devices=4))
    assert metrics(path) == metrics(whole)
    experiment = microscopic(num_steps=num_steps, **options)
    states = []
    for run_dir in (path, whole):
        manager = checkpoints.open_manager(run_dir / files.CHECKPOINTS, read_only=True)
        template = state_template(experiment.algorithm, num_seeds)
        states.append(checkpoints.restore(manager, template).state)
        checkpoints.close(manager)
    assert_same_state(*states)
    here = train(
        experiment,
        name="microscopic",
        num_seeds=num_seeds,
        output_dir=tmp_path / "here",
        quiet=True,
    )
    for a, b in zip(leaves(states[0]), leaves(here.state), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)

    # Two processes and one start from it alike.
    started = {"start_from": str(path), "checkpoint_every": 2}
    for member in together(3, output_dir=str(tmp_path / "two"), **started):
        assert "finished after 3" in end(member)
    alone = [json.dumps({**settings, **started, "output_dir": str(tmp_path / "one")})]
    alone += [json.dumps({**options, "num_steps": 3})]
    end(start("one_of_several.py", *alone, num_devices=4))
    assert metrics(tmp_path / "two") == metrics(tmp_path / "one")
    two, one = (files.read_config(tmp_path / name) for name in ("two", "one"))
    assert two["start_from"] == one["start_from"]
    assert two["start_from"]["step"] == num_steps

    # What two processes have saved, one device can read.
    with pytest.warns(UserWarning, match="was started with other") as warned:
        more = train(
            microscopic(num_steps=num_steps + 1, **options),
            name="microscopic",
            num_seeds=num_seeds,
            resume=path,
            quiet=True,
        )
    assert more.step == num_steps + 1
    assert len(warned) == 2  # other devices, another mesh


def test_a_mesh_of_one_device_is_a_mesh(tmp_path):
    trained = [
        train(
            microscopic(num_steps=3, num_tasks=2),
            name="microscopic",
            mesh=mesh,
            output_dir=tmp_path / str(mesh),
            quiet=True,
        )
        for mesh in (None, "tasks=1")
    ]
    assert_same_state(*[t.state for t in trained])
    assert devices.place("seeds=1", num_seeds=3).by_seed.is_fully_replicated
    config = files.read_config(trained[1].run_dir)
    assert config["mesh"] == "tasks=1"
    assert len(jax.tree.leaves(trained[1].state)[0].sharding.device_set) == 1
