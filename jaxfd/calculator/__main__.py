"""The command ``python -m jaxfd.calculator``: arguments, the port, the browser, Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Sequence
from typing import Any

PORT = 8765


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves the calculator until Ctrl-C.

    Args:
        arguments: what stands behind the command; None for that of the process.

    Returns:
        0 after Ctrl-C, 1 where the port is taken or the extra is missing, 2 for a wrong argument.
    """
    parsed = _parser().parse_args(arguments)
    try:
        import lark  # noqa: F401
        import uvicorn

        from jaxfd.calculator import _server
    except ImportError as error:
        print(
            f"The calculator needs {error.name}: pip install 'jaxfd[calculator]'", file=sys.stderr
        )
        return 1
    try:
        model = _model(parsed.function, parsed.at)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        listening = _listen(parsed.port)
    except OSError as error:
        print(
            f"Port {parsed.port} of 127.0.0.1 cannot be used ({error.strerror}): choose another "
            "with --port, or any free one with --port 0.",
            file=sys.stderr,
        )
        return 1
    port = listening.getsockname()[1]
    address = f"http://127.0.0.1:{port}/"
    if model is None:
        app = _server.application(port)
    else:  # who can read the page can run the function: that wants more than the same computer
        token = secrets.token_urlsafe(24)
        app = _server.application(port, False, token, "model.html", model.answers())
        address = f"{address}?token={token}"
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=1,
        )
    )
    # Whoever presses Ctrl-C knows that what is under way is not finished.
    logging.getLogger("uvicorn.error").addFilter(
        lambda record: "graceful shutdown" not in record.getMessage()
    )
    print(f"jaxfd calculator at {address} (Ctrl-C ends it)", flush=True)
    if parsed.browser:
        threading.Timer(0.2, webbrowser.open, [address]).start()
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listening])
    # Not by way of the interpreter's end: that would wait for a compilation under way.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jaxfd.calculator",
        description="A calculator of gradients by finite differences, in a browser.",
    )
    parser.add_argument("function", nargs="?", help="a function of one's own, as model.py:simulate")
    parser.add_argument("--at", help="where it is looked at: a=1.0,b=2.5")
    parser.add_argument(
        "--port",
        type=_port,
        default=PORT,
        help="port on 127.0.0.1; 0 for any free one (%(default)s)",
    )
    parser.add_argument(
        "--no-browser", dest="browser", action="store_false", help="print the address only"
    )
    return parser


def _model(spec: str | None, at: str | None) -> Any:
    """The function that the command names, None where it names none.

    Raises:
        ValueError: there is no such function, or nothing to look at.
    """
    if spec is None:
        if at is not None:
            raise ValueError("--at needs a function: model.py:simulate --at 'a=1.0,b=2.5'.")
        return None
    if at is None:
        raise ValueError("Say where the function is looked at: --at 'a=1.0,b=2.5'.")
    from jaxfd.calculator import _model as room

    entries = room.entries(at)
    return room.Model(room.load(spec), entries, spec.rpartition(":")[2])


def _port(text: str) -> int:
    try:
        port = int(text)
    except ValueError:
        port = -1
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, not {text!r}")
    return port


def _listen(port: int) -> socket.socket:
    """A socket that listens to this computer alone."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # A port left a moment ago is free; one that is listened to is not.
    if os.name == "posix":
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
        listening.listen(128)
    except OSError:
        listening.close()
        raise
    return listening


if __name__ == "__main__":
    sys.exit(main())
