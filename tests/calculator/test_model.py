"""A function of one's own: named on the command line, behind a token, and allowed to fail."""

import math
import subprocess
import sys

import pytest
from _browser import CHROMIUM, chromium, post, served

from jaxfd.calculator._fields import FieldError
from jaxfd.calculator._model import Model, ModelError, entries, load

SOURCE = """
import math


def simulate(a, b):
    if a < 0:
        raise RuntimeError("a must not be negative")
    return math.exp(-a) * b**2


def pair(a):
    return [a, a]
"""


def decay(a, b):
    if a < 0:
        raise RuntimeError("a must not be negative")
    return math.exp(-a) * b**2


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.py"
    path.write_text(SOURCE)
    return path


def test_sensitivities_are_right_within_their_bars():
    told = Model(decay, {"a": 1.0, "b": 2.5}, "decay").sensitivity({"x.a": "1", "x.b": "2.5"})
    assert told["value"] == f"{decay(1, 2.5):.10g}"
    found = {row["name"]: row for row in told["rows"]}
    for name, exact in (("a", -decay(1, 2.5)), ("b", 2 * decay(1, 2.5) / 2.5)):
        assert float(found[name]["derivative"]) == pytest.approx(exact, rel=1e-7)
        assert float(found[name]["bar"]) < 1e-9
    assert found["b"]["elasticity"] == "2.0000"


def test_points_where_it_raises_are_left_out_of_the_sweep():
    model = Model(decay, {"a": 0.1, "b": 1.0}, "decay")
    with pytest.warns(RuntimeWarning, match="count as NaN"):
        told = model.sweep({"x.a": "0.1", "x.b": "1", "v": "a"})
    assert told["error"][-1] is None  # a - h is negative there
    known = [e for e in told["error"] if e is not None]
    assert min(known) < 1e-9
    assert float(told["derivative"]) == pytest.approx(-math.exp(-0.1), rel=1e-6)


@pytest.mark.parametrize(
    ("given", "field", "message"),
    [
        ({"x.a": "-1", "x.b": "1"}, "", "RuntimeError: a must not be negative"),
        ({"x.a": "one", "x.b": "1"}, "x.a", "not a number"),
        ({"x.b": "1"}, "x.a", "Type a number"),
    ],
)
def test_failures_are_told(given, field, message):
    with pytest.raises(FieldError) as caught:
        Model(decay, {"a": 1.0, "b": 1.0}, "decay").sensitivity(given)
    assert message in caught.value.messages[field]


@pytest.mark.parametrize("text", ["", "a", "a=", "a=1,a=2", "1=2", "a=1;b=2", "a=x"])
def test_entries_are_names_and_numbers(text):
    with pytest.raises(ModelError, match="--at"):
        entries(text)


def test_what_is_no_function_is_named(path):
    for spec, message in (
        ("model", "model.py:simulate"),
        ("nothing.py:f", "no file"),
        (f"{path}:other", "no function"),
    ):
        with pytest.raises(ModelError, match=message):
            load(spec)
    command = [sys.executable, "-m", "jaxfd.calculator", "--no-browser", f"{path}:simulate"]
    found = subprocess.run(command, capture_output=True, text=True)
    assert (found.returncode, "--at" in found.stderr) == (2, True)


@pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_page_asks_for_its_token(path):
    from axe_playwright_python.sync_playwright import Axe

    with served(f"{path}:simulate", "--at", "a=1.0,b=2.5") as (_, address), chromium() as browser:
        bare = address.partition("?")[0]
        assert post(bare, "sensitivity", b'{"x.a": "1", "x.b": "1"}')[0] == 403
        refused = browser.new_page()
        refused.goto(bare)
        assert "asks for the token" in refused.content()
        refused.close()
        page, faults = browser.new_page(), []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda m: m.type == "error" and faults.append(m.text))

        def settle():
            page.wait_for_selector("#model .results[aria-busy=false]", timeout=60_000)

        page.goto(address)
        settle()
        assert page.url == f"{bare}#x.a=1&x.b=2.5&v=a"  # neither token nor file
        assert page.inner_text("#model-value") == f"{decay(1, 2.5):.10g}"
        assert page.locator("#model-vee .small-dot").count() > 20
        page.get_by_label("a, slider").focus()
        page.keyboard.press("ArrowRight")
        settle()
        assert page.input_value("#model-x-a") == "1.01"
        assert page.inner_text("#model-value") == f"{decay(1.01, 2.5):.10g}"
        page.select_option("#model-v", "b")
        settle()
        assert "step of b" in page.inner_html("#model-vee")
        page.fill("#model-x-a", "-1")
        settle()
        assert "a must not be negative" in page.inner_text("[data-general]")
        assert page.inner_text("#model-value") == f"{decay(1.01, 2.5):.10g}"
        page.get_by_role("button", name="Reset").click()
        settle()
        assert page.inner_text("#model-value") == f"{decay(1, 2.5):.10g}"
        found = [v["id"] for v in Axe().run(page).response["violations"]]
        assert (found, faults) == ([], [])
