"""Fingerprints: every part that a function reads counts, and what it changes itself does not."""

import collections
import decimal
import functools
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxfd
from jaxfd._runs.fingerprint import fingerprint

OUT = jax.ShapeDtypeStruct((), jnp.float64)
IMPORTS = {"np": np, "jnp": jnp, "functools": functools, "collections": collections}


def space(source):
    """The names that a module of some source defines."""
    names = {**IMPORTS, "decimal": decimal, "__name__": "model"}
    exec(compile(source, "model.py", "exec", dont_inherit=True), names)
    return names


def parts(source):
    return fingerprint(space(source)["f"])


HELPERS = "def a(x): return x\ndef b(x): return -x\n"
FILLS = "    y = np.zeros(2)\n    for i in range(2):\n        y[i] += {} * x\n    return y.sum()\n"
SIM = (
    "class Sim:\n  def __init__(self, k): self.k = k\n  def run(self, x):\n"
    "    y = np.zeros(2)\n    for i in range(2): y[i] = self.k * x\n    return y.sum()\n"
)


class TestSeen:
    @pytest.mark.parametrize(
        ("source", "old", "new"),
        [
            ("def f(x): return solve(x, rho=5.0)", "rho", "eta"),
            ("def f(x, y): return solve(x, rho=5.0, eta=y)", "rho=5.0, eta", "eta=5.0, rho"),
            ("def f(x): return x[1:2]", "1:2", "1:3"),
        ],
        ids=["keyword", "keywords swapped", "slice"],
    )
    def test_code(self, source, old, new):
        assert parts(source) != parts(source.replace(old, new))

    @pytest.mark.parametrize(
        ("source", "old", "new"),
        [
            (SIM + "f = Sim(2.0).run", "2.0)", "3.0)"),
            (SIM + "f = Sim((1, 'a')).run", "'a'", "'b'"),
            (SIM + "f = Sim(np.ones(2)).run", "ones(2)", "ones(3)"),
            ("def make(D):\n  def f(x):\n" + FILLS.format("D[i]") + "  return f\n", "", ""),
            ("K = (1.0, 2.0)\ndef f(x):\n" + FILLS.format("K[i]"), "2.0", "3.0"),
            ("K = (1.0, 2.0)\ndef f(x):\n  K.count(1)\n  L.append(K)", "2.0", "3.0"),
            ("K = 1.0\nclass T: pass\ndef f(x):\n  t = T()\n  t.k = K\n  return t", "1.0", "2.0"),
            ("K = {'a': 1}\nN = [0]\ndef f(x):\n  N[0] += 1\n  return K['a']", "1}", "2}"),
            ("D = np.ones(3)\ndef f(x):\n  return [D[i] for i in x].append(1)", "(3)", "(4)"),
        ],
        ids=[
            *("number", "tuple", "array", "closure", "global tuple", "tuple of a log"),
            *("local object", "beside a counter", "comprehension"),
        ],
    )
    def test_beside_what_is_written(self, source, old, new):
        if not old:
            source, old, new = source + "f = make(np.ones(2))", "np.ones(2)", "np.ones(3)"
        assert parts(source) == parts(source)
        assert parts(source) != parts(source.replace(old, new))

    @pytest.mark.parametrize(
        ("source", "old", "new"),
        [
            ("f = functools.partial(a, np.abs, 1.0)", "1.0", "2.0"),
            ("f = functools.partial(a, np.abs, 1.0)", "np.abs", "np.sign"),
            ("f = functools.partial(np.power, 1.0)", "np.power", "np.add"),
            ("f = functools.partial(b, a)", "x): return x", "x): return 2 * x"),
            ("f = functools.partial(b, h=a)", "x): return x", "x): return 2 * x"),
            ("def g(x): return a(x)\nf = functools.partial(g, 1.0)", "return x", "return 2 * x"),
            ("def f(x, g=np.abs, k=1.0): return k", "1.0", "2.0"),
            ("def f(x, *, h=a): return h(x)", "x): return x", "x): return 2 * x"),
            ("def f(x, h=a): return h(x)", "h=a", "h=b"),
            ("P = {'h': np.abs, 'k': 1.0}\ndef f(x): return P['k']", "1.0", "2.0"),
            ("P = {'h': a}\ndef f(x): return P['h'](x)", "x): return x", "x): return 2 * x"),
            ("P = [a, b]\ndef f(x): return P[0](x)", "[a, b]", "[b, a]"),
            ("P = [object(), 1.0]\ndef f(x): return P[1]", "1.0", "2.0"),
            ("h = np.sin\ndef f(x): return h(x)", "np.sin", "np.cos"),
            ("h = jnp.sin\ndef f(x): return h(x)", "jnp.sin", "jnp.cos"),
            ("h = jnp.sin\ndef f(x): return h(x)", "jnp.sin", "np.cos"),
            ("h = functools.partial(a, 1)\ndef f(x): return h(x)", "a, 1", "a, 2"),
        ],
    )
    def test_neighbours_of_functions(self, source, old, new):
        assert parts(HELPERS + source) == parts(HELPERS + source)
        assert parts(HELPERS + source) != parts((HELPERS + source).replace(old, new))

    @pytest.mark.parametrize(
        ("source", "old", "new"),
        [
            ("f = np.vectorize(lambda x: 2 * x)", "2 *", "3 *"),
            ("g = np.vectorize(lambda x: 2 * x)\ndef f(x): return g(x)", "2 *", "3 *"),
            ("K = 2\n@np.vectorize\ndef f(x): return K * x", "K = 2", "K = 3"),
            ("g = np.poly1d([2, 1])\ndef f(x): return g(x)", "[2", "[3"),
            ("class P: k = 2\ndef f(x): return x * P.k", "k = 2", "k = 3"),
            ("class P:\n  class Q: k = 2\ndef f(x): return x * P.Q.k", "k = 2", "k = 3"),
            ("class B: k = 2\nclass P(B): pass\ndef f(x): return x * P.k", "k = 2", "k = 3"),
            ("class P(E): A = 2\ndef f(x): return x * P.A.value", "A = 2", "A = 3"),
            ("class P(E): A = 2\nM = P.A\ndef f(x): return x * M.value", "A = 2", "A = 3"),
            (
                "class P:\n  @staticmethod\n  def g(x): return 2 * x\ndef f(x): return P.g(x)",
                "2 *",
                "3 *",
            ),
            (SIM + "def f(x): return Sim(2.0).run(x)", "self.k *", "self.k +"),
            (SIM + "s = Sim(2.0)\ndef f(x): return s.k * x", "2.0", "3.0"),
            (SIM + "s = Sim(2.0)\ndef f(x): return s.run(x)", "2.0", "3.0"),
            ("s = N(k=2)\ndef f(x): return s.k * x", "k=2", "k=3"),
            ("s = N(a=N(k=2))\ndef f(x): return s.a.k * x", "k=2", "k=3"),
            ("s = {'a': N(k=2)}\ndef f(x): return s['a'].k * x", "k=2", "k=3"),
        ],
    )
    def test_objects_and_classes(self, source, old, new):
        source = "from enum import Enum as E\nfrom types import SimpleNamespace as N\n" + source
        assert parts(source) == parts(source)
        assert parts(source) != parts(source.replace(old, new))

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("np.array([2, 'a'], object)", "np.array([3, 'a'], object)"),
            ("np.ma.array([2, 1], mask=[0, 1])", "np.ma.array([2, 1], mask=[0, 0])"),
            ("pathlib.Path('a.csv')", "pathlib.Path('b.csv')"),
            ("datetime.timedelta(2)", "datetime.timedelta(3)"),
            ("datetime.date(2026, 1, 2)", "datetime.date(2026, 1, 3)"),
            ("bytearray(b'2')", "bytearray(b'3')"),
            ("re.compile('a')", "re.compile('b')"),
            ("operator.itemgetter(2)", "operator.itemgetter(3)"),
            ("collections.Counter(a=2)", "collections.Counter(a=3)"),
            ("type('T', (float,), {})(2)", "type('T', (float,), {})(3)"),
            ("jnp.ones(2)", "jnp.zeros(2)"),
            ("range(3)", "range(4)"),
            ("slice(3)", "slice(4)"),
            ("decimal.Decimal('1')", "decimal.Decimal('2')"),
            ("collections.OrderedDict(a=1)", "collections.OrderedDict(a=2)"),
            ("collections.namedtuple('P', 'k')(1)", "collections.namedtuple('P', 'k')(2)"),
            ("collections.deque([1])", "collections.deque([2])"),
        ],
    )
    def test_values(self, one, other):
        source = "import datetime, operator, pathlib, re\nK = {}\ndef f(x): return K"
        assert parts(source.format(one)) == parts(source.format(one))
        assert parts(source.format(one)) != parts(source.format(other))

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("return 2 * x", "return 3 * x"),
            ("return x + 1", "return x + 2"),
            ("C = 1.0", "C = 2.0"),
            ("return 7", "return 8"),
            ("Sim(1.0)", "Sim(2.0)"),
            ("return x - 1", "return x - 2"),
        ],
        ids=["method", "base class", "class attribute", "property", "slot", "static method"],
    )
    def test_classes(self, old, new):
        source = (
            "class Base:\n"
            "  C = 1.0\n"
            "  def h(self, x): return x + 1\n"
            "  @staticmethod\n"
            "  def s(x): return x - 1\n"
            "class Sim(Base):\n"
            "  __slots__ = ('k',)\n"
            "  def __init__(self, k): self.k = k\n"
            "  def h(self, x): return 2 * x\n"
            "  @property\n"
            "  def p(self): return 7\n"
            "  def run(self, x): return self.h(x) + super().h(x) + self.C + self.p + self.s(x)\n"
            "f = Sim(1.0).run"
        )
        assert parts(source) == parts(source)
        assert parts(source) != parts(source.replace(old, new))

    def test_functions_that_an_object_holds(self):
        source = (
            "class Sim:\n"
            "  def __init__(self, h): self.h = h\n"
            "  def run(self, x): return self.h(x)\n"
            "class Twice:\n"
            "  def __call__(self, x): return 2 * x\n"
            "def g(x): return x + 1\n"
            "f = Sim(g).run"
        )
        for base in (source, source.replace("Sim(g)", "Sim(Twice())")):
            assert parts(base) == parts(base)
        for old, new in (("x + 1", "x + 2"), ("Sim(g)", "Sim(Twice())")):
            assert parts(source) != parts(source.replace(old, new))
        called = source.replace("Sim(g)", "Sim(Twice())")
        assert parts(called) != parts(called.replace("2 * x", "3 * x"))

    def test_closures_of_two_functions(self):
        source = (
            "def make(k):\n  def g(x): return k * x\n  return g\n"
            "g, h = make(1), make(2)\ndef f(x): return g(x) + h(x) ** 2"
        )
        for other in ("make(1), make(3)", "make(3), make(2)", "make(2), make(1)"):
            assert parts(source) != parts(source.replace("make(1), make(2)", other))


