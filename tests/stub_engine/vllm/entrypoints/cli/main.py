"""`python -m vllm.entrypoints.cli.main serve MODEL …`, as a GPU set starts the engine."""

import sys

from vllm.entrypoints.openai.api_server import main

if __name__ == "__main__":
    assert sys.argv.pop(1) == "serve"
    sys.argv.insert(1, "--model")
    main()
