"""One of the processes that train a microscopic run together, started by a test.

    python one_of_several.py ARGUMENTS_OF_TRAIN OPTIONS_OF_MICROSCOPIC [PORT I N]

The first two are JSON.
"""

import json
import sys

from metarl_jax.runs import processes

training, experiment = map(json.loads, sys.argv[1:3])
if sys.argv[3:]:
    port, process_id, num_processes = map(int, sys.argv[3:])
    processes.join(f"localhost:{port}", num_processes, process_id)

# Not before: gymnax makes JAX look for devices.
from microscopic import microscopic  # noqa: E402

from metarl_jax.training import train  # noqa: E402

trained = train(microscopic(**experiment), name="microscopic", **training)
print("finished" if trained.finished else "stopped", "after", trained.step)
