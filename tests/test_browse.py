"""All records of a file in a browser: pages, words, foreign requests, hostile texts."""

from __future__ import annotations

import http.client
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from magpie.reporting.browse import PER_PAGE, Records, handler, rendered

MANY = [
    {
        "id": f"r{i}",
        "instruction": f"Find ${i}^2$, the {'odd' if i % 2 else 'even'} one.",
        "response": "so",
        "finish_reason": "stop",
    }
    for i in range(60)
]
HOSTILE = {"id": "x", "instruction": '<script>alert(1)</script> ünïcode "quoted" 100%', "response": "</style><img src=x>"}
PAIR = {"id": "p", "prompt": "?", "chosen": [{"role": "assistant", "content": "yes"}], "rejected": "no"}


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    found = Records(tmp_path, [*MANY, HOSTILE, PAIR])
    yield found
    found.close()


def test_pages_have_every_record_once(records: Records) -> None:
    """The pages one after the other are the file; a number beyond the last one is the last one."""
    seen = [record["id"] for number in (1, 2, 3) for record in records.page([], number)[2]]
    assert seen == [record["id"] for record in [*MANY, HOSTILE, PAIR]]
    found, number, shown = records.page([], 999)
    assert (found, number, len(shown)) == (62, 3, 62 - 2 * PER_PAGE)


@pytest.mark.parametrize(
    ("words", "found"), [("ODD", 30), ("odd 7", 6), ("nowhere", 0), ("ünïcode", 1), ('"quoted"', 1), ("100%", 1), ("_", 60)]
)
def test_words(records: Records, words: str, found: int) -> None:
    """All words must be there, in small or capital letters; none of them is a pattern."""
    assert records.page(words.split(), 1)[0] == found


def test_nothing_of_a_record_becomes_markup(records: Records) -> None:
    """Texts stay texts, in the records and in the words that were looked for."""
    text = rendered("a<b>.jsonl", records, {"words": ["quoted"], "page": ["<1>"]})
    assert "<script>" not in text and "<img" not in text and "&lt;script&gt;" in text and "a&lt;b&gt;.jsonl" in text
    assert 'class="beside"' in rendered("x", records, {"words": ["assistant"]})
    assert "<b>" not in rendered("x", records, {"words": ["<b>"]})


def test_it_answers_on_this_machine_alone(records: Records) -> None:
    """A page elsewhere that leads its name here (DNS rebinding) gets nothing."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler("x", records)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for host, path, status in (("127.0.0.1", "/", 200), ("evil.example", "/", 403), ("localhost", "/../etc/passwd", 404)):
            connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
            connection.putrequest("GET", path, skip_host=True)
            connection.putheader("Host", f"{host}:{server.server_port}")
            connection.endheaders()
            reply = connection.getresponse()
            reply.read()
            assert reply.status == status
            assert status != 200 or "default-src 'none'" in reply.headers["Content-Security-Policy"]
        server.shutdown()
