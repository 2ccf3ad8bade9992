"""Draws how the trained rows of the published tables have learned.

    python benchmarks/learning_curves.py

All is had from what `metarl-jax reproduce TABLE` has recorded of its trained cells:
nothing is trained. Writes `docs/results/` and the page's name, `-curves.png`.
"""

import json
from pathlib import Path

from metarl_jax.reproduction.figure import draw_curves

TABLES = Path(__file__).parent / "results" / "reproductions"
PAGES = Path(__file__).parent.parent / "docs" / "results"
NAMES = {
    "pearl-half-circle": "half-circle",
    "rl2-bandits": "bandits",
    "rl2-mdps": "mdps",
    "varibad-gridworld": "grid",
    "wang-bandits": "dependent-arms",
}


def main() -> None:
    for table, page in NAMES.items():
        result = json.loads((TABLES / table / "table.json").read_text())
        print(draw_curves(result, PAGES / f"{page}-curves.png"))


if __name__ == "__main__":
    main()
