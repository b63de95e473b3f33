"""Public data sets by name: fetched from their authors or a mirror, verified, unpacked, there as a whole or not at all.

While it is on its way, everything lies in `DIR.part`: `FILE.part` grows until the server has sent all, is verified and
becomes FILE; `tree` fills from the archives and becomes DIR in one step. A pull that was cut, stopped or killed goes
on by the same command: of the file that was begun only the missing bytes are asked for (`If-Range` with its ETag or
date; without either only where a checksum will tell).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import json
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import IO, NoReturn, cast
from urllib.parse import quote, urlsplit

import yaml

from maskwright.config import suggest
from maskwright.data.public import SETS, Archive, PublicSet
from maskwright.data.unpack import Limits, unpack
from maskwright.errors import ConfigError, DataError
from maskwright.files import cache_folder, write_text
from maskwright.progress import SILENT, Progress, duration

SOURCE = "SOURCE.json"
"""In the data set: what was pulled from where, its licence, citation and checksums."""
GROWTH = 8
"""An archive of pictures that unpacks to more than so many times its size is a bomb."""
SLACK = 64 << 20
"""Bytes that a size may be wrong by, and that stay free on the disk."""
CHUNK = 1 << 16
LOCK = "lock"


@dataclass(frozen=True)
class Patience:
    """How long a bad line is borne."""

    tries: int = 5
    """Attempts in a row that bring less than a megabyte."""
    wait: float = 2.0
    """Seconds before the second attempt; they double."""
    timeout: float = 30.0
    """Seconds without a byte after which an attempt has stalled."""


PATIENCE = Patience()


class _Again(Exception):
    """A fault that may pass; the message says what it was."""


class _Changed(Exception):
    """What lies in the .part is not the beginning of what the server has now."""


def find_set(name: str) -> PublicSet:
    """Raises ConfigError for an unknown name."""
    if name not in SETS:
        raise ConfigError(f"there is no public data set {name!r} here", suggest(name, list(SETS)))
    return SETS[name]


def address(archive: Archive, mirror: str | None) -> str:
    """Where the archive is fetched: its official address, or its file name below the mirror's. Raises ConfigError."""
    if mirror is None:
        return archive.url
    try:
        parts = urlsplit(mirror)
        named = parts.scheme in ("http", "https") and parts.hostname
    except ValueError:
        named = None
    if not named or parts.query or parts.fragment or re.search(r"[^!-~]", mirror):
        raise ConfigError(
            f"--mirror {mirror} is no address of a folder",
            "write https://HOST/FOLDER, under which the files lie by their official names",
        )
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            "--mirror holds a name or a password", "give an address that is open to you without"
        )
    return f"{mirror.rstrip('/')}/{quote(archive.file)}"


