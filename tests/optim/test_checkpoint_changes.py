"""Checkpoints: of another function, of a looser tolerance, damaged."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from _tools import rosenbrock

import jaxfd
from jaxfd.optim import minimize

OUT = jax.ShapeDtypeStruct((), np.float32)
X0 = np.array([-1.2, 1.0])
SINGLE = X0.astype(np.float32)


def first(x):
    return np.sum((x - 1.5) ** 2)


def second(x):
    return np.sum((x + 1) ** 2) + 5


@pytest.mark.parametrize("optimizer", [None, optax.sgd(0.1)])
class TestAnotherFunction:
    def test_of_the_same_name(self, optimizer, tmp_path):
        options = {"max_steps": 3, "checkpoint": tmp_path}
        minimize(jaxfd.blackbox(first, OUT, name="f"), SINGLE, optimizer, **options)
        with pytest.raises(ValueError, match=r"checkpoint: .* another problem"):
            minimize(jaxfd.blackbox(second, OUT, name="f"), SINGLE, optimizer, **options)

    def test_that_reads_something_else(self, optimizer, tmp_path):
        data = {"shift": 0.0}

        class Model:
            def __call__(self, x):
                data["calls"] = data.get("calls", 0) + 1  # so that nothing is known of it
                return np.sum((x - 1) ** 2) + data["shift"]

        box = jaxfd.blackbox(Model(), OUT, name="f")
        options = {"max_steps": 3, "checkpoint": tmp_path}
        whole = minimize(box, SINGLE, optimizer, **options)
        again = minimize(box, SINGLE, optimizer, **options)
        assert again.num_evaluations == whole.num_evaluations
        data["shift"] = 1.0
        with pytest.raises(ValueError, match=r"checkpoint: .* fun was .* has changed"):
            minimize(box, SINGLE, optimizer, **options)


def test_noise_is_no_other_function(tmp_path):
    noise = np.random.default_rng(0)
    box = jaxfd.blackbox(lambda x: np.sum(x**2) + 1e-3 * noise.normal(), OUT)
    for steps in (2, 4):
        found = minimize(box, SINGLE, max_steps=steps, checkpoint=tmp_path)
    assert len(found.history) <= 4


def test_a_tighter_tolerance_goes_on(tmp_path):
    loose = minimize(rosenbrock, jnp.asarray(X0), tol=1e-1, checkpoint=tmp_path)
    assert loose.converged
    same = minimize(rosenbrock, jnp.asarray(X0), tol=1e-1, checkpoint=tmp_path)
    assert same.num_evaluations == loose.num_evaluations
    tight = minimize(rosenbrock, jnp.asarray(X0), checkpoint=tmp_path)
    assert tight.converged
    assert tight.value < 1e-8 < loose.value
    assert tight.num_evaluations > loose.num_evaluations


class TestDamage:
    @pytest.mark.parametrize("damage", ["cut", "nonsense", "empty", "another file", "shapes"])
    def test_names_the_file(self, tmp_path, damage):
        run = {"checkpoint": tmp_path, "max_steps": 2}
        minimize(rosenbrock, jnp.asarray(X0), **run)
        file = tmp_path / "run.npz"
        whole = file.read_bytes()
        if damage == "another file":
            np.savez(file, a=1)
        elif damage == "shapes":
            saved = dict(np.load(file))
            np.savez(file, **{**saved, "leaf0": np.zeros(7)})
        else:
            file.write_bytes(
                {"cut": whole[:-50], "nonsense": b"PK" + whole[9:], "empty": b""}[damage]
            )
        with pytest.raises(ValueError, match=r"checkpoint: .*run.npz is damaged .* delete it"):
            minimize(rosenbrock, jnp.asarray(X0), **run)
