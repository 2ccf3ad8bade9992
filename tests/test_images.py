"""Observations that are images: what networks make of them, in every method."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnax.environments import environment, spaces
from scipy.signal import correlate

from metarl_jax.algorithms.cavia import cavia
from metarl_jax.algorithms.maml import maml
from metarl_jax.algorithms.pearl import pearl
from metarl_jax.algorithms.rl2 import rl2
from metarl_jax.algorithms.varibad import varibad
from metarl_jax.envs.conditioned import task_conditioned
from metarl_jax.envs.gymnax_family import gymnax_family
from metarl_jax.policies.cnn import CNN
from metarl_jax.policies.decoders import transition_decoder
from metarl_jax.policies.hypernetwork import hypernetwork_policy
from metarl_jax.policies.memory import memory_policy
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.policies.recurrent import GRU
from metarl_jax.spaces import join
from metarl_jax.types import Trajectory

SIDE = 6


@struct.dataclass
class State(environment.EnvState):
    cell: jax.Array
    time: int


@struct.dataclass
class Params(environment.EnvParams):
    goal: int = 0
    max_steps_in_episode: int = 4


class Corridor(environment.Environment[State, Params]):
    """A white column in a black image; it walks, and one end of the image pays."""

    @property
    def default_params(self):
        return Params()

    @property
    def name(self):
        return "Corridor"

    def _image(self, state):
        columns = jax.nn.one_hot(state.cell, SIDE, dtype=jnp.uint8)
        return jnp.broadcast_to(255 * columns[None, :, None], (SIDE, SIDE, 1))

    def reset_env(self, key, params):
        state = State(cell=jax.random.randint(key, (), 1, SIDE - 1), time=0)
        return self._image(state), state

    def step_env(self, key, state, action, params):
        cell = jnp.clip(state.cell + 2 * action - 1, 0, SIDE - 1)
        state = State(cell=cell, time=state.time + 1)
        reward = jnp.where(cell == params.goal, 1.0, 0.0)
        return self._image(state), state, reward, jnp.asarray(False), {}

    def action_space(self, params=None):
        return spaces.Discrete(2)

    def observation_space(self, params):
        return spaces.Box(0, 255, (SIDE, SIDE, 1), jnp.uint8)


@pytest.fixture(scope="module")
def tasks():
    def sample(key):
        goal = jnp.where(jax.random.bernoulli(key), 0, SIDE - 1)
        return Params(goal=goal)

    return gymnax_family(Corridor(), sample)


class Sizes(NamedTuple):
    num_tasks: int = 2
    num_episodes: int = 2


ALGORITHMS = {
    "maml": lambda tasks: maml(tasks, mlp_policy(tasks, hidden_sizes=(4,)), **SIZES),
    "cavia": lambda tasks: cavia(tasks, mlp_policy(tasks), context_size=3, **SIZES),
    "rl2": lambda tasks: rl2(
        tasks, memory_policy(tasks, GRU(4)), num_minibatches=1, **SIZES
    ),
    "rl2, hypernetwork": lambda tasks: rl2(
        tasks, hypernetwork_policy(tasks, GRU(4)), num_minibatches=1, **SIZES
    ),
    "varibad": lambda tasks: varibad(
        tasks, mlp_policy(tasks, value_head=True), core=GRU(4), latent_size=3, **SIZES
    ),
    "varibad, critic": lambda tasks: varibad(
        tasks,
        mlp_policy(tasks),
        critic=mlp_policy(tasks, value_head=True),
        core=GRU(4),
        latent_size=3,
        **SIZES,
    ),
    "pearl": lambda tasks: pearl(
        tasks,
        mlp_policy(tasks),
        num_train_tasks=3,
        num_updates=1,
        num_initial_episodes=2,
        latent_size=3,
        hidden_sizes=(4,),
        encoder_hidden_sizes=(4,),
        **SIZES,
    ),
}
SIZES = Sizes()._asdict()


def kernels(params):
    """The first convolution of each network, by its place."""
    return {
        jax.tree_util.keystr(path): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if "conv_0" in jax.tree_util.keystr(path) and leaf.ndim == 4
    }


# Channels of an image: its own, and what is joined: a context of 3; z of 3; (a, r) of
# 2 + 1, and the next image; a belief of 2 × 3; (a, r) of 2 + 1 beside s'; the action
# and the next image; the time of trial and episode.
CHANNELS = {
    "maml": [1],
    "cavia": [1 + 3],
    "rl2": [1],
    "rl2, hypernetwork": [1],
    "varibad": [1 + 3, 1 + 6, 1 + 2 + 1],
    "varibad, critic": [1 + 3, 1 + 6, 1 + 6 + 2, 1 + 2 + 1],
    "pearl": [1 + 3, 1 + 3 + 1, 1 + 3, 1 + 3],
}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_network_of_an_image_begins_with_convolutions(tasks, name):
    algorithm = ALGORITHMS[name](tasks)
    state = jax.eval_shape(algorithm.init, jax.random.key(0))
    new_state, info = jax.eval_shape(algorithm.step, jax.random.key(1), state)
    assert jax.tree.map(jnp.shape, new_state) == jax.tree.map(jnp.shape, state)
    assert info.return_after.shape == ()
    learned = [state.agent.params]
    learned += [getattr(state, x) for x in ("critic", "decoder") if hasattr(state, x)]
    found = [shape[2] for part in learned for shape in kernels(part).values()]
    assert sorted(found) == sorted(CHANNELS[name])


def test_a_convolution_is_the_sum_over_its_window():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(5, 7, 2)).astype(np.float32)
    cnn = CNN(channels=(3,), size=4)
    params = cnn.init(jax.random.key(0), image)
    conv, last = params["params"]["conv_0"], params["params"]["features"]
    kernel, bias = np.asarray(conv["kernel"]), np.asarray(conv["bias"])
    # "SAME" with stride 2 pads odd sides by one pixel before and after.
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    hidden = np.stack(
        [
            correlate(padded, kernel[..., i], mode="valid")[::2, ::2, 0] + bias[i]
            for i in range(3)
        ],
        axis=-1,
    )
    hidden = np.maximum(hidden, 0).ravel()
    expected = np.maximum(hidden @ last["kernel"] + last["bias"], 0)
    np.testing.assert_allclose(cnn.apply(params, image), expected, rtol=1e-4, atol=1e-5)
    batch = np.stack([image, 2 * image])
    np.testing.assert_allclose(
        cnn.apply(params, batch)[0], cnn.apply(params, image), rtol=1e-5, atol=1e-6
    )


def test_what_is_joined_to_an_image_is_the_same_at_every_pixel():
    images = jnp.arange(2 * 3 * 4 * 1.0).reshape(2, 3, 4, 1)
    vectors = jnp.array([[5.0, 6.0], [7.0, 8.0]])
    joined = join(images, vectors)
    assert joined.shape == (2, 3, 4, 3)
    np.testing.assert_array_equal(joined[..., :1], images)
    for i in range(2):
        np.testing.assert_array_equal(
            joined[i, ..., 1:], np.broadcast_to(vectors[i], (3, 4, 2))
        )
    np.testing.assert_array_equal(join(images, vectors[0])[1, 2, 3, 1:], vectors[0])


def test_a_memory_acts_on_what_it_saw(tasks):
    policy = memory_policy(tasks, GRU(4), whole_transitions=True)
    algorithm = rl2(tasks, policy, num_minibatches=1, **SIZES)
    state = jax.jit(algorithm.init)(jax.random.key(0))
    agent, memory = state.agent, policy.initial_memory()
    images = jnp.zeros((2, SIDE, SIDE, 1)).at[1, :, 2].set(1.0)
    (here, _, seen), (there, _, also) = (
        policy.apply(agent.params, memory, x) for x in images
    )
    assert np.abs(here.logits - there.logits).max() > 1e-6
    # What the encoder made of each is an input of the next step.
    assert np.abs(seen.obs - also.obs).max() > 1e-6
    no, one = jnp.zeros(2, bool), jnp.ones(2)
    steps = Trajectory(images, jnp.arange(2), one, one, images, no, no, ~no)
    first = jax.tree.map(lambda x: x[0], steps)
    after, *_ = policy.apply(agent.params, policy.observe(seen, first), images[1])
    along, _ = policy.unroll(agent.params, memory, steps)
    np.testing.assert_allclose(along.logits[1], after.logits, rtol=1e-5, atol=1e-6)
    new_state, info = jax.jit(algorithm.step)(jax.random.key(1), state)
    assert not info.skipped
    moved = jax.tree.map(
        lambda x, y: float(jnp.abs(x - y).max()), agent.params, new_state.agent.params
    )
    assert moved["params"]["encoder"]["conv_0"]["kernel"] > 0


def test_images_are_flattened_where_no_encoder_is_wanted(tasks):
    policy = mlp_policy(tasks, encoder=None, hidden_sizes=(4,))
    params = jax.eval_shape(
        policy.init, jax.random.key(0), (), jnp.zeros((SIDE, SIDE, 1))
    )
    assert params["params"]["hidden_0"]["kernel"].shape == (SIDE * SIDE, 4)
    shown = task_conditioned(tasks)
    assert mlp_policy(shown).encoder is None
    assert shown.observation.ndim == 1


def test_next_images_are_not_predicted(tasks):
    with pytest.raises(ValueError, match=r"decode_state needs .*\(6, 6, 1\)"):
        transition_decoder(tasks, decode_state=True)
