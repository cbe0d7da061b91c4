"""A calculator that is served, and a browser that reads it: what the tests of the page share."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request

CHROMIUM = shutil.which("chromium")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)


@contextlib.contextmanager
def served(*arguments, cwd=None):
    """Serves the calculator at a free port; yields its process and what it printed first."""
    command = [sys.executable, "-m", "jaxfd.calculator", "--port", "0", "--no-browser", *arguments]
    environment = {k: v for k, v in os.environ.items() if k != "JAX_ENABLE_X64"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=cwd
    )
    try:
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        if not found:
            raise RuntimeError(f"no address in {line!r}: {process.stderr.read()}")
        yield process, found[0]
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate()


@contextlib.contextmanager
def chromium():
    """A headless browser with a profile of its own."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as profile, sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, headless=True, args=list(FLAGS)
        )
        try:
            yield context
        finally:
            context.close()


def post(address, name, body, headers=None):
    """Asks the server; returns status and text."""
    request = urllib.request.Request(
        f"{address}api/{name}", body, {"Content-Type": "application/json", **(headers or {})}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
