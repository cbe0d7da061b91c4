"""The calculator in a browser: how soon it answers, whether it is right, what it bears.

``python -m benchmarks.calculator`` prints every line, ``... random 50`` one of them of fewer cases.
Needs Debian's ``chromium``, and playwright and axe of the extra ``test``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import jax
import jax.numpy as jnp
import numpy as np
import psutil

import jaxfd
from benchmarks._timing import row

_FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)


@contextlib.contextmanager
def _served() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The calculator's command, and the address that it prints."""
    command = [sys.executable, "-m", "jaxfd.calculator", "--port", "0", "--no-browser"]
    environment = {k: v for k, v in os.environ.items() if k != "JAX_ENABLE_X64"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    try:
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found is not None
        yield process, found[0]
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate()


class _Page:
    """A page, and what went wrong on it."""

    def __init__(self, context: Any) -> None:
        self.faults: list[str] = []
        self.requests: list[str] = []
        self.tab = context.new_page()
        self.tab.on("pageerror", lambda error: self._fault(f"page: {error}"))
        self.tab.on("console", lambda m: self._fault(m.text) if m.type == "error" else None)
        self.tab.on("request", lambda request: self.requests.append(request.url))

    def _fault(self, text: str) -> None:
        self.faults.append(text)

    def settle(self, panel: str = "formula") -> None:
        self.tab.wait_for_selector(f"#{panel} .results[aria-busy=false]", timeout=120_000)

    def open(self, address: str, panel: str, **state: str) -> None:
        self.tab.goto("about:blank")
        self.tab.goto(f"{address}#{urlencode({'tab': panel, **state})}")
        if panel != "questions":
            self.settle(panel)


@contextlib.contextmanager
def _browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    if path is None:
        raise SystemExit("Debian's chromium is not installed: apt-get install chromium")
    with tempfile.TemporaryDirectory() as profile, sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=path, headless=True, args=list(_FLAGS)
        )
        yield context
        context.close()


def first_results(context: Any) -> None:
    """From the command to a number on the page, in seconds."""
    for panel, field, limit in (("values", "gradient", 3.0), ("formula", "gradient", 8.0)):
        page = _Page(context)
        start = time.perf_counter()
        with _served() as (process, address):
            page.open(address, panel)
            took = time.perf_counter() - start
            times = psutil.Process(process.pid).cpu_times()
            text = " ".join(page.tab.inner_text(f"#{panel}-{field}").split())
        row(f"seconds from command to {text}, {panel}", took, f"<= {limit:g}", took <= limit)
        print(f"  CPU seconds of the server until then: {times.user + times.system:.2f}")
        page.tab.close()


_WATCH = """() => {
  window.took = [];
  let pressed = 0;
  document.addEventListener("keydown", () => { pressed = performance.now(); }, true);
  new MutationObserver(() => {
    requestAnimationFrame(() => window.took.push(performance.now() - pressed));
  }).observe(document.querySelector("#formula-gradient"), { childList: true });
}"""


def latency(context: Any) -> None:
    """Key press to number on the page, of what is compiled, in milliseconds."""
    page = _Page(context)
    with _served() as (_, address):
        page.open(address, "formula", e="100/(x+1)", m="forward", o="1", h="0.001", **{"x.x": "5"})
        page.tab.evaluate(_WATCH)
        page.tab.focus("#formula-x-x")
        page.tab.keyboard.press("End")
        for k in range(40):
            page.tab.keyboard.press("Backspace" if k % 2 else "5")
            page.tab.wait_for_timeout(120)
        page.tab.focus("#formula-vee .handle")
        for k in range(40):
            page.tab.keyboard.press("ArrowLeft" if k % 2 else "ArrowUp")
            page.tab.wait_for_timeout(120)
        took = page.tab.evaluate("() => window.took")
    median, most = float(np.median(took)), float(np.quantile(took, 0.95))
    row(f"ms from key press to number, median of {len(took)}", median, "<= 150", median <= 150)
    row("the same, 95 % of presses", most, "<= 150", most <= 150)
    page.tab.close()


@dataclasses.dataclass(frozen=True)
class _Formula:
    """An expression as it is typed, and the same in Python, made side by side."""

    text: str
    fun: Callable[[dict[str, Any]], Any]
    analytic: bool = True


