"""Rule sets of XLand-MiniGrid, drawn so that each can be solved."""

from typing import Any, NamedTuple

import numpy as np

from metarl_jax.validation import check_at_least, check_positive

# What objects can be: ball, square, pyramid, key, hexagon, star, in ten colours.
KINDS, COLOURS = (3, 4, 5, 7, 11, 12), range(1, 11)
HOLD, NEAR, SIDE_BY_SIDE = 1, 3, 4  # goals
HELD, TOGETHER = 1, 3  # rules
GOAL_SIZE, RULE_SIZE = 5, 7  # numbers of an encoding


class RuleSets(NamedTuple):
    """Rule sets as xminigrid encodes them, padded with zeros; uint8."""

    goals: Any  # [N, 5]
    rules: Any  # [N, R, 7]
    objects: Any  # [N, I, 2] kind and colour


def make_rule_sets(
    *, num_rule_sets: int, num_rules: int = 1, num_distractors: int = 2, seed: int = 0
) -> RuleSets:
    """Draws rule sets that can be solved, no two alike.

    A goal is to hold an object, to stand beside one or to bring two side by side. With
    rules, what it is about is not there at first: a rule makes it of two objects side
    by side or of one that is held, and a rule before that one of those, a chain in all.
    Distractors belong to no rule.

    Args:
      num_rule_sets: N.
      num_rules: R, length of the chain; 0: the goal's objects are there.
      num_distractors: further objects.
      seed: decides all.

    Returns:
      The rule sets.

    Raises:
      ValueError: if a count is out of range.
    """
    check_positive(num_rule_sets=num_rule_sets)
    check_at_least(0, num_rules=num_rules, num_distractors=num_distractors, seed=seed)
    every = np.array([(kind, colour) for kind in KINDS for colour in COLOURS])
    # A goal has two objects at most, a rule makes one of two.
    num_objects = 2 + num_rules + num_distractors
    if num_objects + num_rules > len(every):
        raise ValueError(
            f"num_rules and num_distractors must leave objects that differ, of "
            f"{len(every)}; got {num_rules} and {num_distractors}"
        )
    rng = np.random.default_rng(seed)
    met, goals, rules, objects = set(), [], [], []
    while len(goals) < num_rule_sets:
        made = _draw(rng, every, num_rules, num_distractors, num_objects)
        key = b"".join(part.tobytes() for part in made)
        if key not in met:
            met.add(key)
            for kept, part in zip((goals, rules, objects), made, strict=True):
                kept.append(part)
    return RuleSets(np.stack(goals), np.stack(rules), np.stack(objects))


def _draw(rng, every, num_rules, num_distractors, num_objects):
    """Draws one rule set: goal `[5]`, rules `[max(R, 1), 7]` and objects `[I, 2]`."""
    pool = iter(every[rng.permutation(len(every))])
    kind = rng.choice([HOLD, NEAR, SIDE_BY_SIDE])
    wanted = next(pool)
    needed, about = [], [wanted]
    if kind == SIDE_BY_SIDE:
        about.append(next(pool))
        needed.append(about[1])
    goal = np.zeros(GOAL_SIZE, np.uint8)
    goal[: 1 + 2 * len(about)] = [kind, *np.ravel(about)]
    rules = np.zeros((max(num_rules, 1), RULE_SIZE), np.uint8)
    for i in range(num_rules):
        sources = [next(pool)]
        rule = rng.choice([HELD, TOGETHER])
        if rule == TOGETHER:
            sources.append(next(pool))
        encoded = [rule, *np.ravel(sources), *wanted]
        rules[i, : len(encoded)] = encoded
        # The first source is made by the next rule, others are there.
        needed += sources[1:]
        wanted = sources[0]
    needed.append(wanted)
    needed += [next(pool) for _ in range(num_distractors)]
    objects = np.zeros((num_objects, 2), np.uint8)
    objects[: len(needed)] = np.stack(needed)
    return goal, rules, objects
