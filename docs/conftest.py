"""Pages that show another library are tried where it is installed (extra ``docs``)."""

from importlib.util import find_spec

NEEDS = {
    "libraries/diffrax.md": "diffrax",
    "libraries/equinox.md": "equinox",
    "libraries/flax.md": "flax",
    "libraries/numpyro.md": "numpyro",
    "libraries/optimistix.md": "optimistix",
}
collect_ignore = [page for page, library in NEEDS.items() if find_spec(library) is None]
collect_ignore += ["_build", "gallery", "generated", "conf.py", "conftest.py"]
collect_ignore += ["gallery_helpers.py", "pictures.py"]