def _formula(rng: random.Random, depth: int, names: tuple[str, ...]) -> _Formula:
    """A random expression that is real everywhere."""
    if depth == 0:
        if rng.random() < 0.75:
            name = rng.choice(names)
            return _Formula(name, lambda at: at[name])
        number = rng.choice((1, 2, 3, 0.5, 1.25, 4.75))
        return _Formula(str(number), lambda at: number)
    a = _formula(rng, depth - 1, names)
    f = a.fun
    kind = rng.randrange(12)
    if kind < 5:
        b = _formula(rng, rng.randrange(depth), names)
        g, both = b.fun, a.analytic and b.analytic
        made: tuple[tuple[str, Callable[[Any], Any]], ...] = (
            (f"({a.text}) + ({b.text})", lambda at: f(at) + g(at)),
            (f"({a.text})-({b.text})", lambda at: f(at) - g(at)),
            (f"({a.text})({b.text})", lambda at: f(at) * g(at)),
            (f"({a.text}) * ({b.text})", lambda at: f(at) * g(at)),
            (f"({a.text})/(({b.text})^2 + 1)", lambda at: f(at) / (g(at) ** 2 + 1)),
        )
        return _Formula(*made[kind], both)
    if kind == 5 and rng.random() < 0.5:
        return _Formula(f"|{a.text}|", lambda at: jnp.abs(f(at)), False)
    single: tuple[tuple[str, Callable[[Any], Any]], ...] = (
        (f"sin({a.text})", lambda at: jnp.sin(f(at))),
        (f"cos({a.text})", lambda at: jnp.cos(f(at))),
        (f"tanh({a.text})", lambda at: jnp.tanh(f(at))),
        (f"exp(-({a.text})**2)", lambda at: jnp.exp(-(f(at) ** 2))),
        (f"ln(({a.text})^2+1)", lambda at: jnp.log(f(at) ** 2 + 1)),
        (f"sqrt(({a.text})^2+2)", lambda at: jnp.sqrt(f(at) ** 2 + 2)),
        (f"({a.text})^3", lambda at: f(at) ** 3),
    )
    return _Formula(*single[kind - 5], a.analytic)


def _case(rng: random.Random) -> tuple[_Formula, tuple[str, ...], dict[str, str], Any]:
    """A question: formula, variables, fields of the page, jaxfd's method."""
    wanted = rng.choice((("x",), ("x",), ("x", "y"), ("w", "x", "b")))
    while True:
        formula = _formula(rng, rng.choice((1, 2, 2, 3)), wanted)
        names = tuple(sorted(set(re.findall(r"\b[xywb]\b", formula.text))))
        if names:
            break
    wide = rng.random() < 0.75
    kind = rng.choice(("forward", "backward", "central", "central", "complex", "adaptive"))
    if kind == "complex" and not formula.analytic:
        kind = "central"
    order = {"central": rng.choice((2, 4, 6)), "complex": 0, "adaptive": 0}.get(
        kind, rng.choice((1, 1, 2, 3))
    )
    step = None
    if rng.random() < 0.7 and kind != "adaptive":
        low = -8.0 if wide else -3.0
        step = float(f"{10 ** rng.uniform(low, -1.0):.3g}")
    point = {name: round(rng.uniform(-3, 3), 3) for name in names}
    fields = {"e": formula.text, "m": kind, "p": "64" if wide else "32"}
    fields |= {f"x.{name}": repr(value) for name, value in point.items()}
    if order:
        fields["o"] = str(order)
    if step is not None:
        fields["h"] = repr(step)
    makers: dict[str, Callable[[], Any]] = {
        "forward": lambda: jaxfd.Forward(order, step),
        "backward": lambda: jaxfd.Backward(order, step),
        "central": lambda: jaxfd.Central(order, step),
        "complex": lambda: jaxfd.ComplexStep(step),
        "adaptive": jaxfd.Adaptive,
    }
    return formula, names, fields, makers[kind]()


