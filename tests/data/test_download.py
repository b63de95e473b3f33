"""Pulling from a real server on this machine that cuts, stalls, lies and changes its mind."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwright.cli.main import main
from maskwright.data import download, public
from maskwright.data.dataset import open_dataset
from maskwright.data.download import Patience, pull
from maskwright.data.public import Archive, PublicSet
from maskwright.errors import ConfigError, DataError

QUICK = Patience(tries=3, wait=0.01)
HURRIED = replace(QUICK, timeout=1.0)
"""Only where a server says nothing more: elsewhere a busy machine would look like it."""


@dataclass
class Site:
    """What the server has, how it behaves, and what it was asked for."""

    files: dict[str, bytes] = field(default_factory=dict)
    base: str = ""
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Range of every request."""
    conditions: list[str] = field(default_factory=list)
    """The If-Range of requests."""
    sent: int = 0
    """Bytes of bodies."""
    cut: int | None = None
    """Close the line after so many bytes of an answer."""
    stall: int | None = None
    """Say nothing more after so many bytes, until `released`."""
    released: threading.Event = field(default_factory=threading.Event)
    ranges: bool = True
    back: int = 0
    """Begin an answer to Range so many bytes before what was asked for, and say so."""
    always: str | None = None
    """The ETag of whatever it sends."""
    tags: bool = True
    length: Callable[[int], int | None] = lambda size: size
    """What Content-Length says of a body of `size`."""
    status: int = 200
    location: str | None = None
    then: Callable[[Site], None] = lambda site: None
    """Sets the status for the next request; called before an answer leaves, which lets that request come."""

    def tag(self, content: bytes) -> str:
        return self.always or f'"{hashlib.sha256(content).hexdigest()[:8]}"'


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        site: Site = self.server.site  # type: ignore[attr-defined]
        site.asked.append((self.path, self.headers.get("Range")))
        status = site.status
        site.then(site)
        with contextlib.suppress(ConnectionError):  # who was flooded hangs up
            self._answer(site, status)

    def _answer(self, site: Site, status: int) -> None:
        self.close_connection = True
        content = site.files.get(self.path.partition("?")[0])
        if content is None or status != 200:
            self.send_response(404 if content is None else status)
            if site.location:
                self.send_header("Location", site.location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        asked = self.headers.get("Range")
        stale = self.headers.get("If-Range") not in (None, site.tag(content))
        first = int(asked.removeprefix("bytes=").rstrip("-")) if asked and site.ranges and not stale else 0
        if first >= len(content):
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if first:
            first -= site.back
            site.conditions.append(self.headers.get("If-Range", ""))
        body = content[first:]
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        if site.tags:
            self.send_header("ETag", site.tag(content))
        said = site.length(len(body))
        if said is not None:
            self.send_header("Content-Length", str(said))
        stop = min([len(body), *(limit for limit in (site.cut, site.stall) if limit is not None)])
        stalls = site.stall is not None and stop == site.stall
        site.sent += stop  # before it leaves: who has got it may look here
        self.end_headers()
        self.wfile.write(body[:stop])
        self.wfile.flush()
        if stalls:
            site.released.wait(60)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Site(base=f"http://127.0.0.1:{server.server_port}")
    server.site = made  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


def picture(kind: str, number: int) -> bytes:
    held = io.BytesIO()
    if kind == "jpg":
        noise = np.random.default_rng(number).integers(0, 255, (64, 48, 3)).astype(np.uint8)
        Image.fromarray(noise).save(held, "JPEG")
    else:
        mask = np.zeros((64, 48), np.uint8)
        mask[8:40, 8 : 16 + number] = 1
        Image.fromarray(mask).save(held, "PNG")
    return held.getvalue()


def packed(files: dict[str, bytes], kind: str = "tar.gz") -> bytes:
    held = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(held, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(fileobj=held, mode="w:gz") as tar:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return held.getvalue()


IMAGES = packed({f"images/{number}.jpg": picture("jpg", number) for number in range(20)})
MASKS = packed({f"labels/{number}.png": picture("png", number) for number in range(20)}, "zip")


def sum_of(content: bytes, kind: str = "sha256") -> str:
    return f"{kind}:{hashlib.new(kind, content).hexdigest()}"


@pytest.fixture
def toy(site: Site, monkeypatch: pytest.MonkeyPatch) -> PublicSet:
    """Two archives with checksums, the second under an address with a query, known as `toy`."""
    site.files = {"/d/images.tar.gz": IMAGES, "/d/masks.zip": MASKS}
    made = PublicSet(
        title="Toy",
        page=site.base,
        licence="CC0",
        citation="Nobody: Nothing. 2026",
        archives=(
            Archive(
                f"{site.base}/d/images.tar.gz", len(IMAGES), {"images": "images"}, sum_of(IMAGES), "this test"
            ),
            Archive(
                f"{site.base}/d/masks.zip?a=1",
                len(MASKS),
                {"labels": "masks"},
                sum_of(MASKS, "md5"),
                "this test",
            ),
        ),
        config={"classes": ["nothing", "thing"], "images": "images/{id}.jpg", "masks": "masks/{id}.png"},
    )
    return told(monkeypatch, made)


def told(monkeypatch: pytest.MonkeyPatch, made: PublicSet) -> PublicSet:
    monkeypatch.setitem(public.SETS, "toy", made)
    return made


@pytest.fixture
def unsigned(toy: PublicSet, monkeypatch: pytest.MonkeyPatch) -> PublicSet:
    """The same without checksums."""
    archives = tuple(replace(archive, checksum=None, published="") for archive in toy.archives)
    return told(monkeypatch, replace(toy, archives=archives))


@dataclass
class Heard:
    """Progress that remembers."""

    lines: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def task(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        yield lambda _: None

    def say(self, line: str) -> None:
        self.lines.append(line)


def fails(
    to: Path,
    *words: str,
    mirror: str | None = None,
    kind: type[Exception] = DataError,
    patience: Patience = QUICK,
) -> str:
    """`pull` ends with one line of `words` and leaves no `to`."""
    with pytest.raises(kind) as caught:
        pull("toy", to, mirror=mirror, patience=patience)
    line = str(caught.value)
    assert "\n" not in line
    assert getattr(caught.value, "hint", "")
    for word in words:
        assert word in line, line
    assert not to.exists()
    return line


def complete(to: Path) -> None:
    """All is there and right, and nothing else was left beside it."""
    names = {path.relative_to(to).as_posix() for path in to.rglob("*") if path.is_file()}
    pictures = {f"images/{number}.jpg" for number in range(20)} | {
        f"masks/{number}.png" for number in range(20)
    }
    assert names == pictures | {"dataset.yaml", "SOURCE.json"}
    assert all(
        (to / "masks" / f"{number}.png").read_bytes() == picture("png", number) for number in range(20)
    )
    assert [path.name for path in to.parent.iterdir()] == [to.name]


def test_a_pull_gives_a_data_set_that_opens(toy: PublicSet, site: Site, tmp_path: Path) -> None:
    to = tmp_path / "a folder" / "toy"
    assert pull("toy", to) is toy
    complete(to)
    dataset = open_dataset(to)
    assert dataset.classes.names == ("nothing", "thing")
    assert len(dataset.items) == 20
    source = json.loads((to / "SOURCE.json").read_text())
    assert source["licence"] == "CC0"
    assert [file["checksum"] for file in source["files"]] == [sum_of(IMAGES), sum_of(MASKS, "md5")]
    asked = list(site.asked)
    assert asked == [("/d/images.tar.gz", None), ("/d/masks.zip?a=1", None)]
    pull("toy", to)
    assert site.asked == asked, "what is there is not fetched again"


def test_a_line_that_is_cut_again_and_again_is_taken_up_where_it_was(
    toy: PublicSet, site: Site, tmp_path: Path
) -> None:
    site.cut = len(IMAGES) * 2 // 5
    pull("toy", tmp_path / "toy", patience=QUICK)
    complete(tmp_path / "toy")
    asked = [ranged for path, ranged in site.asked if "images" in path]
    assert asked == [None, f"bytes={site.cut}-", f"bytes={2 * site.cut}-"]
    assert site.conditions == [site.tag(IMAGES)] * 2
    assert site.sent == len(IMAGES) + len(MASKS), "no byte came twice"


@pytest.mark.parametrize("fault", ["cut", "stall"])
def test_what_came_is_kept_for_the_next_pull(toy: PublicSet, site: Site, tmp_path: Path, fault: str) -> None:
    setattr(site, fault, 1000)
    to = tmp_path / "toy"
    words, patience = ("no byte for 1 s", HURRIED) if fault == "stall" else ("the line was cut", QUICK)
    line = fails(to, words, f"{site.base}/d/images.tar.gz", "same command", patience=patience)
    assert "0.0 of 0 MB" in line
    assert (tmp_path / "toy.part" / "images.tar.gz.part").read_bytes() == IMAGES[:3000]
    setattr(site, fault, None)
    site.sent = 0
    pull("toy", to)
    complete(to)
    assert site.sent == len(IMAGES) + len(MASKS) - 3000


def test_a_server_that_knows_no_ranges(toy: PublicSet, site: Site, tmp_path: Path) -> None:
    site.cut, site.ranges = 1000, False
    fails(tmp_path / "toy", "the line was cut")
    assert (tmp_path / "toy.part" / "images.tar.gz.part").read_bytes() == IMAGES[:1000]
    site.cut = None
    pull("toy", tmp_path / "toy")
    complete(tmp_path / "toy")


@pytest.mark.parametrize("tags", [True, False])
def test_a_file_that_changes_between_two_attempts(
    unsigned: PublicSet, site: Site, tmp_path: Path, tags: bool
) -> None:
    """The halves of two versions are never joined: the ETag tells, and without it the rest is not asked for."""
    site.files["/d/images.tar.gz"], site.cut, site.tags = bytes(len(IMAGES)), 1000, tags
    fails(tmp_path / "toy", "the line was cut")
    site.files["/d/images.tar.gz"], site.cut = IMAGES, None
    pull("toy", tmp_path / "toy")
    complete(tmp_path / "toy")
    assert (tmp_path / "toy/images/3.jpg").read_bytes() == picture("jpg", 3)


def test_with_a_checksum_a_wrong_join_is_seen_and_mended(toy: PublicSet, site: Site, tmp_path: Path) -> None:
    site.files["/d/images.tar.gz"], site.cut, site.tags = bytes(len(IMAGES)), 1000, False
    fails(tmp_path / "toy", "the line was cut")
    site.files["/d/images.tar.gz"], site.cut = IMAGES, None
    pull("toy", tmp_path / "toy")
    complete(tmp_path / "toy")
    assert [ranged for path, ranged in site.asked if "images" in path][-2:] == ["bytes=3000-", None]


def test_a_server_that_answers_another_part(unsigned: PublicSet, site: Site, tmp_path: Path) -> None:
    site.cut = 1000
    fails(tmp_path / "toy", "the line was cut")
    site.cut, site.back = None, 10
    pull("toy", tmp_path / "toy", patience=QUICK)
    complete(tmp_path / "toy")


def test_a_server_whose_tag_does_not_change_with_the_file(
    unsigned: PublicSet, site: Site, tmp_path: Path
) -> None:
    """The whole length in its Content-Range differs from that of the first answer."""
    site.files["/d/images.tar.gz"], site.cut, site.always = bytes(len(IMAGES) + 1), 1000, '"one"'
    fails(tmp_path / "toy", "the line was cut")
    site.files["/d/images.tar.gz"], site.cut = IMAGES, None
    pull("toy", tmp_path / "toy", patience=QUICK)
    complete(tmp_path / "toy")


def test_lengths_that_are_too_long(toy: PublicSet, site: Site, tmp_path: Path) -> None:
    site.length = lambda size: size + 100
    fails(tmp_path / "toy")


def test_lengths_that_are_too_short(toy: PublicSet, site: Site, tmp_path: Path) -> None:
    site.length = lambda size: size - 100
    fails(tmp_path / "toy", "sha256", "this test")
    assert not (tmp_path / "toy.part").exists()


def test_no_length_at_all(toy: PublicSet, site: Site, tmp_path: Path) -> None:
    site.length = lambda size: None
    pull("toy", tmp_path / "toy", patience=QUICK)
    complete(tmp_path / "toy")


@pytest.mark.parametrize("said", [True, False])
def test_a_flood(
    toy: PublicSet, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bool
) -> None:
    monkeypatch.setattr(download, "SLACK", 1000)
    site.files["/d/images.tar.gz"] = bytes(20 * len(IMAGES))
    if not said:
        site.length = lambda size: None
    fails(tmp_path / "toy", "more than twice")
    part = tmp_path / "toy.part" / "images.tar.gz.part"
    assert not part.exists(), "nothing can come of it"


def test_a_tampered_archive(toy: PublicSet, site: Site, tmp_path: Path) -> None:
    bad = bytearray(IMAGES)
    bad[500] ^= 1
    site.files["/d/images.tar.gz"] = bytes(bad)
    to = tmp_path / "toy"
    fails(to, sum_of(bytes(bad)).partition(":")[2], sum_of(IMAGES).partition(":")[2], "this test", "--mirror")
    assert not (tmp_path / "toy.part").exists(), "nothing of it was kept"
    assert len(site.asked) == 1


def test_a_hostile_archive_is_taken_back_as_a_whole(unsigned: PublicSet, site: Site, tmp_path: Path) -> None:
    site.files["/d/masks.zip"] = packed({"labels/1.png": b"x", "labels/../../../escaped.png": b"x"}, "zip")
    fails(tmp_path / "toy", "masks.zip", "escaped.png")
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert left == {"toy.part", "toy.part/lock", "toy.part/images.tar.gz"}
    site.files["/d/masks.zip"] = MASKS
    pull("toy", tmp_path / "toy")
    complete(tmp_path / "toy")
    assert [path for path, _ in site.asked] == ["/d/images.tar.gz", "/d/masks.zip?a=1", "/d/masks.zip?a=1"]


def test_a_bomb(unsigned: PublicSet, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "SLACK", 10_000)
    site.files["/d/images.tar.gz"] = packed({"images/1.jpg": bytes(10**7)})
    fails(tmp_path / "toy", "images.tar.gz", "claims 10 MB")


@pytest.mark.parametrize("status", [403, 404])
def test_what_is_not_there(toy: PublicSet, site: Site, tmp_path: Path, status: int) -> None:
    site.status = status
    fails(tmp_path / "toy", str(status), f"{site.base}/d/images.tar.gz", "--mirror")
    assert len(site.asked) == 1
    assert not (tmp_path / "toy.part").exists()


def test_a_server_in_trouble_is_asked_again(toy: PublicSet, site: Site, tmp_path: Path) -> None:
    site.status = 503

    def recover(site: Site) -> None:
        site.status = 200 if len(site.asked) == 2 else site.status

    site.then = recover
    heard = Heard()
    pull("toy", tmp_path / "toy", patience=QUICK, progress=heard)
    complete(tmp_path / "toy")
    assert sum("503" in line and "once more" in line for line in heard.lines) == 2


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/a", "//[bad", "data:,x"])
def test_redirects_to_another_scheme(toy: PublicSet, site: Site, tmp_path: Path, place: str) -> None:
    site.status, site.location = 302, place
    fails(tmp_path / "toy", site.base)
    assert len(site.asked) == 1


def test_a_redirect_from_https_to_http_is_refused() -> None:
    request = urllib.request.Request("https://example.org/a")
    with pytest.raises(DataError, match="sends on to http://"):
        download._Redirects().redirect_request(
            request, io.BytesIO(), 302, "", http.client.HTTPMessage(), "http://example.org/b"
        )


def test_redirects_are_followed(toy: PublicSet, site: Site, tmp_path: Path) -> None:
    site.files["/elsewhere"] = IMAGES
    site.status, site.location = 302, f"{site.base}/elsewhere"

    def settle(site: Site) -> None:
        site.status = 200

    site.then = settle
    pull("toy", tmp_path / "toy", patience=QUICK)
    complete(tmp_path / "toy")
    assert site.asked[1][0] == "/elsewhere"


def test_a_mirror_serves_the_same_files(toy: PublicSet, site: Site, tmp_path: Path) -> None:
    site.files = {"/m/x/images.tar.gz": IMAGES, "/m/x/masks.zip": MASKS}
    pull("toy", tmp_path / "toy", mirror=f"{site.base}/m/x/")
    complete(tmp_path / "toy")


def test_a_pull_begun_at_one_place_ends_at_another(toy: PublicSet, site: Site, tmp_path: Path) -> None:
    site.cut = 1000
    fails(tmp_path / "toy", "the line was cut")
    site.cut, site.sent = None, 0
    site.files = {"/m/images.tar.gz": IMAGES, "/m/masks.zip": MASKS}
    pull("toy", tmp_path / "toy", mirror=f"{site.base}/m")
    complete(tmp_path / "toy")
    assert site.sent == len(IMAGES) + len(MASKS) - 3000


@pytest.mark.parametrize(
    "mirror",
    [
        "file:///data",
        "ftp://example.org",
        "example.org",
        "http://",
        "http://[",
        "https://a b.org",
        "https://u:p@a.org",
    ],
)
def test_what_is_no_mirror(toy: PublicSet, tmp_path: Path, mirror: str) -> None:
    line = fails(tmp_path / "toy", "--mirror", mirror=mirror, kind=ConfigError)
    assert "u:p" not in line
    assert not list(tmp_path.iterdir())


def test_first_use_pins_what_nobody_signed(
    unsigned: PublicSet, site: Site, tmp_path: Path, cache: Path
) -> None:
    heard = Heard()
    pull("toy", tmp_path / "one", progress=heard)
    assert sum("no checksum is published" in line for line in heard.lines) == 2
    assert not any("https" in line for line in heard.lines), "nobody listens on this machine"
    pins = json.loads((cache / "pins.json").read_text())
    assert pins["toy/masks.zip"]["sha256"] == sum_of(MASKS).partition(":")[2]
    pull("toy", tmp_path / "two")
    site.files["/d/masks.zip"] = packed({f"labels/{n}.png": picture("png", 1) for n in range(20)}, "zip")
    fails(
        tmp_path / "three", "masks.zip", pins["toy/masks.zip"]["sha256"], "pins.json", "the first pull on 20"
    )
    (cache / "pins.json").write_text("{")
    fails(tmp_path / "four", "pins.json cannot be read")


def test_an_archive_that_fails_is_not_pinned(
    unsigned: PublicSet, site: Site, tmp_path: Path, cache: Path
) -> None:
    site.files["/d/masks.zip"] = b"<html>maintenance</html>"
    fails(tmp_path / "toy", "masks.zip is no sound archive")
    assert not (cache / "pins.json").exists()


def test_an_open_line_without_checksum_is_told() -> None:
    assert [
        download.is_guarded(url) for url in ("https://a.org/x", "http://localhost/x", "http://[::1]:80/x")
    ] == [True, True, True]
    assert not download.is_guarded("http://a.org/x")
    assert not download.is_guarded("http://localhost.a.org/x")


def test_a_full_disk(toy: PublicSet, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 10**6

    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage)
    fails(tmp_path / "toy", "1 MB free and needs 67", "--to")
    assert not site.asked
    assert not (tmp_path / "toy.part").exists()


def test_a_disk_that_fills_while_it_unpacks(
    toy: PublicSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        (tmp_path / "toy.part/tree/half").write_text("x")
        raise OSError(errno.ENOSPC, "No space left on device", "toy.part/tree/half")

    monkeypatch.setattr(download, "unpack", full)
    fails(tmp_path / "toy", "No space left on device", "free some space")
    assert sorted(path.name for path in (tmp_path / "toy.part").iterdir()) == [
        "images.tar.gz",
        "lock",
        "masks.zip",
    ]
    monkeypatch.undo()


def test_ctrl_c_while_it_unpacks(
    toy: PublicSet,
    site: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(*args: object) -> None:
        (tmp_path / "toy.part/tree/half").write_text("x")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(download, "unpack", interrupted)
        assert main(["data", "pull", "toy", "--to", str(tmp_path / "toy")]) == 130
    assert capsys.readouterr().err.endswith("error: stopped; the same command goes on where it was\n")
    assert not (tmp_path / "toy").exists()
    assert not (tmp_path / "toy.part" / "tree").exists()
    sent = site.sent
    pull("toy", tmp_path / "toy")
    complete(tmp_path / "toy")
    assert site.sent == sent, "the archives were there already"


def test_a_folder_that_cannot_be_written(toy: PublicSet, site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    fails(tmp_path / "file" / "toy", str(tmp_path / "file"), "--to")
    assert not site.asked


def test_a_folder_in_use(toy: PublicSet, site: Site, tmp_path: Path) -> None:
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="exists and is not toy; choose another folder with --to"):
        pull("toy", tmp_path / "toy")
    assert [path.name for path in tmp_path.rglob("*")] == ["toy", "mine.txt"]
    (tmp_path / "toy" / "mine.txt").unlink()
    pull("toy", tmp_path / "toy")
    complete(tmp_path / "toy")


def test_two_pulls_at_once(toy: PublicSet, tmp_path: Path) -> None:
    with download._alone(tmp_path / "toy.part"):
        fails(tmp_path / "toy", "another pull is at work", kind=ConfigError)
    pull("toy", tmp_path / "toy")
    complete(tmp_path / "toy")


KILLED = """
import sys
from pathlib import Path
from maskwright.data import public
from maskwright.data.download import pull
from maskwright.data.public import Archive, PublicSet
base, to, size, checksum = sys.argv[1:]
archive = Archive(base + "/d/images.tar.gz", int(size), {"images": "images"}, checksum, "this test")
public.SETS["toy"] = PublicSet("Toy", base, "CC0", "Nobody", (archive,))
pull("toy", Path(to))
"""


def test_a_pull_that_is_killed_goes_on(
    toy: PublicSet, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 in the middle of the download, which then costs no byte twice."""
    told(monkeypatch, replace(toy, archives=toy.archives[:1], config={}))
    to, part = tmp_path / "toy", tmp_path / "toy.part" / "images.tar.gz.part"
    site.stall = 20_000
    words = [sys.executable, "-c", KILLED, site.base, str(to), str(len(IMAGES)), sum_of(IMAGES)]
    child = subprocess.Popen(words, env={**os.environ, "PYTHONPATH": str(Path(public.__file__).parents[2])})
    while not (part.is_file() and part.stat().st_size == 20_000):
        assert child.poll() is None
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not to.exists()
    site.stall, site.sent = None, 0
    pull("toy", to)
    assert site.sent == len(IMAGES) - 20_000
    assert len(list((to / "images").iterdir())) == 20
    assert list(tmp_path.iterdir()) == [to]


def test_a_kill_between_the_last_byte_and_the_next_step(toy: PublicSet, site: Site, tmp_path: Path) -> None:
    part = tmp_path / "toy.part"
    (part / "tree").mkdir(parents=True)
    (part / "tree" / "half").write_text("left by a kill")
    (part / "images.tar.gz.part").write_bytes(IMAGES)
    about = {"url": f"{site.base}/d/images.tar.gz", "validator": None, "length": len(IMAGES)}
    (part / "images.tar.gz.part.json").write_text(json.dumps(about))
    pull("toy", tmp_path / "toy")
    complete(tmp_path / "toy")
    assert [path for path, _ in site.asked] == ["/d/masks.zip?a=1"]


def test_proxies_of_the_environment_are_used(
    toy: PublicSet, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy is asked for whole addresses."""
    monkeypatch.setenv("http_proxy", site.base)
    site.files = {"http://far.example/d/images.tar.gz": IMAGES, "http://far.example/d/masks.zip": MASKS}
    pull("toy", tmp_path / "toy", mirror="http://far.example/d")
    complete(tmp_path / "toy")


def test_the_verb(
    toy: PublicSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", "pull", "toy", "--json"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["next"] == "maskwright data show data/toy"
    assert document["licence"] == "CC0"
    assert err.index("Licence: CC0") < err.index("From http://")
    assert "Cite: Nobody: Nothing. 2026" in err
    complete(tmp_path / "data" / "toy")
    assert main(document["next"].split()[1:]) == 0
    assert main(["data", "pull", "toy"]) == 0
    assert "was in data/toy already" in capsys.readouterr().out
    assert main(["data", "pull", "toi"]) == 2
    assert "did you mean toy?" in capsys.readouterr().err
    assert main(["data", "pull"]) == 0
    assert "oxford-iiit-pet" in capsys.readouterr().out


@pytest.mark.parametrize("name", public.SETS)
def test_the_known_sets_say_all_that_is_needed(name: str) -> None:
    known = public.SETS[name]
    assert known.licence
    assert known.citation
    files = [archive.file for archive in known.archives]
    assert len(set(files)) == len(files)
    for archive in known.archives:
        assert archive.url.startswith(("https://", "http://"))
        assert bool(archive.checksum) == bool(archive.published)
        if archive.checksum:
            kind, _, value = archive.checksum.partition(":")
            assert len(value) == hashlib.new(kind).digest_size * 2


def mask(values: list[int], colours: dict[int, tuple[int, int, int]] | None = None) -> bytes:
    """Stripes of these values as numbers, or as RGB."""
    stripes = np.repeat(np.array(values, np.uint8), 4)[None].repeat(8, 0)
    held = io.BytesIO()
    if colours is None:
        Image.fromarray(stripes).save(held, "PNG")
    else:
        Image.fromarray(np.array([colours.get(v, (0, 0, 0)) for v in range(256)], np.uint8)[stripes]).save(
            held, "PNG"
        )
    return held.getvalue()


def photo(width: int) -> bytes:
    held = io.BytesIO()
    Image.fromarray(np.full((8, width, 3), 99, np.uint8)).save(held, "PNG")
    return held.getvalue()


VOC = "VOCdevkit/VOC2012"
PUBLISHED: dict[str, list[dict[str, bytes]]] = {
    "oxford-iiit-pet": [
        {f"images/{name}.jpg": photo(12) for name in "abc"},
        {
            **{f"annotations/trimaps/{name}.png": mask([1, 2, 3]) for name in "abc"},
            "annotations/trimaps/._a.png": b"of macOS",
            "annotations/trainval.txt": b"a 1 1 1\nb 1 1 1\n",
            "annotations/test.txt": b"c 1 1 1\n",
        },
    ],
    "voc2012": [
        {
            **{f"{VOC}/JPEGImages/{name}.jpg": photo(12) for name in "abcd"},
            **{f"{VOC}/SegmentationClass/{name}.png": mask([0, 20, 255]) for name in "abc"},
            f"{VOC}/Annotations/a.xml": b"<annotation/>",
            f"{VOC}/ImageSets/Segmentation/train.txt": b"a\nb\n",
            f"{VOC}/ImageSets/Segmentation/val.txt": b"c\n",
            f"{VOC}/ImageSets/Segmentation/trainval.txt": b"a\nb\nc\n",
        }
    ],
    "loveda": [
        {
            f"{split}/{scene}/{kind}_png/{number}.png": photo(12) if kind == "images" else mask([0, 1, 7])
            for scene, number in (("Rural", first), ("Urban", first + 1))
            for kind in ("images", "masks")
        }
        for split, first in (("Train", 0), ("Val", 2))
    ],
    "camvid": [
        {
            f"701_StillsRaw_full/{name}.png": photo(12)
            for name in ("0001TP_1", "0001TP_2", "0006R0_1", "Seq05VD_f1")
        },
        {
            f"{name}_L.png": mask([0, 1, 2], {1: (64, 128, 64), 2: (64, 192, 0)})
            for name in ("0001TP_1", "0001TP_2", "0006R0_1", "Seq05VD_f1")
        },
    ],
}
"""Archives laid out as those of the authors, a few small pictures in each."""
EXPECTED = {
    "oxford-iiit-pet": ({"train", "validation", "test"}, 3, [1, 0, 1]),
    "voc2012": ({"train", "validation"}, 3, [0, 20, 255]),
    "loveda": ({"train", "validation"}, 4, [255, 0, 6]),
    "camvid": ({"train", "validation"}, 4, [255, 0, 30]),
}
"""Splits, pictures, and the class ids of the three stripes."""


@pytest.mark.parametrize("name", public.SETS)
def test_the_layout_of_each_set_is_read(
    name: str, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = public.SETS[name]
    archives = []
    for archive, files in zip(known.archives, PUBLISHED[name], strict=True):
        content = packed(files, "zip" if archive.file.endswith("zip") else "tar.gz")
        site.files[f"/{archive.file}"] = content
        archives.append(replace(archive, size=len(content), checksum=sum_of(content)))
    monkeypatch.setitem(public.SETS, name, replace(known, archives=tuple(archives)))
    pull(name, tmp_path / "data", mirror=site.base)
    dataset = open_dataset(tmp_path / "data")
    splits, pictures, ids = EXPECTED[name]
    assert {item.split for item in dataset.items} == splits
    assert len(dataset.items) == pictures
    for item in dataset.items:
        assert dataset.mask(item)[0, [1, 5, 9]].tolist() == ids
        assert dataset.image(item, 3).shape == (8, 12, 3)
    if known.config:
        assert tuple(dataset.classes.names) == tuple(known.config["classes"])  # type: ignore[arg-type]
