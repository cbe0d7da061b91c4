"""The shape of the library and of its tests: layers, names, and what they lean on."""

import ast
import importlib
import inspect
import pkgutil
from graphlib import TopologicalSorter
from pathlib import Path

import jax
import pytest
from _tools import run_python

import jaxfd

ROOT = Path(jaxfd.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
TESTS = Path(__file__).parent

# The folders, from the ground up: one imports from itself and from those before it. This is the
# only list of layers that there is.
LAYERS = (
    *("_worker", "_arrays", "_functions", "_system", "_primitives", "_jaxpr", "_methods"),
    *("_points", "_random"),
    *("_runs", "_places", "_estimate", "_transforms", "_hook", "_networks", "_reports", "_plot"),
    *("optim", "calculator"),
)
PUBLIC = {"optim", "calculator"}
# Programs that stand on the public face, as a user's would: they import the front door alone.
PROGRAMS = {"calculator"}
LAYER = {folder: number for number, folder in enumerate(LAYERS)}


def module_of(path):
    """``jaxfd._estimate.task`` for the path of that file."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def imports(path):
    """Every module that a file imports, wherever in the file, with full names."""
    found = set()
    package = module_of(path) if path.name == "__init__.py" else module_of(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                anchor = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*anchor, base]).rstrip(".")
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                found.add(whole if whole in MODULES else base)
    return found


def room(module):
    """The room a module of the library belongs to; empty for the front door."""
    return module.split(".")[1] if "." in module else ""


def test_every_folder_has_a_layer():
    folders = {room(module) for module in MODULES} - {""}
    assert folders - set(LAYER) == set(), "give a new folder its place in LAYERS"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_go_downward_and_through_faces(path):
    own = room(module_of(path))
    for module in imports(path):
        if module.split(".")[0] != "jaxfd" or not own:
            continue
        if own in PROGRAMS:
            assert room(module) in {"", own}, f"{own} imports {module}, not the front door"
            continue
        assert room(module), f"{own} imports the front door"
        assert LAYER[room(module)] <= LAYER[own], f"{own} imports {module}"
    inside = [
        node.module or ""
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
    ]
    for module in inside if own else []:
        if module.count(".") > 1 and module.startswith("jaxfd.") and room(module) != own:
            pytest.fail(f"import from the folder's face, jaxfd.{room(module)}, not from {module}")


def test_imports_make_no_circle():
    graph = {module: imports(path) & set(MODULES) for module, path in MODULES.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize("path", FILES, ids=module_of)
class TestEveryFile:
    def test_private_unless_public(self, path):
        """A private folder says so once: what is in it carries no underscore."""
        folder, _, name = module_of(path).removeprefix("jaxfd").lstrip(".").partition(".")
        assert not folder or folder.startswith("_") or folder in PUBLIC
        if folder in PUBLIC and name:
            assert name.startswith("_")

    def test_public_api_of_jax_only(self, path):
        for module in imports(path):
            assert not module.startswith("jax._src")
            assert not module.startswith("jaxlib")
        assert "jax._src" not in path.read_text()

    def test_fits_on_a_few_screens(self, path):
        assert len(path.read_text().splitlines()) <= 350

    def test_opens_with_why_it_exists(self, path):
        assert ast.get_docstring(ast.parse(path.read_text()))


class TestFrontDoor:
    def test_all_is_what_dir_shows(self):
        rooms = {module.name for module in pkgutil.iter_modules(jaxfd.__path__)}
        shown = {name for name in dir(jaxfd) if not name.startswith("_")} - (rooms & PUBLIC)
        assert shown == set(jaxfd.__all__)

    def test_all_is_sorted_and_complete(self):
        # Acronyms first, as the linter has it.
        assert list(jaxfd.__all__) == sorted(jaxfd.__all__, key=lambda n: (not n.isupper(), n))
        wanted = {
            *("grad", "value_and_grad", "jacobian", "hessian", "derivative", "jvp", "hvp"),
            *("estimate", "Estimate", "differentiable", "blackbox", "Relative"),
            *("Forward", "Backward", "Central", "ComplexStep"),
        }
        assert wanted <= set(jaxfd.__all__)

    @pytest.mark.parametrize("name", jaxfd.__all__)
    def test_documented_with_an_example(self, name):
        text = inspect.getdoc(getattr(jaxfd, name))
        assert "Example:" in text
        assert ">>>" in text

    def test_signatures_follow_jax(self):
        for name, like in [("grad", jax.grad), ("value_and_grad", jax.value_and_grad)]:
            own = list(inspect.signature(getattr(jaxfd, name)).parameters)
            assert own[:5] == list(inspect.signature(like).parameters)[:5]
        own = list(inspect.signature(jaxfd.jacobian).parameters)
        assert own[:5] == list(inspect.signature(jax.jacrev).parameters)[:5]
        own = list(inspect.signature(jaxfd.hessian).parameters)
        assert own[:3] == list(inspect.signature(jax.hessian).parameters)[:3]

    def test_what_is_ours_comes_by_keyword(self):
        for name in ("grad", "value_and_grad", "jacobian", "hessian", "estimate"):
            parameters = inspect.signature(getattr(jaxfd, name)).parameters
            for option in {"method", "chunk_size", "bounds"} & set(parameters):
                assert parameters[option].kind is inspect.Parameter.KEYWORD_ONLY

    def test_typed(self):
        assert (ROOT / "py.typed").exists()

    def test_rooms_import_one_by_one(self):
        for module in MODULES:
            assert importlib.import_module(module).__name__ == module

    def test_importing_starts_no_backend_and_brings_no_extra(self):
        code = (
            "import sys, jaxfd\n"
            "extras = {'matplotlib', 'scipy.optimize', 'tqdm', 'hypothesis', 'pytest'}\n"
            "extras |= {'lark', 'starlette', 'uvicorn'}\n"
            "assert not extras & set(sys.modules), extras & set(sys.modules)\n"
        )
        # A backend of that name could not be started.
        run_python(code, JAX_PLATFORMS="no_such_platform")

    def test_transforms_are_imported_without_what_they_call(self):
        run_python(
            "import sys\n"
            "from jaxfd import Adaptive, Central, grad, hessian, jvp\n"
            "brought = {name.split('.')[1] for name in sys.modules if name.startswith('jaxfd.')}\n"
            "assert brought <= {'_arrays', '_methods', '_system', '_transforms'}, brought\n"
        )


class TestTests:
    def test_folders_are_those_of_the_library(self):
        ours = {p.parent.relative_to(ROOT) for p in FILES}
        theirs = {p.parent.relative_to(TESTS) for p in TESTS.rglob("*.py")}
        assert theirs <= ours

    def test_file_names_are_unique(self):
        """No folder is a package: ``_random`` would take the place of Python's own."""
        names = [p.name for p in TESTS.rglob("*.py")]
        assert len(set(names)) == len(names)
        assert "__init__.py" not in names

    def test_files_are_short(self):
        long = [p.name for p in TESTS.rglob("*.py") if len(p.read_text().splitlines()) > 600]
        assert not long, "split at a natural joint"
