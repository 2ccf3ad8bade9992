"""The site is of all pages there are, and links lead where they led."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from metarl_jax import catalogue

ROOT = Path(__file__).parent.parent
spec = importlib.util.spec_from_file_location("hooks", ROOT / "website" / "hooks.py")
hooks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(hooks)


def pages():
    """Every page of the navigation."""
    listed = re.findall(r"([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
    found = list(listed)
    for entries in hooks.navigation().values():
        for entry in entries:
            found += [entry] if isinstance(entry, str) else entry.values()
    return set(found)


def test_every_page_is_in_the_navigation_and_is_there():
    docs = {str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md")}
    made = {*hooks.OUTSIDE.values(), "api/metarl_jax.md"}
    made |= {f"worlds/{name}.md" for name in hooks.worlds()}
    made |= {f"api/{name}.md" for name in hooks.modules()}
    made |= {f"notebooks/{p.name}" for p in (ROOT / "notebooks").glob("*.ipynb")}
    assert docs | made == pages()


def test_every_algorithm_world_and_name_has_a_page():
    there = pages()
    for path in (ROOT / "metarl_jax" / "algorithms").glob("[a-z]*.py"):
        assert f"algorithms/{path.stem}.md" in there
    for name in catalogue.entries("worlds"):
        assert any(name in page for page in there), name
    told = "".join(p.read_text() for p in (ROOT / "docs" / "algorithms").glob("*.md"))
    for name in catalogue.entries("methods"):
        assert re.search(rf"(`|--method ){name}[`\s]", told), name
    shown = {name for found in hooks.modules().values() for name in found}
    for home in hooks.homes():
        assert f"metarl_jax.{home.rpartition('.')[0]}" in shown


@pytest.mark.parametrize(
    ("page", "link", "expected"),
    [
        ("README.md", "[a](docs/words.md)", "[a](words.md)"),
        ("README.md", "[a](CITATION.cff)", "a"),
        ("docs/README.md", "[a](../README.md#further)", "[a](about.md#further)"),
        ("docs/results/grid.md", "![a](../paths.png)", "![a](../paths.png)"),
        ("docs/results/grid.md", "[a](matrix.md#b)", "[a](matrix.md#b)"),
        ("CONTRIBUTING.md", "[a](docs/results/grid.md)", "[a](results/grid.md)"),
        ("docs/algorithms/maml.md", "[a](https://b.c)", "[a](https://b.c)"),
        ("docs/faq.md", "[a](#b)", "[a](#b)"),
    ],
)
def test_links_fit_the_site(page, link, expected):
    assert hooks.rewritten(f"x {link} y", page) == f"x {expected} y"


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("../docs/inspect.md#a", '<a href="../inspect.html#a">x</a>'),
        ("01_a.ipynb", '<a href="01_a.html">x</a>'),
        ("../README.md", '<a href="../about.html">x</a>'),
        ("../metarl_jax/envs/bandit.py", "x"),
        ("https://b.c/d.md", '<a href="https://b.c/d.md">x</a>'),
    ],
)
def test_links_of_notebooks_fit_the_site(link, expected):
    html = f'<p>y <a href="{link}">x</a></p>'
    found = hooks.rewritten_page(html, "notebooks/00_quickstart.ipynb")
    assert found == f"<p>y {expected}</p>"


def test_own_environments_are_two_links_from_the_readme():
    text = (ROOT / "README.md").read_text().lower()
    assert "[your own environment](docs/extending.md#an-environment" in text


def test_the_site_is_built_strictly(tmp_path):
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert (tmp_path / "algorithms" / "maml.html").exists()
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        shown = (tmp_path / "notebooks" / path.name).with_suffix(".html").read_text()
        assert "data:image/png" in shown, path.name
        for link in re.findall(r'href="([^":#]+\.html)', shown):
            assert (tmp_path / "notebooks" / link).exists(), (path.name, link)
