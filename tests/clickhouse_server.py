"""The part of ClickHouse's HTTP interface that clickhouse-connect's client uses, in front of chDB.

The engine is ClickHouse's own; only the protocol is a stand-in: queries and settings in the URL, data
in the body, errors as status 500 with ClickHouse's text.
"""

import argparse
import base64
import json
import re
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from chdb.session import Session

from tests.waiting import wait_until

USER, PASSWORD = "roundhouse", "a secret"


@contextmanager
def running(path: Path, control: Path | None = None) -> Iterator[str]:
    """Runs a server process with its tables in ``path`` until the block ends; yields its DSN."""
    command = [sys.executable, "-m", __name__, str(path)]
    command += ["--control", str(control)] if control else []
    root = Path(__file__).parent.parent
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            yield f"http://{USER}:{quote(PASSWORD)}@{server.stdout.readline().strip()}"
        finally:
            server.terminate()


def serve(path: str, port: int, control: Path | None, certificate: Path | None) -> None:
    """Prints its address, then serves until it is killed.

    ``control``: a file whose JSON may say ``delay_s`` (before every answer), ``fail`` (errors)
    or ``hang`` (no answer before that order is withdrawn).
    ``certificate``: a PEM file of a certificate and its key, for TLS.
    """
    session: Any = Session(path)  # type: ignore[no-untyped-call]
    lock = threading.Lock()

    def given() -> dict[str, Any]:
        found = json.loads(control.read_text()) if control and control.exists() else {}
        return dict(found)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            data = self._body()
            parameters = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
            expected = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            if self.headers.get("authorization") != f"Basic {expected}":
                self._answer(403, b"Code: 516. DB::Exception: Authentication failed")
                return
            wait_until(lambda: not given().get("hang"))
            orders = given()
            time.sleep(orders.get("delay_s", 0))
            if orders.get("fail"):
                self._answer(500, b"Code: 241. DB::Exception: Memory limit exceeded")
                return
            with lock:
                try:
                    self._answer(200, self._run(parameters, data))
                except RuntimeError as error:
                    self._answer(500, str(error).encode())

        def _run(self, parameters: dict[str, str], data: bytes) -> bytes:
            if database := parameters.get("database"):
                session.query(f"USE {database}")
            insert = re.match(rb"(INSERT INTO .*?) FORMAT (Avro|ArrowStream|Native)\n", data, re.DOTALL)
            if insert:
                into, form = insert[1].decode(), insert[2].decode()
                with open(f"{path}.insert", "wb") as file:
                    file.write(data[insert.end() :])
                token = parameters["insert_deduplication_token"]
                session.query(
                    f"{into} FROM INFILE '{path}.insert' "
                    f"SETTINGS insert_deduplication_token = '{token}' FORMAT {form}"
                )
                return b""
            text = data.decode()
            named = re.search(r"\bFORMAT\s+(\w+)\s*(SETTINGS.*)?$", text.strip())
            result = session.query(text, named[1] if named else "TabSeparated")
            return bytes(result.bytes() or b"")

        def _body(self) -> bytes:
            if self.headers.get("transfer-encoding", "").lower() == "chunked":
                parts = []
                while size := int(self.rfile.readline().strip() or b"0", 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("content-length", "0")))

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.send_header("x-clickhouse-summary", json.dumps({"written_rows": "0"}))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        # the request's thread does the TLS handshake: one client must not delay the others
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    print(f"127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("path")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--control", type=Path)
    parser.add_argument("--certificate", type=Path)
    serve(**vars(parser.parse_args()))
