"""What XLA is told while tests run, as far as it knows it: what it does not ends it."""

import mmap
from importlib.util import find_spec
from pathlib import Path

# Compiling is most of what the tests cost, and little runs long.
QUICK = {
    "xla_backend_optimization_level": "0",
    "xla_cpu_use_fusion_emitters": "false",
    "xla_cpu_opt_preset": "CPU_OPT_PRESET_FAST_COMPILE",
}
AS_USERS_HAVE_IT = {
    "xla_backend_optimization_level": "3",
    "xla_cpu_use_fusion_emitters": "true",
    "xla_cpu_opt_preset": "CPU_OPT_PRESET_DEFAULT",
}


def written(settings):
    """Returns as flags those of the settings that this jaxlib has."""
    spec = find_spec("jaxlib")
    libraries = [
        path
        for folder in spec.submodule_search_locations
        for path in Path(folder).glob("libjax_common.*")
    ]
    found = []
    for library in libraries:
        with (
            library.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text,
        ):
            found += [name for name in settings if text.find(name.encode()) >= 0]
    return " ".join(f"--{name}={settings[name]}" for name in found)
