"""exp/serve.py around a command, with the stub engine: what the command is told, what others see, what is left."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from conftest import STUB, process

ASK = """
import json, os, pathlib, urllib.request
key = os.environ["MAGPIE_API_KEY"]
body = {"model": "HuggingFaceTB/SmolLM2-135M-Instruct", "prompt": [1], "max_tokens": 8, "temperature": 0}
headers = {"Authorization": "Bearer " + key, "Content-Type": "application/json"}
request = urllib.request.Request(os.environ["MAGPIE_BASE_URL"] + "/completions", json.dumps(body).encode(), headers)
told = json.load(urllib.request.urlopen(request, timeout=60))
running = [path.read_bytes() for path in pathlib.Path("/proc").glob("[0-9]*/cmdline")]
announced = pathlib.Path(os.environ["URL_FILE"]).read_text().strip() == os.environ["MAGPIE_BASE_URL"]
shown = any(key.encode() in line for line in running)
print(json.dumps({"tokens": told["usage"]["completion_tokens"], "key shown": shown, "announced": announced}))
raise SystemExit(7)
"""


def test_a_command_gets_address_and_key_that_nobody_else_sees_and_its_exit_code_is_the_programs(tmp_path: Path) -> None:
    url = tmp_path / "url"
    flags = ("--log_dir", tmp_path / "logs", "--url_file", url)
    done = process("serve", "smollm2", *flags, "--", sys.executable, "-c", ASK, env=STUB | {"URL_FILE": str(url)})
    assert done.returncode == 7, done.stderr[-3000:]
    assert json.loads(done.stdout) == {"tokens": 8, "key shown": False, "announced": True}
    assert not url.exists()
