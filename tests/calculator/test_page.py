"""The page itself, in a browser: what is typed, pressed, dragged and read."""

import contextlib
import io
import math
import re
from urllib.parse import urlencode

import jax
import pytest
from _browser import CHROMIUM, chromium, served

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed"),
    # The browser's pipes are collected after its loop is closed.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def address():
    with served() as (_, found):
        yield found


@pytest.fixture(scope="module")
def browser():
    with chromium() as context:
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        yield context


class Page:
    """A page that is read as a person reads it; faults and requests are kept."""

    def __init__(self, browser, address):
        self.address = address
        self.faults, self.requests = [], []
        self.tab = browser.new_page()
        self.tab.on("pageerror", lambda error: self.faults.append(str(error)))
        self.tab.on(
            "console", lambda m: m.type in ("error", "warning") and self.faults.append(m.text)
        )
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.panel = "values"

    def open(self, panel, **state):
        self.tab.goto("about:blank")
        state = {name.replace("x_", "x."): text for name, text in state.items()}
        self.tab.goto(f"{self.address}#{urlencode({'tab': panel, **state})}")
        self.panel = panel
        self.settle()

    def settle(self):
        self.tab.wait_for_selector(f"#{self.panel} .results[aria-busy=false]", timeout=60_000)

    def type(self, field, text):
        self.tab.fill(f"#{self.panel}-{field}", text)
        self.settle()

    def choose(self, field, value):
        self.tab.select_option(f"#{self.panel}-{field}", value)
        self.settle()

    def press(self, name):
        self.tab.locator(f"#{self.panel}").get_by_role("button", name=name, exact=True).click()
        self.settle()

    def text(self, field):
        return self.tab.locator(f"#{self.panel}-{field}").inner_text()

    @property
    def number(self):
        """The big number, without what stands before it."""
        text = self.text("gradient").split("≈")[-1].strip()
        return float(text)

    def cells(self, field="rows"):
        rows = self.tab.locator(f"#{self.panel}-{field} tr").all()
        return [row.locator("th, td").all_inner_texts() for row in rows]

    def problem(self, field):
        return self.tab.locator(f"#{self.panel}-{field}-problem").inner_text()

    def clipboard(self):
        return self.tab.evaluate("() => navigator.clipboard.readText()")


@pytest.fixture
def page(browser, address):
    made = Page(browser, address)
    yield made
    made.tab.close()
    assert made.faults == []
    assert [url for url in made.requests if not url.startswith((address, "about:"))] == []


def test_by_values(page):
    page.open("values")
    assert page.text("gradient") == "-2.9"
    page.type("f1", "16.6639")
    assert page.text("gradient") == "-2.8"
    assert "(16.6639 - 16.6667) / 0.001 = -2.8" in page.text("formulas")
    page.type("fb", "16.6695")
    assert page.text("gradient").split() == [
        "-2.8",
        "forward",
        "-2.8",
        "backward",
        "-2.8",
        "central",
    ]
    assert [row[0] for row in page.cells()] == ["x - h", "x", "x + h"]
    assert page.tab.locator("#values-chart circle").count() == 3
    page.press("Copy results")
    assert "h = 0.001" in page.clipboard()
    assert "Assumed: h is exact" in page.clipboard()
    page.type("h", "-1")
    assert page.problem("h") == "h must be positive, and -1 is not."
    assert page.text("gradient").startswith("-2.8")  # the last good result stays
    assert "last good result" in page.tab.inner_text("#values .stale-note")
    page.type("f0", "1,5")
    assert "did you mean 1.5?" in page.problem("f0")
    page.press("Reset")
    assert (page.text("gradient"), page.problem("h")) == ("-2.9", "")
    page.tab.check("#values-exact")
    page.settle()
    assert "taken as exact" in page.text("formulas")


EXAMPLES = {
    "w² at 2": (4.0001, "4"),
    "T(x) = 100/(x+1)": (-2.777314892, "-2.777777778"),
    "a kink": (0.0, None),
    "near an edge": (math.log(0.019 / 0.001) / 0.018, "100"),
    "float32": (None, "2.718281828"),
    "with noise": (None, "0.5403023059"),
}


