"""How the site is built: `python -m sphinx -W -b html docs docs/_build/html`, without a network."""

from __future__ import annotations

import importlib
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import jaxfd

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples"
PREPARED = HERE / "_build" / "examples"

project = "jaxfd"
author = "the authors of jaxfd"
copyright = "the authors of jaxfd"
version = release = jaxfd.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = [
    "_templates",
    "_build",
    "gallery/sg_execution_times.rst",
    "sg_execution_times.rst",
]
nitpicky = True
# Other projects' inventories would have to be fetched: their names are shown, and not linked.
nitpick_ignore_regex = [("py:.*", r"(?!jaxfd\.).*"), ("py:class", r"jaxfd\.(optim\.)?_.*")]
default_role = "py:obj"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"jaxfd {version}"
html_static_path = ["_static"]
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}


def prepare_examples() -> None:
    """Copies the examples; the first line of each becomes its title.

    As programs they open as every file here does, with one sentence; a page wants a heading.
    """
    shutil.rmtree(PREPARED, ignore_errors=True)
    shutil.copytree(EXAMPLES, PREPARED, ignore=shutil.ignore_patterns("__pycache__", "*.png"))
    for file in PREPARED.glob("*.py"):
        text = file.read_text()
        opening = re.match(r'"""(.+)\n(?!=)', text)
        if opening:
            title = opening[1].rstrip(".")
            text = f'"""\n{title}\n{"=" * len(title)}\n{text[opening.end() :]}'
            file.write_text(text)


sys.path.insert(0, str(HERE))
prepare_examples()
sphinx_gallery_conf = {
    "examples_dirs": str(PREPARED),
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "image_scrapers": ("matplotlib", "gallery_helpers.SavedPictures"),
    "reset_argv": "gallery_helpers.Arguments",
    "reset_modules": ("matplotlib", "gallery_helpers.name_file"),
    "abort_on_example_error": False,
    "only_warn_on_example_error": False,
    "remove_config_comments": True,
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 1e9,
    "write_computation_times": False,
    "nested_sections": False,
}


def check_names(app: Any, env: Any) -> None:
    """Warns of public names that have no page."""
    from sphinx.util import logging

    known = env.domains["py"].objects
    for module in ("jaxfd", "jaxfd.optim"):
        for name in importlib.import_module(module).__all__:
            if f"{module}.{name}" not in known:
                logging.getLogger(__name__).warning(
                    "%s.%s has no page: name it in docs/reference.md", module, name
                )


def setup(app: Any) -> None:
    app.connect("env-check-consistency", check_names)
