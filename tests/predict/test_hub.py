"""A model goes to a hub and comes back the same; of what strangers put there only our files are taken."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard, constants
from PIL import Image
from tests.predict.hub_server import READER, TOKEN, Hub, serving

from maskwright.cli.main import main
from maskwright.config import InputConfig, ModelConfig
from maskwright.errors import RunError
from maskwright.predict import hub as hub_module
from maskwright.predict.ensemble import Ensemble, load_predictor
from maskwright.predict.hub import HubModel, fetch, push
from maskwright.predict.model_folder import ModelSpec, build_from_spec, find_model, save_model
from maskwright.predict.predictor import Predictor
from maskwright.report.card import model_card
from maskwright.report.share import share

# huggingface_hub 2.4 calls its own HTTP library in a way that this deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "share.md"
SPEC = ModelSpec(
    model=ModelConfig(name="unet", width=4, depth=2),
    input=InputConfig(size=(32, 48), channels=3),
    classes=("background", "pet", "other"),
    colours=((0, 0, 0), (230, 159, 0), (86, 180, 233)),
    mean=(0.4, 0.5, 0.6),
    deviation=(0.2, 0.2, 0.3),
)


def environment(monkeypatch: pytest.MonkeyPatch, address: str, home: Path, token: str | None = TOKEN) -> None:
    """huggingface_hub reads its environment once, when it is first imported: here it is told directly."""
    told = {
        "ENDPOINT": address,
        "HUGGINGFACE_CO_URL_TEMPLATE": address + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
        "HF_HUB_DISABLE_TELEMETRY": True,
        "HF_HUB_DISABLE_XET": True,  # hf_xet speaks another protocol, past ours
        "HF_HUB_OFFLINE": False,
    }
    for name, value in told.items():
        monkeypatch.setattr(constants, name, value, raising=False)  # old versions lack some
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub, an empty cache for what comes from it, and a token that may write."""
    with serving() as server:
        environment(monkeypatch, server.address, tmp_path / "home")
        yield server


