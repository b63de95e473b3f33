"""`.predict.jsonl`: which files are ours, which picture gave each, and lines that are not of our making."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.predict.test_save import Grey, write_photos

from maskwright.errors import DataError, RunError
from maskwright.predict.journal import NAME, Entry, Journal
from maskwright.predict.look import Seams
from maskwright.predict.save import identity_of
from maskwright.tensors import Prediction


def write_shade(file: Path, shade: int) -> Path:
    """A picture that is all pet (255) or all ground (0)."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 7), shade, np.uint8)).save(file)
    return file


def mask_of(file: Path) -> int:
    """The only class of a mask."""
    (k,) = np.unique(np.asarray(Image.open(file)))
    return int(k)


def refused(out: Path, picture: Path, model: Grey | None = None) -> None:
    with pytest.raises(DataError, match=rf"holds what .* gave; {picture} would replace it; choose another"):
        (model or Grey()).save(out, picture)


class Other(Grey):
    def identity(self) -> str:
        return "another grey"


def test_a_picture_of_another_ending_takes_no_mask(tmp_path: Path) -> None:
    one, other = write_shade(tmp_path / "p/a.bmp", 0), write_shade(tmp_path / "q/a.png", 255)
    Grey().save(tmp_path / "out", one)
    refused(tmp_path / "out", other)
    one.rename(tmp_path / "a.bmp")
    Grey().save(tmp_path / "out", other)
    (tmp_path / "a.bmp").rename(one)
    refused(tmp_path / "out", one)
    Grey().save(tmp_path / "out", one, save=["plain"])
    refused(tmp_path / "out", one)
    assert mask_of(tmp_path / "out/a.png") == 1


def test_a_mask_that_another_picture_took_is_made_again(tmp_path: Path) -> None:
    one, other = write_shade(tmp_path / "p/a.bmp", 0), write_shade(tmp_path / "q/a.png", 255)
    Grey().save(tmp_path / "out", one)
    one.rename(tmp_path / "a.bmp")
    Grey().save(tmp_path / "out", other)
    (tmp_path / "a.bmp").rename(one)
    other.unlink()
    Grey().save(tmp_path / "out", one)
    assert mask_of(tmp_path / "out/a.png") == 0


def test_nor_does_one_that_gave_other_kinds_before(tmp_path: Path) -> None:
    one, other = write_shade(tmp_path / "day1/x.bmp", 0), write_shade(tmp_path / "day2/x.bmp", 255)
    Grey().save(tmp_path / "out", one)
    Grey().save(tmp_path / "out", other, save=["plain"])
    refused(tmp_path / "out", other)
    assert mask_of(tmp_path / "out/x.png") == 0


def test_nor_does_one_that_another_model_looks_at(tmp_path: Path) -> None:
    one, other = write_shade(tmp_path / "r/b.bmp", 0), write_shade(tmp_path / "s/b.bmp", 255)
    Grey().save(tmp_path / "out", one)
    refused(tmp_path / "out", other, Other())
    Other().save(tmp_path / "out", other, save=["plain"])
    refused(tmp_path / "out", other, Other())
    model = Other()
    model.save(tmp_path / "out", one)
    assert model.asked == 1


def test_what_was_never_written_is_not_ours(tmp_path: Path) -> None:
    """A picture that could not be read, and whose mask somebody draws meanwhile."""
    photos, out = write_photos(tmp_path / "photos", 2), tmp_path / "out"
    good = (photos / "0000.png").read_bytes()
    (photos / "0000.png").write_bytes(b"broken")
    assert [bool(saved.error) for saved in Grey().save(out, photos)] == [True, False]
    (out / "0000.png").write_bytes(b"drawn")
    (photos / "0000.png").write_bytes(good)
    with pytest.raises(DataError, match=r"0000\.png is there already, and was not predicted"):
        Grey().save(out, photos)
    assert (out / "0000.png").read_bytes() == b"drawn"
    (out / "0000.png").unlink()
    Grey().save(out, photos)
    Grey().save(out, photos)


