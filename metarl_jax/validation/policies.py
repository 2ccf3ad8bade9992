"""Families and policies: traced abstractly, to see whether they fit one another."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax import spaces
from metarl_jax.distributions import Categorical
from metarl_jax.memory import check_fits, num_bytes
from metarl_jax.tracing import unequal_numbers
from metarl_jax.types import Agent, Policy, Task, TaskDistribution, Trajectory
from metarl_jax.validation.scalars import check_positive, reason, shown


def check_tasks(tasks: TaskDistribution) -> None:
    """Raises a `ValueError` unless it is a `TaskDistribution` with all that has."""
    if not isinstance(tasks, TaskDistribution):
        raise ValueError(
            "tasks must be a TaskDistribution, as the functions of metarl_jax.envs "
            f"make; got {shown(tasks)}"
        )
    check_positive(horizon=tasks.horizon)
    for name in ("sample", "sample_heldout"):
        sample = getattr(tasks, name)
        if not callable(sample):
            raise ValueError(
                f"{name} of the tasks must be a function of a key; got {shown(sample)}"
            )


def _check_samplers(tasks: TaskDistribution) -> None:
    """Raises a `ValueError` unless tasks are drawn by the key alone and memory has one.

    The samplers are traced, nothing is computed.
    """
    for name in ("sample", "sample_heldout"):
        sample = getattr(tasks, name)
        try:
            # Twice: what draws without the key draws another number in the second.
            (first, task), (second, _) = (
                jax.make_jaxpr(function, return_shape=True)(jax.random.key(0))
                for function in (sample, lambda key, sample=sample: sample(key))
            )
        except Exception as error:
            raise ValueError(
                f"{name} of the tasks must be a function of a key that can be traced; "
                f"got {reason(error)}"
            ) from error
        numbers = unequal_numbers(first, second)
        if numbers is not None:
            raise ValueError(
                f"{name} of the tasks must draw by its key alone, since a compiled "
                f"step calls it once; traced twice, it used {numbers[0]} and "
                f"{numbers[1]}"
            )
        check_fits(f"a task of {tasks.env.name}", num_bytes(task))


def check_policy(
    tasks: TaskDistribution, policy: Policy, *, parallel_episodes: bool
) -> None:
    """Checks that a policy fits the family's spaces and the way it will be run.

    Args:
      tasks: the family.
      policy: the policy; traced abstractly, nothing is computed.
      parallel_episodes: whether a task's episodes run side by side, so that no memory
        can pass from one to the next.

    Raises:
      ValueError: if it is no policy, if it has memory but episodes run side by side, or
        if its distribution does not produce the environment's actions.
    """
    check_tasks(tasks)
    _check_samplers(tasks)
    _check_observation(tasks)
    distribution = _head(tasks, policy)
    if parallel_episodes and has_memory(policy):
        raise ValueError(
            f"{type(policy).__name__} has memory, which does not pass between episodes "
            "that run side by side; a policy without memory is required (one whose "
            "initial_memory() is empty)"
        )
    key = jax.random.key(0)
    action = jax.eval_shape(lambda head: head.sample(key), distribution)
    space = tasks.action_space
    num_actions = spaces.num_choices(space)
    env_name, head = tasks.env.name, type(distribution).__name__
    if num_actions is not None:
        size = (
            distribution.logits.shape if isinstance(distribution, Categorical) else ()
        )
        if size != (num_actions,):
            raise ValueError(
                f"{env_name} has {num_actions} discrete actions, which need a "
                f"Categorical head with logits of shape ({num_actions},); the policy's "
                f"is a {head}" + (f" with logits of shape {size}" if size else "")
            )
    elif not spaces.is_box(space):
        raise ValueError(
            f"actions must be of a Discrete or a Box space; {env_name} has {space!r}"
        )
    elif isinstance(distribution, Categorical) or action.shape != tuple(space.shape):
        raise ValueError(
            f"{env_name} has continuous actions of shape {space.shape}; the policy's "
            f"{head} head produces actions of shape {action.shape}, {action.dtype}"
        )


def check_methods(policy: Policy) -> None:
    """Raises a `ValueError` unless it has the methods of a `Policy`."""
    for method in ("init", "apply", "initial_memory"):
        if isinstance(policy, type) or not callable(getattr(policy, method, None)):
            raise ValueError(
                "a policy must have init, apply and initial_memory, as a "
                "flax.linen.Module of the shape of metarl_jax.types.Policy has; got "
                f"{shown(policy)}, a {type(policy).__name__} without {method}"
            )


def has_memory(policy: Policy) -> bool:
    """Tells whether a policy remembers anything, without making it."""
    return bool(jax.tree.leaves(jax.eval_shape(policy.initial_memory)))


def check_remembers(policy: Policy, method: str) -> None:
    """Raises a `ValueError` if a policy has no memory where that is what adapts."""
    if not has_memory(policy):
        raise ValueError(
            f"{type(policy).__name__} has no memory, which is what adapts in {method}; "
            "a policy with memory is required (one without is trained by `pretraining`)"
        )


def check_critic(tasks: TaskDistribution, policy: Policy, *, appended: int = 0) -> None:
    """Raises a `ValueError` if no parameter of a policy moves the value it predicts.

    Args:
      tasks: the family.
      policy: whose value it is.
      appended: how many numbers follow the observation in what it sees.
    """
    derivatives = []

    @jax.custom_jvp
    def probe(value):
        return value

    def derivative(primals, tangents):
        derivatives.append(tangents)  # Not called where all are symbolically zero.
        return *primals, *tangents

    probe.defjvp(derivative)
    obs, held, params = _example(tasks, policy, appended)

    def total(params, obs, held):
        return jnp.sum(probe(policy.apply(params, held, obs)[1]))

    jax.eval_shape(jax.grad(total, allow_int=True), params, obs, held)
    if not derivatives:
        raise ValueError(
            f"{type(policy).__name__} predicts no value; a policy with a value head "
            "(value_head=True), or a critic beside it, is required"
        )


def check_appended(
    tasks: TaskDistribution, policy: Policy, what: str, *, size: int
) -> None:
    """Raises a `ValueError` if a policy does not see what follows its observation.

    A network of the whole input has other shapes where the input is longer, which costs
    nothing to find out. Of another policy NaN is looked for in the actions that it
    draws where NaN follows the observation.

    Args:
      tasks: the family; what a policy sees of it has an axis.
      policy: a policy without memory.
      what: follows the observation.
      size: how many numbers it has.
    """
    longer = [_specification(_example(tasks, policy, size + i)[2]) for i in (0, 1)]
    if longer[0] != longer[1]:
        return
    obs = jnp.ones(_appended(tasks.observation, size).shape)
    hidden = obs.at[..., -size:].set(jnp.nan)
    params = policy.init(jax.random.key(0), (), obs)
    distribution = policy.apply(params, (), hidden)[0]
    leaves = jax.tree.leaves(distribution)
    if not any(bool(jnp.isnan(leaf).any()) for leaf in leaves):
        raise ValueError(
            f"{type(policy).__name__} must act on the {what} that follows the "
            f"observation, {size} numbers; its actions do not depend on it"
        )


def check_batch(
    tasks: TaskDistribution,
    policy: Policy,
    *,
    num_tasks: int,
    num_episodes: int,
    **rounds: int,
) -> None:
    """Raises a `ValueError` if what a step acts and learns with does not fit in memory.

    The parameters, or what is recorded of all episodes: the least that is held at once.

    Args:
      tasks: the family.
      policy: how the agent acts.
      num_tasks: tasks at once.
      num_episodes: episodes of each.
      **rounds: how often, by the name of the option that says so.
    """
    obs, held, params = _example(tasks, policy)
    check_fits(f"the parameters of {type(policy).__name__}", num_bytes(params))
    check_fits(f"the memory of {type(policy).__name__}", num_bytes(held))
    counts = {"num_tasks": num_tasks, "num_episodes": num_episodes, **rounds}
    num_steps = math.prod(counts.values()) * tasks.horizon
    said = ", ".join(f"{name}={count}" for name, count in counts.items())
    check_fits(
        f"the episodes of {said} and {tasks.horizon} steps",
        num_bytes(_step(policy, obs, held, params)) * num_steps,
    )


def trajectory(tasks: TaskDistribution, policy: Policy) -> Trajectory:
    """Returns one step of what is recorded of an episode, as shapes."""
    return _step(policy, *_example(tasks, policy))


def _step(policy: Policy, obs: Any, held: Any, params: Any) -> Trajectory:
    """Returns the same of what `_example` returns."""

    def step(key, obs, held, params):
        action = policy.apply(params, held, obs)[0].sample(key)
        one, false = jnp.zeros(()), jnp.zeros((), bool)
        return Trajectory(obs, action, one, one, obs, false, false, false)

    return jax.eval_shape(step, jax.random.key(0), obs, held, params)


def check_decoder(
    tasks: TaskDistribution, policy: Policy, decoder: Any, *, latent_size: int
) -> None:
    """Raises a `ValueError` unless it is a `Decoder` of the family's steps."""
    parts = [getattr(decoder, name, None) for name in ("init", "apply")]
    if isinstance(decoder, type) or not all(map(callable, parts)):
        raise ValueError(
            "decoder must have init and apply, as a TransitionDecoder has; got "
            f"{shown(decoder)}"
        )
    steps = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((2, *x.shape), x.dtype),
        trajectory(tasks, policy),
    )
    latents = jax.ShapeDtypeStruct((3, latent_size), np.float32)

    def decode(key, latents, steps):
        return decoder.apply(decoder.init(key, latents, steps), latents, steps)

    try:
        got = np.shape(jax.eval_shape(decode, jax.random.key(0), latents, steps))
    except Exception as error:
        got = reason(error)
    if got != (3,):
        raise ValueError(
            f"the decoder {type(decoder).__name__} must give a trial's log-likelihood "
            f"under each of some latents; under 3 it gave {got}"
        )


