"""Models on a hub of Hugging Face's kind: `hf:user/name[@revision]` wherever a run or a model folder is named.

Of a repository only the files of a model folder are ever touched, by their own names, up to a size; nothing is
unpickled. Address, token, offline mode and cache are those of huggingface_hub: HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE,
HF_HOME. On a terminal it draws its progress bars.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from maskwright.errors import RunError

PREFIX = "hf:"
"""What tells a model on the hub from a path or a run."""

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
LARGEST = {CONFIG: 1 << 20, WEIGHTS: 1 << 33, CARD: 1 << 22, "cleaning.json": 1 << 22}
"""Bytes of each file that a model folder may hold on a hub; no other file is fetched or sent."""
NEEDED = (CONFIG, WEIGHTS)

KEYS = {"format", "model", "input", "classes"}
"""What a config.json of ours says. Other libraries' files have the same name."""

PATIENCE = 10.0
"""Seconds without an answer after which the hub is out of reach."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_ID = re.compile(r"hf:(?P<repo>[\w.-]{1,96}/[\w.-]{1,96})(@(?P<revision>[\w./-]{1,200}))?", re.ASCII)


@dataclass(frozen=True)
class HubModel:
    """What `hf:user/name@revision` names."""

    repo: str
    """`user/name`."""
    revision: str | None = None
    """A branch, a tag or a commit; None is the main branch."""

    @classmethod
    def parse(cls, text: str) -> HubModel:
        """Raises RunError where `text` is not `hf:user/name` or `hf:user/name@revision`."""
        found = _ID.fullmatch(text)
        if found is None or ".." in text:
            raise RunError(
                f"{text!r} names no model on the hub", "write hf:user/name or hf:user/name@revision"
            )
        return cls(found["repo"], found["revision"])

    def __str__(self) -> str:
        return f"{PREFIX}{self.repo}" + (f"@{self.revision}" if self.revision else "")


@dataclass(frozen=True)
class Pushed:
    """What was sent where."""

    model: HubModel
    address: str
    """Of its page."""
    commit: str
    private: bool
    files: dict[str, int]
    """Bytes by name."""


def is_hub(name: str | Path) -> bool:
    return str(name).startswith(PREFIX)


def fetch(repo_id: str, revision: str | None = None) -> Path:
    """The folder in the hub's cache that holds the model `user/name`: config.json, model.safetensors, and README.md and
    cleaning.json where they are there, all of one commit.

    What is cached is not fetched again; a commit's full hash needs no network then, and without a network (or with
    HF_HUB_OFFLINE=1) the last known state of a branch is taken. Raises RunError: no network, unknown id or revision, no
    rights, no model of ours (told before its weights are fetched), or a file that is too large.
    """
    from huggingface_hub import try_to_load_from_cache

    config = _needed(HubModel(repo_id, revision), CONFIG)
    _check_ours(HubModel(repo_id, revision), config)
    # The branch may move meanwhile: the rest comes from the commit that config.json came from.
    commit = HubModel(repo_id, config.parent.name)
    complete = isinstance(try_to_load_from_cache(repo_id, WEIGHTS, revision=commit.revision), str)
    for name in LARGEST.keys() - {*NEEDED}:
        try:
            _get(commit, name)
        except RunError as error:  # the weights came last: what is not here with them was not there
            if not complete or error.__cause__ is None or not _is_unreachable(error.__cause__):
                raise
    _needed(commit, WEIGHTS)
    return config.parent


def push(
    folder: Path,
    repo_id: str,
    *,
    card: str | None = None,
    private: bool = False,
    message: str = "Upload a model with maskwright",
) -> Pushed:
    """Send the files of a model folder to `user/name` in one commit, and make the repository where there is none.

    card: README.md in place of the folder's. private: nobody else sees it; a repository that is public already is
    refused then. Raises RunError: no token, no rights, no network, files missing or too large.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    model, files = HubModel(repo_id), _files(folder, card)
    with _told(model, "connect, and push again"):
        api = HfApi(library_name="maskwright")
        if get_token() is None:
            raise RunError(
                "there is no token for the hub in this environment",
                f"make one that may write at {api.endpoint}/settings/tokens; then `hf auth login`, or HF_TOKEN=...",
            )
        # None leaves it to the account: an organisation may have decided that new repositories are private.
        address = api.create_repo(repo_id, private=True if private else None, exist_ok=True)
        hidden = bool(api.model_info(repo_id, timeout=PATIENCE).private)
        if private and not hidden:
            raise RunError(f"{model} is there already and public", "make it private on its page first")
        operations = [CommitOperationAdd(name, content) for name, content in files.items()]
        commit = api.create_commit(repo_id, operations, commit_message=message)
    sizes = {operation.path_in_repo: operation.upload_info.size for operation in operations}
    return Pushed(model, str(address), str(commit.oid), hidden, sizes)


