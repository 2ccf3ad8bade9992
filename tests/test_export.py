"""What is exported acts and adapts as the agent itself does."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import gymnasium
import gymnasium.spaces as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces as gymnax_spaces

import metarl_jax
from metarl_jax import evaluation, spaces
from metarl_jax.algorithms.maml import maml
from metarl_jax.cli import main
from metarl_jax.distributions import Categorical, DiagGaussian, TanhDiagGaussian
from metarl_jax.envs import classic_control
from metarl_jax.envs.grid_navigation import grid_navigation
from metarl_jax.envs.gymnasium_family import gymnasium_family
from metarl_jax.envs.point_navigation import point_navigation
from metarl_jax.export import arrays, describing, networks, standalone
from metarl_jax.policies.belief import belief_policy
from metarl_jax.policies.cnn import CNN
from metarl_jax.policies.context import ContextPolicy
from metarl_jax.policies.hypernetwork import hypernetwork_policy
from metarl_jax.policies.latent import LatentPolicy
from metarl_jax.policies.linear_recurrent import LinearRecurrent
from metarl_jax.policies.memory import MemoryPolicy, memory_policy
from metarl_jax.policies.mlp import MLPPolicy, mlp_policy
from metarl_jax.policies.recurrent import GRU, LSTM
from metarl_jax.policies.transformer import Transformer
from metarl_jax.runs import evaluation as measuring
from metarl_jax.runs import files
from metarl_jax.training import Evaluation, Experiment, Trained
from metarl_jax.types import Agent, MetaAlgorithm

PAGE = Path(__file__).parent.parent / "docs" / "export.md"
PLANE, GRID = point_navigation(horizon=4), grid_navigation(size=3, horizon=4)
ONNX = all(map(importlib.util.find_spec, ("jax2onnx", "onnxruntime")))
FORMS = standalone.FORMS if ONNX else standalone.FORMS[:2]
NUM_OBSERVATIONS = 1000
KEY = jax.random.key(0)

POLICIES: dict[str, Any] = {
    "Gaussian": (PLANE, mlp_policy(PLANE, hidden_sizes=(4, 3), activation=nn.tanh)),
    "squashed": (PLANE, mlp_policy(PLANE, hidden_sizes=(4,), squashed=True)),
    "categorical": (GRID, mlp_policy(GRID, hidden_sizes=(4,), activation=nn.elu)),
    "GRU": (GRID, memory_policy(GRID, GRU(4), time_scale=8.0)),
    "LSTM": (PLANE, memory_policy(PLANE, LSTM(3), whole_transitions=True)),
    "linear": (PLANE, memory_policy(PLANE, LinearRecurrent(8, 3, 2))),
    # Its slots are used a second time within a trial.
    "transformer": (GRID, memory_policy(GRID, Transformer(8, 2, 2, context=3))),
    "hypernetwork": (PLANE, hypernetwork_policy(PLANE, GRU(3), hidden_sizes=(3,))),
    "context": (PLANE, ContextPolicy(mlp_policy(PLANE, hidden_sizes=(3,)), 2)),
    "latent": (PLANE, LatentPolicy(mlp_policy(PLANE, hidden_sizes=(3,)), 2)),
    "belief": (GRID, belief_policy(GRID, mlp_policy(GRID), GRU(3), latent_size=2)),
}


class Learned(NamedTuple):
    agent: Agent


def run_of(tasks, policy, agent):
    """What training would have returned."""
    adapt: Any = lambda key, agent, trajectories: agent  # noqa: E731
    algorithm = MetaAlgorithm(None, None, adapt, policy)  # type: ignore
    experiment = Experiment(tasks, algorithm, 1, Evaluation(2, 2, 1))
    return Trained(None, Learned(agent), 1, True, experiment)


def perturbed(tree, scale, seed=0):
    """Moves every number, so that none of them can be left out unnoticed."""
    rng = np.random.default_rng(seed)

    def move(leaf):
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            return leaf
        noise = rng.standard_normal(leaf.shape)
        if jnp.iscomplexobj(leaf):
            noise = noise + 1j * rng.standard_normal(leaf.shape)
        return leaf + jnp.asarray(scale * noise, leaf.dtype)

    return jax.tree.map(move, tree)


@pytest.fixture(scope="module", params=POLICIES)
def exported(request, tmp_path_factory):
    """A run, and the directory of what was exported of it."""
    tasks, policy = POLICIES[request.param]
    memory = policy.initial_memory()
    obs = jnp.zeros(tasks.observation.shape)
    params = jax.jit(policy.init)(jax.random.key(0), memory, obs)
    if request.param == "latent":  # a belief so narrow that its samples are its mean
        memory = memory._replace(precision=jnp.full(2, 1e14), shift=jnp.ones(2) * 1e14)
    run = run_of(tasks, policy, Agent(perturbed(params, 0.3), memory))
    directory = tmp_path_factory.mktemp(request.param)
    return run, metarl_jax.export_policy(run, directory, formats=FORMS)


def test_every_form_is_the_policy(exported):
    """Distributions and memories, for observations and memories at random."""
    run, directory = exported
    policy, agent = run.policy, run.agent
    batch = jax.tree.map(
        lambda leaf: jnp.stack([leaf] * NUM_OBSERVATIONS), agent.memory
    )
    batch = perturbed(batch, 0.5)
    if hasattr(batch, "precision"):
        batch = batch._replace(precision=jnp.abs(batch.precision))
    rng = np.random.default_rng(1)
    obs = rng.standard_normal(
        (NUM_OBSERVATIONS, *run.experiment.tasks.observation.shape)
    )
    obs = obs.astype(np.float32)
    distribution, _, after = jax.jit(jax.vmap(policy.apply, in_axes=(None, 0, 0)))(
        agent.params, batch, obs
    )
    expected = {**describing.outputs(distribution), **arrays.named(after)}
    assert all(np.std(x) > 0 for x in describing.outputs(distribution).values())
    for form in FORMS:
        loaded = metarl_jax.load_exported(directory, form)
        memory = {name: np.asarray(x) for name, x in arrays.named(batch).items()}
        outputs, new = loaded.forward(loaded.weights, memory, obs)
        found = {**outputs, **new}
        assert set(found) == set(expected)
        for name, array in expected.items():
            np.testing.assert_allclose(
                found[name], array, rtol=1e-5, atol=1e-5, err_msg=f"{form}, {name}"
            )


def trial(start, act, observe, observations):
    """Acts greedily through two episodes; rewards and ends follow from the step."""
    actor, actions = start, []
    for t, obs in enumerate(observations[:-1]):
        action, actor = act(actor, obs, greedy=True)
        actions.append(action)
        ended = {"terminated": t == 2, "truncated": t == 6}
        actor = observe(actor, 0.3 * t - 1, observations[t + 1], **ended)
    return actions, actor


def observations_of(tasks, number=8):
    space = spaces.to_gymnasium(tasks.env.observation_space(tasks.sample(KEY)))
    space.seed(0)
    return [space.sample() for _ in range(number)]


def test_a_trial_is_that_of_the_agent(exported):
    """Episode ends, last rewards and actions reach the memory as they do in acting."""
    run, directory = exported
    observations = observations_of(run.experiment.tasks)
    expected, actor = trial(
        metarl_jax.start(run), metarl_jax.act, metarl_jax.observe, observations
    )
    remembered = arrays.named(actor.agent.memory)
    for form in FORMS:
        begun = standalone.start(standalone.load(directory, form))
        actions, end = trial(begun, standalone.act, standalone.observe, observations)
        for action, like in zip(actions, expected, strict=True):
            assert action.dtype == like.dtype
            np.testing.assert_allclose(action, like, atol=1e-5)
        assert set(end.memory) == set(remembered)
        for name, array in remembered.items():
            np.testing.assert_allclose(end.memory[name], array, rtol=1e-5, atol=1e-5)


WITHOUT_JAX = """
import json, sys
for name in ("jax", "flax", "metarl_jax", "gymnax", "gymnasium", "scipy"):
    sys.modules[name] = None  # importing it fails
