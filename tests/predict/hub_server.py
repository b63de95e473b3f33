"""A hub on this machine: the part of the Hugging Face API that huggingface_hub calls to make, fill and read a model.

Written after the requests that huggingface_hub 2.4 sends: create, info, validate-yaml, preupload, the Git LFS batch API
with its PUT and verify, commit as NDJSON, and resolve with ETag, X-Repo-Commit and the redirect of large files.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

OWNER, TOKEN = "ada", "hf_right"
READER = "hf_reader"
"""A token that may see what is private, and write nothing."""


@dataclass
class Repo:
    private: bool = False
    gated: bool = False
    commits: list[dict[str, bytes]] = field(default_factory=lambda: [{}])
    """Files by name, oldest state first."""
    large: set[str] = field(default_factory=set)
    """Names that lie in LFS."""
    messages: list[str] = field(default_factory=list)

    def hash(self, number: int) -> str:
        return hashlib.sha1(f"{id(self)} {number}".encode()).hexdigest()

    def find(self, revision: str) -> int | None:
        """The number of the commit."""
        numbers = {self.hash(number): number for number in range(len(self.commits))}
        return len(self.commits) - 1 if revision == "main" else numbers.get(revision)


@dataclass
class Hub:
    """What the server knows and what it was asked."""

    address: str = ""
    store: str = ""
    """Where large files lie: another host, as far as a client can tell, which therefore gets no token."""
    repos: dict[str, Repo] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    """LFS objects by SHA-256."""
    asked: list[str] = field(default_factory=list)
    """`METHOD PATH` of every request."""
    broken: bool = False
    """Whether it answers 503 to everything."""

    def place(
        self, name: str, files: dict[str, bytes], *, private: bool = False, gated: bool = False
    ) -> Repo:
        """Put files there as if somebody had pushed them."""
        made = self.repos.setdefault(name, Repo(private=private, gated=gated))
        made.commits.append({**made.commits[-1], **files})
        made.large |= {file for file in files if file.endswith((".safetensors", ".bin"))}
        return made


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        length = int(self.headers.get("Content-Length") or 0)
        body = (
            self._chunks() if self.headers.get("Transfer-Encoding") == "chunked" else self.rfile.read(length)
        )
        self.hub.asked.append(f"{self.command} {path}")
        if self.hub.broken:
            self._send(503, b"busy")
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif path == "/api/validate-yaml":
            self._validate(json.loads(body)["content"])
        elif path.startswith("/api/models/"):
            self._api(path.removeprefix("/api/models/").split("/"), body)
        elif path.endswith(".git/info/lfs/objects/batch"):
            self._batch(json.loads(body)["objects"])
        elif path.startswith("/lfs/"):
            self._lfs(path.removeprefix("/lfs/"), body)
        elif "/resolve/" in path:
            self._resolve(*path[1:].split("/resolve/"))
        else:
            self._json({"error": "unknown"}, 404)

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _send(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, document: object, status: int = 200, **headers: str) -> None:
        self._send(status, json.dumps(document).encode(), Content_Type="application/json", **headers)

    def _refuse(self, status: int, code: str) -> None:
        self._json({"error": code}, status, X_Error_Code=code, X_Error_Message=code)

    def _token(self) -> str | None:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

    def _may_read(self, repo: Repo | None) -> bool:
        """Answers and says False where not, as the real one: what may not be seen is not there."""
        token = self._token()
        if token not in (None, TOKEN, READER):
            said = "Invalid credentials in Authorization header"
            self._json({"error": said}, 401, X_Error_Message=said)
        elif repo is None or (repo.private and token is None):
            self._refuse(401 if token is None else 404, "RepoNotFound")
        elif repo.gated and token != TOKEN:
            self._refuse(403, "GatedRepo")
        else:
            return True
        return False

    def _may_write(self) -> bool:
        if self._token() == TOKEN:
            return True
        self._json({"error": "forbidden"}, 403 if self._token() == READER else 401)
        return False

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked.get('organization') or OWNER}/{asked['name']}"
        if not self._may_write():
            return
        address = f"{self.hub.address}/{name}"
        if name in self.hub.repos:
            self._json({"error": "You already created this model repo", "url": address}, 409)
            return
        if not name.startswith(f"{OWNER}/"):
            self._json({"error": "You don't have the rights to create a model under this namespace"}, 403)
            return
        private = asked.get("private") or asked.get("visibility") == "private"
        self.hub.repos[name] = Repo(private=bool(private))
        self._json({"url": address, "name": name, "id": "1"})

    def _validate(self, card: str) -> None:
        """The real one checks more; a header that is no mapping fails there too."""
        header = yaml.safe_load(card.split("---\n")[1])
        faults = [] if isinstance(header, dict) else [{"message": "no mapping"}]
        if header.get("license", "mit") not in ("mit", "apache-2.0"):
            faults.append({"message": '"license" must be one of [apache-2.0, mit, ...]'})
        self._json({"errors": faults, "warnings": []}, 400 if faults else 200)

    def _api(self, parts: list[str], body: bytes) -> None:
        name, rest = "/".join(parts[:2]), parts[2:]
        repo = self.hub.repos.get(name)
        if not self._may_read(repo):
            return
        assert repo is not None
        number = repo.find("/".join(rest[1:]) or "main")
        if number is None:
            self._refuse(404, "RevisionNotFound")
        elif rest[:1] == ["preupload"]:
            if self._may_write():
                self._json({"files": [self._mode(file) for file in json.loads(body)["files"]]})
        elif rest[:1] == ["commit"]:
            if self._may_write():
                self._commit(name, repo, body)
        elif not rest or rest[0] == "revision":
            listed = [{"rfilename": file} for file in repo.commits[number]]
            facts = {"id": name, "modelId": name, "sha": repo.hash(number), "private": repo.private}
            self._json({**facts, "siblings": listed, "tags": []})
        else:
            self._refuse(404, "EntryNotFound")

    def _mode(self, file: dict[str, Any]) -> dict[str, object]:
        mode = "lfs" if file["path"].endswith((".safetensors", ".bin")) else "regular"
        return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}

    def _batch(self, objects: list[dict[str, Any]]) -> None:
        if not self._may_write():
            return
        answers = []
        for thing in objects:
            place = f"{self.hub.store}/lfs/{thing['oid']}"
            actions = {"upload": {"href": place}, "verify": {"href": f"{place}/verify"}}
            answers.append({"oid": thing["oid"], "size": thing["size"], "actions": actions})
        self._json({"transfer": "basic", "objects": answers})

    def _lfs(self, oid: str, body: bytes) -> None:
        if self.command == "PUT":
            right = hashlib.sha256(body).hexdigest() == oid
            if right:
                self.hub.blobs[oid] = body
            self._send(200 if right else 400, b"")
        elif oid.endswith("/verify"):
            self._json({}, 200 if oid.removesuffix("/verify") in self.hub.blobs else 404)
        else:
            self._send(200, self.hub.blobs[oid], ETag=f'"{oid}"')

    def _commit(self, name: str, repo: Repo, body: bytes) -> None:
        files = dict(repo.commits[-1])
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                repo.messages.append(value["summary"])
            elif entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
                repo.large.add(value["path"])
        repo.commits.append(files)
        commit = repo.hash(len(repo.commits) - 1)
        self._json({"commitUrl": f"{self.hub.address}/{name}/commit/{commit}", "commitOid": commit})

    def _resolve(self, name: str, rest: str) -> None:
        repo = self.hub.repos.get(name)
        if not self._may_read(repo):
            return
        assert repo is not None
        revision, _, file = rest.partition("/")
        number = repo.find(revision)
        if number is None:
            self._refuse(404, "RevisionNotFound")
            return
        commit, content = repo.hash(number), repo.commits[number].get(file)
        if content is None:
            code = "EntryNotFound"
            self._json({"error": code}, 404, X_Error_Code=code, X_Repo_Commit=commit)
        elif file in repo.large:
            oid = hashlib.sha256(content).hexdigest()
            self.hub.blobs[oid] = content
            linked = {"X_Linked_ETag": f'"{oid}"', "X_Linked_Size": str(len(content))}
            self._send(302, b"", Location=f"{self.hub.store}/lfs/{oid}", X_Repo_Commit=commit, **linked)
        else:
            etag = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            self._send(200, content, ETag=f'"{etag}"', X_Repo_Commit=commit)


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub that answers until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    hub.store = f"http://localhost:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
