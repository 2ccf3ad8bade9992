"""Runs notebooks as a reader would and keeps what they show.

    python notebooks/make.py notebooks/03_meta_gradients.ipynb …

With a hash of the code in their metadata, by which a test tells whether what a notebook
shows is of the code that it has.
"""

import hashlib
import json
import os
import sys
import time
from pathlib import Path

# The first code of every notebook: it does nothing where the package is installed.
INSTALL = """\
import importlib.util

if importlib.util.find_spec("metarl_jax") is None:  # on Colab
    %pip install -q metarl-jax"""


def code_hash(notebook: dict) -> str:
    """Returns a hash of the code of a notebook's cells, in order."""
    cells = [
        "".join(cell["source"])
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    ]
    return hashlib.sha256("\0".join(cells).encode()).hexdigest()


def main(paths: list[str]) -> None:
    """Runs notebooks and writes them with their outputs."""
    os.environ.pop("MPLBACKEND", None)  # figures are to be kept, as a reader sees them
    import nbformat
    from nbclient import NotebookClient

    for name in paths:
        path = Path(name)
        notebook = nbformat.read(path, as_version=4)
        begin = time.perf_counter()
        where = {"metadata": {"path": str(path.parent)}}
        NotebookClient(notebook, timeout=600, resources=where).execute()
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)
        notebook.metadata.pop("widgets", None)
        shown = json.loads(nbformat.writes(notebook))
        notebook.metadata["code"] = code_hash(shown)
        nbformat.write(notebook, path)
        print(f"{path}: {time.perf_counter() - begin:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