sys.path.insert(0, {directory!r})
import numpy as np
import policy
try:
    import jax
except ImportError:
    actor, actions = policy.start(policy.load()), []
    observations = [np.asarray(obs, np.float32) for obs in json.load(sys.stdin)]
    for t, obs in enumerate(observations[:-1]):
        action, actor = policy.act(actor, obs, greedy=True)
        actions.append(action.tolist())
        ended = dict(terminated=t == 2, truncated=t == 6)
        actor = policy.observe(actor, 0.3 * t - 1, observations[t + 1], **ended)
    print(json.dumps(actions))
"""


@pytest.mark.parametrize("exported", ["Gaussian", "linear"], indirect=True)
def test_the_files_alone_act_where_there_is_no_jax(exported):
    run, directory = exported
    observations = observations_of(run.experiment.tasks)
    expected, _ = trial(
        metarl_jax.start(run), metarl_jax.act, metarl_jax.observe, observations
    )
    result = subprocess.run(
        [sys.executable, "-I", "-c", WITHOUT_JAX.format(directory=str(directory))],
        input=json.dumps([obs.tolist() for obs in observations]),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(json.loads(result.stdout), expected, atol=1e-5)


GYMNASIUM_WITHOUT_JAX = """
import json, sys
for name in ("jax", "flax", "metarl_jax", "gymnax"):
    sys.modules[name] = None
