"""Serves the harness and the chat page's static files, with the headers that the project gives its own."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler
from pathlib import Path

from chatproject.middleware import SECURITY_HEADERS

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FOLDERS = {"/harness/": HERE / "harness", "/static/": ROOT / "conversations" / "static"}
TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".woff2": "font/woff2"}


class Handler(BaseHTTPRequestHandler):
    """A file, or 404."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = "/harness/page.html" if self.path == "/" else self.path
        file = next((folder / path.removeprefix(at) for at, folder in FOLDERS.items() if path.startswith(at)), None)
        body = file.read_bytes() if file and file.is_file() else b""
        self.send_response(200 if body or path == "/favicon.ico" else 404)
        for name, value in SECURITY_HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", TYPES.get(file.suffix if file else "", "text/plain"))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        pass
