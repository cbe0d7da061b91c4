"""The door of the calculator: who is let in, and what becomes of what is malformed."""

import json
import threading
import time

import pytest
import uvicorn
from _browser import post

from jaxfd.calculator import _server
from jaxfd.calculator.__main__ import _listen

VALUES = {"f0": "4", "f1": "4.5", "h": "0.5", "x": "2"}


class Served:
    """A server in a thread, without JAX."""

    def __init__(self, **options):
        self.socket = _listen(0)
        port = self.socket.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}/"
        app = _server.application(port, warm=False, **options)
        self.server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.run, args=([self.socket],))
        self.thread.start()
        return self.address

    def __exit__(self, *_):
        self.server.should_exit = True
        self.thread.join()


@pytest.fixture(scope="module")
def address():
    with Served() as served:
        yield served


def ask(address, name, given, **headers):
    return post(address, name, json.dumps(given).encode(), headers)


def get(address, path="", **headers):
    import http.client

    connection = http.client.HTTPConnection(address.removeprefix("http://").strip("/"))
    connection.request("GET", f"/{path}", headers=headers)
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read().decode()
    connection.close()
    return found


def test_values_are_answered(address):
    status, text = ask(address, "values", VALUES)
    assert status == 200
    assert json.loads(text)["gradient"] == "1"


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:80"},
        {"Host": "127.0.0.1:1"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
    ids=str,
)
def test_strangers_are_refused(address, headers):
    status, text = ask(address, "values", VALUES, **headers)
    assert status == 403
    assert "gradient" not in text


def test_a_link_may_be_followed_from_elsewhere(address):
    status, headers, text = get(address, **{"Sec-Fetch-Site": "cross-site"})
    assert status == 200
    assert "By formula" in text
    assert "default-src 'none'" in headers["content-security-policy"]
    assert get(address, Host="evil.example")[0] == 403


@pytest.mark.parametrize("path", ["static/../_server.py", "static/%2e%2e/_server.py", "nothing"])
def test_nothing_else_is_served(address, path):
    assert get(address, path)[0] == 404


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1]",
        b"null",
        b'{"h": 1}',
        b'{"h": null}',
        b"[" * 10_000,
        b"\xff\xfe",
        b'"\\ud800"',
    ],
    ids=lambda b: str(b[:12]),
)
@pytest.mark.parametrize("name", ["values", "formula", "neuron"])
def test_malformed_requests_have_an_answer(address, name, body):
    status, text = post(address, name, body)
    assert status in (200, 400)
    assert json.loads(text)["messages"]


@pytest.mark.parametrize("size", [20_000, 10**6])
def test_a_large_request_is_refused_at_once(address, size):
    start = time.perf_counter()
    status, text = ask(address, "formula", {"e": "x" * size})
    assert (status, "too long" in text) == (413, True)
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("e", "foo", "Unknown name foo"),
        ("x.x", "two", "two is not a number"),
        ("x.x", "1,5", "did you mean 1.5?"),
        ("h", "-1", "h must be positive"),
        ("h", "0", "h must be positive"),
        ("h", "", "let jaxfd choose"),
        ("m", "guess", "no choice"),
        ("o", "3", "has the orders"),
        ("n", "-1", "not be negative"),
        ("p", "16", "no choice"),
    ],
)
def test_formula_names_the_field(address, field, text, message):
    given = {"e": "x^2", "x.x": "2", "m": "central", "o": "2", "h": "0.1", "p": "64"}
    given["auto"] = "no"
    status, answer = ask(address, "formula", given | {field: text})
    messages = json.loads(answer)["messages"]
    assert (status, list(messages)) == (200, [field])
    assert message in messages[field]


def test_token_is_asked_for():
    with Served(token="secret") as address:
        assert get(address)[0] == 403
        assert get(address, "?token=wrong")[0] == 403
        assert ask(address, "values", VALUES)[0] == 403
        status, headers, _ = get(address, "?token=secret")
        assert (status, headers["location"]) == (303, "/")
        cookie = headers["set-cookie"].split(";")[0]
        assert get(address, Cookie=cookie)[0] == 200
        assert ask(address, "values", VALUES, Cookie=cookie)[0] == 200
