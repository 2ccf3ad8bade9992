"""XLand-MiniGrid (Nikulin et al. 2024, arXiv 2312.12044): a rule set is the task.

A room holds objects of a kind and a colour. Rules, hidden, turn objects into others,
where two come to lie side by side or the agent holds one; a goal, hidden as well, ends
the episode with a reward of 1 - 0.9 t / T. The simulator is the package `xminigrid`
(extra `[games]`); rule sets are made here, or read from a benchmark's file.
"""

import importlib
import importlib.util
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from metarl_jax.envs.gymnax_family import gymnax_family
from metarl_jax.envs.xland_rules import RuleSets, make_rule_sets
from metarl_jax.types import TaskDistribution
from metarl_jax.validation import check_at_least, check_choice, check_positive

Layout = Literal["R1-9x9", "R4-13x13"]
LAYOUTS: tuple[Layout, ...] = ("R1-9x9", "R4-13x13")
NUM_KINDS, NUM_COLOURS = 13, 12  # of all tiles, walls and floors included


@struct.dataclass(kw_only=True)
class EnvState(environment.EnvState):
    """What time changes."""

    grid: jax.Array  # [H, W, 2] uint8, kind and colour
    agent: Any  # xminigrid's: position, direction, pocket


@struct.dataclass(kw_only=True)
class EnvParams(environment.EnvParams):
    """The task: a rule set."""

    goal: jax.Array  # [5] uint8
    rules: jax.Array  # [R, 7] uint8
    objects: jax.Array  # [I, 2] uint8


class XLand(environment.Environment[EnvState, EnvParams]):
    """xminigrid's environment, its rule set a task.

    Args:
      layout: of rooms.
      horizon: T, by which the reward falls.
    """

    def __init__(self, *, layout: Layout, horizon: int):
        super().__init__()
        self.types = _xminigrid("types")
        name = f"XLand-MiniGrid-{layout}"
        self.simulator, params = _xminigrid("").make(name, max_steps=horizon)
        self.settings = params
        self.view = params.view_size

    def _settings(self, params):
        rule_set = self.types.RuleSet(
            goal=params.goal, rules=params.rules, init_tiles=params.objects
        )
        return self.settings.replace(ruleset=rule_set)

    def reset_env(self, key, params):
        """Puts the objects and the agent anywhere."""
        timestep = self.simulator.reset(self._settings(params), key)
        return timestep.observation, self._kept(timestep.state, 0)

    def step_env(self, key, state, action, params):
        """Moves, turns, picks up, puts down or opens."""
        of_simulator = self.types.State(
            key=key,
            step_num=jnp.asarray(state.time, jnp.int32),
            grid=state.grid,
            agent=state.agent,
            goal_encoding=params.goal,
            rule_encoding=params.rules,
            carry=self.types.EnvCarry(),
        )
        before = self.types.TimeStep(
            state=of_simulator,
            step_type=self.types.StepType.MID,
            reward=jnp.zeros(()),
            discount=jnp.ones(()),
            observation=jnp.zeros((self.view, self.view, 2), jnp.uint8),
        )
        after = self.simulator.step(self._settings(params), before, action)
        state = self._kept(after.state, state.time + 1)
        return after.observation, state, after.reward, after.discount == 0, {}

    def _kept(self, state, time):
        agent = jax.tree.map(jnp.asarray, state.agent)
        return EnvState(time=time, grid=state.grid, agent=agent)

    def is_terminated(self, state, params):
        """Returns False: whether a goal is met is a matter of the action as well."""
        del state, params
        return jnp.asarray(False)

    @property
    def name(self) -> str:
        """Environment name."""
        return "XLand-MiniGrid"

    @property
    def num_actions(self) -> int:
        """Number of actions."""
        return 6

    def action_space(self, params=None):
        """Forwards, clockwise, anticlockwise, pick up, put down, open."""
        del params
        return spaces.Discrete(6)

    def observation_space(self, params):
        """What lies before the agent."""
        del params
        return spaces.Box(0, NUM_KINDS, (self.view, self.view, 2), jnp.uint8)


def is_installed() -> bool:
    """Tells whether xminigrid is there."""
    return importlib.util.find_spec("xminigrid") is not None


