"""All records of a file, page by page, in a browser on this machine: `report.py --browse`."""

from __future__ import annotations

import http.server
import json
import sqlite3
import tempfile
import threading
from collections.abc import Iterable
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from magpie.common.console import log
from magpie.reporting.funnel import records_of
from magpie.reporting.page import open_templates
from magpie.reporting.samples import Record, pair_sample, sample_of

PER_PAGE, MOST_WORDS = 25, 8
HOSTS = ("127.0.0.1", "localhost")
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"


class Records:
    """The records of a file, in a database on disk: memory does not grow with them."""

    def __init__(self, folder: Path, records: Iterable[Record]) -> None:
        self._database = sqlite3.connect(folder / "records.sqlite", check_same_thread=False)
        self._lock = threading.Lock()
        self._database.execute("CREATE TABLE records (record TEXT)")
        rows = ((json.dumps(record, ensure_ascii=False),) for record in records)
        self._database.executemany("INSERT INTO records VALUES (?)", rows)
        self._database.commit()

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def page(self, words: list[str], number: int) -> tuple[int, int, list[Record]]:
        """Return the number of records that contain all words, the page shown (the nearest to `number`), and its records."""
        where = " AND ".join("instr(lower(record), ?) > 0" for _ in words) or "1"
        given = [json.dumps(word.lower(), ensure_ascii=False)[1:-1] for word in words]
        with self._lock:
            [found] = self._database.execute(f"SELECT count(*) FROM records WHERE {where}", given).fetchone()  # noqa: S608
            number = max(1, min(number, pages(found)))
            rows = self._database.execute(
                f"SELECT record FROM records WHERE {where} ORDER BY rowid LIMIT ? OFFSET ?",  # noqa: S608
                [*given, PER_PAGE, (number - 1) * PER_PAGE],
            ).fetchall()
        return found, number, [json.loads(text) for (text,) in rows]


def pages(found: int) -> int:
    """Return the number of pages."""
    return max(1, -(-found // PER_PAGE))


def rendered(name: str, records: Records, query: dict[str, list[str]]) -> str:
    """Return a page of HTML."""
    words = " ".join(query.get("words", []))[:200]
    asked = query.get("page", ["1"])[0]
    found, number, shown = records.page(words.split()[:MOST_WORDS], int(asked) if asked.isdecimal() and len(asked) < 10 else 1)
    environment, _ = open_templates()
    values: dict[str, Any] = {
        "name": name,
        "words": words,
        "found": found,
        "number": number,
        "pages": pages(found),
        "first": min(found, (number - 1) * PER_PAGE + 1),
        "last": min(found, number * PER_PAGE),
        "samples": [pair_sample(record) if "chosen" in record else sample_of(record) for record in shown],
        "link": lambda to: urlencode({"page": to} | ({"words": words} if words else {})),
        "bar_chart": None,
        "histogram": None,
    }
    return environment.get_template("browse.html").render(values).encode("utf-8", "replace").decode()


def handler(name: str, records: Records) -> type[http.server.BaseHTTPRequestHandler]:
    """Return the handler of requests for a file's pages."""

    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 30

        def do_GET(self) -> None:
            """Answer with a page; refuse a request under a name other than this machine's: it comes from a foreign page."""
            path = urlsplit(self.path)
            host = self.headers.get("Host", "").rpartition(":")[0]
            if host not in HOSTS or path.path != "/":
                self.send_error(HTTPStatus.FORBIDDEN if host not in HOSTS else HTTPStatus.NOT_FOUND)
                return
            body = rendered(name, records, parse_qs(path.query)).encode()
            self.send_response(HTTPStatus.OK)
            for key, value in (
                ("Content-Type", "text/html; charset=utf-8"),
                ("Content-Length", str(len(body))),
                ("Content-Security-Policy", POLICY),
                ("X-Content-Type-Options", "nosniff"),
            ):
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Stay quiet."""

    return Handler


def browse(path: Path, port: int = 0) -> None:
    """Serve a file's records, on this machine only, until Ctrl-C."""
    with tempfile.TemporaryDirectory(prefix="magpie_browse_") as folder:
        records = Records(Path(folder), records_of(path))
        with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler(path.name, records)) as server:
            server.daemon_threads = True
            log.info("%s: http://127.0.0.1:%d/ until Ctrl-C", path, server.server_port)
            try:
                server.serve_forever()
            finally:
                records.close()
