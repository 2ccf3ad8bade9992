"""Recorded experience on disk: learning histories, to imitate and to learn from.

A data set is a folder, and means the same to any program that reads NumPy's files:

- `header.json`: `format` (`"metarl_jax histories"`), `version`, `num_histories` N,
  `num_episodes` E, `horizon` T, `about` (whatever whoever made it wants to say), and
  `arrays`: by name, the `file`, `dtype` and `shape` that a reader gets;
- one `.npy` file an array, never pickled. `obs`, `action`, `log_prob`, `reward`,
  `next_obs`, `terminated`, `truncated` and `mask` are those of
  `metarl_jax.types.Trajectory`, `[N, E, T, ...]`, episodes in the order of learning;
  `task/…` are the tasks' parameters, `[N, ...]`.

Numbers that are whole and within 0 and 255 are stored as bytes, which `stored` says in
the header. A data set is read where it lies: arrays are mapped into memory, and of one
larger than memory only what is drawn is read.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax import histories
from metarl_jax.types import (
    Agent,
    Key,
    MetaAlgorithm,
    Task,
    TaskDistribution,
    Trajectory,
)
from metarl_jax.validation import check_positive, check_seed

FORMAT, VERSION = "metarl_jax histories", 1


class Dataset(NamedTuple):
    """Histories that lie in a folder.

    Attributes:
      steps: a `Trajectory` of arrays as they are stored, `[N, E, T, ...]`.
      tasks: parameters of the tasks by name, `[N, ...]`.
      header: what `header.json` says.
    """

    steps: Trajectory
    tasks: Mapping[str, np.ndarray]
    header: Mapping[str, Any]

    @property
    def num_histories(self) -> int:
        """N."""
        return self.header["num_histories"]

    @property
    def num_episodes(self) -> int:
        """E."""
        return self.header["num_episodes"]

    @property
    def horizon(self) -> int:
        """T."""
        return self.header["horizon"]


def save_dataset(
    folder: str | Path,
    steps: Trajectory,
    tasks: Task = None,
    *,
    about: Mapping[str, Any] | None = None,
) -> Path:
    """Writes histories into a new folder.

    Args:
      folder: it must not be there yet, or be empty.
      steps: `[N, E, T, ...]`.
      tasks: leaves `[N, ...]`, or None.
      about: what else is to be said, as JSON can.

    Returns:
      The folder.

    Raises:
      ValueError: if something stands in the folder, the arrays differ in N, E or T, or
        observations are not one array.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"a data set needs a folder of its own; {folder} is not empty")
    named = _named(steps, tasks)
    lead = named["mask"].shape
    for name, x in named.items():
        wanted = lead[:1] if name.startswith("task/") else lead
        if x.shape[: len(wanted)] != wanted:
            raise ValueError(
                f"{name} must begin with the axes {list(wanted)}, as the mask does; "
                f"got {list(x.shape)}"
            )
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for name, x in named.items():
        file = name.replace("/", ".") + ".npy"
        stored = _narrow(x)
        np.save(folder / file, stored, allow_pickle=False)
        arrays[name] = {"file": file, "dtype": str(x.dtype), "shape": list(x.shape)}
        if stored.dtype != x.dtype:
            arrays[name]["stored"] = str(stored.dtype)
    num_histories, num_episodes, horizon = lead
    header = {
        "format": FORMAT,
        "version": VERSION,
        "num_histories": num_histories,
        "num_episodes": num_episodes,
        "horizon": horizon,
        "about": dict(about or {}),
        "arrays": arrays,
    }
    # Last, so that a folder with a header is whole.
    (folder / "header.json").write_text(json.dumps(header, indent=1) + "\n")
    return folder


def load_dataset(folder: str | Path) -> Dataset:
    """Opens histories where they lie.

    Args:
      folder: that `save_dataset` wrote.

    Returns:
      A `Dataset` whose arrays are mapped, not read.

    Raises:
      ValueError: if it is no data set, of another version, or an array is not what the
        header says.
    """
    path = Path(folder) / "header.json"
    if not path.is_file():
        raise ValueError(f"{folder} must hold a header.json, as a data set does")
    header = json.loads(path.read_text())
    if (header.get("format"), header.get("version")) != (FORMAT, VERSION):
        raise ValueError(
            f"{path} must be of the format {FORMAT!r}, version {VERSION}; got "
            f"{header.get('format')!r}, version {header.get('version')!r}"
        )
    arrays = {}
    for name, told in header["arrays"].items():
        x = np.load(path.parent / told["file"], mmap_mode="r", allow_pickle=False)
        dtype = told.get("stored", told["dtype"])
        if list(x.shape) != told["shape"] or str(x.dtype) != dtype:
            raise ValueError(
                f"{told['file']} must hold {dtype} of shape {told['shape']}, as the "
                f"header says; it holds {x.dtype} of shape {list(x.shape)}"
            )
        arrays[name] = x
    missing = [name for name in Trajectory._fields if name not in arrays]
    if missing:
        raise ValueError(f"{path} must name all fields of steps; it lacks {missing}")
    steps = Trajectory(*(arrays[name] for name in Trajectory._fields))
    tasks = {
        name.removeprefix("task/"): x
        for name, x in arrays.items()
        if name.startswith("task/")
    }
    return Dataset(steps, tasks, header)


