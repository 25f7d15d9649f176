"""Exit code 0 if Triton's `text_to_video` answers; for a liveness probe.

Triton asks for its admin key over HTTP; it lies where `unsee serve` or the start script put it.

Triton says "ready" of a model whose process has died, so the model itself is asked: an empty
prompt, which it refuses at once, in a sentence of its own. Needs the standard library alone; gets
the port of Triton's HTTP front as its argument.
"""

import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

TIMEOUT_S = 8.0
OWN_WORDS = ("INVALID_ARGUMENT: ", "UNAVAILABLE: ")
"""How a refusal of the model's begins: a bad request, or a queue that is full."""


def key() -> str:
    """The admin key; empty if there is none."""
    named = os.environ.get("UNSEE_ADMIN_KEY_FILE")
    folder = Path(os.environ.get("UNSEE_RUN_DIR", Path.home() / ".local/state/unsee/run"))
    files = [Path(named)] if named else sorted(folder.glob("triton-*.key"))
    return files[0].read_text().strip() if files and files[0].is_file() else ""


def answer(port: str) -> str:
    """What the model says to an empty prompt."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v2/models/text_to_video/generate_stream",
        data=json.dumps({"prompt": ""}).encode(),
        headers={"Content-Type": "application/json", "unsee-admin-key": key()},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=TIMEOUT_S) as response:
            return response.read().decode()
    except urllib.error.HTTPError as error:
        return error.read().decode()
    except OSError as error:
        return str(error)


if __name__ == "__main__":
    said = answer(sys.argv[1])
    if not any(words in said for words in OWN_WORDS):
        sys.exit(f"text_to_video does not answer: {said}")
