"""What is kept of functions, for how long, and that nothing is kept alive by it."""

import functools
import gc
import threading
import weakref

import numpy as np

from jaxfd._functions import Shelf


class Callable:
    def __init__(self):
        self.data = np.ones(3)

    def method(self, x):
        return x * self.data

    def __call__(self, x):
        return self.method(x)


def make():
    data = np.ones(3)

    def fun(x):
        return x * data

    return fun, data


def test_by_identity():
    shelf = Shelf()
    (first, _), (second, _) = make(), make()
    assert shelf.find(first) is shelf.find(first)
    assert shelf.find(first) is not shelf.find(second)


def test_bound_methods_by_instance_and_function():
    shelf = Shelf()
    one, other = Callable(), Callable()
    assert shelf.find(one.method) is shelf.find(one.method)
    assert shelf.find(one.method) is not shelf.find(other.method)
    assert shelf.find(one) is shelf.find(one)
    assert shelf.find(one.method).subject.fun.get() == one.method
    np.testing.assert_array_equal(shelf.find(one.method).subject.fun(2.0), np.full(3, 2.0))


def test_things_are_made_once():
    shelf = Shelf()
    fun, data = make()
    made = []
    for _ in range(3):
        shelf.find(fun).get("thing", lambda: made.append(1))
    assert made == [1]
    data[0] = 2.0
    shelf.find(fun).get("thing", lambda: made.append(1))
    assert made == [1, 1]


def test_numbers_of_things_and_functions_are_bounded():
    shelf = Shelf()
    fun, _ = make()
    entry = shelf.find(fun)
    made = []
    for key in range(100):
        entry.get(key, lambda: made.append(1))
    entry.get(0, lambda: made.append(1))
    assert len(made) == 101
    held = [make()[0] for _ in range(300)]
    for each in held:
        shelf.find(each)
    assert len(shelf) < 300


def test_nothing_is_kept_alive():
    shelf = Shelf()
    fun, data = make()
    instance = Callable()
    partial = functools.partial(fun)
    references = [weakref.ref(each) for each in (fun, data, instance, partial)]
    for each in (fun, instance.method, instance, partial):
        entry = shelf.find(each)
        entry.get("thing", lambda entry=entry: [entry.subject])
    assert len(shelf) == 4
    del fun, data, instance, partial, each, entry
    gc.collect()
    assert [reference() for reference in references] == [None] * 4
    assert len(shelf) == 0


def test_an_entry_made_in_another_state_is_not_found_again():
    shelf = Shelf()
    fun, data = make()
    entry = shelf.find(fun)
    with entry.subject.tracing():
        data[0] = 2.0
    assert entry.subject.spoilt
    data[0] = 1.0
    assert shelf.find(fun) is not entry


def test_what_cannot_be_referred_to_weakly_is_not_kept():
    class Pair(tuple):
        def __call__(self, x):
            return x * self[0]

    shelf = Shelf()
    pair = Pair((1.0,))
    entry = shelf.find(pair)
    assert entry.subject.state is None
    assert entry.subject.fun(2.0) == 2.0
    assert len(shelf) == 0


def test_threads():
    shelf = Shelf()
    fun, _ = make()
    found, together = [], threading.Barrier(8)

    def look():
        together.wait()
        for _ in range(200):
            found.append(shelf.find(fun).get("thing", object))

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 1600
    assert len(set(found[-100:])) == 1