def test_a_picture_in_the_place_of_a_mask_that_was_never_written(tmp_path: Path) -> None:
    (tmp_path / "c.jpg").write_bytes(b"broken")
    write_shade(tmp_path / "d.bmp", 0)
    Grey().save(tmp_path, tmp_path)
    (tmp_path / "c.jpg").unlink()
    write_shade(tmp_path / "c.png", 255)
    assert [saved.input.name for saved in Grey().save(tmp_path, tmp_path, save=["plain"])] == [
        "c.png",
        "d.bmp",
    ]


def test_what_a_stop_left_unwritten_is_not_ours(tmp_path: Path) -> None:
    class Stopped(Grey):
        def __call__(self, image: object) -> Prediction:
            raise KeyboardInterrupt

    photos, out = write_photos(tmp_path / "photos", 2), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        Stopped().save(out, photos, save=["mask", "statistics"])
    (out / "pixels.csv").write_text("mine")
    with pytest.raises(DataError, match=r"pixels\.csv is there already, and was not predicted"):
        Grey().save(out, photos, save=["mask", "statistics"])
    assert Journal(out, identity_of(Grey())).ours == {}


def test_what_another_process_made_stays_ours(tmp_path: Path) -> None:
    """It goes on when the first, which began the same files, is stopped."""
    begun, stop = threading.Event(), threading.Event()

    class First(Grey):
        def __call__(self, image: object) -> Prediction:
            begun.set()
            stop.wait()
            raise KeyboardInterrupt

    class Second(Grey):
        def __call__(self, image: object) -> Prediction:
            stop.set()
            first.join()
            return super().__call__(image)

    def save(model: Grey) -> None:
        with contextlib.suppress(KeyboardInterrupt):
            model.save(tmp_path / "out", photos, save=["mask", "statistics"])

    photos = write_photos(tmp_path / "photos", 2)
    first = threading.Thread(target=save, args=[First()])
    first.start()
    begun.wait()
    save(Second())
    model = Grey()
    save(model)
    assert model.asked == 0


def test_what_another_process_makes_in_the_last_moment_stays_ours(tmp_path: Path) -> None:
    """Between a look for the file and the line that says it is not there."""
    one, other = Journal(tmp_path, "m"), Journal(tmp_path, "m")
    one.begin()
    other.begin()
    one.begin_files(["a.png"])
    other.add(Entry(name="a", stamp=(1, 1), outputs=("a.png",), source="/a"), None)
    one.close()
    other.close()
    assert b"unwritten" in (tmp_path / NAME).read_bytes()
    assert Journal(tmp_path, "m").ours == {"a.png": "/a"}


DONE = {"name": "0000.png", "stamp": [1, 2], "outputs": ["0000.png"], "source": "/nowhere"}


