"""An S3 server on this machine (moto's), which counts the requests it gets."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

BUCKET = "corpus-bucket"


@dataclass
class Store:
    """A running server. requests: (method, path with query) of everything that was asked for. refusing: whether it
    answers that all is forbidden."""

    url: str
    requests: list[tuple[str, str]] = field(default_factory=list)
    refusing: bool = False

    @property
    def env(self) -> dict[str, str]:
        """Variables by which s3fs finds it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    @property
    def client(self) -> Any:
        """A plain S3 client of it, not ours."""
        return boto3.client(
            "s3", endpoint_url=self.url, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
        )

    def put_folder(self, folder: Any, prefix: str) -> None:
        """Copy the files below `folder` to keys that begin with `prefix`."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                key = f"{prefix}/{path.relative_to(folder).as_posix()}"
                self.client.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())

    def contents(self, prefix: str) -> dict[str, bytes]:
        """Every object below `prefix`, by its key behind it."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{prefix}/")
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        return {
            key.removeprefix(f"{prefix}/"): self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
            for key in keys
        }


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[Store]:
    """A server with an empty bucket, on a free port, while the block runs."""
    moto = DomainDispatcherApplication(create_backend_app)
    store = Store("")

    def application(environ: Any, start_response: Any) -> Any:
        query = environ.get("QUERY_STRING", "")
        path = environ["PATH_INFO"] + (f"?{query}" if query else "")
        store.requests.append((environ["REQUEST_METHOD"], path))
        if store.refusing:
            start_response("403 Forbidden", [("Content-Type", "application/xml")])
            body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
            return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
        return moto(environ, start_response)

    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=_Quiet)
    store.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        store.client.create_bucket(Bucket=BUCKET)
        store.requests.clear()
        yield store
    finally:
        server.shutdown()
        thread.join()