def is_guarded(url: str) -> bool:
    """Whether nobody on the way can change what is fetched: https, or this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or parts.hostname in ("localhost", "127.0.0.1", "::1")


def pull(
    name: str,
    to: Path,
    *,
    mirror: str | None = None,
    patience: Patience = PATIENCE,
    progress: Progress = SILENT,
) -> PublicSet:
    """Fetch a public set into the folder `to`, which must not hold anything else; a set that is there already is left.

    Raises ConfigError (unknown name, mirror, folder in use) and DataError (server, line, checksum, archive, disk).
    After an error only `to`.part is left, with what can be used when the same command is given again.
    """
    wanted, to = find_set(name), Path(os.path.abspath(to))
    urls = [address(archive, mirror) for archive in wanted.archives]
    if pulled(to) == name:
        return wanted
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ConfigError(f"{to} exists and is not {name}", "choose another folder with --to, or remove it")
    part = to.with_name(f"{to.name}.part")
    try:
        with _alone(part):
            _check_disk(part, wanted)
            sums: dict[str, str] = {}
            for archive, url in zip(wanted.archives, urls, strict=True):
                sums[archive.file] = _obtain(name, archive, url, part, patience, progress)
            tree = part / "tree"
            shutil.rmtree(tree, ignore_errors=True)  # of a pull that was killed
            tree.mkdir()
            try:
                _unpack_all(wanted, part, tree, progress)
                _write_source(name, wanted, urls, sums, tree)
                _pin(name, wanted, sums)
                if hasattr(os, "sync"):
                    os.sync()  # one call for thousands of files
                if to.is_dir():
                    to.rmdir()
                os.rename(tree, to)
            finally:
                shutil.rmtree(tree, ignore_errors=True)
            for archive in wanted.archives:
                _forget(part / archive.file)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            hint = "free some space; the same command goes on where it was"
        else:
            hint = "choose another folder with --to"
        raise DataError(f"{error.filename or part}: {error.strerror or error}", hint) from error
    finally:
        _tidy(part)
    return wanted


def _tidy(part: Path) -> None:
    """Nothing to go on with is nothing to keep."""
    with contextlib.suppress(OSError):
        if [path.name for path in part.iterdir()] == [LOCK]:
            shutil.rmtree(part)


def pulled(folder: Path) -> str | None:
    """The name of the public set that was pulled into `folder`."""
    return cast("str | None", _read_json(folder / SOURCE).get("name"))


def _read_json(path: Path) -> Mapping[str, object]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


@contextlib.contextmanager
def _alone(part: Path) -> Iterator[None]:
    part.mkdir(parents=True, exist_ok=True)
    if os.name != "posix":
        yield
        return
    import fcntl

    with open(part / LOCK, "a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"another pull is at work in {part}", "wait for it, or stop it") from None
        yield


def _check_disk(part: Path, wanted: PublicSet) -> None:
    """The archives and their content lie on the disk at once for a while."""
    have = sum(path.stat().st_size for path in part.glob("*") if path.is_file())
    _need(part, max(wanted.size - have, 0) + wanted.size)


def _need(folder: Path, count: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < count + SLACK:
        raise DataError(
            f"{folder.parent} has {free / 1e6:.0f} MB free and needs {(count + SLACK) / 1e6:.0f}",
            "free some space, or choose another disk with --to",
        )


def _obtain(name: str, archive: Archive, url: str, part: Path, patience: Patience, progress: Progress) -> str:
    """The archive lies in `part` afterwards, whole and verified; returns its checksum, `sha256:HEX` or `md5:HEX`."""
    file = part / archive.file
    kind, expected, authority = _expected(name, archive)
    if not file.is_file():
        if expected is None:
            line = "" if is_guarded(url) else ", and the line is open to changes on the way (no https)"
            progress.say(
                f"{archive.file}: no checksum is published for it{line}; it is pinned when it has come"
            )
        if _fetch(archive, url, file, expected is not None, patience, progress):
            found = _digest(file.with_name(f"{file.name}.part"), kind, progress)
            if expected is not None and found != expected:  # the two halves may be of two versions
                _forget(file)
                _fetch(archive, url, file, True, patience, progress)
        os.replace(file.with_name(f"{file.name}.part"), file)
    found = _digest(file, kind, progress)
    if expected is not None and found != expected:
        _forget(file)
        raise DataError(
            f"{url} is not what it should be: its {kind} is {found}, and {expected} by {authority}",
            "the file was changed at its place or on the way; try later, or another place: --mirror URL",
        )
    _forget(file, keep=True)
    return f"{kind}:{found}"


def _expected(name: str, archive: Archive) -> tuple[str, str | None, str]:
    """Kind and value of the checksum, and who says so."""
    if archive.checksum is not None:
        kind, _, value = archive.checksum.partition(":")
        return kind, value, archive.published
    pin = _read_pins().get(f"{name}/{archive.file}")
    if isinstance(pin, dict):
        return "sha256", str(pin.get("sha256")), f"the first pull on {pin.get('date')} ({_pins()})"
    return "sha256", None, ""


def _pins() -> Path:
    return cache_folder() / "pins.json"


def _read_pins() -> Mapping[str, object]:
    if _pins().exists() and not (pins := _read_json(_pins())):
        raise DataError(
            f"{_pins()} cannot be read", "mend it; or remove it, and checksums of first pulls are forgotten"
        )
    return pins if _pins().exists() else {}


def _pin(name: str, wanted: PublicSet, sums: Mapping[str, str]) -> None:
    """Later pulls have to bring the same bytes where nobody publishes a checksum."""
    pins = dict(_read_pins())
    for archive in wanted.archives:
        if archive.checksum is None:
            content = {"sha256": sums[archive.file].partition(":")[2], "date": date.today().isoformat()}
            pins.setdefault(f"{name}/{archive.file}", content)
    if pins != _read_pins():
        write_text(_pins(), json.dumps(pins, indent=2) + "\n")


def _digest(path: Path, kind: str, progress: Progress) -> str:
    whole = hashlib.new(kind, usedforsecurity=False)
    with (
        open(path, "rb") as handle,
        progress.task(
            f"Checking {path.name.removesuffix('.part')} (MB)", _whole(path.stat().st_size)
        ) as advance,
    ):
        while block := handle.read(10**6):
            whole.update(block)
            advance(1)
    return whole.hexdigest()


def _forget(file: Path, *, keep: bool = False) -> None:
    for path in (None if keep else file, file.with_name(f"{file.name}.part"), _about(file)):
        if path is not None:
            path.unlink(missing_ok=True)


def _about(file: Path) -> Path:
    """Of which file of which server the .part is the beginning."""
    return file.with_name(f"{file.name}.part.json")


def _fetch(
    archive: Archive, url: str, file: Path, checked: bool, patience: Patience, progress: Progress
) -> bool:
    """Fill `file`.part until the server has sent all; True if that took more than one answer. Raises DataError."""
    part = file.with_name(f"{file.name}.part")
    failures, answers = 0, 1 if _size(part) else 0
    with _megabytes(f"Downloading {file.name} (MB)", archive.size - _size(part), progress) as advance:
        while True:
            before = _size(part)
            try:
                answers += 1
                _attempt(archive, url, file, checked, patience.timeout, advance)
                return answers > 1
            except _Changed:
                _forget(file)
                failures += 1
                fault = "it changes while it is fetched"
            except _Again as error:
                failures = 1 if _size(part) - before >= 10**6 else failures + 1
                fault = str(error)
            if failures >= patience.tries:
                raise DataError(
                    f"{url}: {fault}; {_size(part) / 1e6:.1f} of {archive.size / 1e6:.0f} MB are here",
                    "the same command goes on from there; another place: --mirror URL",
                )
            pause = patience.wait * 2 ** (failures - 1)
            progress.say(f"{file.name}: {fault}; once more in {duration(pause)}")
            time.sleep(pause)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


@contextlib.contextmanager
def _megabytes(what: str, total: int, progress: Progress) -> Iterator[Callable[[int], None]]:
    """Progress in whole megabytes, told in bytes."""
    with progress.task(what, _whole(total)) as advance:
        left = 0

        def told(count: int) -> None:
            nonlocal left
            whole, left = divmod(left + count, 10**6)
            if whole:
                advance(whole)

        yield told


def _whole(count: int) -> int:
    """Megabytes, rounded up."""
    return max(-(-count // 10**6), 1)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Only to http and https, and never from https to http."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        scheme = urlsplit(newurl).scheme
        if scheme != "https" and (scheme != "http" or urlsplit(req.full_url).scheme == "https"):
            raise DataError(
                f"{req.full_url} sends on to {newurl[:200]}",
                "that is not followed; try another place: --mirror URL",
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)

    def http_error_302(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
    ) -> http.client.HTTPResponse | None:
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        except (DataError, ValueError):
            fp.close()
            raise

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _opener() -> urllib.request.OpenerDirector:
    """http and https only, through the proxies of the environment (https_proxy, no_proxy, ...)."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


