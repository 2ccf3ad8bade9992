"""Where the time of a compiled program goes: by function, by line and by primitive.

XLA's profiler says how long each operation of the compiled program ran, and the text of
the program says what each was made of: the primitive, and the line that called it.
"""

import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax

import metarl_jax

PACKAGE = Path(metarl_jax.__file__).parent
# Their time is that of what they contain, which is counted by itself.
CONTAINERS = {"while", "call", "conditional"}


class Origin(NamedTuple):
    """What an operation of a compiled program was made of."""

    opcode: str  # of XLA
    primitive: str  # of JAX; XLA's opcode for what XLA has added by itself
    function: str  # `rollout.py episode.step`
    line: str  # `rollout.py:78`


class Hotspot(NamedTuple):
    """One operation's part in a program's time."""

    operation: str
    seconds: float  # in one call of the program
    origin: Origin


def compile_with_names(function: Callable, *args) -> jax.stages.Compiled:
    """Compiles a function so that its program says what its operations are.

    A program in the compilation cache may have been compiled from code that stood on
    other lines: unless the lines are a part of its key.
    """
    wanted = {
        "jax_compilation_cache_include_metadata_in_key": True,
        "jax_traceback_in_locations_limit": 10,
    }
    before = {option: getattr(jax.config, option) for option in wanted}
    for option, value in wanted.items():
        jax.config.update(option, value)
    try:
        return jax.jit(function).lower(*args).compile()
    finally:
        for option, value in before.items():
            jax.config.update(option, value)


def hotspots(
    program: jax.stages.Compiled,
    run: Callable[[], Any],
    *,
    repeats: int = 5,
    package: Path = PACKAGE,
) -> list[Hotspot]:
    """Profiles a compiled program.

    Args:
      program: from `compile_with_names`.
      run: calls it once.
      repeats: calls that are averaged, after one that is not.
      package: the folder whose lines are to be named; others only where the whole
        stack lies outside of it.

    Returns:
      Its operations, the slowest first. Of those that ran side by side each has its
      whole time, so that the sum may exceed the program's.
    """
    jax.block_until_ready(run())
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory() as directory:
        with jax.profiler.trace(directory, profiler_options=options):
            for _ in range(repeats):
                jax.block_until_ready(run())
        (path,) = Path(directory).rglob("*.xplane.pb")
        profile = jax.profiler.ProfileData.from_file(str(path))
        seconds = operation_seconds(profile)
    origins = operation_origins(program.as_text() or "", package)
    unknown = Origin("", "other programs", "", "")
    spots = [
        Hotspot(name, total / repeats, origins.get(name, unknown))
        for name, total in seconds.items()
    ]
    spots = [x for x in spots if x.origin.opcode not in CONTAINERS]
    return sorted(spots, key=lambda spot: -spot.seconds)


def operation_seconds(profile: Any) -> dict[str, float]:
    """Adds up the seconds of each operation in a profile, whatever thread it ran on.

    An operation that goes on in other threads has an event that ends at once, and one
    called `end: …` where it was done. Both carry the same number.
    """
    seconds: dict[str, float] = defaultdict(float)
    # The host of another device has events of its operations too: their launches.
    on_device = [plane for plane in profile.planes if plane.name.startswith("/device:")]
    for plane in on_device or profile.planes:
        started, done = [], {}
        for event in (event for line in plane.lines for event in line.events):
            stats = dict(event.stats)
            end = event.start_ns + event.duration_ns
            if "hlo_op" in stats:
                started.append((stats["hlo_op"], event.start_ns, end, stats.get("_p")))
            elif event.name.startswith("end: "):
                done[stats.get("_c")] = event.start_ns
        for name, start, end, number in started:
            seconds[name] += 1e-9 * (max(end, done.get(number, end)) - start)
    return dict(seconds)


def operation_origins(text: str, package: Path = PACKAGE) -> dict[str, Origin]:
    """Reads a compiled program's text for what each operation was made of.

    A fusion is that of its last operation, or of a product in it. An operation that XLA
    added, such as a loop's copies, is that of the one in whose body it stands.
    """
    files, functions, locations, frames = (
        _table(text, name)
        for name in ("FileNames", "FunctionNames", "FileLocations", "StackFrames")
    )

    def place(frame: int) -> tuple[str, str]:
        """Returns the function and line of the innermost frame in the package."""
        stack = []
        while frame:
            fields = _numbers(frames[str(frame)])
            location = _numbers(locations[str(fields["file_location_id"])])
            path = Path(files[str(location["file_name_id"])].strip('"'))
            name = functions[str(location["function_name_id"])].strip('"')
            name = name.replace(".<locals>", "")
            stack.append((path, name, location["line"]))
            frame = fields["parent_frame_id"] - 1  # printed one too high
        ours = [entry for entry in stack if package in entry[0].parents] or stack
        path, name, line = ours[0]
        return f"{path.name} {name}", f"{path.name}:{line}"

    found: dict[str, tuple[str, str, str | None, int | None]] = {}
    called_by: dict[str, str] = {}  # the operation whose body a computation is
    computation = ""
    for row in text.splitlines():
        if match := re.match(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{$", row):
            computation = match[1]
        elif match := re.match(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*)$", row):
            name, rest = match.groups()
            # The type before the opcode may be a tuple, of layouts in brackets.
            opcode = re.search(r"(?:^|[\s)\]}])([a-z][\w\-]*)\(", rest)
            path = re.search(r'op_name="([^"]*)"', rest)
            frame = re.search(r"stack_frame_id=(\d+)", rest)
            found[name] = (
                opcode[1] if opcode else "",
                computation,
                path[1].rpartition("/")[2] if path else None,
                int(frame[1]) if frame else None,
            )
            for body in re.findall(
                r"(?:body|condition|to_apply|calls)=%?([\w.\-]+)", rest
            ):
                called_by[body] = name

    # XLA calls a product that it has merged with a transposition a transposition.
    products = set()
    for name, (opcode, inside, _, _) in found.items():
        if opcode == "dot":
            products |= {name, called_by.get(inside)}

    origins = {}
    for name, (opcode, inside, primitive, frame) in found.items():
        if name in products:
            primitive = "dot_general"
        while frame is None and inside in called_by:
            _, inside, _, frame = found[called_by[inside]]
        function, line = place(frame) if frame else ("", "")
        origins[name] = Origin(opcode, primitive or opcode, function, line)
    return origins


def shares(spots: Iterable[Hotspot], field: str) -> dict[str, float]:
    """Returns the shares of the time by `Origin`'s field, the largest first."""
    spots = list(spots)
    total = sum(spot.seconds for spot in spots)
    sums: dict[str, float] = defaultdict(float)
    for spot in spots:
        sums[getattr(spot.origin, field)] += spot.seconds / total
    return dict(sorted(sums.items(), key=lambda item: -item[1]))


def _table(text: str, name: str) -> dict[str, str]:
    """Reads one of the numbered tables at a program's head."""
    _, _, rest = text.partition(f"\n{name}\n")
    rows = rest.partition("\n\n")[0].splitlines()
    return dict(row.split(" ", 1) for row in rows)


def _numbers(row: str) -> dict[str, int]:
    return {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", row)}