sys.path.insert(0, {directory!r})
import gymnasium, policy
"""

PENDULUM = """
def swing(env, actor, act, observe):
    actions = []
    for episode in range(2):
        obs, _ = env.reset(seed=episode)
        for t in range(15):
            action, actor = act(actor, obs, greedy=True)
            assert action.dtype == env.action_space.dtype and action in env.action_space
            obs, reward, terminated, truncated, _ = env.step(action)
            ends = dict(terminated=terminated, truncated=truncated or t == 14)
            actor = observe(actor, reward, obs, **ends)
            actions.append(action.tolist())
    return actions
"""


def test_a_gymnasium_environment_is_run_by_the_files_alone(tmp_path):
    def make():
        return gymnasium.make("Pendulum-v1")

    tasks = gymnasium_family(make, lambda key: jnp.zeros(()), horizon=15)
    policy = memory_policy(tasks, GRU(4))
    memory = policy.initial_memory()
    params = jax.jit(policy.init)(KEY, memory, jnp.zeros(3))
    # Beyond its bounds too, so that it matters that they are kept.
    run = run_of(tasks, policy, Agent(perturbed(params, 2.0), memory))
    metarl_jax.export_policy(run, tmp_path, formats=["numpy"])
    namespace: dict[str, Any] = {}
    exec(PENDULUM, namespace)
    expected = namespace["swing"](
        make(), metarl_jax.start(run), metarl_jax.act, metarl_jax.observe
    )
    assert np.max(np.abs(expected)) == 2.0
    code = GYMNASIUM_WITHOUT_JAX.format(directory=str(tmp_path)) + PENDULUM
    code += "actor = policy.start(policy.load())\nenv = gymnasium.make('Pendulum-v1')\n"
    code += "print(json.dumps(swing(env, actor, policy.act, policy.observe)))"
    command = [sys.executable, "-I", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(json.loads(result.stdout), expected, atol=1e-3)


@pytest.mark.parametrize("exported", ["GRU"], indirect=True)
def test_the_file_of_weights_is_safetensors(exported):
    read = pytest.importorskip("safetensors.numpy").load_file
    run, directory = exported
    found = read(directory / standalone.WEIGHTS)
    expected = arrays.named(run.agent)
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize(
    ("library", "base", "convert"),
    [
        ("torch", "torch.nn.Module", "from_numpy"),
        ("tensorflow", "tf.Module", "constant"),
    ],
)
@pytest.mark.parametrize("exported", ["Gaussian", "categorical", "GRU"], indirect=True)
def test_the_page_s_modules_are_the_policy(exported, library, base, convert):
    convert = getattr(pytest.importorskip(library), convert)
    pytest.importorskip("safetensors")
    run, directory = exported
    (code,) = [
        block
        for block in re.findall(
            r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S
        )
        if base in block
    ]
    namespace: dict[str, Any] = {}
    exec(code, namespace)
    module = namespace["ExportedPolicy"](directory)
    loaded = metarl_jax.load_exported(directory, "numpy")
    rng = np.random.default_rng(0)
    obs = rng.standard_normal(
        (NUM_OBSERVATIONS, *run.experiment.tasks.observation.shape)
    )
    obs = obs.astype(np.float32)
    memory = {
        name: np.stack([loaded.weights[f"memory.{name}"]] * NUM_OBSERVATIONS)
        for name in loaded.header["memory"]
    }
    if "state" in memory:
        memory["state"] = rng.standard_normal(memory["state"].shape).astype(np.float32)
    expected, after = loaded.forward(loaded.weights, memory, obs)
    held = {name: convert(array) for name, array in memory.items()}
    outputs, new = module(convert(obs), held)
    assert outputs.keys() == expected.keys()
    for name, array in outputs.items():
        found = array.numpy(force=True) if library == "torch" else array.numpy()
        np.testing.assert_allclose(found, expected[name], atol=1e-5)
    if "state" in memory:
        state = new["state"]
        found = state.numpy(force=True) if library == "torch" else state.numpy()
        np.testing.assert_allclose(found, after["state"], atol=1e-5)

    def forward(weights, memory, obs):
        del weights
        held = {name: convert(np.array(x)) for name, x in memory.items()}
        return module(convert(np.array(obs, np.float32)), held)

    # A whole trial: what it makes of the memory comes back to it.
    begun = standalone.start(loaded._replace(forward=forward))
    observations = observations_of(run.experiment.tasks)
    act, observe = standalone.act, standalone.observe
    actions, end = trial(begun, act, observe, observations)
    likewise, ours = trial(standalone.start(loaded), act, observe, observations)
    np.testing.assert_allclose(actions, likewise, atol=1e-5)
    for name, array in ours.memory.items():
        np.testing.assert_allclose(np.asarray(end.memory[name]), array, atol=1e-5)


IN_GYMNASIUM = """if True:
    import sys
    sys.modules["jax"] = sys.modules["metarl_jax"] = None  # importing them fails
    import json
    import gymnasium as gym
    sys.path.insert(0, {directory!r})
    import policy
    env, actor = gym.make("CartPole-v1"), policy.start(policy.load(), seed=0)
    actions, seen = [], []
    for seed in range(2):
        (obs, _), done = env.reset(seed=seed), False
        while not done:
            seen.append(obs.tolist())
            action, actor = policy.act(actor, obs, greedy=True)
            actions.append(int(action))
            obs, reward, terminated, truncated, _ = env.step(action)
            done = terminated or truncated
            actor = policy.observe(actor, reward, obs, terminated=terminated,
                                   truncated=truncated)
    print(json.dumps([actions, seen]))