def be(monkeypatch: pytest.MonkeyPatch, token: str | None) -> None:
    if token is None:
        monkeypatch.delenv("HF_TOKEN")
    else:
        monkeypatch.setenv("HF_TOKEN", token)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of random weights, as a model folder."""
    torch.manual_seed(1)
    save_model(tmp_path / "model", SPEC, build_from_spec(SPEC).state_dict())
    card = model_card(SPEC, name="pets")
    (tmp_path / "model" / "README.md").write_text(card, encoding="utf-8")
    return tmp_path / "model"


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


PICTURE = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)


def test_what_is_pushed_comes_back_and_makes_the_same_masks(hub: Hub, folder: Path, tmp_path: Path) -> None:
    pushed = share(folder, "hf:ada/pets")
    assert (str(pushed.model), pushed.address) == ("hf:ada/pets", f"{hub.address}/ada/pets")
    assert pushed.files == {
        "config.json": (folder / "config.json").stat().st_size,
        "model.safetensors": (folder / "model.safetensors").stat().st_size,
        "README.md": len(hub.repos["ada/pets"].commits[-1]["README.md"]),
    }
    repo = hub.repos["ada/pets"]
    assert (len(repo.commits), repo.messages) == (2, ["Upload a model with maskwright"])  # the first is empty
    assert pushed.commit == repo.hash(1)
    assert any(request.startswith("PUT /lfs/") for request in hub.asked)

    fetched = find_model("hf:ada/pets")
    assert fetched.is_relative_to(tmp_path / "home")
    assert files_of(fetched) == {**files_of(folder), "README.md": repo.commits[-1]["README.md"]}
    ours, theirs = Predictor.load(folder, "cpu"), Predictor.load("hf:ada/pets", "cpu")
    np.testing.assert_array_equal(ours(PICTURE).probabilities, theirs(PICTURE).probabilities)
    np.testing.assert_array_equal(ours(PICTURE).mask, theirs(PICTURE).mask)


def test_the_card_says_how_to_use_it_from_there(hub: Hub, folder: Path) -> None:
    share(folder, "hf:ada/pets", licence="apache-2.0")
    card = hub.repos["ada/pets"].commits[-1]["README.md"].decode()
    read = ModelCard(card, ignore_metadata_errors=False)
    header = [read.data.get(key) for key in ("library_name", "pipeline_tag", "license")]
    assert header == ["maskwright", "image-segmentation", "apache-2.0"]
    assert 'mw.Predictor.load("hf:ada/pets")' in card
    assert "maskwright predict hf:ada/pets photo.jpg" in card
    assert "path/to/this/folder" not in card
    read.validate()  # asks the hub
    # Pushed on to another place by somebody else, it speaks of that place, and the licence stays.
    share("hf:ada/pets", "hf:ada/copy")
    copy = hub.repos["ada/copy"].commits[-1]["README.md"].decode()
    assert copy == card.replace("hf:ada/pets", "hf:ada/copy")


def test_a_licence_that_the_hub_does_not_know_is_told_and_nothing_is_sent(hub: Hub, folder: Path) -> None:
    with pytest.raises(RunError, match='"license" must be one of'):
        share(folder, "hf:ada/pets", licence="mine")
    assert hub.repos["ada/pets"].commits == [{}]


def test_a_model_without_a_card_gets_one(hub: Hub, folder: Path) -> None:
    (folder / "README.md").unlink()
    share(folder, "hf:ada/pets")
    assert b"# ada/pets\n" in hub.repos["ada/pets"].commits[-1]["README.md"]


def test_only_our_files_are_fetched(hub: Hub, folder: Path, tmp_path: Path) -> None:
    evil = b"cos\nsystem\n(S'touch owned'\ntR."
    hostile = dict.fromkeys(("pytorch_model.bin", "../../escape", "run.py", "sub/config.json"), evil)
    hub.place("mallory/pets", {**files_of(folder), **hostile})
    fetched = fetch("mallory/pets")
    assert {path.name for path in fetched.rglob("*")} == {"config.json", "model.safetensors", "README.md"}
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() == evil]
    assert written == []
    assert not any(name in request for request in hub.asked for name in (*hostile, "/lfs/evil"))


def test_only_our_files_are_pushed(hub: Hub, folder: Path) -> None:
    (folder / "secrets.env").write_text("password")
    (folder / "cleaning.json").write_text("{}")
    share(folder, "hf:ada/pets")
    assert set(hub.repos["ada/pets"].commits[-1]) == {
        "config.json",
        "model.safetensors",
        "README.md",
        "cleaning.json",
    }
    assert (fetch("ada/pets") / "cleaning.json").read_text() == "{}"


def test_a_revision_is_what_it_was(hub: Hub, folder: Path) -> None:
    first = share(folder, "hf:ada/pets").commit
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "temperature": 2.0}))
    second = share(folder, "hf:ada/pets").commit
    assert first != second
    assert Predictor.load(f"hf:ada/pets@{first}", "cpu").temperature == 1.0
    assert Predictor.load("hf:ada/pets", "cpu").temperature == 2.0
    asked = len(hub.asked)
    assert Predictor.load(f"hf:ada/pets@{first}", "cpu").temperature == 1.0
    assert len(hub.asked) == asked  # a commit that is cached asks nobody


def test_config_and_weights_are_of_one_commit(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody pushes while we fetch: between config.json and the rest."""
    mine = files_of(folder)
    hub.place("ada/pets", mine)
    check = hub_module._check_ours

    def check_slowly(model: HubModel, config: Path) -> None:
        check(model, config)
        hub.place("ada/pets", {"model.safetensors": b"newer", "README.md": b"newer"})

    monkeypatch.setattr(hub_module, "_check_ours", check_slowly)
    assert files_of(fetch("ada/pets")) == mine


