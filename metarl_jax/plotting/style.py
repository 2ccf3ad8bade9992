"""How every figure looks: colours, letters, legends, and how it is written."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from metarl_jax.runs import files

# Okabe & Ito's palette, told apart by every kind of colour vision.
PALETTE = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
    "#000000",
)

GREY = "#6b6b6b"

STYLE: dict[Any, Any] = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.labelsize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "savefig.dpi": 150,
    "pdf.fonttype": 42,  # letters as letters, which publishers ask for
    "svg.hashsalt": "metarl_jax",  # the same figure, the same file
}

FORMATS = ("png", "pdf", "svg")


def write_png(figure: Figure, path: Path) -> Path:
    """Writes a figure whose directory exists; a link in its place is replaced.

    Returns:
      The path.

    Raises:
      ValueError: if the file cannot be written.
    """
    drawn = io.BytesIO()
    FigureCanvasAgg(figure).print_png(drawn)
    try:
        files.replace_bytes(path, drawn.getvalue())
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error}") from None
    return path


def write_figures(
    figures: Mapping[str, Figure], output: Path, image_format: str | None = None
) -> list[Path]:
    """Writes figures into a directory, or into one file that the output names.

    Args:
      figures: by the names of their files, without suffix.
      output: a directory, which is made where there is none; or a file that ends in
        `.png`, `.pdf` or `.svg`. A PDF has a page for each figure.
      image_format: `"png"`, `"pdf"` or `"svg"`; None for the file's, or PNG.

    Returns:
      The files written.

    Raises:
      ValueError: if the format is none or not the file's, a PNG or SVG would have to
        hold several figures, or a file cannot be written.
    """
    suffix = output.suffix.lower().removeprefix(".")
    whole = suffix if suffix in FORMATS and not output.is_dir() else None
    chosen = image_format or whole or "png"
    if chosen not in FORMATS or whole not in (None, chosen):
        required = f"that of {output}" if whole else f"one of {', '.join(FORMATS)}"
        raise ValueError(f"the format must be {required}; got {image_format!r}")
    if whole and whole != "pdf" and len(figures) > 1:
        raise ValueError(
            f"{output} can hold one figure, and there are {len(figures)}: "
            f"{', '.join(figures)}; a directory or a PDF, of a page for each, is "
            "required"
        )
    try:
        (output.parent if whole else output).mkdir(parents=True, exist_ok=True)
        if whole:
            files.replace_bytes(output, _drawn(list(figures.values()), whole))
            return [output]
        paths = []
        for name, figure in figures.items():
            paths.append(output / f"{name}.{chosen}")
            files.replace_bytes(paths[-1], _drawn([figure], chosen))
        return paths
    except OSError as error:
        raise ValueError(f"cannot write figures to {output}: {error}") from None


def as_svg(figure: Figure) -> bytes:
    """Returns a figure as SVG, to be put into a page."""
    return _drawn([figure], "svg")


def _drawn(figures: Sequence[Figure], image_format: str) -> bytes:
    """Returns the bytes of a file, the same whenever it is drawn."""
    drawn = io.BytesIO()
    if image_format == "pdf":
        with PdfPages(drawn, metadata={"CreationDate": None}) as pages:
            for figure in figures:
                pages.savefig(figure)
    else:
        metadata = {"Date": None} if image_format == "svg" else {}
        (figure,) = figures
        figure.savefig(drawn, format=image_format, metadata=metadata)
    return drawn.getvalue()


def set_title(axes: Axes, title: str, said: str, *, width: float = 6.2) -> None:
    """Sets a title and says below it what is drawn, in lines of so many inches."""
    num = int(13 * width)
    wrapper = textwrap.TextWrapper(num, break_on_hyphens=False)
    lines = [part for line in said.split("\n") for part in wrapper.wrap(line)]
    said, title = "\n".join(lines), textwrap.fill(title, num * 3 // 4)
    axes.set_title(plain(title), loc="left", pad=8 + 14 * len(lines))
    axes.text(
        *(0, 1.02, plain(said)),
        **{"transform": axes.transAxes, "color": GREY, "fontsize": 9.5, "va": "bottom"},
    )


def new_figure() -> tuple[Figure, Axes]:
    """Makes a figure with room for a legend below, and its only axes."""
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    return figure, figure.subplots()


def legend_below(figure: Figure, axes: Axes) -> tuple[Legend, int]:
    """Puts the legend below the axes, where no curve can be, as wide as there is room.

    Returns:
      The legend, and of how many lines it is.
    """
    handles, labels = axes.get_legend_handles_labels()
    widest = max(map(len, labels))
    room = figure.get_figwidth() * 80 / 7
    ncols = max(1, min(len(labels), int(room / (widest + 8))))
    loc = "outside lower center" if figure.get_layout_engine() else "lower center"
    legend = figure.legend(handles, labels, loc=loc, ncols=ncols)
    return legend, -(-len(labels) // ncols)


def plain(text: str) -> str:
    """Makes matplotlib show a name as it is: no formula, no entry left out."""
    text = text.encode("utf-8", "replace").decode().replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def finite_or_nan(values: Any) -> np.ndarray:
    """Returns an array in which what was not finite, and so not JSON, is NaN."""
    return np.array(list(values), float)