"""


def test_a_gymnasium_environment_is_acted_in_from_the_file_alone(tmp_path):
    tasks = classic_control.cartpole()
    policy = mlp_policy(tasks, hidden_sizes=())
    # To where the pole falls, which balances it for a while.
    kernel = jnp.array([[0.0, 0.0], [0.0, 0.0], [-1.0, 1.0], [-0.3, 0.3]])
    params = {"params": {"logits": {"kernel": kernel, "bias": jnp.zeros(2)}}}
    run = run_of(tasks, policy, Agent(params, ()))
    metarl_jax.export_policy(run, tmp_path, formats=["numpy"])
    code = IN_GYMNASIUM.format(directory=str(tmp_path))
    command = [sys.executable, "-W", "ignore", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    actions, seen = map(np.array, json.loads(result.stdout))
    assert len(actions) > 100  # two episodes of not falling over
    distribution, _, _ = policy.apply(run.agent.params, (), jnp.asarray(seen))
    np.testing.assert_array_equal(actions, distribution.mode())
    assert set(actions.tolist()) == {0, 1}


# Observations, distributions, actions.


@pytest.mark.parametrize(
    "space",
    [
        gym.Box(-2, 2, (3,)),
        gym.Box(0, 255, (2, 2), np.uint8),
        gym.Box(0, 9, (2,), np.uint8),
        gym.Box(-5, 5, (2,), np.int32),
        gym.Discrete(4, start=-1),
        gym.MultiDiscrete([2, 3], start=[1, 0]),
        gym.MultiBinary(3),
        gym.Dict({"b": gym.Discrete(2), "a": gym.Tuple([gym.Box(0, 1, (2, 2))])}),
        gymnax_spaces.Discrete(3),
        gymnax_spaces.Box(-1, 1, (2,)),
    ],
    ids=str,
)
def test_observations_are_encoded_as_the_policy_sees_them(space):
    tasks = PLANE._replace(
        env=type("Env", (), {"observation_space": lambda self, task: space})(),
        encode=spaces.encoder(space),
    )
    drawn = spaces.to_gymnasium(space)
    described = describing.encoding(tasks, None)
    assert described["kind"] != "encoded"
    for _ in range(30):
        obs = drawn.sample()
        seen = spaces.encoder(space)(jax.tree.map(jnp.asarray, obs))
        found = standalone.encode(files.jsonable(described), obs)
        np.testing.assert_allclose(found, seen, rtol=1e-6)


def test_an_encoding_of_the_family_s_own_is_left_to_the_user():
    tasks = PLANE._replace(encode=lambda obs: 2 * obs)
    assert describing.encoding(tasks, tasks.sample(KEY)) == {"kind": "encoded"}


@pytest.mark.parametrize(
    "distribution",
    [
        Categorical(jnp.array([0.0, 1.0, -2.0])),
        DiagGaussian(jnp.array([1.0, -2.0]), jnp.array([-1.0, 0.5])),
        TanhDiagGaussian(*jnp.array([[0.3, -0.2], [-1.0, 0.1], [-1, 0], [2, 3.0]])),
    ],
    ids=lambda found: type(found).__name__,
)
def test_actions_are_drawn_from_the_distribution(distribution):
    """Against as many draws of the distribution's own, by their moments."""
    num = 20_000
    described = describing.distribution(distribution)
    outputs = {
        name: np.broadcast_to(x, (num, *x.shape))
        for name, x in describing.outputs(distribution).items()
    }
    rng = np.random.default_rng(0)
    found = np.asarray(standalone.draw(described, outputs, rng), float)
    keys = jax.random.split(KEY, num)
    expected = np.asarray(jax.vmap(distribution.sample)(keys), float)
    error = 5 * np.std(expected, axis=0) * np.sqrt(2 / num)
    for power in (1, 2):
        moments = [np.mean(x**power, axis=0) for x in (found, expected)]
        assert np.all(np.abs(np.subtract(*moments)) < 3 * power * error)
    single = {name: x[0] for name, x in outputs.items()}
    greedy = standalone.draw(described, single, None)
    np.testing.assert_allclose(greedy, distribution.mode(), atol=1e-6)