def test_what_is_cached_needs_no_network(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    share(folder, "hf:ada/pets")
    fetched = fetch("ada/pets")
    hub.broken = True
    assert fetch("ada/pets") == fetched
    hub.broken = False
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(hub.asked)
    assert fetch("ada/pets") == fetched
    assert len(hub.asked) == asked
    with pytest.raises(RunError, match="cannot be reached for hf:ada/cats: HF_HUB_OFFLINE is set"):
        fetch("ada/cats")


def test_what_another_tool_left_in_the_cache_is_enough(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`hf download` does not note which of our optional files a model lacks."""
    from huggingface_hub import hf_hub_download

    files = {name: content for name, content in files_of(folder).items() if name != "README.md"}
    hub.place("ada/plain", files)
    for name in files:
        hf_hub_download("ada/plain", name)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert {path.name for path in fetch("ada/plain").iterdir()} == {"config.json", "model.safetensors"}


def test_a_hub_id_is_never_a_path(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    decoy = tmp_path / "hf:ada" / "pets"
    decoy.parent.mkdir()
    folder.rename(decoy)
    with pytest.raises(RunError, match="has no model ada/pets"):
        Predictor.load("hf:ada/pets")


def test_hub_ids_average(hub: Hub, folder: Path) -> None:
    share(folder, "hf:ada/pets")
    torch.manual_seed(2)
    save_model(folder, SPEC, build_from_spec(SPEC).state_dict())
    share(folder, "hf:ada/more")
    both = load_predictor("hf:ada/pets+hf:ada/more", "cpu")
    assert isinstance(both, Ensemble)
    shares = [Predictor.load(name, "cpu")(PICTURE).probabilities for name in ("hf:ada/pets", "hf:ada/more")]
    np.testing.assert_array_equal(both(PICTURE).probabilities, (shares[0] + shares[1]) / np.float32(2))


@pytest.mark.parametrize(
    "text",
    ["hf:", "hf:pets", "hf:a/b/c", "hf:../b", "hf:a/b@", "hf:a/b@../c", "hf:a/b c", "hf:a/é", "hf:a/b\n"],
)
def test_what_is_no_hub_id_is_told_without_asking(text: str, hub: Hub) -> None:
    with pytest.raises(RunError, match="names no model on the hub; write hf:user/name"):
        find_model(text)
    assert hub.asked == []


def test_hub_ids_are_read() -> None:
    assert HubModel.parse("hf:ada/pets") == HubModel("ada/pets")
    assert HubModel.parse("hf:ada/pets-2.0@refs/pr/1") == HubModel("ada/pets-2.0", "refs/pr/1")
    assert str(HubModel.parse("hf:ada/pets@v1")) == "hf:ada/pets@v1"


def refused(action: Any, *words: str | Path, **options: Any) -> str:
    """The message of the RunError, which is one line."""
    with pytest.raises(RunError) as caught:
        action(*words, **options)
    line = str(caught.value)
    assert "\n" not in line
    assert caught.value.hint
    return line


def test_faults_of_the_hub_are_one_line_each(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mine = files_of(folder)
    hub.place("ada/pets", mine)
    hub.place("ada/secret", mine, private=True)
    hub.place("ada/gated", mine, gated=True)
    hub.place(
        "eve/bert", {"config.json": b'{"model_type": "bert"}', "model.safetensors": mine["model.safetensors"]}
    )
    hub.place("eve/text", {"config.json": b"\xff\xfe no JSON"})
    hub.place("eve/empty", {"README.md": b"nothing"})
    hub.place("eve/half", {"config.json": mine["config.json"]})
    assert "has no model ada/nothing that you may see; check the name" in refused(fetch, "ada/nothing")
    assert "ada/pets has no revision v9" in refused(fetch, "ada/pets", "v9")
    assert "is no model of maskwright's; its config.json is another library's" in refused(fetch, "eve/bert")
    assert "is no model of maskwright's; its config.json" in refused(fetch, "eve/text")
    assert "hf:eve/empty is no model of maskwright's; there is no config.json" in refused(fetch, "eve/empty")
    assert "there is no model.safetensors in it" in refused(fetch, "eve/half")
    assert not any(
        "resolve" in request and "safetensors" in request and "bert" in request for request in hub.asked
    )
    assert fetch("ada/secret").is_dir()

    be(monkeypatch, READER)
    assert "hf:ada/gated asks for consent first" in refused(fetch, "ada/gated")
    be(monkeypatch, None)
    environment(monkeypatch, hub.address, tmp_path / "other", token=None)
    assert (
        "has no model ada/secret that you may see; check the name; if it is private: `hf auth login`"
        in refused(fetch, "ada/secret")
    )
    be(monkeypatch, "hf_wrong")
    assert "does not take the token of this environment (for hf:ada/pets); `hf auth" in refused(
        fetch, "ada/pets"
    )
    hub.broken = True
    assert "answers 503 for hf:ada/pets; try again later" in refused(fetch, "ada/pets")


def test_faults_of_a_push_are_one_line_each(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "hf:grace/pets; use one with the right to write there" in refused(share, folder, "hf:grace/pets")
    hub.place("ada/open", {})
    assert "hf:ada/open is there already and public" in refused(share, folder, "hf:ada/open", private=True)
    assert "names a revision; push to hf:ada/pets" in refused(share, folder, "hf:ada/pets@v1")
    be(monkeypatch, READER)
    assert "your token may not do this with hf:ada/pets" in refused(share, folder, "hf:ada/pets")
    be(monkeypatch, "hf_wrong")
    assert "does not take the token" in refused(share, folder, "hf:ada/pets")
    be(monkeypatch, None)
    assert "there is no token for the hub in this environment; make one" in refused(
        share, folder, "hf:ada/pets"
    )
    assert "ada/pets" not in hub.repos
    assert hub.repos["ada/open"].commits == [{}, {}]


def test_a_private_model_is_private(hub: Hub, folder: Path) -> None:
    assert share(folder, "hf:ada/pets", private=True).private
    assert hub.repos["ada/pets"].private
    assert not share(folder, "hf:ada/other").private


def test_what_is_broken_is_not_pushed(hub: Hub, folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "is damaged or cut short" in refused(share, folder, "hf:ada/pets")
    (folder / "model.safetensors").unlink()
    assert "model.safetensors is missing" in refused(share, folder, "hf:ada/pets")
    assert "model.safetensors is missing; push a whole model folder" in refused(push, folder, "ada/pets")
    assert hub.asked == []


def test_nothing_is_pushed_that_could_not_be_fetched(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(hub_module.LARGEST, "README.md", 1000)
    line = refused(push, folder, "ada/pets", card="é" * 501)
    assert f"README.md for {folder} has 1,002 bytes, the limit is 1,000; shorten it" in line
    monkeypatch.setitem(hub_module.LARGEST, "model.safetensors", 1000)
    assert "the limit is 1,000; push a smaller model" in refused(push, folder, "ada/pets", card="")
    assert hub.asked == []


def test_weights_that_are_cut_short_are_told(hub: Hub, folder: Path) -> None:
    mine = files_of(folder)
    cut = mine["model.safetensors"][: len(mine["model.safetensors"]) // 2]
    hub.place("eve/cut", {**mine, "model.safetensors": cut})
    assert "model.safetensors is damaged or cut short" in refused(Predictor.load, "hf:eve/cut")


def test_a_file_that_is_too_large_is_not_fetched(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.place("eve/huge", files_of(folder))
    monkeypatch.setitem(hub_module.LARGEST, "model.safetensors", 1000)
    line = refused(fetch, "eve/huge")
    assert "model.safetensors of hf:eve/huge@" in line
    assert "bytes, the limit is 1,000" in line
    assert not any(request.startswith("GET /lfs/") for request in hub.asked)


def test_no_connection_is_one_line_within_seconds(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with serving() as gone:
        pass
    environment(monkeypatch, gone.address, tmp_path / "home")
    nowhere = f"{gone.address} cannot be reached for hf:ada/pets: no answer; connect, "
    begun = time.monotonic()
    assert nowhere + "or name a model" in refused(fetch, "ada/pets")
    assert nowhere + "and push again" in refused(share, folder, "hf:ada/pets")
    assert time.monotonic() - begun < 10


def test_what_answers_and_is_no_hub_is_told(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub.place("ada/pets", files_of(folder))
    hub.store = hub.address  # followed, to an answer that names no commit
    repo = hub.repos["ada/pets"]
    repo.large.add("config.json")
    assert "does not seem to be served by a Hugging Face Hub" in refused(fetch, "ada/pets")


def test_push_says_what_went_where(hub: Hub, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", str(folder), "hf:ada/pets"]) == 0
    out, err = capsys.readouterr()
    assert f"are at {hub.address}/ada/pets (public, commit " in out
    assert {line.split()[0] for line in out.splitlines()[:3]} == {
        "config.json",
        "model.safetensors",
        "README.md",
    }
    assert err == ""
    assert main(["push", str(folder), "hf:ada/pets", "--private"]) == 2
    assert capsys.readouterr().err.startswith("error: hf:ada/pets is there already and public; ")
    assert main(["push", str(folder), "hf:ada/more", "--private", "--license", "mit", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["model"], said["private"]) == ("hf:ada/more", True)
    assert said["address"] == f"{hub.address}/ada/more"


@pytest.mark.slow
@pytest.mark.ci
def test_the_page_is_true(
    hub: Hub, discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What docs/share.md shows, in its order, from a trained run to masks by the hub's names."""
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    shutil.copytree(discs, "data/pets")
    Path("photos").mkdir()
    Image.fromarray(PICTURE).save("photos/a.png")
    small = ["--model=unet", "--epochs=1", "--size=48,48", "model.width=4", "model.depth=2"]
    assert main(["train", "--data", "data/pets", "--name", "pets", *small]) == 0
    page = PAGE.read_text(encoding="utf-8")
    commands = re.findall(r"^\$ maskwright (.*)$", page, re.MULTILINE)
    assert len(commands) == 6
    for command in commands:
        words = shlex.split(command)
        capsys.readouterr()
        assert main([*words, *(small if words[0] == "train" else [])]) == 0, command
        if words[0] == "train":
            found = re.search(r"(\d+) of (\d+) tensors come from .*snapshots", capsys.readouterr().err)
            assert found is not None
            assert found[1] == found[2]
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(code, str(PAGE), "exec"), {})
    assert main(["predict", "pets", "photos/", "--out", "ours"]) == 0
    assert Path("masks/a.png").read_bytes() == Path("ours/a.png").read_bytes()
    card = ModelCard(hub.repos["ada/pets"].commits[-1]["README.md"].decode(), ignore_metadata_errors=False)
    results = card.data.eval_results  # type: ignore[attr-defined]
    assert {result.metric_type for result in results} == {"dice_image", "iou_image", "miou"}
    assert str(tmp_path) not in card.content


@pytest.mark.slow
def test_the_environment_of_huggingface_hub_rules(hub: Hub, folder: Path, tmp_path: Path) -> None:
    """Two processes, as two people: HF_ENDPOINT, HF_TOKEN, HF_HOME and HF_HUB_OFFLINE are all they share."""
    common = {
        "HF_ENDPOINT": hub.address,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HOME": str(tmp_path / "theirs"),
    }

    def command(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        code = "import sys; from maskwright.cli.main import main; sys.exit(main())"
        environment = {**os.environ, **common, **more}
        return subprocess.run(
            [sys.executable, "-c", code, *words], env=environment, capture_output=True, text=True, check=False
        )

    pushed = command("push", str(folder), "hf:ada/pets", HF_TOKEN=TOKEN, HF_HOME=str(tmp_path / "mine"))
    assert pushed.returncode == 0, pushed.stderr
    shown = command("show", "hf:ada/pets", "--json", HF_TOKEN="")
    assert shown.returncode == 0, shown.stderr
    model = Path(json.loads(shown.stdout)["model"])
    assert model.is_relative_to(tmp_path / "theirs")
    assert (model / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    asked = len(hub.asked)
    again = command("show", "hf:ada/pets", HF_HUB_OFFLINE="1", HF_TOKEN="")
    assert (again.returncode, len(hub.asked)) == (0, asked)
    lost = command("show", "hf:ada/cats", HF_HUB_OFFLINE="1", HF_TOKEN="")
    assert lost.returncode == 2
    assert "cannot be reached for hf:ada/cats: HF_HUB_OFFLINE is set" in lost.stderr
    assert len(lost.stderr.splitlines()) == 1
