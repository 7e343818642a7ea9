"""Uploading a dataset folder to the hub."""

from __future__ import annotations

from pathlib import Path

from magpie.common.console import MagpieError, log


def push_folder(folder: Path, name: str, *, private: bool) -> str:
    """Upload a dataset folder and return its URL; the token comes from HF_TOKEN or `.venv/bin/hf auth login`.

    Raises:
        MagpieError: no token, one that may not write there, or no connection.
    """
    from httpx2 import HTTPError
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if not get_token():
        raise MagpieError(
            "--push_to_hub needs a token: set HF_TOKEN, or run `.venv/bin/hf auth login`, and run the same command again"
        )
    api = HfApi()
    try:
        repo = api.create_repo(name, repo_type="dataset", private=private, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=repo.repo_id, repo_type="dataset", commit_message="Dataset")
    except HFValidationError as error:
        raise MagpieError(f"--push_to_hub {name}: {error}") from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no answer"
        raise MagpieError(
            f"--push_to_hub {name}: the hub refused ({status}: {' '.join(str(error).split())[:300]}). {folder} is complete; "
            "check that the token may write there, and run the same command again"
        ) from error
    except (HTTPError, OSError) as error:
        raise MagpieError(
            f"--push_to_hub {name}: no connection to the hub ({error}). {folder} is complete; run the same command again"
        ) from error
    log.info("pushed to %s (%s, unless it already existed)", repo.url, "private" if private else "public")
    return str(repo.url)
