"""Every option of every factory refuses what it cannot mean, in one sentence.

The factories are found in the folders, and their options in their signatures; so are
those of the worlds, methods and policies of the command line. A new one is tried like
all others, and what it may be that others may not stands here.
"""

import dataclasses
import functools
import importlib
import inspect
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from line import Line

import metarl_jax
from metarl_jax import catalogue
from metarl_jax.algorithms.maml import maml
from metarl_jax.envs.bandit import bernoulli_bandit
from metarl_jax.envs.locomotion import half_cheetah_velocity
from metarl_jax.envs.point_navigation import point_navigation
from metarl_jax.options import grouped, options_of
from metarl_jax.policies.memory import memory_policy
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.policies.recurrent import GRU
from metarl_jax.recipe import Budget
from metarl_jax.settings import POLICIES
from metarl_jax.trust_region import TrustRegion
from metarl_jax.types import Agent

PACKAGE = Path(metarl_jax.__file__).parent
MODULES = [
    *(
        f"{folder}.{path.stem}"
        for folder in ("algorithms", "envs", "policies", "strategies")
        for path in sorted((PACKAGE / folder).glob("[a-z]*.py"))
    ),
    *("aggregation", "evaluation", "intervals", "sample_efficiency", "settings"),
    *("surrogates", "trust_region"),
]
# What is a part of a factory here, or whose numbers are looked at by who calls it.
NOT_FACTORIES = {
    *("aggregation.stack", "anil.hold_others", "checks.check_one_task"),
    *(
        "checks.check_traced",
        "dark_room.room_goals",
        "emaml.exploration_objective",
        "emaml.loss_and_log_ratio",
    ),
    *("es_maml.antithetic_gradient", "evaluation.adaptation_rounds"),
    "tabular.num_states",
    *("evaluation.check_protocol", "grid_navigation.goal_cells"),
    *("hypernetwork.bias_hyperinit", "hypernetwork.hyperfan_in"),
    *("rooms.arrive", "krazy_world.most_goals"),
    "goals.with_cell_goals",
    *("maze.edges", "maze.reached", "maze.spanning_tree", "minatar.board_image"),
    *("highway.configuration", "metaworld.succeeded"),
    *("xland.met", "xland.read_benchmark"),
    *("hypernetwork.kaiming", "hypernetwork.normc", "intervals.interquartile_mean"),
    *("intervals.interval_name", "intervals.t_half_width", "latent.prior"),
    *("memory.check_core", "one_task.drawn_and_kept", "settings.core_named"),
    *("sample_efficiency.steps_to_return", "settings.group_size_for_device"),
    "settings.trials_for_device",
    *("settings.surrogate_named", "trust_region.conjugate_gradient"),
    *("trust_region.fisher_vector_product", "trust_region.trust_region_step"),
    "varibad.evidence_lower_bounds",
}
NAV = point_navigation(horizon=3)
BANDIT = bernoulli_bandit(num_arms=2, horizon=3)
KEY = jax.random.key(0)
NAN, INF = math.nan, math.inf


@functools.cache
def examples(name):
    """Arguments without a default, for the factory of that name."""
    memories = ("rl2.rl2", "dpt.dpt", "ad.ad", "amago.amago")
    beliefs = ("pearl.pearl", "varibad.varibad", "hyperx.hyperx")
    tasks = BANDIT if name in (*memories, *beliefs) else NAV
    policy = mlp_policy(tasks, hidden_sizes=(3,), value_head=True)
    params = policy.init(KEY, (), jnp.zeros(tasks.observation.shape))
    models = {"w": jnp.ones((2, 3))}
    return {
        "tasks": tasks,
        "policy": memory_policy(tasks, GRU(3)) if name in memories else policy,
        **{"base": policy, "head": policy, "core": GRU(3), "key": KEY},
        "task": tasks.sample(KEY),
        "adapt": lambda key, agent, data: agent,
        "drift": lambda log_ratio, advantage: 0.0 * log_ratio,
        **{"agent": Agent(params), "params": params, "data": None},
        "algorithm": maml(tasks, policy),
        **{"models": models, "fishers": models, "first": models, "second": models},
        **{"score": lambda model: model["w"].sum(), "returns": np.ones((2, 3, 2))},
        **{"num_states": 2, "num_actions": 2, "num_arms": 3, "horizon": 3},
        **{"num_tasks": 2, "num_episodes": 2, "num_adaptation_steps": 1},
        **{"num_rounds": 2, "num_eval_episodes": 2, "num_trials": 2, "family": "easy"},
        **{"env": NAV.env, "sample_params": NAV.sample},
        **{"make": Line, "sample_task": NAV.sample},
        **dict.fromkeys(("locomotion", "definition"), half_cheetah_velocity()),
        "engine": "planar",
        **dict.fromkeys(("train", "test"), ("reach-v3",)),
        **{"num_rule_sets": 2, "num_updates": 2, "num_streams": 2, "num_steps": 2},
        **{"size": 4, "state_size": 4, "output_size": 2, "latent_size": 2},
        **{"inner_lr": 0.1, "lr": 0.1, "initial_rate": 0.1},
        **{"decay_steps": 3, "updates_per_step": 2},
    }