COUNTERS = {
    "attribute": "def __call__(self, x):\n    self.n += 1\n    return x",
    "cache": "def __call__(self, x):\n    self.d[x] = x\n    return x",
    "in a method": (
        "def note(self, x):\n    self.n += 1\n    self.d.update({x: x})\n"
        "  def __call__(self, x):\n    self.note(x)\n    return x"
    ),
    "of its base": "def __call__(self, x):\n    super().note(x)\n    return x",
    "through a function": "def __call__(self, x):\n    count(self, self.d)\n    return x",
    "by name": "def __call__(self, x):\n    setattr(self, 'n', self.n + 1)\n    return x",
    "of the class": "def __call__(self, x):\n    type(self).total += 1\n    return self.total",
    "log": "def __call__(self, x):\n    d = self.d\n    d.setdefault(x, []).append(1)",
    "cached property": "def __call__(self, x): return self.p * x",
    "buffer": "def __call__(self, x): return np.multiply(x, 2.0, out=self.b).sum()",
    "loop": "def __call__(self, x):\n    for part in self.l: part.append(x)\n    return x",
    "global": "def __call__(self, x):\n    global N\n    N += 1\n    return last(x)",
    "default": "def __call__(self, x, seen={}):\n    seen[x] = 1\n    return x",
}