@pytest.mark.parametrize(
    "line",
    [
        "ours",
        [1],
        {"ours": [1]},
        {"ours": 5},
        {"ours": ["../photos/0000.png"]},
        {"owners": {"0000.png": 7}},
        {"unwritten": "0000.png"},
        {"began_review": "yes"},
        DONE | {"source": 3},
        DONE | {"review": 7},
        DONE | {"review": "../../victim.txt"},
        DONE | {"review": "{tmp}/victim.txt"},
        DONE | {"review": ".."},
        DONE | {"outputs": ["../victim.txt"]},
        DONE | {"outputs": ["a\0b"]},
        DONE | {"seams": {"difference": 0, "row": 0, "column": 0, "changed": 0, "pixels": 0}},
    ],
)
def test_a_line_of_a_stranger_is_skipped(line: object, tmp_path: Path) -> None:
    photos, out = write_photos(tmp_path / "photos", 1), tmp_path / "out"
    (tmp_path / "victim.txt").write_text("precious")
    (out / "review").mkdir(parents=True)
    head = {"format": 1, "model": identity_of(Grey())}
    written = json.dumps(line).replace("{tmp}", str(tmp_path))
    (out / NAME).write_text(f"{json.dumps(head)}\n{written}\n" + "[" * 100_000 + "\n")
    assert Journal(out, identity_of(Grey())).ours == {}
    (saved,) = Grey().save(out, photos, save=["mask", "statistics"])
    assert saved.error == ""
    assert (tmp_path / "victim.txt").read_text() == "precious"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"review": "folder"}, "out cannot be written to: .*; choose another --out"),
        ({"facts": {"size": [1, 1], "pixels": 3, "objects": []}}, r"jsonl is not of our making; choose"),
    ],
)
def test_a_line_that_fits_and_leads_to_nonsense_is_told(
    change: dict[str, object], says: str, tmp_path: Path
) -> None:
    photos, out = write_photos(tmp_path / "photos", 1), tmp_path / "out"
    (out / "review/folder").mkdir(parents=True)
    Grey().save(out, photos)
    Grey().save(out, photos, save=["mask", "statistics"])
    *others, done, tables = (out / NAME).read_text().splitlines()
    (out / NAME).write_text("\n".join([*others, json.dumps(json.loads(done) | change), tables, ""]))
    if "review" in change:
        (photos / "0000.png").write_bytes(b"broken")
    with pytest.raises(RunError, match=says):
        Grey().save(out, photos, save=["mask", "statistics"])


def test_an_entry_comes_back_as_it_was(tmp_path: Path) -> None:
    """Names that are not UTF-8 as well."""
    seams = Seams(0.25, 1, 2, 3, 4)
    entry = Entry(
        name="caf\udce9.png",
        stamp=(1, 2),
        outputs=("deep/caf\udce9.png",),
        source="/p/caf\udce9.png",
        review_below=0.5,
        expected_dice=0.25,
        review="0.2500_caf\udce9.jpg",
        notes=("a note",),
        checked=True,
        seams=seams,
    )
    journal = Journal(tmp_path, "m")
    journal.begin()
    journal.add(entry, None)
    journal.close()
    assert Journal(tmp_path, "m")._entries == {entry.name: entry}


def test_of_two_that_begin_at_once_one_is_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal of the other is whole when it appears, and is not replaced."""
    one, other = Journal(tmp_path, "m"), Journal(tmp_path, "m")
    link = os.link

    def meanwhile(source: Path, target: Path) -> None:
        assert not target.exists()
        monkeypatch.undo()
        other.begin()
        link(source, target)

    monkeypatch.setattr("os.link", meanwhile)
    one.begin()
    for journal, name in ((one, "a"), (other, "b")):
        entry = Entry(name=name, stamp=(1, 1), outputs=(f"{name}.png",), source=f"/{name}")
        journal.add(entry, None)
        journal.close()
    assert Journal(tmp_path, "m").ours == {"a.png": "/a", "b.png": "/b"}
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_a_disk_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    photos = write_photos(tmp_path / "photos", 1)
    Grey().save(tmp_path / "out", photos)
    model = Grey()
    model.save(tmp_path / "out", photos)
    assert model.asked == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [NAME, "0000.png"]


def test_a_second_call_leaves_alone_what_the_first_is_writing(tmp_path: Path) -> None:
    """Once it is alone, what a kill left goes; while it is not, what is an hour old."""
    photos, out = write_photos(tmp_path / "photos", 2), tmp_path / "out"
    fresh, old = (out / f".0000.png.{name}.partial" for name in ("0123abcd", "4567cdef"))

    class Meanwhile(Grey):
        def __call__(self, image: object) -> Prediction:
            for partial in (fresh, old):
                partial.write_bytes(b"half")
            os.utime(old, (time.time() - 4000,) * 2)
            Grey().save(out, photos)
            assert (fresh.exists(), old.exists()) == (True, False)
            return super().__call__(image)

    Meanwhile().save(out, photos)
    assert fresh.exists()
    Grey().save(out, photos)
    assert not fresh.exists()
