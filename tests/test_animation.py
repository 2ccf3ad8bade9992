"""What moves is what happened, in every world that there is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import metarl_jax
from metarl_jax import catalogue, choice, rollout
from metarl_jax.cli import main
from metarl_jax.envs.host import HostEnvironment
from metarl_jax.inspection.filming import Film, film, states_of
from metarl_jax.inspection.inspecting import animate_run
from metarl_jax.plotting import moving
from metarl_jax.runs.experiment import Evaluation
from metarl_jax.types import Trajectory

KEY = jax.random.key(0)
SMALL = {"num_tasks": 2, "num_episodes": 2, "hidden_sizes": (3,), "num_steps": 1}


@pytest.fixture(scope="module", autouse=True)
def quickly_compiled():
    """Compiling is what these cost."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def make(name, method, **options):
    return metarl_jax.make_experiment(name, method=method, **{**SMALL, **options})


def begun(animation):
    """Matplotlib warns of one that is thrown away without having been drawn."""
    animation._draw_was_started = True
    return animation


@pytest.mark.parametrize("name", ["point-nav", "cartpole", "tabular-mdp"])
def test_states_are_those_that_an_episode_went_through(name):
    experiment = make(name, "maml", horizon=12)
    tasks, policy = experiment.tasks, experiment.algorithm.policy

    @jax.jit
    def run(key):
        agent, task = experiment.algorithm.init(key).agent, tasks.sample(key)
        _, episode = rollout.episode(key, tasks, policy, agent, task)
        states = states_of(key, tasks, policy, task, episode)
        return task, episode, states

    _, episode, states = run(KEY)
    shown = {
        "point-nav": lambda: states.position,
        "cartpole": lambda: jnp.stack(
            [states.x, states.x_dot, states.theta, states.theta_dot], axis=-1
        ),
        "tabular-mdp": lambda: jax.nn.one_hot(states.position, 10),
    }[name]()
    mask = episode.mask
    np.testing.assert_allclose(shown[:-1][mask], episode.obs[mask], atol=1e-5)
    np.testing.assert_allclose(shown[1:][mask], episode.next_obs[mask], atol=1e-5)


@pytest.mark.parametrize(
    ("name", "method", "titles"),
    [
        ("point-nav", "maml", ["before adaptation", "after 1 adaptation step"]),
        ("two-step", "rl2", ["episode 1", "episode 4"]),
    ],
)
def test_an_animation_is_of_episodes_before_and_after(name, method, titles, tmp_path):
    more = {"horizon": 6} if method == "maml" else {"num_minibatches": 1, "size": 3}
    if method == "rl2":
        more["hidden_sizes"] = ()
    experiment = make(name, method, **more)
    agent = jax.jit(experiment.algorithm.init)(KEY).agent
    films = film(KEY, experiment, agent, Evaluation(2, 2, 1))
    assert [[shot.title for shot in row] for row in films] == [titles, titles]
    path = moving.write(moving.animate(films, experiment.tasks.env), tmp_path / "a.gif")
    with Image.open(path) as picture:
        assert picture.is_animated
        frames = []
        for i in range(picture.n_frames):
            picture.seek(i)
            frames.append(np.asarray(picture.convert("RGB"), float))
    steps = max(shot.num_steps for row in films for shot in row)
    assert len(frames) >= steps + 1 - 1  # equal ones at the end are one
    # Something moves in every panel.
    change = np.max([np.abs(f - frames[0]) for f in frames], axis=(0, 3))
    height, width = (n // 2 for n in change.shape)
    for rows in (slice(None, height), slice(height, None)):
        for columns in (slice(None, width), slice(width, None)):
            assert (change[rows, columns] > 60).sum() > 30


# Drawn as another world is, whose environment it shares.
ALIKE = {"correlated-bandit", "gaussian-bandit", "informative-bandit", "half-circle"}
ALIKE |= {"half-cheetah-direction", "walker-parameters", "hopper-parameters"}


@pytest.mark.parametrize("name", sorted(set(catalogue.entries("worlds")) - ALIKE))
def test_every_world_can_be_drawn(name):
    """Its drawing finds what it reads in states and tasks; nothing is stepped."""
    try:
        tasks = choice.Choice(name, None, None).named().load().world.tasks()
    except ValueError as error:
        pytest.skip(str(error))  # an extra that is not installed
    if isinstance(tasks.env, HostEnvironment):
        pytest.skip("the states of a simulator on the host cannot be had again")
    task = tasks.sample(KEY)
    obs, state = tasks.reset(KEY, task)
    action = jnp.zeros((3, *np.shape(tasks.action_space.sample(KEY))), int)
    stack = lambda tree, n: jax.tree.map(lambda x: np.stack([x] * n), tree)  # noqa: E731
    numbers, yes = np.arange(3.0), np.ones(3, bool)
    seen = stack(obs, 3)
    episode = Trajectory(seen, action, numbers, numbers, seen, ~yes, ~yes, yes)
    shot = Film("before", task, episode, stack(state, 4))
    assert moving.drawing(tasks.env, [shot]) is not moving.gains
    animation = begun(moving.animate([[shot, shot]], tasks.env))
    assert len(list(animation.new_frame_seq())) == 5  # the last one stays
    for i in range(4):
        animation._func(i)  # pyright: ignore
    titles = [axes.get_title(loc="left") for axes in animation._fig.axes]
    assert titles.count("before\nstep 3, return 3.00") == 2


def test_any_other_world_is_drawn_by_its_return():
    class Unknown:
        name = "unknown"

    numbers, yes = np.array([1.0, -2.0, 4.0]), np.ones(3, bool)
    episode = Trajectory(*(numbers,) * 5, ~yes, ~yes, yes)
    film = Film("before", None, episode, None)
    animation = begun(moving.animate([[film]], Unknown()))
    animation._func(2)  # pyright: ignore
    (axes,) = animation._fig.axes
    assert axes.lines[0].get_ydata().tolist() == [0.0, 1.0, -1.0]
    assert axes.get_ylabel() == "return so far"


def test_a_file_that_no_writer_has_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"end in .gif or .mp4; got x.webm"):
        animate_run("nowhere", "x.webm")
    monkeypatch.setattr(
        moving.FFMpegWriter, "isAvailable", classmethod(lambda _: False)
    )
    with pytest.raises(ValueError, match="needs ffmpeg"):
        animate_run("nowhere", "x.mp4")


def test_a_run_is_animated_and_the_report_shows_it(tmp_path):
    run = tmp_path / "run"
    experiment = make("grid-navigation", "maml", horizon=3)
    metarl_jax.train(experiment, output_dir=run, quiet=True)
    assert main(["animate", str(run), "--num-tasks", "1"]) == 0
    assert main(["report", str(run)]) == 0
    assert "data:image/gif;base64," in (run / "report.html").read_text()
    assert main(["animate", str(run), "--output", str(run / "a.txt")]) == 2
