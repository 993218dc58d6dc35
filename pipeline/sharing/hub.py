"""Uploading a folder to Hugging Face's Hub, in one commit.

The token is the Hub's own: from the environment (HF_TOKEN) or from `hf auth login`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.pipeline.sharing.shareable import Shareable

if TYPE_CHECKING:
    from huggingface_hub import HfApi

OF_THE_HUB = {".gitattributes"}
"""What the Hub itself puts into a new repository."""


def push(found: Shareable, repo: str, *, public: bool, replace: bool, api: "HfApi | None" = None) -> str:
    """Make the repository `repo` ("name" or "owner/name") hold the files of a folder. Returns the commit's
    address.

    A new repository is private unless `public`. replace: whether a repository that has files may lose them. api: the
    Hub, by default as its environment variables say.

    Raises CallError for a repository that cannot be meant, UserError for what the Hub refuses.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise CallError(f"{repo}: not the name of a repository ({error}). Give OWNER/NAME.") from None
    hub = api or HfApi()
    with _refusals(repo):
        name = hub.create_repo(repo, repo_type=found.kind, private=not public, exist_ok=True).repo_id
        if not public and not hub.repo_info(name, repo_type=found.kind).private:
            raise CallError(f"{name}: is public. Give --public if everybody may see the data, or another repository.")
        present = set(hub.list_repo_files(name, repo_type=found.kind)) - OF_THE_HUB
        if present and not replace:
            raise CallError(
                f"{name}: already has {len(present)} files, such as {min(present)}. Give --replace to remove what is "
                f"not in {found.folder} and to overwrite the rest, or another repository."
            )
        added = [CommitOperationAdd(name, files.join(found.folder, name)) for name in found.names]
        removed = [CommitOperationDelete(name) for name in sorted(present.difference(found.names))]
        done = hub.create_commit(
            name, [*removed, *added], repo_type=found.kind, commit_message=f"vlmixer: {len(added)} files"
        )
    return str(done.commit_url)


@contextmanager
def _refusals(repo: str) -> Iterator[None]:
    """Turns what goes wrong between here and the Hub into a message."""
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    try:
        yield
    except (HfHubHTTPError, LocalTokenNotFoundError) as error:
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
        if status in (None, 401, 403):
            raise UserError(
                f"{repo}: the Hub does not let you write there ({_said(error)}). Log in with `hf auth login`, or set "
                "HF_TOKEN to a token with write access to it."
            ) from None
        raise UserError(f"{repo}: the Hub refused ({_said(error)}). Nothing was changed there.") from None
    # An upload that fails is raised as a RuntimeError, a refusal by its store as a ValueError.
    except _broken_off() as error:
        cause = error.__cause__ or error
        raise UserError(
            f"{repo}: the upload broke off ({_said(cause)}). Repeat the command; what is there already is not sent "
            "again."
        ) from None


def _broken_off() -> tuple[type[Exception], ...]:
    """What an upload raises that does not come to its end, also where nobody answers: the Hub's library talks by httpx
    or, from version 2 on, httpx2."""
    clients = [import_module(name) for name in ("httpx", "httpx2") if find_spec(name) is not None]
    return (OSError, RuntimeError, ValueError, *(client.HTTPError for client in clients))


def _said(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:300]
