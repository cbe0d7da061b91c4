"""The parts that users touch first: the README, names, tables, and what can be pickled."""

import pickle
import re
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxfd

ROOT = Path(jaxfd.__file__).parents[1]
README = ROOT / "README.md"


def cubes(x):
    """Own words."""
    return jnp.sum(x**3)


@jaxfd.differentiable
def hooked(x):
    return jnp.sum(x**2)


@pytest.mark.skipif(not README.exists(), reason="installed without its README")
class TestReadme:
    def test_is_short(self):
        text = re.sub(r"```.*?```", "", README.read_text(), flags=re.DOTALL)
        assert len(text.split()) <= 900

    def test_has_a_picture_on_the_first_screen(self):
        above = "\n".join(README.read_text().splitlines()[:20])
        assert (ROOT / re.search(r'<img src="(.+?)"', above)[1]).exists()

    def test_links_lead_somewhere(self):
        links = re.findall(r'\]\((?!http)(.+?)\)|(?:src|srcset)="(.+?)"', README.read_text())
        assert len(links) > 5
        for link in map("".join, links):
            assert (ROOT / link).exists(), link


class TestNames:
    def test_version(self):
        assert re.fullmatch(r"\d+\.\d+\.\d+", jaxfd.__version__)

    def test_optim_is_seen_before_it_is_used(self):
        assert {"optim", "grad", "__version__"} <= set(dir(jaxfd))

    def test_what_transforms_return_says_what_it_is(self):
        for transform in (jaxfd.grad, jaxfd.jacobian, jaxfd.hessian, jaxfd.estimate):
            text = transform(cubes).__doc__
            assert f"jaxfd.{transform.__name__}" in text
            assert "cubes" in text
            assert "Own words." in text
        assert "Own words." in jaxfd.derivative(cubes).__doc__
        assert jaxfd.differentiable(cubes).__doc__ == cubes.__doc__

    def test_warnings_have_a_class(self):
        def fails(x):
            raise ValueError(x)

        box = jaxfd.blackbox(fails, jax.ShapeDtypeStruct((), jnp.float32), on_error="nan")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", jaxfd.JaxfdWarning)
            assert np.isnan(box(1.0))


class TestPickle:
    def test_by_name_as_functions_are(self):
        assert pickle.loads(pickle.dumps(hooked)) is hooked

    def test_by_parts(self):
        before = jaxfd.differentiable(cubes, method=jaxfd.Central(step=0.5), mode="forward")
        after = pickle.loads(pickle.dumps(before))
        x = jnp.array([1.0, 2.0])
        assert after.__name__ == "cubes"
        assert np.array_equal(jax.grad(after)(x), jax.grad(before)(x))

    def test_boxes_say_why_not(self):
        box = jaxfd.blackbox(cubes, jax.ShapeDtypeStruct((), jnp.float32))
        with pytest.raises(TypeError, match=r"cubes is a jaxfd\.blackbox.*top of a module"):
            pickle.dumps(box)


X = {"k": np.array([1.0, 2.0]), "m": np.array(3.0)}
NAMES = ["k[0]", "k[1]", "m"]
TABLES = {
    "estimate": (
        lambda f: jaxfd.estimate(f)(X),
        {"entry", "gradient", "error_bound", "step", "one_sided"},
    ),
    "check": (
        lambda f: jaxfd.check_grads(f, X, X, method=jaxfd.Central()),
        {"entry", "claimed", "estimated", "bar", "verdict"},
    ),
    "sensitivity": (
        lambda f: jaxfd.sensitivity(f, X, method=jaxfd.Central()),
        {"entry", "x", "derivative", "error_bound", "elasticity", "elasticity_error"},
    ),
    "sweep": (
        lambda f: jaxfd.step_sweep(f, X, steps=np.array([1e-3, 1e-4]), exact=X),
        {"entry", "step", "derivative", "error"},
    ),
    "minimize": (lambda f: jaxfd.optim.minimize(f, X, max_steps=1), {"entry", "x"}),
}


@pytest.mark.parametrize("kind", TABLES)
def test_results_are_tables(kind):
    def energy(p):
        return np.sum(p["k"] ** 2) / 2 + p["m"] ** 2 / 2

    make, columns = TABLES[kind]
    table = make(jaxfd.blackbox(energy, jax.ShapeDtypeStruct((), jnp.float64))).to_dict()
    assert set(table) == columns
    assert len({len(column) for column in table.values()}) == 1
    assert sorted(set(table["entry"])) == NAMES
