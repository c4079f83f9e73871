"""Settings of Sphinx for the documentation site: `make docs` builds it in build/site."""

from __future__ import annotations

import re

from sphinx.application import Sphinx

import deepaas

project = "DEEPaaS"
author = "The DEEPaaS authors"
project_copyright = "The DEEPaaS authors"
version = release = deepaas.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_click", "sphinx_copybutton"]
exclude_patterns = ["_*"]
# In the docstrings, a name in backquotes is code.
default_role = "code"

# --- pages ------------------------------------------------------------------------------------

myst_heading_anchors = 4
highlight_language = "text"
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True

linkcheck_ignore = [r"http://127\.0\.0\.1"]

REPOSITORY = "https://github.com/ai4os/deepaas/tree/HEAD"
OUTSIDE = re.compile(r"\]\(\.\./([^)]+)\)")


def link_to_repository(app: Sphinx, page: str, source: list[str]) -> None:
    """Let links that leave this folder lead to the repository, where these files are."""
    source[0] = OUTSIDE.sub(rf"]({REPOSITORY}/\1)", source[0])


def setup(app: Sphinx) -> None:
    app.connect("source-read", link_to_repository)


# --- the reference of the Python API -----------------------------------------------------------

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"

# --- the look ----------------------------------------------------------------------------------

html_theme = "furo"
html_title = f"DEEPaaS {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {
    "source_repository": "https://github.com/ai4os/deepaas/",
    "source_branch": "HEAD",
    "source_directory": "docs/",
}
