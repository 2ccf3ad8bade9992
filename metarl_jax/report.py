"""A run, or several, on one page of HTML that opens without a network.

Of what was recorded: nothing is computed again, nothing of a run is imported.
"""

import base64
import html
import importlib.resources
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context

from metarl_jax import catalogue, plotting
from metarl_jax.options import written
from metarl_jax.plotting import tables
from metarl_jax.runs import drawable, files, history, protocol

_SAID = {
    "learning_curve": "Meta-training: the mean return of an episode before and after "
    "adaptation, as recorded at every meta-training step.",
    "adaptation_curve": "Held-out tasks: the mean return of fresh episodes after each "
    "round of adaptation.",
    "performance_profiles": "The share of held-out tasks on which more than a return "
    "is reached: a curve above another everywhere is better on easy and hard tasks.",
    "paths": "Where the agent goes on a few held-out tasks, before and after adapting.",
    "beliefs": "What the agent believes of a few held-out tasks, round by round.",
    "goal_beliefs": "Where the agent believes the goal is, and the exact posterior.",
}
_WIDTH = re.compile(r'<svg[^>]* width="([\d.]+)pt" height="([\d.]+)pt"')


def write_report(
    run_dirs: Sequence[str | Path],
    output: str | Path,
    *,
    x: str = "steps",
    labels: Sequence[str] = (),
    each: bool = False,
) -> Path:
    """Writes what was recorded of runs as one file of HTML.

    Configuration, curves, the adaptation table, figures, hardware, versions and the
    commands that repeat it; several runs beside one another, what differs first.

    Args:
      run_dirs: the directories of the runs.
      output: the file; its directory is made where there is none.
      x: what learning is drawn against, as in `metarl_jax.plotting.plot_runs`.
      labels: of the curves, likewise.
      each: whether every run is a curve of its own, likewise.

    Returns:
      The file.

    Raises:
      ValueError: if a directory is no run or given twice, a record is not what can be
        drawn, labels do not fit, or the file cannot be written.

    Warns:
      UserWarning: if runs that are compared were evaluated differently.
    """
    directories, output = [Path(run_dir) for run_dir in run_dirs], Path(output)
    if output.is_dir():
        raise ValueError(f"the report must be a file; {output} is a directory")
    records = plotting.read_runs(directories, labels=labels, each=each)
    with rc_context(plotting.STYLE):
        figures = {
            name: plotting.as_svg(figure)
            for name, figure in plotting.draw(records, x=x).items()
        }
    seen = (drawable.read_inspection(records.alone) if records.alone else None) or {}
    inside = {f"inspected_{part}": record["said"] for part, record in seen.items()}
    configs = [files.read_config(directory) for directory in directories]
    names = _names(directories)
    title = " and ".join(dict.fromkeys([*records.metrics, *records.evaluations]))
    title = title or " and ".join(names)
    sections = [
        _section("Adaptation to held-out tasks", _adaptation(records, figures)),
        _section("Which differences are real", _differences(records, figures)),
        _section("Meta-training", _figure("learning_curve", figures)),
        _section(
            "What it does",
            _moving(directories)
            + "".join(_figure(name, figures) for name in list(_SAID)[3:]),
        ),
        _section(
            "What was learned",
            "".join(_figure(name, figures, inside) for name in inside),
        ),
        _section("Configuration", _columns(names, [_options(c) for c in configs])),
        _section("Cost and measurement", _columns(names, _costs(directories, configs))),
        _section("Hardware and versions", _columns(names, [_made(c) for c in configs])),
        _section("To repeat it", _commands(directories, configs)),
    ]
    text = _page(title, "".join(sections))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        files.replace_text(output, text)
    except OSError as error:
        raise ValueError(f"cannot write {output}: {error}") from None
    return output


def repeated(config: Mapping[str, Any]) -> list[str] | None:
    """Returns the words of the command that trains a run again, all options said.

    So that it does not depend on what the defaults will be.

    Args:
      config: `config.json`.

    Returns:
      From `metarl-jax` on; None where the run was made of no names, but in Python.
    """
    chosen = config.get("chosen") or {"name": config["experiment"]}
    name, method = chosen.get("name"), chosen.get("method")
    known = [*catalogue.entries("experiments"), *catalogue.entries("worlds")]
    if not isinstance(name, str) or not (name in known or catalogue.is_own(name)):
        return None
    words = ["metarl-jax", "train", name]
    for option, value in (("method", method), ("policy", chosen.get("policy"))):
        words += [f"--{option}", str(value)] if value is not None else []
    seeds = {"seed": config["seed"], "num_seeds": config["num_seeds"]}
    if config.get("mesh") is not None:
        seeds["mesh"] = config["mesh"]
    if config.get("start_from") is not None:
        seeds["start_from"] = config["start_from"]["run"]
    return words + written({**config["options"], **seeds})