def _xminigrid(module: str) -> Any:
    """Imports the package or a module of it.

    Raises:
      ValueError: if it is not installed.
    """
    if not is_installed():
        raise ValueError(
            "xminigrid is required for XLand-MiniGrid; install it with: "
            'pip install "metarl-jax[games]"'
        )
    return importlib.import_module(f"xminigrid.{module}".rstrip("."))


def read_benchmark(name: str) -> RuleSets:
    """Reads the rule sets of a published benchmark, where its file is.

    Args:
      name: as xminigrid has it, such as `"trivial-21k"`; the file is looked for in
        `XLAND_MINIGRID_DATA`, or `~/.xland_minigrid`. Nothing is downloaded.

    Raises:
      ValueError: if xminigrid is not installed, knows no such name or has no such file.
    """
    benchmarks = _xminigrid("benchmarks")
    check_choice(tuple(benchmarks.NAME2HFFILENAME), benchmark=name)
    path = f"{benchmarks.DATA_PATH}/{benchmarks.NAME2HFFILENAME[name]}"
    try:
        found = benchmarks.load_benchmark_from_path(path)
    except FileNotFoundError as error:
        raise ValueError(
            f"the benchmark {name} must be the file {path}, which is not there; "
            f"xminigrid.load_benchmark({name!r}) downloads it"
        ) from error
    return RuleSets(*map(np.asarray, (found.goals, found.rules, found.init_tiles)))


def encode(obs: jax.Array) -> jax.Array:
    """Shows kinds and colours as channels, `[V, V, 2]` to `[V, V, 25]`."""
    kind = jax.nn.one_hot(obs[..., 0], NUM_KINDS)
    colour = jax.nn.one_hot(obs[..., 1], NUM_COLOURS)
    return jnp.concatenate([kind, colour], axis=-1)


def xland(
    *,
    layout: Layout = "R1-9x9",
    horizon: int = 80,
    num_rule_sets: int = 4000,
    num_rules: int = 0,
    num_distractors: int = 2,
    benchmark: str = "",
    observation: Literal["flat", "image"] = "flat",
) -> TaskDistribution:
    """Builds rule sets as tasks; a tenth of them, the last, are held out.

    Args:
      layout: of rooms.
      horizon: T, steps in an episode.
      num_rule_sets: how many are made here, held-out ones included.
      num_rules: of each.
      num_distractors: objects of each that belong to no rule.
      benchmark: the name of a published set to read instead (`read_benchmark`).
      observation: what is seen as numbers `[625]`, which a CPU reads faster,
        or as an image `[5, 5, 25]`, which convolutions read.

    Returns:
      The family; `"goal met"` is among its measures.

    Raises:
      ValueError: if xminigrid is not installed, a count is out of range, or there is no
        such layout or benchmark.
    """
    check_choice(LAYOUTS, layout=layout)
    check_choice(("flat", "image"), observation=observation)
    check_positive(horizon=horizon)
    check_at_least(2, num_rule_sets=num_rule_sets)
    if not isinstance(benchmark, str):
        raise ValueError(f"benchmark must be a name; got {benchmark!r}")
    if benchmark:
        rule_sets = read_benchmark(benchmark)
    else:
        rule_sets = make_rule_sets(
            num_rule_sets=num_rule_sets,
            num_rules=num_rules,
            num_distractors=num_distractors,
        )
    num = len(rule_sets.goals)
    first_heldout = num - max(1, num // 10)
    stored = RuleSets(*map(jnp.asarray, rule_sets))

    def sampler(low, high):
        def sample(key):
            index = jax.random.randint(key, (), low, high)
            goal, rules, objects = (part[index] for part in stored)
            return EnvParams(goal=goal, rules=rules, objects=objects)

        return sample

    return gymnax_family(
        XLand(layout=layout, horizon=horizon),
        sampler(0, first_heldout),
        sample_heldout_params=sampler(first_heldout, num),
        horizon=horizon,
        encode=encode if observation == "image" else lambda obs: jnp.ravel(encode(obs)),
        measures={"goal met": met},
        # Objects and doors lie elsewhere in every episode.
        allow_resampling=True,
    )


def met(task, episode) -> jax.Array:
    """Tells whether an episode ended by its goal, 0 or 1."""
    del task
    return jnp.any(episode.terminated).astype(jnp.float32)
