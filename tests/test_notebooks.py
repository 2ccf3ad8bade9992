"""What a notebook shows is of the code that it has; pictures are not compared."""

import importlib.util
import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "notebooks"
spec = importlib.util.spec_from_file_location("make", FOLDER / "make.py")
make = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make)
READ = {path.stem: json.loads(path.read_text()) for path in FOLDER.glob("*.ipynb")}
SHOWN = sorted(READ)


@pytest.mark.parametrize("name", SHOWN)
def test_what_is_shown_is_of_this_code(name):
    book = READ[name]
    shown = book["metadata"].get("code")
    assert shown == make.code_hash(book), "run notebooks/make.py"
    cells = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, 1 + len(cells)))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [o for o in outputs if o["output_type"] == "error"]
    assert any("image/png" in o.get("data", {}) for o in outputs)


@pytest.mark.parametrize("name", SHOWN)
def test_the_package_is_installed_first_where_it_is_missing(name):
    first = next(cell for cell in READ[name]["cells"] if cell["cell_type"] == "code")
    expected = make.INSTALL.splitlines(keepends=True)
    assert first["source"] == expected, f"its first code must be {make.INSTALL!r}"
    assert not first["outputs"]  # here it was there


def test_a_change_of_code_is_seen():
    book = READ[SHOWN[0]]
    changed = json.loads(json.dumps(book))
    code = next(cell for cell in changed["cells"] if cell["cell_type"] == "code")
    code["source"] = [*code["source"], "\n1"]
    assert make.code_hash(changed) != make.code_hash(book)
    code["source"], code["outputs"] = code["source"][:-1], []
    assert make.code_hash(changed) == make.code_hash(book)
