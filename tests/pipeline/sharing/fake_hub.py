"""A Hub on loopback: the part of its HTTP API by which huggingface_hub uploads files, and what was uploaded."""

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

TOKEN = "hf_writing"
INLINE = (".md", ".json", ".yaml", ".txt")
"""Files that go into the commit itself; all others are sent to the store of large files first."""


@dataclass
class Hub:
    """`repos`: by kind and name, their files. `public`: which are. `commits`: the first line of each commit's message.
    `stored`: large files by SHA-256, as they arrive. `full`: the store refuses large files."""

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    public: set[str] = field(default_factory=set)
    commits: list[str] = field(default_factory=list)
    stored: dict[str, bytes] = field(default_factory=dict)
    full: bool = False
    endpoint: str = ""


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.refused():
            return
        if tree := re.fullmatch(r"/api/(\w+/\w+/[\w-]+)/tree/main", urlsplit(self.path).path):
            found = self.hub.repos[tree[1]].items()
            entry = {"type": "file", "oid": "0" * 40}
            self.answer([{**entry, "path": name, "size": len(data)} for name, data in found])
        elif (name := self.path.removeprefix("/api/")) in self.hub.repos:
            self.answer({"id": name.partition("/")[2], "private": name not in self.hub.public, "siblings": []})
        else:
            self.answer({"error": "Repository not found"}, 404)

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.hub.full:
            self.answer({"error": "no room"}, 507)
        else:
            assert self.path == f"/store/{sha256(data).hexdigest()}"
            self.hub.stored[sha256(data).hexdigest()] = data
            self.answer({})

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        path = urlsplit(self.path).path
        if self.refused():
            return
        if path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            asked = json.loads(data)
            kind = f"{asked.get('type', 'model')}s"
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            there = f"{kind}/{name}" in self.hub.repos
            if not there:
                self.hub.repos[f"{kind}/{name}"] = {".gitattributes": b""}
                if asked.get("visibility", "private" if asked.get("private") else "public") == "public":
                    self.hub.public.add(f"{kind}/{name}")
            url = f"{self.hub.endpoint}/{'datasets/' if kind == 'datasets' else ''}{name}"
            self.answer({"url": url}, 409 if there else 200)
        elif path.endswith("/preupload/main"):
            named = json.loads(data)["files"]
            modes = {False: "lfs", True: "regular"}
            uploads = [{"path": file["path"], "uploadMode": modes[file["path"].endswith(INLINE)]} for file in named]
            self.answer({"files": [upload | {"shouldIgnore": False} for upload in uploads]})
        elif path.endswith(".git/info/lfs/objects/batch"):
            objects = json.loads(data)["objects"]
            for each in objects:
                if each["oid"] not in self.hub.stored:
                    each["actions"] = {"upload": {"href": f"{self.hub.endpoint}/store/{each['oid']}"}}
            self.answer({"transfer": "basic", "objects": objects})
        elif committed := re.fullmatch(r"/api/(\w+/\w+/[\w-]+)/commit/main", path):
            self.commit(self.hub.repos[committed[1]], [json.loads(line) for line in data.splitlines()])
            address = f"{self.hub.endpoint}/{committed[1].removeprefix('models/')}/commit/{'1' * 40}"
            self.answer({"commitUrl": address, "commitOid": "1" * 40})
        else:
            self.answer({"error": f"no {path}"}, 404)

    def commit(self, repo: dict[str, bytes], lines: list[dict[str, Any]]) -> None:
        for value in (line["value"] for line in lines if line["key"] == "deletedFile"):
            del repo[value["path"]]
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                repo[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repo[value["path"]] = self.hub.stored[value["oid"]]
            elif line["key"] == "header":
                self.hub.commits.append(value["summary"])

    def refused(self) -> bool:
        """Refuse who may not write."""
        refused = self.headers.get("Authorization") != f"Bearer {TOKEN}"
        if refused:
            self.answer({"error": "Invalid username or password."}, 401)
        return refused

    def answer(self, content: Any, status: int = 200) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def hub_on_loopback() -> Iterator[Hub]:
    """The Hub, while the block runs."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
