"""Any Gymnasium environment as a task family, simulated on the host."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import gymnasium
import jax
import numpy as np

from metarl_jax import spaces
from metarl_jax.envs import checks
from metarl_jax.envs.envpool import Pools
from metarl_jax.envs.host import HostEnvironment, Outcome
from metarl_jax.promotion import standard_promotion
from metarl_jax.types import Key, Observation, Task, TaskDistribution
from metarl_jax.validation import check_choice, check_functions, check_positive, reason


@standard_promotion()
def gymnasium_family(
    make: Callable[[], gymnasium.Env],
    sample_task: Callable[[Key], Task],
    apply_task: Callable[[Any, Task], Any] | None = None,
    *,
    sample_heldout_task: Callable[[Key], Task] | None = None,
    horizon: int,
    reward: Callable[..., jax.Array] | None = None,
    ends: Callable[[Task, Observation], jax.Array] | None = None,
    info: Sequence[str] = (),
    oracles: Mapping[str, Callable[[Key, Task], jax.Array]] | None = None,
    optimal_action: Callable[[Task, Observation], jax.Array] | None = None,
    encode: Callable[[Observation], Observation] | None = None,
    vector: Literal["sync", "envpool"] = "sync",
) -> TaskDistribution:
    """Makes a task distribution of a Gymnasium environment and a sampler of tasks.

    All copies are stepped by one callback a time step inside the compiled program
    (`metarl_jax.envs.host`); there are as many as a batch asks for, made once.

    >>> import gymnasium
    >>> import jax
    >>> import metarl_jax
    >>> def sample_task(key):
    ...     return {"gravity": jax.random.uniform(key, minval=5.0, maxval=15.0)}
    >>> def apply_task(env, task):
    ...     env.unwrapped.g = float(task["gravity"])
    >>> tasks = metarl_jax.gymnasium_family(
    ...     lambda: gymnasium.make("Pendulum-v1"), sample_task, apply_task, horizon=200
    ... )
    >>> tasks.observation.shape
    (3,)
    >>> tasks.env.close()

    Args:
      make: makes a copy. Its `reset(seed=…)` must draw by the seed alone, or runs
        cannot be resumed bit for bit.
      sample_task: `(key) -> task`, pure: a pytree of arrays; meta-training tasks.
      apply_task: `(env, task)`, puts a task, as NumPy arrays, into a copy before every
        reset; None where the reward alone differs.
      sample_heldout_task: the same for meta-test tasks; None: `sample_task`.
      horizon: T, steps. A time limit of the environment's own counts too.
      reward: `(task, obs, action, next_obs, info) -> []`, jittable, instead of the
        environment's own; observations and the action are the environment's.
      ends: `(task, obs) -> []`, jittable: whether the episode is over besides, by the
        environment's observation after a step.
      info: the names of the numbers and arrays in a step's info that `reward` reads.
      oracles: as in `TaskDistribution`.
      optimal_action: as in `TaskDistribution`.
      encode: what a policy sees of an observation; None: one array of floats, by the
        observation space (`metarl_jax.spaces.encoder`).
      vector: `"sync"`, one copy after the other; `"envpool"`, all at once in C++, of an
        environment that the package has, where the reward alone differs between tasks.

    Returns:
      The family; `tasks.env.close()` closes the copies, as the end of the process does.

    Raises:
      ValueError: if the horizon is below 1, actions are of another space than a
        `Discrete` or a `Box`, an observation cannot be encoded or is not of its space,
        a task cannot be drawn, put into a copy or stepped once, an info is not there,
        the samplers draw without the key, or envpool is to step and is not installed,
        lacks the environment or would have to be given tasks.
    """
    check_positive(horizon=horizon)
    check_functions(make=make, sample_task=sample_task)
    optional = {"apply_task": apply_task, "reward": reward, "ends": ends}
    optional |= {"sample_heldout_task": sample_heldout_task, "encode": encode}
    optional |= {"optimal_action": optimal_action}
    check_functions(**{k: f for k, f in optional.items() if f is not None})

    def numbers(sample):
        @standard_promotion()
        def sample_numbers(key):
            return jax.tree.map(jax.numpy.asarray, sample(key))

        return sample_numbers

    sample = numbers(sample_task)
    sample_heldout = numbers(sample_heldout_task or sample_task)
    check_choice(("sync", "envpool"), vector=vector)
    if vector == "envpool" and apply_task is not None:
        raise ValueError(
            "apply_task must be None where envpool steps, whose copies are given no "
            "task; reward= computes what a task pays, of what info= names"
        )
    copies = Pools(make) if vector == "envpool" else Copies(make, apply_task)
    first = copies.first
    name = first.spec.id if first.spec else type(first.unwrapped).__name__
    try:
        if not spaces.is_box(first.action_space) and not spaces.num_choices(
            first.action_space
        ):
            raise ValueError(
                f"actions of {name} must be of a Discrete or a Box space; got "
                f"{first.action_space}"
            )
        encoder = spaces.encoder(first.observation_space, f"the observation of {name}")
        with jax.ensure_compile_time_eval():
            task = jax.tree.map(np.asarray, sample(jax.random.key(0)))
        outcome = copies.probe(task, info, name)
        env = HostEnvironment(
            copies,
            outcome=outcome,
            action_space=first.action_space,
            observation_space=first.observation_space,
            horizon=horizon,
            name=name,
            reward=reward,
            ends=ends,
        )
        obs, _ = checks.check_traced(env, sample, sample_heldout)
        encode = encode or encoder
        jax.eval_shape(encode, obs)
    except BaseException:
        copies.close()
        raise
    return TaskDistribution(
        env, sample, sample_heldout, horizon, oracles or {}, optimal_action, encode
    )


class Copies:
    """Copies of a Gymnasium environment, stepped one after the other.

    Args:
      make: makes one.
      apply_task: `(env, task)`, puts a task into it before a reset.
    """

    def __init__(
        self,
        make: Callable[[], gymnasium.Env],
        apply_task: Callable[[Any, Task], Any] | None,
    ):
        self.make, self._apply_task = make, apply_task
        self._envs: list[gymnasium.Env] = []
        self._info: Sequence[str] = ()
        self._outcome: Any = None

    @property
    def first(self) -> gymnasium.Env:
        """The first copy, which is made if there is none."""
        return self._copy(0)

    def probe(self, task: Task, info: Sequence[str], name: str) -> Outcome:
        """Takes one step of one task, and returns what a step gives, as shapes.

        Raises:
          ValueError: if that cannot be done.
        """
        try:
            self._begin(0, 0, task)
            action = self.first.action_space.sample()
            got = self.first.step(action)[4]
        except Exception as error:
            raise ValueError(
                f"{name} must be reset to a sampled task and take a step; got "
                f"{reason(error)}"
            ) from error
        missing = [key for key in info if key not in got]
        if missing:
            raise ValueError(
                f"info must name what a step of {name} tells, {sorted(got)}; got "
                f"{missing}"
            )
        self._info = tuple(info)

        def shape(x):
            dtype = jax.dtypes.canonicalize_dtype(np.asarray(x).dtype)
            return jax.ShapeDtypeStruct(np.shape(x), dtype)

        obs = _plain(self.first.observation_space, self._begin(0, 0, task))
        self._outcome = Outcome(
            jax.tree.map(shape, obs),
            jax.ShapeDtypeStruct((), np.dtype(np.float32)),
            jax.ShapeDtypeStruct((), np.dtype(bool)),
            jax.ShapeDtypeStruct((), np.dtype(bool)),
            {key: shape(got[key]) for key in self._info},
        )
        return self._outcome

    def reset(self, copies: np.ndarray, seeds: np.ndarray, tasks: Task) -> Observation:
        """Begins an episode on each copy."""
        leaves, structure = jax.tree.flatten(tasks)
        space = self.first.observation_space
        all_obs = []
        for i, (copy, seed) in enumerate(zip(copies, seeds, strict=True)):
            task = structure.unflatten([leaf[i] for leaf in leaves])
            all_obs.append(_plain(space, self._begin(int(copy), int(seed), task)))
        return _stack(self._outcome.obs, all_obs)

    def step(self, copies: np.ndarray, actions: np.ndarray) -> Outcome:
        """Takes a step on each copy."""
        space = self.first.observation_space
        actions = actions.astype(self.first.action_space.dtype)
        steps = [self._envs[c].step(a) for c, a in zip(copies, actions, strict=True)]
        all_obs, rewards, terminated, truncated, infos = zip(*steps, strict=True)
        return Outcome(
            _stack(self._outcome.obs, [_plain(space, obs) for obs in all_obs]),
            np.array(rewards, np.float32),
            np.array(terminated, bool),
            np.array(truncated, bool),
            {
                key: _stack(shape, [one[key] for one in infos])
                for key, shape in self._outcome.info.items()
            },
        )

    def close(self) -> None:
        """Closes all copies."""
        envs, self._envs = self._envs, []
        for env in envs:
            with contextlib.suppress(Exception):
                env.close()

    def _copy(self, number: int) -> gymnasium.Env:
        while len(self._envs) <= number:
            env = self.make()
            if not isinstance(env, gymnasium.Env):
                raise ValueError(f"make must make a gymnasium.Env; got {env!r}")
            self._envs.append(env)
        return self._envs[number]

    def _begin(self, copy: int, seed: int, task: Task) -> Any:
        env = self._copy(copy)
        if self._apply_task is not None:
            self._apply_task(env, task)
        return env.reset(seed=seed)[0]


def _plain(space: Any, obs: Any) -> Any:
    """Makes an observation of the containers that its space is made of."""
    if isinstance(space, gymnasium.spaces.Dict):
        return {key: _plain(part, obs[key]) for key, part in space.spaces.items()}
    if isinstance(space, gymnasium.spaces.Tuple):
        return tuple(_plain(*pair) for pair in zip(space.spaces, obs, strict=True))
    return obs


def _stack(shapes: Any, trees: Sequence[Any]) -> Any:
    """Stacks arrays of the shapes that were declared."""

    def stack(shape, *leaves):
        leaves = np.stack([np.asarray(leaf) for leaf in leaves])
        if leaves.shape[1:] != shape.shape:
            raise ValueError(
                f"an array of shape {shape.shape} was declared; got {leaves.shape[1:]}"
            )
        return leaves.astype(shape.dtype)

    return jax.tree.map(stack, shapes, *trees)