@pytest.mark.heavy
def test_worked_examples(page):
    page.open("formula", e="x^2", x_x="1", h="0.5")
    for name, (number, exact) in EXAMPLES.items():
        page.press(name)
        if number is not None:
            assert page.number == pytest.approx(number, rel=1e-9), name
        if exact is not None:
            assert page.cells()[0][2] == exact, name
            assert page.number == pytest.approx(float(exact), rel=0.7), name
    page.press("a kink")
    assert "to the left -1" in page.text("notes")


METHODS = [
    ("forward", "2", 1e-6),
    ("backward", "1", 6e-4),
    ("backward", "3", 1e-8),
    ("central", "4", 1e-8),
    ("central", "8", 1e-8),
]


@pytest.mark.heavy
@pytest.mark.parametrize(("method", "order", "error"), METHODS)
def test_each_method(page, method, order, error):
    page.open("formula")
    page.choose("m", method)
    page.choose("o", order)
    assert f"{method} difference of order {order}" in page.text("spent")
    assert page.number == pytest.approx(-100 / 36, abs=error)
    assert page.problem("m") == ""


def test_methods_without_an_order(page):
    page.open("formula", e="100/(x+1)", x_x="5", m="complex", h="0.001")
    assert page.cells()[0][4] == "unknown"  # a complex step has nothing to compare with
    assert page.number == pytest.approx(-100 / 36, abs=1e-6)
    page.choose("m", "adaptive")
    assert page.tab.is_disabled("#formula-h")
    assert page.number == pytest.approx(-100 / 36, abs=1e-9)
    assert "holds" in page.cells()[0][4]
    page.tab.locator("#formula-vee .handle").focus()
    page.choose("m", "complex")
    page.type("e", "|x|")
    assert "imaginary" in page.problem("m")


def test_let_jaxfd_choose(page):
    page.open("formula", e="100/(x+1)", x_x="5", m="forward")  # no step in the address
    assert page.tab.is_checked("#formula-auto")
    assert page.tab.is_disabled("#formula-h")
    assert page.number == pytest.approx(-100 / 36, abs=1e-6)
    page.tab.uncheck("#formula-auto")
    page.settle()
    page.type("h", "0.5")
    assert page.number == pytest.approx(-100 / 39)
    page.choose("t", "2")
    assert [row[0] for row in page.cells("table")][:3] == ["0.5", "0.25", "0.125"]
    assert "smaller h better" in page.text("answer")
    page.type("h", "")
    assert "let jaxfd choose" in page.problem("h")
    page.type("h", "0.5")
    page.press("Copy results")
    assert f"df/dx = {page.cells()[0][1]} (step 0.5" in page.clipboard()
    page.press("Reset")
    assert page.tab.input_value("#formula-h") == "0.001"
    assert page.number == -2.777314892


SEVERAL = {"e": "x*sin(y)", "x_x": "2", "x_y": "0.5", "m": "central", "h": "0.01"}


def test_several_variables(page):
    page.open("formula", **SEVERAL)
    assert page.text("gradient").startswith("gradient ≈ (0.4794255386, 1.755135")
    assert [row[0] for row in page.cells()] == ["df/dx", "df/dy"]
    page.choose("v", "y")
    assert page.tab.locator("#formula-chart").get_by_text("y", exact=True).count() == 1
    page.type("x-y", "0")
    assert page.text("gradient").startswith("gradient ≈ (0, 1.99996")


PROBLEMS = [
    ("e", "foo", "Unknown name foo"),
    ("e", "9**9**9**9", "exponent"),
    ("e", "(" * 1000, "too long"),
    ("e", "__import__('os')", "Unknown name"),
    ("e", "x" * 10**6, "too long"),
    ("x-x", "abc", "abc is not a number"),
    ("x-x", "1,5", "did you mean 1.5?"),
    ("x-x", "-1", "infinite at x = -1"),
    ("h", "-1", "h must be positive"),
    ("h", "x", "x is not a number"),
    ("n", "-2", "must not be negative"),
]


def test_what_is_wrong_is_said_beside_it(page):
    page.open("formula")
    for field, text, message in PROBLEMS:
        good = page.tab.input_value(f"#formula-{field}")
        page.type(field, text)
        assert message in page.problem(field)
        assert page.tab.get_attribute(f"#formula-{field}", "aria-invalid") == "true"
        assert page.number == -2.777314892  # the last good result stays
        page.type(field, good)
        assert page.problem(field) == ""
    page.type("e", "sinx")  # each of several has its own
    page.type("h", "0")
    page.type("x-x", "1,5")
    assert "did you mean sin(x)?" in page.problem("e")
    assert "positive" in page.problem("h")
    assert "did you mean 1.5?" in page.problem("x-x")
    page.open("formula", e="sqrt(x)", x_x="0.001", m="central", h="0.01")
    assert "not real at x - h = -0.009" in page.problem("h")