class TestNotSeen:
    @pytest.mark.parametrize("body", COUNTERS.values(), ids=COUNTERS)
    def test_what_it_changes_itself(self, body):
        by_name = "setattr" in body  # any attribute could be meant
        names = space(
            "N = 0\n"
            "def last(x): return N + x\n"
            "def count(model, cache):\n  model.n += 1\n  keep(cache)\n"
            "def keep(cache): cache['last'] = len(cache)\n"
            "class Base:\n  total = 0\n"
            "  def note(self, x):\n    self.n += 1\n"
            "class Model(Base):\n"
            "  def __init__(self, k): self.k, self.n, self.d = k, 0, {}; "
            "self.b = np.zeros(()); self.l = [[]]\n"
            "  @functools.cached_property\n  def p(self): return self.k + 1\n"
            f"  {body}\n"
        )
        model = names["Model"](2.0)
        before = fingerprint(model)
        model(3.0)
        model(4.0)
        assert fingerprint(model) == before
        assert by_name or fingerprint(names["Model"](5.0)) != before

    @pytest.mark.parametrize(
        "change",
        ["L.append(x)", "M = L; M.append(x)", "note(L, x)", "L[0] += x", "P['l'].append(x)"],
    )
    def test_a_log_beside_it(self, change):
        names = space(
            "L = [0.0]\nP = {'l': L, 'k': 1}\ndef note(log, x): log.append(x)\n"
            f"def f(x):\n  {change}\n  return len(L) + P['k']"
        )
        before = fingerprint(names["f"])
        names["f"](1.0)
        assert fingerprint(names["f"]) == before

    def test_what_is_made_at_the_first_call(self):
        names = space(
            "g = None\ndef first():\n  global g\n  g = lambda x: x\n"
            "def f(x):\n  if g is None: first()\n  return g(x)"
        )
        before = fingerprint(names["f"])
        names["f"](1.0)
        assert fingerprint(names["f"]) == before

    @pytest.mark.parametrize(
        "source",
        [
            "class P: n = {}\ndef f(x):\n  P.n += 1\n  return x",
            SIM + "s = Sim({})\ndef g(): s.k += 1\ndef f(x):\n  g()\n  return s.k",
            "s = N(n={}, k=1)\ndef g(): s.n += 1\ndef f(x):\n  g()\n  return s.k",
            "R = np.random.default_rng({})\ndef f(x): return R.normal() * x",
            "s = N(n={}, k=1)\ndef f(x): return s.k",
        ],
    )
    def test_state_that_is_no_part_of_it(self, source):
        source = "from types import SimpleNamespace as N\n" + source
        assert parts(source.format(2)) == parts(source.format(3))

    def test_objects_of_which_nothing_is_known(self):
        source = "class Q:\n  def __getattr__(self, name): raise RuntimeError\n"
        assert parts(source + "q = Q()\nL = [Q()]\ndef f(x): return q.k, L")

    def test_a_path_beside_a_moved_file(self, tmp_path, monkeypatch):
        source = "import pathlib\nD = pathlib.Path(__file__).parent / 'data'\ndef f(x): return D"
        found = []
        for folder in ("a", "b"):
            module = types.ModuleType("model")
            module.__file__ = str(tmp_path / folder / "model.py")
            exec(source, vars(module))
            monkeypatch.setitem(sys.modules, "model", module)
            found.append(fingerprint(module.f))
        assert found[0] == found[1]

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (
                "P = {'a': 1, 'b': 2}\ndef f(x): return P",
                "P = {'b': 2, 'a': 1}\ndef f(x): return P",
            ),
            (
                "def f(x, k):\n  while k: k -= 1; x = k\n  return g(x, rho=k) if x else (x, k)",
                "def f(x,\n  k):\n  while k:\n    k -= 1\n    x = k\n\n"
                "  return (g(\n    x,\n    rho=k)\n   if x\n   else (x,\n    k))",
            ),
        ],
        ids=["order of a dict", "line breaks"],
    )
    def test_form(self, one, other):
        assert parts(one) == parts(other)


