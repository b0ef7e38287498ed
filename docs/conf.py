"""Settings of the documentation site: ``make docs`` builds it into build/docs, and a warning is an error."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import icd  # noqa: E402 - the path above

project = "icd"
author = "the icd authors"
project_copyright = "the icd authors, Apache-2.0"
version = release = icd.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click", "from_code"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 4
autodoc_typehints = "none"  # the signature shows them as they are written
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
nitpicky = False

html_theme = "furo"
html_title = "icd"
html_show_sphinx = False
html_show_sourcelink = html_copy_source = False
html_static_path, html_css_files = ["_static"], ["narrow.css"]
html_theme_options = {"navigation_with_keys": True}
mathjax_path = "https://cdn.jsdelivr.net/npm/mathjax@3/es5/tex-mml-chtml.js"