def _attempt(
    archive: Archive, url: str, file: Path, checked: bool, timeout: float, advance: Callable[[int], None]
) -> None:
    """One request; what it brings is appended to the .part. Raises _Again, _Changed and DataError."""
    part = file.with_name(f"{file.name}.part")
    offset = _size(part)
    begun = _read_json(_about(file)) if offset else {}
    same = begun.get("url") == url
    validator = begun.get("validator") if same else None
    if offset and begun.get("length") == offset and (same or checked):
        return  # a kill came between the last byte and the next step
    if offset and not (validator or checked):
        _forget(file)  # nothing would tell whether the rest belongs to it
        offset, begun = 0, {}
    request = urllib.request.Request(
        url, headers={"User-Agent": "maskwright", "Accept-Encoding": "identity", "Accept": "*/*"}
    )
    if offset:
        request.add_header("Range", f"bytes={offset}-")
        if validator:
            request.add_header("If-Range", str(validator))
    try:
        with _opener().open(request, timeout=timeout) as answer:
            _receive(archive, answer, url, file, offset, begun, advance)
    except urllib.error.HTTPError as error:
        error.close()
        _refuse(error, url, offset)
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise DataError(
                f"{url}: the certificate is not valid ({error.reason.verify_message})",
                "is a proxy in between, or the clock wrong? SSL_CERT_FILE names further authorities",
            ) from error
        raise _Again(_words(error.reason)) from error
    except TimeoutError as error:
        raise _Again(f"no byte for {timeout:g} s") from error
    except ValueError as error:
        raise DataError(
            f"{url} sends on to a place that is no address", "try another: --mirror URL"
        ) from error
    except (http.client.HTTPException, ConnectionError, ssl.SSLError) as error:
        raise _Again(_words(error)) from error