def call(fun, path):
    return float(jaxfd.blackbox(fun, OUT, journal=path, name="m")(jnp.ones(())))


class TestJournal:
    @pytest.mark.parametrize(
        ("source", "old", "new", "part"),
        [
            ("def f(x): return dict(rho=x)['rho']", "rho=x)['rho']", "eta=x)['eta']", "the code"),
            (SIM + "f = Sim(2.0).run", "2.0", "3.0", "the attribute k"),
            ("def f(x, g=np.abs, k=1.0): return k", "1.0", "2.0", "the default k"),
        ],
    )
    def test_no_old_values(self, tmp_path, source, old, new, part):
        path = tmp_path / "runs.sqlite"
        value = call(space(source)["f"], path)
        assert call(space(source)["f"], path) == value
        with pytest.raises(ValueError, match=rf"before it changed \({part}.*version=.*changed="):
            call(space(source.replace(old, new))["f"], path)

    def test_written_before_fingerprints_were_made_this_way(self, tmp_path):
        import json
        import sqlite3

        path = tmp_path / "runs.sqlite"
        fun = space("K = 2.0\ndef f(x): return K * x")["f"]
        value = call(fun, path)
        with sqlite3.connect(path) as connection:
            old = ("{}.{}".format(*sys.version_info), json.dumps({"the code": "0", "K": "0"}))
            connection.execute("UPDATE codes SET python = ?, parts = ?", old)
        connection.close()
        assert call(fun, path) == value
        with pytest.raises(ValueError, match=r"before it changed \(K\)"):
            call(space("K = 3.0\ndef f(x): return K * x")["f"], path)

    def test_another_process_finds_the_same(self):
        script = (
            "import sys; sys.path.insert(0, 'tests/_runs'); import test_fingerprint as t\n"
            "s = t.HELPERS + \"K = {'b', 'a', 'c'}\\ndef f(x, h=[a, np.sin]): return h, K\"\n"
            "print(sorted(t.parts(s).items()))"
        )
        found = {
            subprocess.run(
                [sys.executable, "-c", script],
                capture_output=True,
                text=True,
                check=True,
                env={"PYTHONHASHSEED": seed, "JAX_PLATFORMS": "cpu"},
            ).stdout
            for seed in ("1", "2")
        }
        assert len(found) == 1
