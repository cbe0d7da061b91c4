"""What the gallery needs besides its settings: which pictures, and with which arguments."""

from __future__ import annotations

import builtins
import shutil
from pathlib import Path
from typing import Any

from sphinx_gallery.scrapers import figure_rst

ARGUMENTS = {
    "custom_loss.py": ["--save-plot", "custom_loss.png"],
    "hard_threshold.py": ["--save-plot", "hard_threshold.png"],
    "quantised_network.py": ["--save-plot", "quantised_network.png"],
    "sensitivity.py": ["--save-plots", "."],
    # Full differences take the time; a shorter training shows the same.
    "train_without_backprop.py": ["--steps", "60", "--save-plot", "without_backprop.png"],
}


class _SavedPictures:
    """Shows what an example has saved as a picture, besides the figures that it leaves open."""

    def __init__(self) -> None:
        self._seen: set[Path] = set()

    def __repr__(self) -> str:
        return "SavedPictures"

    def __call__(self, block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
        shown = []
        for file in sorted(Path(block_vars["src_file"]).parent.glob("*.png")):
            if file not in self._seen:
                self._seen.add(file)
                target = Path(next(block_vars["image_path_iterator"]))
                shutil.copy(file, target)
                shown.append(str(target))
        return figure_rst(shown, gallery_conf["src_dir"]) if shown else ""


def name_file(gallery_conf: dict[str, Any], file: str) -> None:
    """Gives an example the `__file__` that it has as a program; sphinx-gallery leaves it out."""
    folder = Path(gallery_conf["src_dir"], gallery_conf["examples_dirs"])
    builtins.__file__ = str(folder / Path(file).name)  # type: ignore[attr-defined]


class _Arguments:
    """The command line of each example."""

    def __repr__(self) -> str:
        return "Arguments"

    def __call__(self, gallery_conf: dict[str, Any], script_vars: dict[str, Any]) -> list[str]:
        return ARGUMENTS.get(Path(script_vars["src_file"]).name, [])


SavedPictures, Arguments = _SavedPictures(), _Arguments()
