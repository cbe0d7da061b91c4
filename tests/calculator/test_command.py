"""The command: its port, its address, its end."""

import http.client
import signal
import socket
import subprocess
import sys
import time

import pytest
from _browser import post, served

COMMAND = [sys.executable, "-m", "jaxfd.calculator", "--no-browser"]


def test_ctrl_c_ends_it_even_while_jax_computes():
    with served() as (process, address):
        assert post(address, "values", b'{"f0":"1","f1":"2","h":"1","x":"0"}')[0] == 200
        asked = http.client.HTTPConnection(address.removeprefix("http://").strip("/"))
        asked.request("POST", "/api/formula", b'{"e":"x^2"}')
        assert post(address, "formula", b'{"e":"("}')[0] == 200  # so the other one is under way
        start = time.perf_counter()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert time.perf_counter() - start < 2
        assert process.stderr.read() == ""
        asked.close()


def test_a_taken_port_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = subprocess.run([*COMMAND, "--port", str(port)], capture_output=True, text=True)
    assert found.returncode == 1
    assert f"Port {port} of 127.0.0.1 cannot be used" in found.stderr
    assert "--port 0" in found.stderr


@pytest.mark.parametrize("port", ["70000", "-1", "x"])
def test_no_port(port):
    found = subprocess.run([*COMMAND, f"--port={port}"], capture_output=True, text=True)
    assert found.returncode == 2
    assert "a port is a number from 0 to 65535" in found.stderr


def test_values_need_no_jax():
    code = (
        "import sys\n"
        "import jaxfd.calculator._server, jaxfd.calculator._request\n"
        "from jaxfd.calculator._values import by_values\n"
        "by_values({'f0': '1', 'f1': '2', 'h': '1', 'x': '0'})\n"
        "assert 'jax' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