def _adaptation(records: plotting.Records, figures: Mapping[str, bytes]) -> str:
    if not records.evaluations:
        return "<p>Not evaluated yet.</p>"
    results = records.evaluations
    steps = range(1 + max(max(r["adaptation_step"]) for r in results.values()))
    unit = " or ".join(
        dict.fromkeys(
            r.get("adaptation_unit", "adaptation steps") for r in results.values()
        )
    )
    head = ["", *(f"after {step}" for step in steps)]
    rows = []
    for label, result in results.items():
        for name, row in tables.rows_of(result).items():
            if len(results) > 1 and name != "meta-learned":
                continue
            shown = label if len(results) > 1 else name
            shown += " (published)" * (name in result["published"])
            cells = [_cell(values) for values in row[: len(steps)]]
            rows.append([_text(shown), *cells, *[""] * (len(steps) - len(cells))])
    said = dict.fromkeys(
        f"Mean and {protocol.interval(result)}, {protocol.counts(result)}, by {unit}."
        for result in results.values()
    )
    if found := protocol.differences(list(results.values())):
        said[f"The runs were evaluated differently: {found}."] = None
    paragraphs = "".join(f"<p>{_text(text)}</p>" for text in said)
    return _figure("adaptation_curve", figures) + _table(head, rows) + paragraphs


def _differences(records: plotting.Records, figures: Mapping[str, bytes]) -> str:
    if len(records.evaluations) < 2:
        return ""
    head, rows, said = tables.differences_cells(records.evaluations)
    if not rows:
        return ""
    table = _table(head, [[_text(cell) for cell in row] for row in rows])
    return f"{table}<p>{said}</p>" + _figure("performance_profiles", figures)


def _options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what decides what is learned."""
    chosen = config.get("chosen") or {"name": config["experiment"]}
    names = {
        what: chosen[part]
        for what, part in (
            ("experiment or world", "name"),
            ("method", "method"),
            ("policy", "policy"),
        )
        if chosen.get(part) is not None
    }
    steps = {"num_steps": config.get("num_steps")}
    if start := config.get("start_from"):
        steps["starts from"] = f"step {start['step']} of {start['run']}"
    return {**names, **steps, **config["options"]}


def _costs(
    directories: Sequence[Path], configs: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Returns what training took and how it was measured."""
    found = []
    for directory, config in zip(directories, configs, strict=True):
        rows = history.read(directory)
        result = drawable.read_evaluation(directory) or {}
        per_step, skipped = (
            config.get("environment_steps"),
            [np.mean(row["skipped"]) for row in rows if row.get("skipped") is not None],
        )
        cost: dict[str, Any] = {
            "seeds": ", ".join(
                str(config["seed"] + i) for i in range(config["num_seeds"])
            ),
            "meta-training steps done": len(rows),
        }
        if per_step is not None:
            cost["environment steps, a seed"] = f"{per_step * len(rows):,}"
        if rows:
            cost["seconds of training"] = f"{rows[-1]['seconds']:.1f}"
        cost["updates left out, not finite"] = f"{sum(skipped):g}"
        for key, what in (
            ("compile_seconds", "seconds of compiling"),
            ("training_peak_memory_mib", "peak memory in MiB"),
            ("num_tasks", "held-out tasks, a seed"),
            ("num_episodes", "episodes of each, a round"),
            ("actions", "actions in the evaluation"),
            ("evaluation_seed", "seed of the evaluation"),
            ("evaluation_seconds", "seconds of the evaluation"),
        ):
            if key in result:
                cost[what] = result[key]
        found.append(cost)
    return found