def check_agent(
    tasks: TaskDistribution, policy: Policy, agent: Agent, task: Task
) -> None:
    """Raises a `ValueError` unless the policy can act as this agent in a task.

    Further networks than the policy's own are left alone.
    """
    check_methods(policy)
    if not isinstance(agent, Agent):
        raise ValueError(
            "agent must be an Agent, as state.agent is; got a "
            f"{type(agent).__name__}: {shown(agent)}"
        )
    _, held, params = _example(tasks._replace(sample=lambda key: task), policy)
    pairs = {"parameters": (agent.params, params), "memory": (agent.memory, held)}
    for what, (got, wanted) in pairs.items():
        if difference := _difference(wanted, got):
            raise ValueError(
                f"the agent's {what} must be those of its policy "
                f"{type(policy).__name__} in {tasks.env.name}; {difference}"
            )


def _difference(wanted: Any, got: Any) -> str | None:
    """Says where a tree lacks what another has, or has more within a network."""
    if isinstance(got, Mapping) and isinstance(wanted, Mapping):
        # An agent may have networks beside those that act.
        got = {name: got[name] for name in wanted if name in got}
    trees = [
        {
            jax.tree_util.keystr(path): tuple(np.shape(x))
            for path, x in jax.tree_util.tree_leaves_with_path(tree)
        }
        for tree in (wanted, got)
    ]
    for path in [*trees[0], *trees[1]]:
        shapes = [tree.get(path, "nothing") for tree in trees]
        if shapes[0] != shapes[1]:
            return f"at {path or 'the root'} {shapes[0]} is required, got {shapes[1]}"
    return None