def test_the_marker_is_dragged_typed_and_moved_by_keys(page):
    page.open("formula")
    handle = page.tab.locator("#formula-vee .handle")
    handle.focus()
    page.tab.keyboard.press("ArrowRight")
    page.settle()
    assert page.tab.input_value("#formula-h") == "0.00126"
    assert page.number == pytest.approx((100 / 6.00126 - 100 / 6) / 0.00126, rel=1e-9)
    page.tab.keyboard.press("PageDown")  # the focus stayed, though the chart was drawn anew
    page.settle()
    assert page.tab.input_value("#formula-h") == "0.000126"
    assert "h = 1.26e−4" in handle.get_attribute("aria-valuetext")
    box = handle.locator("circle").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.tab.mouse.move(x, y)
    page.tab.mouse.down()
    for k in range(1, 6):
        page.tab.mouse.move(x - 12 * k, y)
    page.settle()
    page.tab.mouse.up()
    dragged = float(page.tab.input_value("#formula-h"))
    assert dragged < 1e-6
    assert page.cells("table")[0][0] == f"{dragged:.4g}"
    page.type("h", "0.5")
    assert handle.get_attribute("aria-valuenow") == "-0.30"


def test_the_state_is_in_the_address(page, browser, address):
    page.open("formula", **SEVERAL)
    page.press("Copy link")
    link = page.clipboard()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/#tab=formula&[\w.&=*%()+-]+", link)
    other = Page(browser, address)  # a second tab at the same time
    other.tab.goto(link)
    other.panel = "formula"
    other.settle()
    assert other.text("gradient") == page.text("gradient")
    other.type("x-y", "1")
    assert other.text("gradient") != page.text("gradient")
    page.type("h", "0.02")
    assert other.tab.input_value("#formula-h") == "0.01"
    other.tab.close()
    assert other.faults == []


@pytest.mark.parametrize(
    "state",
    [
        SEVERAL,
        pytest.param(
            {"e": "2^x/sqrt x - lambda^2", "m": "forward", "p": "32", "n": "0.001"},
            marks=pytest.mark.heavy,
        ),
    ],
    ids=["float64", "float32 with noise"],
)
def test_the_python_program_prints_the_number(page, state):
    page.open("formula", **state)
    page.press("Copy as Python")
    program, printed = page.clipboard(), io.StringIO()
    before = jax.config.jax_enable_x64
    wide = "jax_enable_x64" in program
    program = program.replace('jax.config.update("jax_enable_x64", True)\n', "")
    assert jax.config.jax_enable_x64 == before
    with (
        jax.enable_x64(wide),
        jax.numpy_dtype_promotion("standard"),
        contextlib.redirect_stdout(printed),
    ):
        exec(program, {})
    rows = page.cells()
    for row, line in zip(rows, printed.getvalue().splitlines(), strict=True):
        assert line == f"{row[0]} = {row[1]}, error bar {row[4].split()[1]}"


def test_one_neuron(page):
    page.open("neuron")
    first = float(page.text("loss").split()[0])
    assert page.cells()[0][2] != page.cells()[0][3]  # by differences, and exactly
    assert "agree" in page.text("note")
    page.press("One step downhill")
    second = float(page.text("loss").split()[0])
    page.press("Ten steps")
    assert float(page.text("loss").split()[0]) < second < first
    assert "after 11 steps" in page.text("loss")
    assert page.tab.locator("#neuron-chart .dot").count() == 12
    page.press("Back to the start")
    assert float(page.text("loss").split()[0]) == first
    page.type("r", "0")
    assert "must be positive" in page.problem("r")
    page.press("Reset")
    assert float(page.text("loss").split()[0]) == first


@pytest.mark.heavy
def test_a_neuron_with_a_jump(page):
    page.open("neuron", a="step", h="0.5")
    assert "sees where the loss goes down" in page.text("note")
    page.type("h", "0.001")
    assert "Take a larger h" in page.text("note")