def _made(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns on what and with what a run was made."""
    versions = config.get("versions")
    known = {"device": config.get("device"), "mesh": config.get("mesh")}
    known |= versions if isinstance(versions, Mapping) else {}
    return {name: value for name, value in known.items() if value is not None}


def _commands(directories: Sequence[Path], configs: Sequence[Mapping[str, Any]]) -> str:
    blocks = []
    for directory, config in zip(directories, configs, strict=True):
        words = repeated(config)
        if words is None:
            text = f"# {directory.name}: trained from Python; its options are above"
        else:
            text = _wrapped([*words, "--output-dir", f"{directory.name}-again"])
        if result := drawable.read_evaluation(directory):
            again = ["metarl-jax", "evaluate", f"{directory.name}-again"]
            last = str(max(result["adaptation_step"]))
            again += ["--num-tasks", str(result["num_tasks"])]
            again += ["--num-episodes", str(result["num_episodes"])]
            again += ["--num-adaptation-steps", last]
            again += ["--seed", str(result.get("evaluation_seed", 0))]
            text += "\n" + _wrapped(again)
        blocks.append(f"<pre>{_text(text)}</pre>")
    return "".join(blocks)


def _wrapped(words: Sequence[str], width: int = 84) -> str:
    """Writes a command over several lines, options with their values."""
    lines, parts = [], [[words[0]]]
    for word in words[1:]:
        if word.startswith("--"):
            parts.append([])
        parts[-1].append(shlex.quote(word))
    for part in parts:
        text = " ".join(part)
        if lines and len(lines[-1]) + len(text) < width:
            lines[-1] += f" {text}"
        else:
            lines.append(text)
    return " \\\n    ".join(lines)


def _columns(names: Sequence[str], records: Sequence[Mapping[str, Any]]) -> str:
    """Lays records out side by side, what differs first and marked."""
    keys = list(dict.fromkeys(key for record in records for key in record))
    cells = {key: [_shown(record.get(key)) for record in records] for key in keys}
    differ = [key for key in keys if len(set(cells[key])) > 1]
    rows = [
        [_text(key), *(f"<b>{_text(cell)}</b>" for cell in cells[key])]
        for key in differ
    ]
    rows += [[_text(key), *map(_text, cells[key])] for key in keys if key not in differ]
    return _table(["", *names] if len(names) > 1 else [], rows)


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else json.dumps(value)


def _cell(values: Sequence[float | None]) -> str:
    mean, low, high = values[:3]
    if mean is None:
        return "–"
    if low is None or high is None or low == high:
        return f"{mean:.2f}"
    return f"{mean:.2f} <small>[{low:.2f}, {high:.2f}]</small>"


def _names(directories: Sequence[Path]) -> list[str]:
    names = [directory.resolve().name for directory in directories]
    return names if len(set(names)) == len(names) else [str(d) for d in directories]


def _figure(
    name: str, figures: Mapping[str, bytes], said: Mapping[str, str] = _SAID
) -> str:
    if name not in figures:
        return ""
    data, text = base64.b64encode(figures[name]).decode(), html.escape(said[name])
    source = f"data:image/svg+xml;base64,{data}"
    width, height = _WIDTH.search(figures[name].decode()).groups()  # pyright: ignore
    wide = ' class="long"' if float(width) > 1.9 * float(height) else ""
    return (
        f'<figure><img{wide} src="{source}" alt="{text}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def _moving(directories: Sequence[Path]) -> str:
    """Shows what `metarl-jax animate` left, where there is one run."""
    path = directories[0] / files.ANIMATION
    if len(directories) > 1 or not path.is_file():
        return ""
    said = "Episodes on held-out tasks, before adaptation and after."
    data = base64.b64encode(path.read_bytes()).decode()
    return (
        f'<figure><img src="data:image/gif;base64,{data}" alt="{said}">'
        f"<figcaption>{said}</figcaption></figure>"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lays out rows of HTML; the first cell of each is its name."""
    top = "".join(f'<th scope="col">{_text(cell)}</th>' for cell in head)
    top = f"<thead><tr>{top}</tr></thead>" if head else ""
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>'
        + "".join(f"<td>{cell}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table>{top}<tbody>{body}</tbody></table></div>'


def _section(title: str, body: str) -> str:
    return f"<section><h2>{_text(title)}</h2>{body}</section>" if body else ""


def _text(value: Any) -> str:
    """Makes a name text, whatever stands in it."""
    return html.escape(str(value).encode("utf-8", "replace").decode())


def _page(title: str, body: str) -> str:
    style = importlib.resources.files("metarl_jax").joinpath("report.css").read_text()
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)}</title><style>{style}</style></head>"
        f"<body><main><h1>{_text(title)}</h1>{body}</main></body></html>\n"
    )
