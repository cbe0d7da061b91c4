"""What type checkers see of the library: typed throughout, and no name that is not there."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("_typed_user.py")
# For each mistake the word that a checker must name.
TYPOS = """\
import jaxfd

jaxfd.gradd(abs)
jaxfd.Central(ordr=4)
jaxfd.optim.minimise(abs, 0.0)
jaxfd.grad(abs, metod=jaxfd.Central())
"""
WRONG = {"gradd": 3, "ordr": 4, "minimise": 5, "metod": 6}

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(
        importlib.util.find_spec("pyright") is None or importlib.util.find_spec("mypy") is None,
        reason="needs mypy and pyright, of the extra test",
    ),
]


@pytest.fixture
def typos(tmp_path):
    path = tmp_path / "typos.py"
    path.write_text(TYPOS)
    return path


def test_mypy_strict_finds_typos_alone(typos):
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", SCRIPT, typos]
    text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    lines = [line for line in text.splitlines() if ": error:" in line]
    assert len(lines) == len(WRONG), text
    for line, (word, number) in zip(lines, WRONG.items(), strict=True):
        assert f"typos.py:{number}:" in line
        assert f'"{word}"' in line


def test_pyright_strict_finds_typos_alone(typos):
    settings = {"typeCheckingMode": "strict", "include": [str(SCRIPT), str(typos)]}
    project = typos.with_name("pyrightconfig.json")
    project.write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--outputjson", "-p", project]
    command += ["--pythonpath", sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout.startswith("{"):
        pytest.skip(f"pyright itself could not be fetched or started: {done.stderr[-300:]}")
    found = json.loads(done.stdout)["generalDiagnostics"]
    errors = [(Path(d["file"]).name, d["range"]["start"]["line"] + 1, d["message"]) for d in found]
    assert [e for e in errors if e[0] == SCRIPT.name] == []
    for word, number in WRONG.items():
        assert any(line == number and f'"{word}"' in text for _, line, text in errors), word