def is_mathematics(function):
    """Whether it is given arrays, whose numbers may be traced."""
    parameters = inspect.signature(function, eval_str=True).parameters.values()
    return any(p.annotation is jax.Array and p.name != "key" for p in parameters)


def factories():
    """All public functions and flax modules of the folders, but for what is none."""
    found = {}
    for module_name in MODULES:
        module = importlib.import_module(f"metarl_jax.{module_name}")
        for name, value in vars(module).items():
            full = f"{module_name.rpartition('.')[2]}.{name}"
            is_module = inspect.isclass(value) and issubclass(value, nn.Module)
            if (
                getattr(value, "__module__", None) == module.__name__
                and not name.startswith("_")
                and (inspect.isfunction(value) or is_module or value is TrustRegion)
                and full not in NOT_FACTORIES
                and not is_mathematics(value)
            ):
                found[full] = value
    return found


def kind_of(annotation):
    """What an option is: a count, a number, a flag, sizes, a function or a name."""
    kinds = get_args(annotation) or (annotation,)
    if get_origin(annotation) is Literal:
        return "name"
    if get_origin(annotation) in (tuple, Sequence):
        return {int: "sizes", float: "range"}.get(kinds[0])
    if optax.GradientTransformation in kinds:
        return "optimizer"
    for kind, name in ((bool, "flag"), (int, "count"), (float, "number")):
        if kind in kinds:
            return name
    functions = (annotation, *kinds)
    return "function" if Callable in map(get_origin, functions) else None


WRONG: dict[str, list[Any]] = {
    "count": [NAN, INF, 1.5, "3", None, True, [3], -1, 0, 2**31, 10**25, 10**9999],
    "number": [NAN, INF, -INF, "0.1", None, True, [0.1], -1, 0, 1e39, 1e-60, 10**25],
    "flag": [NAN, 1, 0, "no", None],
    "sizes": [NAN, 3, "33", None, (1.5,), (0,), (-1,), (10**25,), (2**31 - 1,) * 2],
    "range": [
        *(NAN, 3, "12", None, (1.0,), (1.0, 2.0, 3.0), (2.0, 1.0), (NAN, 1.0)),
        *((0.0, 1.0), (-1.0, 1.0), (1.0, INF), (1.0, "2"), (1e-60, 1.0)),
    ],
    "function": [NAN, 3, "relu"],
    "optimizer": [
        *(NAN, 0.1, "adam", optax.adam, optax.sgd(NAN), optax.adam(1e300)),
        *(optax.sgd(0.0), optax.adam(-1e-3), optax.sgd(1e-60)),
    ],
    "name": [NAN, 3, None, "nothing", ("nothing",)],
}
# What an option may be although others may not, by its name: 0 and what float32 takes
# for it, and what is below.
ZERO = (0, 1e-60)
MAY_BE: dict[str, tuple] = {
    **dict.fromkeys(("discount", "gae_lambda", "final_gae_lambda"), ZERO),
    **dict.fromkeys(("trial_fraction", "epsilon"), ZERO),
    **dict.fromkeys(("value_coeff", "entropy_coeff", "kl_coeff"), ZERO),
    **dict.fromkeys(("climb_coeff", "clone_coeff", "critic_coeff"), ZERO),
    **dict.fromkeys(("roam_fraction", "relabel_fraction", "hindsight_fraction"), ZERO),
    **dict.fromkeys(("novelty_coeff", "error_coeff"), ZERO),
    **dict.fromkeys(("prediction_coeff", "prediction_entropy_coeff"), ZERO),
    **dict.fromkeys(("aim_coeff", "prediction_aim_coeff"), ZERO),
    "outer_entropy_coeff": ZERO,
    "num_bootstrap_steps": (0,),
    "make_optimizer": (optax.adam,),
    **dict.fromkeys(("correction_coeff", "exploration", "scaling", "damping"), ZERO),
    **dict.fromkeys(("reward_std", "reward_noise_std", "common", "noise_std"), ZERO),
    **dict.fromkeys(("reward_probability", "crossed_wires"), ZERO),
    **dict.fromkeys(("opened", "most_sticky", "cost", "height"), ZERO),
    **dict.fromkeys(("num_rules", "num_distractors"), (0,)),
    **dict.fromkeys(("num_death", "num_ice", "num_energy"), (0,)),
    **dict.fromkeys(("min_radius", "max_radius", "coeff", "log_scale"), ZERO),
    **dict.fromkeys(
        ("alpha", "threshold", "target_entropy", "reward_mean"), (-1, *ZERO)
    ),
    **dict.fromkeys(("initial_log_std", "min_log_std", "prior_mean"), (-1, *ZERO)),
    **dict.fromkeys(("num_exploration_episodes", "num_adaptation_steps"), (0,)),
    **dict.fromkeys(("obs_rank", "max_exact_horizon"), (0,)),
    "confidence": (1e-60,),
    "seed": (0, 2**31),
}


