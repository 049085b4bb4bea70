"""The clients of docs/operators.md post the same batch until it is stored, and no earlier than told."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from connectors.edge.openapi import SAMPLES
from tests.waiting import WITHIN_S

ROOT = Path(__file__).parents[3]
RETRY_AFTER_S = 1
CUT = 0
"""In place of a status: the connection ends without an answer."""


class Recorder(ThreadingHTTPServer):
    """Gives the ``statuses`` one after another, and keeps when each post came and its body."""

    def __init__(self, statuses: list[int]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.statuses = statuses
        self.posts: list[tuple[float, bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Recorder

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.posts.append((time.monotonic(), body))
        status = self.server.statuses.pop(0)
        if status == CUT:
            self.close_connection = True
            return
        self.send_response(status)
        if status in (429, 503):
            self.send_header("retry-after", str(RETRY_AFTER_S))
        if status != 204:
            self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Prints nothing."""


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with Recorder([503, 429, CUT, 204]) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def example(language: str, server: Recorder) -> str:
    text = (ROOT / "docs" / "operators.md").read_text()
    [block] = [
        block
        for block in re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        if "retry-" in block
    ]
    return str(block).replace("http://127.0.0.1:8080", server.url)


def run(server: Recorder, *command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"KEY": "rh_key"}
    return subprocess.run(
        command,
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )


def check(server: Recorder) -> bytes:
    """That every post had the same body, each not before the seconds that it was told; returns it."""
    times, bodies = zip(*server.posts, strict=True)
    assert len(times) == 4
    assert times[1] - times[0] >= RETRY_AFTER_S
    assert times[2] - times[1] >= RETRY_AFTER_S
    [body] = set(bodies)
    return bytes(body)


def test_the_client_in_python_retries_the_same_batch_until_it_is_stored(recorder: Recorder) -> None:
    result = run(recorder, sys.executable, "-c", example("python", recorder))
    assert (result.returncode, result.stdout) == (0, "[]\n"), result.stderr
    assert b'"unique_id": "bet-2"' in check(recorder)


def test_the_client_in_python_gives_up_at_once_where_a_retry_cannot_help(recorder: Recorder) -> None:
    recorder.statuses = [403]
    result = run(recorder, sys.executable, "-c", example("python", recorder))
    assert "RuntimeError: 403" in result.stderr
    assert len(recorder.posts) == 1


def test_curl_retries_the_same_batch_until_it_is_stored(recorder: Recorder) -> None:
    result = run(recorder, "bash", "-euo", "pipefail", "-c", example("sh", recorder))
    assert result.returncode == 0, result.stderr
    assert check(recorder) == (SAMPLES / "native" / "gameround.json").read_bytes()
