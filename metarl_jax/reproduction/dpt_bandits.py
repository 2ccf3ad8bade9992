"""Lee et al. 2023, arXiv 2306.14892, section 5: online regret on Gaussian bandits.

The paper shows curves, not numbers: its pretrained transformer explores as well as
Thompson sampling and the upper bound do. Here are 100 pulls of its bandits.
"""

from functools import partial

import jax
import numpy as np

from metarl_jax.envs.bandit import gaussian_bandit
from metarl_jax.policies.random import PersistentRandomPolicy
from metarl_jax.reproduction.learned import learned
from metarl_jax.reproduction.measuring import agent_returns, measure, trial_returns
from metarl_jax.reproduction.table import Cell, Table
from metarl_jax.strategies.gaussian_bandit import thompson_sampling, ucb

NUM_ARMS, HORIZON, COLUMN = 5, 100, "5 arms"
SCALINGS = tuple(np.round(np.arange(0.05, 1.05, 0.05), 2).tolist())

# Of the experiment bandit-dpt.
TRAINING = {"hidden_sizes": (64,), "num_steps": 10_000, "decay_steps": 10_000}


def dpt_bandits(*, seed: int = 0, num_instances: int = 20_000) -> Table:
    """Builds the table.

    Args:
      seed: decides the instances.
      num_instances: of every cell.
    """
    key = jax.random.key(seed)
    tasks = gaussian_bandit(num_arms=NUM_ARMS, horizon=HORIZON)
    returns = partial(trial_returns, tasks, oracle="optimal arm")

    def row(build, *settings, symbol=""):
        run = partial(
            measure,
            key,
            returns(build),
            num_instances=num_instances,
            settings=settings or (None,),
            num_tuning=min(5000, num_instances),
            symbol=symbol,
            lower_is_better=True,
        )
        return lambda _: run()

    def regret(algorithm, agent):
        returns = agent_returns(tasks, algorithm, oracle="optimal arm")
        return returns(key, agent, num_instances)[:, 0]

    def bound(scaling):
        return ucb(NUM_ARMS, exploration=scaling)

    at_random = PersistentRandomPolicy(tasks.action_space, persistence=0.0)
    rows = {
        "random arms": row(lambda _: at_random),
        "greedy": row(bound, 0.0),
        "UCB, as compared with": row(bound, 1.0),
        "UCB, best of twenty": row(bound, *SCALINGS, symbol="c"),
        "Thompson sampling": row(lambda _: thompson_sampling(NUM_ARMS)),
    }
    cells = [Cell(name, COLUMN, run) for name, run in rows.items()]
    trained = learned("bandit-dpt", TRAINING, regret)
    cells.append(Cell("DPT", COLUMN, trained, quick=False))
    return Table(
        name="dpt-bandits",
        title="Lee et al. 2023, section 5",
        quantity=f"regret in {HORIZON} pulls of Gaussian arms",
        cells=tuple(cells),
        lower_is_better=True,
        notes=(
            "Thompson sampling knows how the means are drawn and how much rewards "
            "vary: exact, DPT's samples would be of the same posterior.",
        ),
    )