@pytest.mark.parametrize(
    "space",
    [
        gym.Discrete(3, start=2),
        gym.Box(np.array([-1, -np.inf]), np.array([np.inf, 0.1]), dtype=np.float64),
        gym.Box(-1, 2, (2,), np.int8),
        gymnax_spaces.Box(-0.1, 0.1, (2,)),
    ],
    ids=str,
)
def test_actions_are_those_that_the_environment_is_given(space):
    described = files.jsonable(describing.action_space(space))
    rng = np.random.default_rng(0)
    for scale in (0.1, 3.0, 1e6):
        drawn: Any = (scale * rng.standard_normal(2)).astype(np.float32)
        if isinstance(space, gym.Discrete):
            drawn = np.int64(rng.integers(3))
        found, expected = standalone.given(described, drawn), spaces.given(space, drawn)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


# Adaptation.


def test_an_agent_adapts_to_the_task_that_evaluate_meets(tmp_path):
    """Its actions in the last round of an evaluation are those of the exported."""
    # More steps than features, or the baseline leaves rounding errors to learn from.
    tasks = point_navigation(horizon=3)
    policy = mlp_policy(tasks, hidden_sizes=(3,))
    algorithm = maml(tasks, policy, num_tasks=2, num_episodes=2)
    params = jax.jit(policy.init)(KEY, (), jnp.zeros(2))
    agent = Agent(params, (), jax.jit(algorithm.init)(KEY).agent.inner_state)
    experiment = Experiment(tasks, algorithm, 1, Evaluation(3, 8, 1))
    run = Trained(None, Learned(agent), 1, True, experiment)
    # As evaluate does it, of the third task.
    (key,) = measuring.evaluation_keys(7, 0, 1)
    settings = experiment.evaluation._asdict()
    _, episodes = jax.jit(
        lambda key: evaluation.adaptation_trajectories(
            key, tasks, policy, algorithm.adapt, agent, **settings
        )
    )(key)
    before, after = (jax.tree.map(lambda x, k=k: x[2, k], episodes) for k in (0, 1))

    def log_probs(policy, data):
        obs, action = (x.reshape(-1, 2) for x in (data.obs, data.action))
        outputs, _ = policy.forward(policy.weights, {}, obs)
        z = (action - outputs["mean"]) / np.exp(outputs["log_std"])
        terms = -0.5 * z**2 - outputs["log_std"] - 0.5 * np.log(2 * np.pi)
        return terms.sum(axis=-1).reshape(data.log_prob.shape)

    adapted = metarl_jax.load_exported(
        metarl_jax.export_policy(
            run, tmp_path / "k1", task=2, num_adaptation_steps=1, seed=7
        )
    )
    assert adapted.header["task"] == {"number": 2, "seed": 7}
    np.testing.assert_allclose(log_probs(adapted, after), after.log_prob, atol=1e-4)
    assert np.max(np.abs(log_probs(adapted, before) - before.log_prob)) > 1e-3
    # And by the exported rule, from the meta-learned start and the data.
    start = metarl_jax.load_exported(metarl_jax.export_policy(run, tmp_path / "k0"))
    np.testing.assert_allclose(log_probs(start, before), before.log_prob, atol=1e-5)
    rule = start.header["adaptation"]["trajectories"]
    assert rule["obs"] == ["float32", [8, 3, 2]]
    again = standalone.adapt(start, before._asdict())
    np.testing.assert_allclose(log_probs(again, after), after.log_prob, atol=1e-4)