def cases(full, call, name, annotation):
    """An option, with what it must refuse, if it is of a kind that is known."""
    kind = kind_of(annotation)
    if kind is None:
        return []
    may_be = MAY_BE.get(name, ())
    if NoneType in get_args(annotation):
        may_be += (None,)
    wrong = [x for x in WRONG[kind] if not any(x is y for y in may_be)]
    return [pytest.param(call, name, wrong, id=f"{full}-{name}")]


def of_factories():
    for full, factory in factories().items():
        for parameter in inspect.signature(factory, eval_str=True).parameters.values():
            flax_s = inspect.isclass(factory) and parameter.name in ("name", "parent")
            if not flax_s and parameter.kind is not parameter.VAR_KEYWORD:
                call = functools.partial(build, factory, full)
                yield from cases(full, call, parameter.name, parameter.annotation)


def of_the_command_line():
    """The worlds', the methods', the policies' and the budget's."""
    for name in catalogue.entries("worlds"):
        tasks = catalogue.load(name, "worlds").tasks
        for option in options_of(tasks):
            call = functools.partial(build_tasks, tasks)
            yield from cases(f"worlds.{name}", call, option.name, option.kind)
    methods = [catalogue.load(name, "methods") for name in catalogue.entries("methods")]
    # Once, where several differ in the defaults of the same function.
    for method in {method.build: method for method in reversed(methods)}.values():
        for option in options_of(method.build, skip=("tasks", "policy")):
            call = functools.partial(build_method, method)
            yield from cases(f"methods.{method.name}", call, option.name, option.kind)
    for name, policy in POLICIES.items():
        for option in options_of(type(policy)):
            call = functools.partial(build_policy, policy)
            yield from cases(f"policies.{name}", call, option.name, option.kind)
    for option in options_of(Budget):
        call = functools.partial(build_tasks, Budget)
        yield from cases("budget", call, option.name, option.kind)


def build(factory, full, changes):
    """Calls a factory with examples of what it needs, but for the changes."""
    parameters = inspect.signature(factory).parameters.values()
    required = {
        p.name: examples(full)[p.name]
        for p in parameters
        if p.default is p.empty and p.kind is not p.VAR_KEYWORD
    }
    if full == "mlp.MLPPolicy" and "action_dim" not in changes:
        required["num_actions"] = 2
    return factory(**required | changes)


def build_tasks(make, changes):
    return make(**changes)


def build_method(method, changes):
    tasks = NAV if method.kind in ("gradient", "inference") else BANDIT
    small = {"num_tasks": 4, "num_episodes": 2, "num_minibatches": 2} | changes
    arguments = grouped(method.build, small, skip=("tasks", "policy"))
    return method.build(tasks, POLICIES[method.policy], **arguments)


def build_policy(settings, changes):
    return dataclasses.replace(settings, **changes).make(NAV, 3)


OPTIONS = [*of_factories(), *of_the_command_line()]


@pytest.mark.parametrize(("call", "name", "wrong"), OPTIONS)
def test_an_option_refuses_what_it_cannot_mean(call, name, wrong):
    for value in wrong:
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            call({name: value})
        said = str(caught.value)
        assert re.search(rf"\b{name}\b", said), said
        assert "\n" not in said, said
        assert len(said) < 500, said


def test_what_is_taken_for_no_factory_is_there():
    there = {
        f"{module.rpartition('.')[2]}.{name}"
        for module in MODULES
        for name in vars(importlib.import_module(f"metarl_jax.{module}"))
    }
    assert there >= NOT_FACTORIES


# What is neither a number nor a function: it must have parts that these have not.
OBJECTS: dict[str, Sequence] = {
    "tasks": [None, 1.0, NAV.env, tuple(NAV)],
    **dict.fromkeys(("policy", "algorithm", "agent"), (None, 1.0, nn.Dense)),
    **dict.fromkeys(("core", "critic", "decoder", "behaviour"), (1.0, nn.Dense)),
    "bonus": [1.0, nn.Dense],
    "env": [None, 1.0, NAV],
    "key": [None, 1.0, 0, jax.random.split(KEY)],
}


@pytest.mark.parametrize("name", OBJECTS)
def test_what_is_another_thing_is_refused(name):
    for full, factory in factories().items():
        if name not in inspect.signature(factory).parameters:
            continue
        for value in OBJECTS[name]:
            with pytest.raises(ValueError, match=rf"{name}|policy") as caught:
                build(factory, full, {name: value})
            assert "\n" not in str(caught.value), caught.value