def _type(page: _Page, names: tuple[str, ...], fields: dict[str, str]) -> None:
    """Types a question, field by field; nothing is computed before the formula stands."""
    tab = page.tab
    tab.fill("#formula-e", "(")
    page.settle()
    tab.select_option("#formula-m", fields["m"])
    if "o" in fields:
        tab.select_option("#formula-o", fields["o"])
    tab.select_option("#formula-p", fields["p"])
    if fields["m"] != "adaptive":
        tab.set_checked("#formula-auto", "h" not in fields)
        if "h" in fields:
            tab.fill("#formula-h", fields["h"])
    tab.fill("#formula-e", fields["e"])
    page.settle()
    for name in names:
        tab.fill(f"#formula-x-{name}", fields[f"x.{name}"])
    page.settle()


def _python(formula: _Formula, names: tuple[str, ...], fields: dict[str, str], method: Any) -> Any:
    """What jaxfd says of it, called from Python: texts of the estimates, and of the bars."""

    def fun(*point: Any) -> Any:
        return formula.fun(dict(zip(names, point, strict=True)))

    point = [float(fields[f"x.{name}"]) for name in names]
    digits = 10 if fields["p"] == "64" else 6
    with jax.enable_x64(fields["p"] == "64"):
        found = jaxfd.estimate(fun, argnums=tuple(range(len(names))), method=method)(*point)
        return [
            (f"{float(g):.{digits}g}", float(e))
            for g, e in zip(found.grad, found.error, strict=True)
        ]


def random_expressions(context: Any, count: int = 200) -> None:
    """Random questions typed into the page, against jaxfd called from Python."""
    rng = random.Random(20261126)
    page = _Page(context)
    same = bars = held = shown = 0
    with _served() as (_, address):
        page.open(address, "formula", e="x", m="forward", o="1", h="0.5", **{"x.x": "1"})
        for k in range(count):
            formula, names, fields, method = _case(rng)
            _type(page, names, fields)
            problem = page.tab.locator("#formula .problem:not(:empty)")
            if problem.count():
                print(f"  {fields}: {problem.first.inner_text()}", flush=True)
                continue
            expected = _python(formula, names, fields, method)
            cells = [
                line.locator("th, td").all_inner_texts()
                for line in page.tab.locator("#formula-rows tr").all()
            ]
            seen = [line[1] for line in cells]
            shown += 1
            same += seen == [text for text, _ in expected]
            if seen != [text for text, _ in expected]:
                print(f"  {fields}: {seen} for {expected}", flush=True)
            for line in cells:
                bars += "holds" in line[4] or "missed" in line[4]
                held += "holds" in line[4]
                if "missed" in line[4]:
                    print(f"  missed: {fields}: {line}", flush=True)
            if k % 10 == 9:
                print(f"  {k + 1}: {same} of {shown} the same, {held} of {bars} held", flush=True)
    row(f"of {shown} random questions, shown to the last digit", same, f"{shown}", same == shown)
    share = held / max(bars, 1)
    row(f"share of {bars} errors within the bar shown", share, ">= 0.95", share >= 0.95)
    row("page errors and console errors", len(page.faults), "0", not page.faults)
    print("\n".join(page.faults[:5]))
    page.tab.close()


def _malformed(rng: random.Random) -> tuple[str, bytes]:
    """A request that no page of ours sends, or that has a field which is none."""
    junk = "!@#$%&{}[]:;'\"`~?<>,\\\x00\x7f\u202e\U0001f600ß_"
    good = {
        "formula": {"e": "100/(x+1)", "x.x": "5", "m": "forward", "h": "0.001"},
        "values": {"f0": "1", "f1": "2", "h": "1", "x": "0"},
        "neuron": dict.fromkeys(("x1", "x2", "w1", "w2", "b", "t", "h", "r"), "1"),
    }
    name = rng.choice(tuple(good))
    fields: dict[str, Any] = dict(good[name])
    field = rng.choice([f for f in fields if f != "m"])
    text = str(fields[field])
    place = rng.randrange(len(text) + 1)
    kinds: tuple[Callable[[], Any], ...] = (
        lambda: text[:place] + rng.choice(junk) + text[place:],
        lambda: text[:place] + "((((" + text[place:],
        lambda: rng.choice(("nan", "inf", "1e999", "1,5", "--", "1e+", "0x10", "__import__('os')")),
        lambda: rng.choice(("9**9**9**9", "x.__class__", "exec('1')", "sin", "x^", "|x", "1/0*x")),
        lambda: "(" * rng.randrange(31, 10**6),
        lambda: "9" * rng.randrange(400, 10**6),
        lambda: rng.choice((None, 1, [], {}, True, [["x"]])),
        lambda: "".join(rng.choice(junk) for _ in range(rng.randrange(1, 40))),
        lambda: "" if field != "h" or name != "formula" else "-1",  # empty: jaxfd chooses
    )
    fields[field] = rng.choice(kinds)()
    body = json.dumps(fields).encode()
    if rng.random() < 0.1:
        body = rng.choice((body[: rng.randrange(len(body))], os.urandom(50), b"[" * 10**5, b"[]"))
    return name, body