# What cannot be exported, or loaded.


class Own(nn.Module):
    """A policy of one's own."""

    @nn.compact
    def __call__(self, memory, obs):
        """Acts."""
        return Categorical(nn.Dense(5)(obs)), 0.0, memory

    def initial_memory(self):
        """Nothing."""
        return ()


def test_a_policy_of_one_s_own_is_held_by_stablehlo(tmp_path):
    policy = Own()
    params = jax.jit(policy.init)(KEY, (), jnp.zeros(9))
    run = run_of(GRID, policy, Agent(params))
    directory = metarl_jax.export_policy(run, tmp_path, formats=["stablehlo"])
    assert not (directory / standalone.ADAPTATION).exists()  # nothing would adapt
    action, actor = standalone.act(standalone.load(directory), np.zeros(9))
    assert 0 <= action < 5
    with pytest.raises(ValueError, match="observe must tell"):
        standalone.act(actor, np.zeros(2))
    with pytest.raises(ValueError, match="exported without a rule"):
        standalone.adapt(actor.policy, {})
    with pytest.raises(ValueError, match="Own, which stablehlo can hold"):
        metarl_jax.export_policy(run, tmp_path, formats=["numpy"])


@pytest.mark.parametrize("side", [4, 5])
@pytest.mark.parametrize("kind", ["mlp", "GRU"])
def test_images_are_convolved_as_the_policy_does(side, kind):
    cnn = CNN(channels=(2, 3), size=4)
    policy: Any = MLPPolicy(num_actions=2, encoder=cnn, obs_rank=3)
    if kind == "GRU":
        head = MLPPolicy(num_actions=2, hidden_sizes=())
        policy = MemoryPolicy(GRU(3), head, None, cnn)
    rng, memory = np.random.default_rng(0), policy.initial_memory()
    obs = rng.standard_normal((side, side, 2)).astype(np.float32)
    params = perturbed(jax.jit(policy.init)(KEY, memory, jnp.asarray(obs)), 0.3)
    expected = jax.jit(policy.apply)(params, memory, obs)[0].logits
    network = describing.network(policy, jax.ShapeDtypeStruct(obs.shape, obs.dtype))
    agent = jax.device_get(arrays.named(Agent(params, memory)))
    held = {name: x[None] for name, x in arrays.named(memory).items()}
    found, _ = networks.forward(network, agent, held, obs[None])
    np.testing.assert_allclose(found["logits"][0], expected, rtol=1e-5, atol=1e-5)