def _words(error: object) -> str:
    if isinstance(error, TimeoutError):
        return "the server does not answer"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def _refuse(error: urllib.error.HTTPError, url: str, offset: int) -> NoReturn:
    if error.code == 416 and offset:
        raise _Changed from error
    said = f"the server answers {error.code} {error.reason}"
    if error.code in (408, 425, 429) or error.code >= 500:
        raise _Again(said) from error
    raise DataError(f"{url}: {said}", "is it there in a browser? another place: --mirror URL") from error


def _receive(
    archive: Archive,
    answer: http.client.HTTPResponse,
    url: str,
    file: Path,
    offset: int,
    begun: Mapping[str, object],
    advance: Callable[[int], None],
) -> None:
    coming = _number(answer.headers.get("Content-Length"))
    if answer.status == 206:
        first, total = _content_range(answer.headers.get("Content-Range"))
        tag = _validator(answer.headers) if begun.get("url") == url else None
        if first != offset or _differ(begun.get("length"), total) or _differ(begun.get("validator"), tag):
            raise _Changed
    elif answer.status == 200:
        offset, total = 0, coming
    else:
        raise _Again(f"the server answers {answer.status}")
    most = 2 * archive.size + SLACK
    if (total or 0) > most:
        raise _too_long(url, archive)
    if total is not None:
        _need(file.parent, total - offset)
    write_text(
        _about(file),
        json.dumps({"url": url, "validator": _validator(answer.headers), "length": total}) + "\n",
    )
    got = offset
    with open(file.with_name(f"{file.name}.part"), "r+b" if offset else "wb") as part:
        part.seek(offset)
        while block := answer.read1(CHUNK):
            got += len(block)
            if got > most:
                _forget(file)
                raise _too_long(url, archive)
            part.write(block)
            part.flush()  # a kill must not cost what has come
            advance(len(block))
        os.fsync(part.fileno())
    if total is not None and got != total:
        raise _Again("the line was cut")


def _differ(before: object, now: object) -> bool:
    return before is not None and now is not None and before != now


def _too_long(url: str, archive: Archive) -> DataError:
    return DataError(
        f"{url} sends more than twice the {archive.size / 1e6:.0f} MB that {archive.file} has",
        "it is something else; try another place: --mirror URL",
    )


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,18}", text) else None


def _content_range(text: str | None) -> tuple[int | None, int | None]:
    """`bytes 100-199/200` -> (100, 200)."""
    match = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)", text or "")
    return (int(match[1]), _number(match[2])) if match else (None, None)


def _validator(headers: http.client.HTTPMessage) -> str | None:
    """What If-Range may name: a strong ETag, else the date (RFC 9110, 13.1.5)."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified")


def _unpack_all(wanted: PublicSet, part: Path, tree: Path, progress: Progress) -> None:
    for archive in wanted.archives:
        file = part / archive.file
        limits = Limits(GROWTH * file.stat().st_size + SLACK)
        try:
            unpack(file, tree, archive.folders, limits, progress)
        except DataError:
            file.unlink(missing_ok=True)  # the next pull fetches it anew
            raise


def _write_source(name: str, wanted: PublicSet, urls: list[str], sums: Mapping[str, str], tree: Path) -> None:
    if wanted.config:
        text = yaml.safe_dump(dict(wanted.config), sort_keys=False, allow_unicode=True)
        (tree / "dataset.yaml").write_text(text, encoding="utf-8")
    source = {
        "name": name,
        "title": wanted.title,
        "page": wanted.page,
        "licence": wanted.licence,
        "citation": wanted.citation,
        "pulled": date.today().isoformat(),
        "files": [
            {"url": url, "checksum": sums[archive.file], "published": archive.published or None}
            for archive, url in zip(wanted.archives, urls, strict=True)
        ],
    }
    (tree / SOURCE).write_text(json.dumps(source, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