def read(dataset: Dataset, chosen: np.ndarray, episodes: np.ndarray) -> Trajectory:
    """Reads episodes, of the types they had.

    Args:
      dataset: from `load_dataset`.
      chosen: `[W]`, of which history.
      episodes: `[W, E]`, which of its episodes.

    Returns:
      `[W, E, T, ...]`.
    """
    rows = np.asarray(chosen)[:, None], np.asarray(episodes)
    dtypes = [dataset.header["arrays"][name]["dtype"] for name in Trajectory._fields]
    return Trajectory._make(
        np.asarray(x[rows]).astype(dtype)
        for x, dtype in zip(dataset.steps, dtypes, strict=True)
    )


def windows(
    dataset: Dataset, *, num_episodes: int, stride: int = 1
) -> Callable[[Key, int], Trajectory]:
    """Makes what draws windows of histories within a compiled program.

    Args:
      dataset: from `load_dataset`; only what is drawn is read.
      num_episodes: E, of a window.
      stride: every which episode stands in it.

    Returns:
      `(key, W) -> [W, E, T, ...]`, W windows of histories and starts drawn uniformly.

    Raises:
      ValueError: if a window spans more episodes than a history has.
    """
    check_positive(num_episodes=num_episodes, stride=stride)
    span = (num_episodes - 1) * stride + 1
    if span > dataset.num_episodes:
        raise ValueError(
            f"a window spans {span} episodes, and must be no longer than a history, "
            f"which has {dataset.num_episodes}"
        )
    told = dataset.header["arrays"]

    def draw(key: Key, num_windows: int) -> Trajectory:
        key_history, key_start = jax.random.split(key)
        history = jax.random.randint(
            key_history, (num_windows,), 0, dataset.num_histories
        )
        start = jax.random.randint(
            key_start, (num_windows,), 0, dataset.num_episodes - span + 1
        )
        episodes = start[:, None] + stride * jnp.arange(num_episodes)
        shapes = Trajectory._make(
            jax.ShapeDtypeStruct(
                (num_windows, num_episodes, *told[name]["shape"][2:]),
                told[name]["dtype"],
            )
            for name in Trajectory._fields
        )
        return jax.pure_callback(
            lambda history, episodes: read(dataset, history, episodes),
            shapes,
            history,
            episodes,
        )

    return draw


def record_histories(
    folder: str | Path,
    tasks: TaskDistribution,
    learner: MetaAlgorithm,
    agent: Agent | None = None,
    *,
    num_tasks: int,
    num_rounds: int,
    num_episodes: int,
    seed: int = 0,
    about: Mapping[str, Any] | None = None,
) -> Path:
    """Lets agents learn tasks, and writes all their episodes.

    Args:
      folder: as in `save_dataset`.
      tasks: the family; tasks are those of meta-training.
      learner: its policy acts, its `adapt` learns.
      agent: where each begins; None for `learner.init`, another draw for each task.
      num_tasks: N.
      num_rounds: rounds of acting and adapting.
      num_episodes: of a round.
      seed: of all that is drawn.
      about: what else is to be said in the header.

    Returns:
      The folder.

    Raises:
      ValueError: if a count is below 1 or the folder is not empty.
    """
    check_positive(num_tasks=num_tasks)
    check_seed(seed)

    def one(key):
        key_task, key_init, key_learn = jax.random.split(key, 3)
        task = tasks.sample(key_task)
        start = learner.init(key_init).agent if agent is None else agent
        steps = histories.history(
            key_learn,
            tasks,
            learner,
            start,
            task,
            num_rounds=num_rounds,
            num_episodes=num_episodes,
        )
        return steps, task

    keys = jax.random.split(jax.random.key(seed), num_tasks)
    steps, drawn = jax.device_get(jax.jit(jax.vmap(one))(keys))
    told = {"world": tasks.env.name, "seed": seed, "num_rounds": num_rounds}
    return save_dataset(folder, steps, drawn, about={**told, **(about or {})})


def _named(steps: Trajectory, tasks: Task) -> dict[str, np.ndarray]:
    found = {}
    for name, x in steps._asdict().items():
        if len(jax.tree.leaves(x)) != 1 or not hasattr(x, "dtype"):
            raise ValueError(
                f"{name} of a data set must be one array; got {jax.tree.structure(x)}"
            )
        found[name] = np.asarray(x)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tasks):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        found[f"task/{name or 'task'}"] = np.asarray(leaf)
    return found


def _narrow(x: np.ndarray) -> np.ndarray:
    """Returns bytes where nothing is lost by them."""
    if x.dtype == bool or x.dtype.itemsize == 1 or x.size == 0:
        return x
    if not np.all((x >= 0) & (x <= 255) & (x == np.floor(x))):
        return x
    # A negative zero is whole, and would be lost.
    return x if np.signbit(x.astype(float)).any() else x.astype(np.uint8)