def test_what_is_joined_to_images_is_held_by_stablehlo_alone():
    seen = jax.ShapeDtypeStruct((4, 4, 1), jnp.float32)
    policy = ContextPolicy(MLPPolicy(num_actions=2, encoder=CNN(), obs_rank=3), 2)
    with pytest.raises(ValueError, match="vectors; got the shape"):
        describing.network(policy, seen)


@pytest.mark.parametrize("exported", ["Gaussian"], indirect=True)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"formats": ["torch"]}, "formats must be some of numpy, stablehlo, onnx"),
        ({"formats": "numpy"}, "formats must be some of"),
        ({"platforms": ["gpu"]}, "platforms must be some of cpu, cuda"),
        ({"num_adaptation_steps": -1}, "num_adaptation_steps"),
        ({"num_episodes": 0}, "num_episodes"),
        ({"task": -1}, "task"),
        ({"agent": Agent(()), "num_adaptation_steps": 1}, "exported as it is"),
    ],
    ids=str,
)
def test_a_wrong_argument_is_refused(exported, options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        metarl_jax.export_policy(exported[0], tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("exported", ["Gaussian"], indirect=True)
def test_what_is_missing_is_named(exported, tmp_path, monkeypatch):
    run, directory = exported
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r'pip install "metarl-jax\[onnx\]"'):
        metarl_jax.export_policy(run, tmp_path, formats=["onnx"])
    with pytest.raises(ValueError, match=r"holds no policy\.json"):
        metarl_jax.load_exported(tmp_path)
    with pytest.raises(ValueError, match="form must be one of numpy"):
        metarl_jax.load_exported(directory, "keras")
    loaded = metarl_jax.load_exported(directory)
    for obs, words in [(np.zeros(3), "shape"), ([np.nan, 0], "finite"), ("a", "space")]:
        with pytest.raises(ValueError, match=words):
            standalone.act(loaded, obs)
    with pytest.raises(ValueError, match="act must come before"):
        standalone.observe(standalone.start(loaded), 0.0, np.zeros(2))


def test_the_command_exports_a_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    experiment = metarl_jax.make_experiment(
        *("bandit",),
        **{"num_tasks": 2, "num_episodes": 2, "num_steps": 1, "hidden_sizes": (3,)},
        outer_optimizer="adam",
    )
    metarl_jax.train(experiment, num_seeds=2, output_dir="run", quiet=True)
    words = ["--run-seed", "1", "--adapt-steps", "1", "--formats", "numpy"]
    assert main(["export", "run", *words]) == 0
    assert "weights.safetensors" in capsys.readouterr().out
    header = json.loads((tmp_path / "run/export/policy.json").read_text())
    assert header["seed"] == 1
    assert header["adaptation_steps"] == 1
    assert header["forms"] == ["numpy"]
    assert main(["export", "run", "--formats", "pickle"]) == 2
    assert "formats must be some of" in capsys.readouterr().err
    # A run may be a stranger's: nothing is written through a link in it.
    shutil.rmtree("run/export")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run" / "export").symlink_to(tmp_path / "elsewhere")
    assert main(["export", "run", "--formats", "numpy"]) == 2
    assert "is a link" in capsys.readouterr().err
    assert not list((tmp_path / "elsewhere").iterdir())