def _check_observation(tasks: TaskDistribution) -> None:
    """Raises a `ValueError` if an observation is not of the shape that is declared."""

    def shapes(key):
        task = tasks.sample(key)
        declared.append(tasks.env.observation_space(task))
        return tasks.env.reset_env(key, task)[0]

    declared: list[Any] = []
    try:
        obs = jax.eval_shape(shapes, jax.random.key(0))
    except Exception:
        return  # no space is declared, or `_head` says what is wrong
    wanted = getattr(declared[0], "shape", None)
    if isinstance(obs, jax.ShapeDtypeStruct) and wanted not in (None, obs.shape):
        raise ValueError(
            f"{tasks.env.name} declares observations of {declared[0]!r} of shape "
            f"{wanted}; got one of shape {obs.shape}"
        )


def _appended(obs: Any, size: int) -> Any:
    return jax.ShapeDtypeStruct((*obs.shape[:-1], obs.shape[-1] + size), obs.dtype)


def _example(
    tasks: TaskDistribution, policy: Policy, appended: int = 0
) -> tuple[Any, Any, Any]:
    """Returns the shapes of what a policy sees, its memory and its parameters."""

    def example(key):
        obs, _ = tasks.reset(key, tasks.sample(key))
        if appended:
            obs = jnp.zeros(_appended(obs, appended).shape, obs.dtype)
        held = policy.initial_memory()
        return obs, held, policy.init(key, held, obs)

    return jax.eval_shape(example, jax.random.key(0))


