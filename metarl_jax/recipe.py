"""Worlds and methods, chosen apart, and the recipes that are made of them.

An option's default is looked up in this order, the last word counting: where the option
is defined; the method; the world, for all methods, for methods of that kind, for that
method; the recipe.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import jax

from metarl_jax.envs.conditioned import task_conditioned
from metarl_jax.options import Option, check_distinct, grouped, options_of
from metarl_jax.runs.experiment import Evaluation, Experiment
from metarl_jax.settings import POLICIES
from metarl_jax.types import Agent, MetaAlgorithm, Task, TaskDistribution
from metarl_jax.validation import (
    check_at_least,
    check_choice,
    check_flags,
    check_positive,
)

Kind = Literal["gradient", "memory", "inference", "rule"]
# Of a device whose memories go through them: what fewer gain was measured to be little
# or nothing (`docs/results/step-times.md`).
FEWEST_TRIALS = 256
UNITS = {
    "gradient": "adaptation steps",
    "memory": "episodes of experience",
    "inference": "episodes of experience",
    "rule": "updates",
}


@dataclass(frozen=True)
class Budget:
    """How long training goes on, and how it is evaluated.

    Attributes:
      num_steps: meta-training steps.
      num_eval_tasks: held-out tasks of the evaluation.
      num_eval_episodes: episodes of each of them before and after every adaptation
        step; where a memory adapts, those that are averaged as one round.
      num_adaptation_steps: adaptation steps in the evaluation; where a memory adapts,
        rounds after the first.
    """

    num_steps: int = 100
    num_eval_tasks: int = 40
    num_eval_episodes: int = 20
    num_adaptation_steps: int = 3

    def __post_init__(self):
        """Checks the counts."""
        check_positive(
            num_steps=self.num_steps,
            num_eval_tasks=self.num_eval_tasks,
            num_eval_episodes=self.num_eval_episodes,
        )
        check_at_least(0, num_adaptation_steps=self.num_adaptation_steps)


class World(NamedTuple):
    """A task distribution, and what belongs to it whatever learns there.

    Attributes:
      tasks: makes the task distribution; its keywords are options.
      defaults: options that differ here: for `"all"` methods, for a kind of method
        (`"gradient"`, `"memory"`, `"inference"`, `"rule"`) or for one method by its
        name.
      goal: `(task) -> [2]`, where the goal is, if observations are positions in the
        plane.
      goal_beliefs: `(tasks, algorithm, options) -> Experiment.goal_beliefs`, or None
        where that method has no belief that can be drawn.
      shown: `(task) -> [F]`, what `show_task` shows; None for the goal, or all of the
        task's numbers where there is none.
    """

    tasks: Callable[..., TaskDistribution]
    defaults: Mapping[str, Mapping[str, Any]] = {}
    goal: Callable[[Task], jax.Array] | None = None
    goal_beliefs: Callable[..., Any] | None = None
    shown: Callable[[Task], jax.Array] | None = None


class Method(NamedTuple):
    """An algorithm, with options of a size that a command line can carry.

    Attributes:
      name: as it is called on the command line.
      build: `(tasks, policy, *, options) -> MetaAlgorithm`, where `policy` is one of
        `metarl_jax.settings.POLICIES`; its keywords are options.
      kind: what adapts: parameters by gradients, a memory, an inferred belief, or
        parameters by a rule that is learned.
      policy: the policy's name where none is chosen.
      defaults: options that differ from those of `build`.
      belief: `(agent) -> (mean [C], standard deviation [C])`, for methods that hold a
        Gaussian belief about the task.
    """

    name: str
    build: Callable[..., MetaAlgorithm]
    kind: Kind
    policy: str = "mlp"
    defaults: Mapping[str, Any] = {}
    belief: Callable[[Agent], tuple[jax.Array, jax.Array]] | None = None


@dataclass(frozen=True)
class Recipe:
    """What makes an experiment: a world, a method, and options that differ.

    Called with options as keywords, it builds the `Experiment`; its signature lists
    them all.

    Attributes:
      world: where it is learned.
      method: what learns.
      defaults: options that differ from those of the world and the method.
      policy: a name in `metarl_jax.settings.POLICIES`; None for the method's.
      published: returns after 0…K adaptation steps as printed in a paper, by method;
        or a function of the options that returns them.
      about: what is said of it where help is asked for.
    """

    world: World
    method: Method
    defaults: Mapping[str, Any] = field(default_factory=dict)
    policy: str | None = None
    published: Mapping[str, tuple[float, ...]] | Callable[..., Mapping] = field(
        default_factory=dict
    )
    about: str | None = ""

    def __post_init__(self):
        """Raises a `ValueError` if an option is not one of those there are."""
        check_choice(tuple(POLICIES), policy=self.policy_name)
        known = [
            option.name for options in self.groups().values() for option in options
        ]
        for name in self.defaults:
            if name not in known:
                raise ValueError(f"{name} is not an option here; there are {known}")

    @property
    def policy_name(self) -> str:
        """The policy that is chosen, or the method's."""
        return self.method.policy if self.policy is None else self.policy

    def groups(self) -> dict[str, list[Option]]:
        """Returns the options by what they belong to, with the defaults they have."""
        policy = POLICIES[self.policy_name]
        groups = {
            "world": options_of(self.world.tasks),
            "method": options_of(self.method.build, skip=("tasks", "policy")),
            "policy": options_of(type(policy)),
            "budget": options_of(Budget),
        }
        groups["world"].append(
            Option("show_task", bool, False, "show the policy the task's parameters.")
        )
        check_distinct(groups)
        tables = self.world.defaults
        layers = [
            self.method.defaults,
            *(tables.get(name, {}) for name in ("all", self.method.kind)),
            tables.get(self.method.name, {}),
            self.defaults,
        ]
        defaults = {name: value for layer in layers for name, value in layer.items()}
        return {
            group: [
                option._replace(default=defaults.get(option.name, option.default))
                for option in options
            ]
            for group, options in groups.items()
        }

    @property
    def __signature__(self) -> inspect.Signature:
        """The options as keywords."""
        return inspect.Signature(
            [
                inspect.Parameter(
                    option.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=option.default,
                    annotation=option.kind,
                )
                for options in self.groups().values()
                for option in options
            ],
            return_annotation=Experiment,
        )

    def __call__(self, **options: Any) -> Experiment:
        """Builds the experiment.

        Raises:
          ValueError: if there is no such option, a value is out of range, or the
            method cannot learn in this world.
        """
        known = self.__signature__.parameters
        for name in options:
            if name not in known:
                raise ValueError(
                    f"there is no option {name}; there are {', '.join(known)}"
                )
        values = {name: known[name].default for name in known} | options
        tasks = self.world.tasks(**grouped(self.world.tasks, values))
        check_flags(show_task=values["show_task"])
        if values["show_task"]:
            tasks = task_conditioned(tasks, self.world.shown or self.world.goal)
        settings = POLICIES[self.policy_name]
        policy = replace(settings, **grouped(type(settings), values))
        build = self.method.build
        arguments = grouped(build, values, skip=("tasks", "policy"))
        algorithm = build(tasks, policy, **arguments)
        budget = Budget(**grouped(Budget, values))
        make_beliefs = self.world.goal_beliefs
        published = self.published
        return Experiment(
            tasks,
            algorithm,
            budget.num_steps,
            Evaluation(
                budget.num_eval_tasks,
                budget.num_eval_episodes,
                budget.num_adaptation_steps,
            ),
            published=published(**values) if callable(published) else published,
            goal=None if values["show_task"] else self.world.goal,
            belief=self.method.belief,
            goal_beliefs=make_beliefs and make_beliefs(tasks, algorithm, values),
            adaptation_unit=UNITS[self.method.kind],
            shown=self.world.shown or self.world.goal,
            device_counts=self._device_counts(values.get("num_tasks", 1)),
        )

    def _device_counts(self, num_tasks: int) -> tuple[int, ...]:
        """Returns the numbers of a CPU's devices that so many tasks may be shared over.

        Where a memory goes through trials step by step a product is of as many rows as
        a device has trials, and fewer take nearly as long.
        """
        fewest = FEWEST_TRIALS if self.method.kind == "memory" else 1
        most = num_tasks // fewest
        return tuple(n for n in range(1, most + 1) if num_tasks % n == 0) or (1,)

    def but(self, **defaults: Any) -> "Recipe":
        """Returns the recipe with other defaults, the rest being as it is."""
        return replace(self, defaults={**self.defaults, **defaults})