@pytest.mark.heavy
def test_questions_are_shown_live(page):
    page.open("formula")
    page.tab.click("#tab-questions")
    cards = page.tab.locator("#questions .card")
    assert cards.count() == 7
    for k in range(cards.count()):
        page.tab.click("#tab-questions")
        answer = cards.nth(k).locator("p").inner_text()
        assert len(re.findall(r"[.](\s|$)", answer)) == 2, answer
        cards.nth(k).get_by_role("button").click()
        page.panel = page.tab.locator("[role=tabpanel]:not([hidden])").get_attribute("id")
        assert page.panel in ("formula", "neuron")
        page.settle()
        assert page.tab.locator(f"#{page.panel} .problem:not(:empty)").count() == 0
        assert page.tab.locator(f"#{page.panel} .big").inner_text()


def test_by_keyboard_alone(page):
    page.open("values")
    page.tab.focus("#tab-values")
    page.tab.keyboard.press("ArrowRight")
    page.panel = "formula"
    page.settle()
    assert page.tab.evaluate("() => document.activeElement.id") == "tab-formula"
    order = []
    for _ in range(19):
        page.tab.keyboard.press("Tab")
        order.append(page.tab.evaluate("() => document.activeElement.id"))
    wanted = ["formula-e", "formula-x-x", "formula-m", "formula-o", "formula-h", "formula-auto"]
    assert [name for name in order if name in wanted] == wanted


def test_narrow_and_wide_windows_in_both_themes_are_accessible(page):
    from axe_playwright_python.sync_playwright import Axe

    axe = Axe()
    found = []
    for width, theme in ((390, "dark"), (1400, "light")):
        page.tab.set_viewport_size({"width": width, "height": 900})
        page.tab.emulate_media(color_scheme=theme)
        for panel in ("values", "formula", "neuron", "questions"):
            page.open("values")
            page.tab.click(f"#tab-{panel}")
            if panel != "questions":
                page.panel = panel
                page.settle()
            if panel == "formula":
                page.type("h", "-1")
            assert page.tab.evaluate("() => document.documentElement.scrollWidth") == width
            result = axe.run(page.tab).response
            found += [
                (panel, theme, v["id"], [n["html"] for n in v["nodes"]])
                for v in result["violations"]
            ]
    assert found == []


def test_the_theme_is_a_button(page):
    page.tab.emulate_media(color_scheme="light")
    page.open("values")
    page.tab.click("#theme")
    assert page.tab.evaluate("() => getComputedStyle(document.body).backgroundColor") == (
        "rgb(20, 23, 28)"
    )
    page.open("values")  # and is remembered
    assert page.tab.inner_text("#theme") == "Light theme"
    page.tab.click("#theme")


TWENTY = [
    ("x^3 - 2x", lambda x: 3 * x**2 - 2),
    ("100/(x+1)", lambda x: -100 / (x + 1) ** 2),
    ("sin x", math.cos),
    ("cos(2x)", lambda x: -2 * math.sin(2 * x)),
    ("tan x", lambda x: 1 / math.cos(x) ** 2),
    ("e^x", math.exp),
    ("exp(-x^2)", lambda x: -2 * x * math.exp(-(x**2))),
    ("ln x", lambda x: 1 / x),
    ("log10 x", lambda x: 1 / (x * math.log(10))),
    ("log2(x)", lambda x: 1 / (x * math.log(2))),
    ("sqrt x", lambda x: 0.5 / math.sqrt(x)),
    ("x^x", lambda x: x**x * (math.log(x) + 1)),
    ("2^x", lambda x: 2**x * math.log(2)),
    ("tanh x", lambda x: 1 / math.cosh(x) ** 2),
    ("asin(x/2)", lambda x: 0.5 / math.sqrt(1 - x**2 / 4)),
    ("atan x", lambda x: 1 / (1 + x**2)),
    ("sin^2 x", lambda x: math.sin(2 * x)),
    ("x|x|", lambda x: 2 * x),
    ("sigmoid(x)", lambda x: math.exp(-x) / (1 + math.exp(-x)) ** 2),
    ("sin(x)/x", lambda x: math.cos(x) / x - math.sin(x) / x**2),
]


@pytest.mark.heavy
def test_twenty_expressions_against_their_derivatives(page):
    page.open("formula", e="x", x_x="0.7", m="central", o="4", h="0.001")
    for text, derivative in TWENTY:
        page.type("e", text)
        row = page.cells()[0]
        assert page.number == pytest.approx(derivative(0.7), rel=1e-8), text
        assert float(row[2]) == pytest.approx(derivative(0.7), rel=1e-8), text
        assert "holds" in row[4], text