def _head(tasks: TaskDistribution, policy: Policy) -> Any:
    """Returns the distribution over a policy's first action, as shapes.

    Raises:
      ValueError: if it is no `Policy`.
    """
    name = type(policy).__name__
    check_methods(policy)
    try:
        obs, held, params = _example(tasks, policy)
        acted = jax.eval_shape(policy.apply, params, held, obs)
    except Exception as error:
        raise ValueError(
            f"{name} cannot act in {tasks.env.name}: {reason(error)}"
        ) from error
    if other := _other_collections(params):
        raise ValueError(
            f"{name} has {', '.join(other)}, which is no parameter and would be "
            "trained as one; a policy whose variables are all in params is required"
        )
    if not isinstance(acted, tuple) or len(acted) != 3:
        raise ValueError(
            f"{name}.apply must return the distribution, the value and the memory; got "
            f"{len(acted) if isinstance(acted, tuple) else type(acted).__name__}"
        )
    distribution, value, new_memory = acted
    numbers_of = {"value": value}
    for method in ("sample", "mode", "log_prob", "entropy", "kl"):
        if not callable(getattr(distribution, method, None)):
            raise ValueError(
                f"the head of {name} must be a distribution, as those of "
                f"metarl_jax.distributions; {shown(distribution)} has no {method}"
            )

    def use(head, key):
        action = head.sample(key)
        return {
            "log_prob": head.log_prob(action),
            "entropy": head.entropy(),
            "kl": head.kl(head),
        }

    try:
        numbers_of |= jax.eval_shape(use, distribution, jax.random.key(0))
    except Exception as error:
        raise ValueError(
            f"the head of {name} cannot be used in {tasks.env.name}: {reason(error)}"
        ) from error
    for what, number in numbers_of.items():
        if getattr(number, "shape", None) != ():
            raise ValueError(
                f"the {what} of {name} must be one number for one observation; got "
                f"{shown(number)}"
            )
    if _specification(new_memory) != _specification(held):
        raise ValueError(
            f"{name}.apply must return a memory like initial_memory(); got "
            f"{_specification(new_memory)} for {_specification(held)}"
        )
    return distribution


def _other_collections(variables: Any) -> list[str]:
    """Lists flax's collections beside `params`, in a network or in several."""
    if not isinstance(variables, Mapping):
        return []
    if "params" in variables:
        return [name for name in variables if name != "params"]
    return [name for one in variables.values() for name in _other_collections(one)]


def _specification(tree: Any) -> Any:
    return jax.tree.map(lambda x: (tuple(x.shape), str(x.dtype)), tree)
