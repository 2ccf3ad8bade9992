"""What the site adds to the pages in docs/: all else that there is, found, not listed.

The README and its like stand outside of docs/, and links between them are made to fit.
Each algorithm, world and public module has a page of its own, made of its docstrings.
"""

import ast
import os
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "metarl_jax"
# Pages that stand outside of docs/, and what they are called on the site.
OUTSIDE = {
    "README.md": "about.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
PACKAGES = ("envs", "policies", "strategies", "inspection", "plotting", "export")
PACKAGES += ("runs",)
LINK = re.compile(r"\[([^\[\]]*)\]\(([^)\s#]*)(#[^)\s]*)?\)")


def rewritten(text: str, page: str) -> str:
    """Makes a page's relative links fit the site.

    Args:
      text: markdown.
      page: where it is in the repository, such as `"docs/results/grid.md"`.
    """
    here = (ROOT / page).parent
    site_here = (ROOT / "docs" / (site_path(page) or "")).parent

    def link(match):
        said, target, anchor = match[1], match[2], match[3] or ""
        if "://" in target or not target:
            return match[0]
        there = (here / target).resolve()
        inside = site_path(str(there.relative_to(ROOT)))
        if inside is None:  # a file of the repository that is no page
            return said
        path = os.path.relpath(ROOT / "docs" / inside, site_here)
        return f"[{said}]({path}{anchor})"

    return LINK.sub(link, text)


def rewritten_page(html: str, page: str) -> str:
    """Makes relative links fit the site in a page that was made of a notebook."""
    here = ROOT / page

    def link(match):
        target, said = match[1], match[3]
        inside = site_path(str((here.parent / target).resolve().relative_to(ROOT)))
        if inside is None:
            return said
        path = os.path.relpath(inside, Path(page).parent)
        return f'<a href="{Path(path).with_suffix(".html")}{match[2] or ""}">{said}</a>'

    pages = r'<a href="([^":#]+\.(?:md|py|ipynb))(#[^"]*)?"[^>]*>(.*?)</a>'
    return re.sub(pages, link, html)


def site_path(path: str) -> str | None:
    """Returns where a file of the repository is on the site, or None."""
    if path in OUTSIDE:
        return OUTSIDE[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return path if path.startswith("notebooks/") else None


def modules() -> dict[str, list[str]]:
    """Lists the public modules of the package, by the page that shows them."""
    top = [p.stem for p in sorted(PACKAGE.glob("*.py")) if p.stem != "__init__"]
    pages = {"library": [f"metarl_jax.{name}" for name in top]}
    for name in PACKAGES:
        found = sorted((PACKAGE / name).rglob("*.py"))
        pages[name] = [
            ".".join(("metarl_jax", *path.relative_to(PACKAGE).with_suffix("").parts))
            for path in found
            if path.stem != "__init__"
        ]
    return pages


def worlds() -> dict[str, str]:
    """Returns the worlds that have no page in docs/worlds, and a page for each."""
    pages = {}
    for path in sorted((PACKAGE / "worlds").glob("*.py")):
        name = path.stem.replace("_", "-")
        if path.stem == "__init__" or (ROOT / f"docs/worlds/{name}.md").exists():
            continue
        pages[name] = (
            f"# {name}\n\n"
            f"```sh\nmetarl-jax train {name}\nmetarl-jax train {name} --help\n```\n\n"
            f"::: metarl_jax.worlds.{path.stem}\n"
            "    options:\n      show_root_heading: false\n"
        )
    return pages


def first_heading(path: Path) -> str:
    """Returns what a page is called."""
    return re.search(r"^# (.*)$", path.read_text(encoding="utf-8"), re.M)[1]  # pyright: ignore


def navigation() -> dict[str, list]:
    """Returns what is found besides the navigation that is written down."""
    docs = ROOT / "docs"

    def pages(folder):
        found = sorted((docs / folder).glob("*.md"))
        index = [f"{folder}/{p.name}" for p in found if p.stem in ("README", "index")]
        rest = [
            {first_heading(p): f"{folder}/{p.name}"}
            for p in found
            if p.stem not in ("README", "index")
        ]
        return [*index, *rest]

    listed = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    more = [p for p in sorted(docs.glob("*.md")) if f"{p.name}\n" not in listed]
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    made = [{name: f"worlds/{name}.md"} for name in worlds()]
    return {
        "How to": [{first_heading(p): p.name} for p in more],
        "Algorithms": pages("algorithms"),
        "Worlds": [*pages("worlds"), *made],
        "Results": pages("results"),
        "Notebooks": [
            {p.stem.replace("_", " "): f"notebooks/{p.name}"} for p in notebooks
        ],
        "API": [
            {"metarl_jax": "api/metarl_jax.md"},
            *({name: f"api/{name}.md"} for name in modules()),
        ],
    }


def on_config(config):
    """Completes the navigation."""
    found = navigation()
    for entry in config["nav"]:
        for title in entry:
            entry[title] = [*(entry[title] or []), *found.get(title, [])]
    return config


def on_files(files, config):
    """Adds what stands outside of docs/, and what is made."""
    from mkdocs.structure.files import File

    for name, there in OUTSIDE.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, there, content=text))
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        there = config.site_dir, config.use_directory_urls
        files.append(File(f"notebooks/{path.name}", str(ROOT), *there))
    for name, text in worlds().items():
        files.append(File.generated(config, f"worlds/{name}.md", content=text))
    for name, found in modules().items():
        blocks = "\n".join(f"::: {module}\n" for module in found)
        page = f"# {name}\n\n{blocks}"
        files.append(File.generated(config, f"api/{name}.md", content=page))
    page = "# metarl_jax\n\nWhat a notebook needs, imported from the package.\n\n"
    page += "\n".join(f"- [{h.split('.')[-1]}][metarl_jax.{h}]" for h in homes())
    files.append(File.generated(config, "api/metarl_jax.md", content=page))
    return files


# Before the plugin that makes pages of notebooks, which would else pass for downloads.
on_files.mkdocs_priority = 100


def homes() -> list[str]:
    """Returns the names that the package itself offers, as where they are defined."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOMES":
            table = ast.literal_eval(node.value)
            return [_defined(module, name) for name, module in table.items()]
    raise ValueError("metarl_jax/__init__.py must have the table _HOMES")


def _defined(module: str, name: str) -> str:
    """Returns where a name is defined that a module may only pass on."""
    path = PACKAGE / f"{module.replace('.', '/')}.py"
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.ImportFrom):
            continue
        if any(alias.asname == name for alias in node.names):
            return f"{str(node.module).removeprefix('metarl_jax.')}.{name}"
    return f"{module}.{name}"


def on_page_markdown(markdown, page, config, files):
    """Makes links fit, and shows below an algorithm's page its documentation."""
    del config, files
    path = page.file.src_uri
    outside = {there: name for name, there in OUTSIDE.items()}
    markdown = rewritten(markdown, outside.get(path, f"docs/{path}"))
    name = Path(path)
    module = PACKAGE / "algorithms" / f"{name.stem}.py"
    if str(name.parent) == "algorithms" and module.exists():
        markdown += f"\n::: metarl_jax.algorithms.{name.stem}\n"
    return markdown


def on_page_content(html, page, config, files):
    """Makes links of notebooks fit."""
    del config, files
    path = page.file.src_uri
    return rewritten_page(html, path) if path.endswith(".ipynb") else html
