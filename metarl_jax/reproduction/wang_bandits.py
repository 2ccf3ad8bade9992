"""Wang et al. 2016, arXiv 1611.05763, section 3: regret where arms are related.

The paper shows curves, not numbers: what its classical learners and its own are to be
held against is the exact Bayes optimum of each family.
"""

from functools import partial
from typing import Literal

import jax
import numpy as np

from metarl_jax.choice import Choice
from metarl_jax.envs.bandit import (
    bernoulli_bandit,
    correlated_bandit,
    informative_bandit,
)
from metarl_jax.envs.two_step import two_step
from metarl_jax.reproduction.learned import learned
from metarl_jax.reproduction.measuring import (
    agent_returns,
    exact,
    measure,
    trial_returns,
)
from metarl_jax.reproduction.rl2_bandits import HUNDRED_PULLS, TOLD
from metarl_jax.reproduction.table import Cell, Table
from metarl_jax.strategies import bandit, bayes_optimal
from metarl_jax.strategies.two_step import BayesOptimalTwoStep

HORIZON = 100
GRID = tuple(np.round(np.arange(0.0, 1.05, 0.1), 1).tolist())
TWO_STEP = "two-step"

Family = Literal["uniform", "easy", "medium", "hard"]
BEST_ARM: dict[Family, float] = {
    "uniform": 75.0,
    "easy": 90.0,
    "medium": 75.0,
    "hard": 60.0,
}
INFORMATIVE = "11 arms"

# Of the experiment wang-rl2, by the family.
_LONG = {
    **{"core": "gru", "num_tasks": 256, "entropy_coeff": 0.1},
    **{"num_steps": 1000, "decay_steps": 1000},
}
_DISCOUNTED = {
    "family": "independent",
    **{"core": "gru", **HUNDRED_PULLS, **TOLD, "entropy_coeff": 0.2},
    **{"entropy_decay_steps": 1800, "num_steps": 2000, "decay_steps": 2000},
}
TRAINING = {
    "independent": {
        **{**_DISCOUNTED, "discount": 1.0, "entropy_decay_steps": 2600},
        **{"num_steps": 1500, "decay_steps": 3500},
    },
    "medium": _LONG,
    "hard": _LONG,
}
# Of the run that a seed starts from, if it does.
START = {"independent": _DISCOUNTED}


def wang_bandits(*, seed: int = 0, num_instances: int = 20_000) -> Table:
    """Builds the table.

    Args:
      seed: decides the instances.
      num_instances: of every cell.
    """
    families = {
        "independent": (
            bernoulli_bandit(num_arms=2, horizon=HORIZON),
            100 * 2 / 3 - bayes_optimal.two_armed_bandit_optimum(HORIZON),
        )
    }
    for family, best in BEST_ARM.items():
        optimum = best - bayes_optimal.correlated_bandit_optimum(family, HORIZON)
        families[family] = correlated_bandit(family=family), optimum
    cells = []
    for number, (column, (tasks, optimum)) in enumerate(families.items()):
        key = jax.random.fold_in(jax.random.key(seed), number)
        run = _measures(key, tasks, column != "independent", num_instances)
        cells += [
            Cell(row, column, measured, optimum=optimum)
            for row, measured in run.items()
        ]
        cells.append(Cell("Bayes optimum", column, partial(_exact, optimum)))

    for column, tasks, oracle, policy, num_episodes, optimum in (
        (
            INFORMATIVE,
            informative_bandit(),
            "optimal arm",
            bandit.InformativeArmFirst(),
            1,
            25.0 - bayes_optimal.informative_bandit_optimum(),
        ),
        (
            TWO_STEP,
            two_step(),
            "known state",
            BayesOptimalTwoStep(),
            100,
            70.0 - bayes_optimal.two_step_optimum(100),
        ),
    ):
        returns = trial_returns(
            tasks,
            lambda _, policy=policy: policy,
            num_episodes=num_episodes,
            oracle=oracle,
        )
        run = partial(
            measure, jax.random.key(seed), returns, num_instances=num_instances
        )
        cells += [
            Cell("Bayes-optimal learner", column, _once(run), optimum=optimum),
            Cell("Bayes optimum", column, partial(_exact, optimum)),
        ]
    learners = {
        **{
            family: ("wang-rl2", {"family": family, **TRAINING.get(family, {})})
            for family in families
        },
        INFORMATIVE: ("informative-rl2", {}),
        TWO_STEP: ("two-step-rl2", {}),
    }
    for column, (name, options) in learners.items():
        oracle = "known state" if column == TWO_STEP else "optimal arm"
        optimum = next(cell.optimum for cell in cells if cell.column == column)
        start = START.get(column)
        trained = _learned(
            jax.random.key(seed), name, options, start, oracle, num_instances
        )
        cells.append(Cell("RL²", column, trained, optimum=optimum, quick=False))
    order = [*_ROWS, "RL²", "Bayes-optimal learner", "Bayes optimum"]
    cells.sort(key=lambda cell: order.index(cell.row))
    columns = [*families, INFORMATIVE, TWO_STEP]
    cells.sort(key=lambda cell: columns.index(cell.column))
    return Table(
        name="wang-bandits",
        title="Wang et al. 2016, section 3",
        quantity="regret in 100 pulls of two arms, 5 of eleven, 100 two-step episodes",
        cells=tuple(cells),
        lower_is_better=True,
        notes=(
            "Gittins, Thompson sampling and UCB1 take arms to be independent. The "
            "paper's figures say: its learner is better than Thompson sampling and UCB "
            "on independent arms and worse than Gittins; the correlated families get "
            "harder from easy to hard.",
        ),
    )


_ROWS = ("random", "UCB1", "Thompson sampling", "Gittins index")


def _measures(key, tasks, correlated, num_instances):
    """Returns what measures each row of a two-armed family."""
    returns = partial(trial_returns, tasks, oracle="optimal arm")
    row = partial(_row, key, num_instances)
    measures = {
        "random": row(returns(lambda e: bandit.epsilon_greedy(2, epsilon=e)), 1.0),
        "UCB1": row(returns(lambda c: bandit.ucb1(2, exploration=c)), *GRID),
        "Thompson sampling": row(returns(lambda _: bandit.thompson_sampling(2))),
        "Gittins index": row(returns(lambda _: bandit.gittins(2, horizon=HORIZON))),
    }
    if correlated:
        measures["Bayes-optimal learner"] = row(
            returns(lambda _: bandit.correlated_arms())
        )
    return measures


def _learned(key, name, options, start, oracle, num_instances):
    """Returns what trains RL² on a family and measures its regret."""
    experiment = Choice(name).load()(**options)

    def regret(algorithm, agent):
        returns = agent_returns(
            experiment.tasks,
            algorithm,
            num_episodes=100 if name == "two-step-rl2" else 1,
            oracle=oracle,
        )
        return returns(key, agent, num_instances)[:, 0]

    return learned(name, options, regret, start=start)


def _row(key, num_instances, returns, *settings):
    return _once(
        partial(
            measure,
            key,
            returns,
            num_instances=num_instances,
            settings=settings or (None,),
            num_tuning=min(5000, num_instances),
            symbol="c" if len(settings) > 1 else "",
            lower_is_better=True,
        )
    )


def _once(run):
    """Drops the directory, which only training runs need."""
    return lambda _: run()


def _exact(value, _):
    return exact(value)
