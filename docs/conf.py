"""Sphinx: the pages as a site.  ``make docs``; warnings are errors."""

from sphinx.application import Sphinx

from tailnet.agent._version import __version__

project = "tailnet"
author = "the tailnet authors"
copyright = author  # noqa: A001 - Sphinx's name
version = release = __version__

extensions = ["myst_parser", "sphinx_click", "sphinxcontrib.openapi"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "changes"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4

html_theme = "furo"
html_title = f"tailnet {version}"
html_extra_path = ["openapi.json"]
html_copy_source = False
html_show_sourcelink = False


def no_variables(_app: object, _ctx: object, lines: list[str]) -> None:
    """Each option says its own already; sphinx-click would name those of two commands alike."""
    lines.clear()


def as_written(_app: object, _ctx: object, lines: list[str]) -> None:
    """What commands say of themselves has no markup."""
    lines[:] = [line.replace("*", r"\*") for line in lines]


def setup(app: Sphinx) -> None:
    """What the pages are made with, beyond the extensions."""
    app.add_event("sphinx-click-process-envars")  # so called where it is emitted, not where added
    app.connect("sphinx-click-process-envars", no_variables)
    app.connect("sphinx-click-process-description", as_written)