def fuzz(context: Any, count: int = 1000) -> None:
    """Malformed requests: what comes back, and when."""
    rng = random.Random(7)
    errors = silent = 0
    slowest = 0.0
    with _served() as (process, address):
        page = _Page(context)
        page.open(address, "formula")
        for _ in range(count):
            name, body = _malformed(rng)
            request = urllib.request.Request(
                f"{address}api/{name}", body, {"Content-Type": "application/json"}
            )
            start = time.perf_counter()
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    status, told = answer.status, json.loads(answer.read())
            except urllib.error.HTTPError as error:
                status, told = error.code, json.loads(error.read())
            took = time.perf_counter() - start
            slowest = max(slowest, took)
            errors += status >= 500
            if not any(told.get("messages", {}).values()):
                silent += 1
                print(f"  no message for {name} {body[:100]!r}", flush=True)
        page.tab.fill("#formula-h", "0.01")
        page.settle()
        alive = page.tab.inner_text("#formula-gradient")
        process.terminate()
        assert process.stderr is not None
        complaints = process.stderr.read()
    row(f"server errors for {count} malformed inputs", errors, "0", not errors)
    row("inputs without a message", silent, "0", not silent)
    row("seconds to the slowest message", slowest, "<= 1", slowest <= 1)
    row("what the server complains of", len(complaints), "0", not complaints)
    print(f"  the page lives: {alive}")
    page.tab.close()


def assets_and_axe(context: Any) -> None:
    """What is loaded from elsewhere, and what an accessibility checker finds."""
    from axe_playwright_python.sync_playwright import Axe

    page, found, checked = _Page(context), 0, 0
    with _served() as (_, address):
        for theme in ("light", "dark"):
            page.tab.emulate_media(color_scheme=theme)
            for width in (390, 1400):
                page.tab.set_viewport_size({"width": width, "height": 900})
                for panel in ("values", "formula", "neuron", "questions"):
                    page.open(address, panel)
                    for violation in Axe().run(page.tab).response["violations"]:
                        serious = violation["impact"] in ("serious", "critical")
                        found += serious
                        print(f"  {theme} {panel}: {violation['impact']} {violation['id']}")
                    checked += 1
        own = (address, "about:", "data:")
        elsewhere = [url for url in page.requests if not url.startswith(own)]
    row(
        f"of {len(page.requests)} requests, for assets elsewhere",
        len(elsewhere),
        "0",
        not elsewhere,
    )
    row(f"serious or critical findings of axe on {checked} pages", found, "0", not found)
    page.tab.close()


def command(context: Any) -> None:
    """A taken port, and Ctrl-C."""
    with _served() as (process, address):
        port = re.findall(r":(\d+)", address)[0]
        module = [sys.executable, "-m", "jaxfd.calculator", "--no-browser", "--port", port]
        second = subprocess.run(module, capture_output=True, text=True)
        named = port in second.stderr and "--port" in second.stderr
        row("exit code where the port is taken", second.returncode, "1, named", named)
        start = time.perf_counter()
        process.send_signal(signal.SIGINT)
        code = process.wait(30)
        took = time.perf_counter() - start
    row("exit code on Ctrl-C", code, "0", code == 0)
    row("seconds from Ctrl-C to the end", took, "<= 2", took <= 2)


_LINES: dict[str, Callable[..., None]] = {
    "first": first_results,
    "latency": latency,
    "fuzz": fuzz,
    "assets": assets_and_axe,
    "command": command,
    "random": random_expressions,
}


def main() -> None:
    chosen, *rest = sys.argv[1:] or ["all"]
    print(f"{os.cpu_count()} CPU cores, load average {os.getloadavg()[0]:.1f}")
    with _browser() as context:
        for name, line in _LINES.items():
            if chosen in ("all", name):
                line(context, *map(int, rest))


if __name__ == "__main__":
    main()