def _files(folder: Path, card: str | None) -> dict[str, str | bytes]:
    """Name -> path, or content of the card. Raises RunError."""
    files: dict[str, str | bytes] = {}
    for name, largest in LARGEST.items():
        path = folder / name
        if name == CARD and card is not None:
            files[name], size = card.encode(), len(card.encode())
        elif path.is_file():
            files[name], size = str(path), path.stat().st_size
        elif name in NEEDED:
            raise RunError(f"{path} is missing", "push a whole model folder")
        else:
            continue
        if size > largest:  # `fetch` would refuse it
            raise RunError(
                f"{name} for {folder} has {size:,} bytes, the limit is {largest:,}",
                "push a smaller model" if name == WEIGHTS else "shorten it",
            )
    return files


def _needed(model: HubModel, name: str) -> Path:
    """As `_get`; raises RunError where there is no such file."""
    file = _get(model, name)
    if file is None:
        raise RunError(f"{model} is no model of maskwright's", f"there is no {name} in it")
    return file


def _get(model: HubModel, name: str) -> Path | None:
    """The file in the cache, fetched where it is not there yet; None where the model has none. Raises RunError."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError

    with _told(model):
        known = try_to_load_from_cache(model.repo, name, revision=model.revision)
        file = Path(known) if isinstance(known, str) else None
        if known is not None and _COMMIT.fullmatch(model.revision or ""):  # a commit does not change
            return file
        try:
            # One question with one answer: the download itself would knock for half a minute at a closed door.
            url = hf_hub_url(model.repo, name, revision=model.revision)
            size = get_hf_file_metadata(url, timeout=PATIENCE).size
        except EntryNotFoundError:
            with suppress(EntryNotFoundError):  # it notes in the cache that this commit has none
                hf_hub_download(model.repo, name, revision=model.revision)
            return None
        except Exception as error:
            if file is not None and _is_unreachable(error):
                return file
            raise
        if size is None or size > LARGEST[name]:
            raise RunError(
                f"{name} of {model} has {'unknown' if size is None else f'{size:,}'} bytes, "
                f"the limit is {LARGEST[name]:,}",
                "this is no model of maskwright's",
            )
        return Path(hf_hub_download(model.repo, name, revision=model.revision, library_name="maskwright"))


def _check_ours(model: HubModel, config: Path) -> None:
    """Raises RunError; whether it is whole is checked when the model is loaded."""
    try:
        values = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        values = None
    if not isinstance(values, dict) or not values.keys() >= KEYS:
        raise RunError(f"{model} is no model of maskwright's", f"its {CONFIG} is another library's")


def _is_unreachable(error: BaseException) -> bool:
    """Whether the hub was not heard at all, in the words of whichever HTTP library is below, or only its gate was."""
    from huggingface_hub import errors

    if isinstance(error, errors.HfHubHTTPError):
        return error.response.status_code >= 500
    if isinstance(error.__cause__, errors.FileMetadataError):  # something else answers at that address
        return False
    kinds = (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, ConnectionError, TimeoutError)
    library = type(error).__module__.partition(".")[0]
    return isinstance(error, kinds) or library in ("httpx", "httpx2", "httpcore", "requests", "urllib3")


@contextmanager
def _told(model: HubModel, offline: str = "connect, or name a model on this machine") -> Iterator[None]:
    """Whatever goes wrong with the hub becomes one line, `offline` the hint where it is out of reach; progress bars are
    for terminals only."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    bars = not are_progress_bars_disabled() and not sys.stderr.isatty()
    if bars:
        disable_progress_bars()
    try:
        yield
    except RunError:
        raise
    except Exception as error:  # of many libraries, and of versions of huggingface_hub to come
        while type(error) is RuntimeError and isinstance(error.__cause__, Exception):
            error = error.__cause__  # what went wrong "while uploading"
        raise RunError(*_words(model, error, offline)) from error
    finally:
        if bars:
            enable_progress_bars()


def _words(model: HubModel, error: Exception, offline: str) -> tuple[str, str]:
    """Problem and hint."""
    from huggingface_hub import constants, errors

    place, page = constants.ENDPOINT, f"{constants.ENDPOINT}/{model.repo}"
    login = "`hf auth login`, or HF_TOKEN=..."
    if isinstance(error, errors.GatedRepoError):
        return f"{model} asks for consent first", f"give it at {page}; then {login}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"{place} has no model {model.repo} that you may see",
            f"check the name; if it is private: {login}",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{model.repo} has no revision {model.revision}", f"see {page}/tree/main"
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else 0
    if status == 401:
        return f"{place} does not take the token of this environment (for {model})", login
    if status == 403:
        return f"your token may not do this with {model}", "use one with the right to write there"
    if status:
        return f"{place} answers {status} for {model}", "try again later"
    if _is_unreachable(error):
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "no answer"
        return f"{place} cannot be reached for {model}: {why}", offline
    return f"{model}: {' '.join(str(error).split())[:300] or type(error).__name__}", f"see {page}"
