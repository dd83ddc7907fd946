"""Sphinx: the pages as a site.  ``make docs``; warnings are errors."""

from tailnet.agent._version import __version__

project = "tailnet"
author = "the tailnet authors"
copyright = author  # noqa: A001 - Sphinx's name
version = release = __version__

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "changes"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4

html_theme = "furo"
html_title = f"tailnet {version}"
html_extra_path = ["openapi.json"]
html_copy_source = False
html_show_sourcelink = False
