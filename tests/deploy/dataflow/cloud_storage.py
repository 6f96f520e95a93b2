"""A stand-in for Cloud Storage on this machine: the part of its JSON API that Beam and its client use.

The client library is the real one; its own variable STORAGE_EMULATOR_HOST leads it here. As in the
service, an object appears when its upload is complete, and names are keys without folders.
"""

import base64
import email
import json
import re
import threading
import uuid
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import google_crc32c

_OBJECT = re.compile(r"/storage/v1/b/([^/]+)/o/(.+)")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class CloudStorage:
    """Objects in a dict, by `gs://` path, behind a server of this process."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.updated: dict[str, str] = {}
        self.uploads: dict[str, tuple[str, bytearray]] = {}
        storage = self

        class Handler(_Handler):
            stored = storage

        self._server = ThreadingHTTPServer(("localhost", 0), Handler)
        self.address = f"http://localhost:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def put(self, path: str, content: bytes) -> None:
        """Puts an object, whole."""
        self.updated[path] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        self.objects[path] = content

    def below(self, folder: str) -> dict[str, bytes]:
        """The objects below a folder, by what follows it in their paths."""
        prefix = f"{folder}/"
        return {
            path.removeprefix(prefix): content
            for path, content in self.objects.items()
            if path.startswith(prefix)
        }

    def close(self) -> None:
        """Ends the server."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    stored: CloudStorage
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: apart, the second would wait for the first one's receipt

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        url, query = self._url()
        if found := _OBJECT.fullmatch(url.removeprefix("/download")):
            path = f"gs://{found[1]}/{unquote(found[2])}"
            if path not in self.stored.objects:
                self._answer({"error": {"code": 404, "message": f"no object {path}"}}, HTTPStatus.NOT_FOUND)
            elif query.get("alt") == "media":
                self._send_content(path)
            else:
                self._answer(self._resource(path))
        elif url.endswith("/o"):
            bucket = f"gs://{url.split('/')[-2]}/"
            prefix = bucket + query.get("prefix", "")
            names = sorted(path for path in self.stored.objects if path.startswith(prefix))
            self._answer({"kind": "storage#objects", "items": [self._resource(path) for path in names]})
        else:
            self._answer({"kind": "storage#bucket", "id": url.split("/")[-1], "name": url.split("/")[-1]})

    def do_POST(self) -> None:
        url, query = self._url()
        body = self._body()
        if url.startswith("/batch"):
            self._answer_batch(body)
            return
        assert url.startswith("/upload"), url
        bucket = url.split("/")[-2]
        if query["uploadType"] == "resumable":
            name = query.get("name") or json.loads(body)["name"]
            upload = uuid.uuid4().hex
            self.stored.uploads[upload] = (f"gs://{bucket}/{name}", bytearray())
            self._answer({}, headers={"Location": f"{self.stored.address}/upload/{upload}"})
        else:
            message = email.message_from_bytes(
                b"Content-Type: " + self.headers["Content-Type"].encode() + b"\r\n\r\n" + body
            )
            about, content = message.get_payload()
            name = json.loads(about.get_payload())["name"]
            self.stored.put(f"gs://{bucket}/{name}", content.get_payload(decode=True))
            self._answer(self._resource(f"gs://{bucket}/{name}"))

    def do_PUT(self) -> None:
        path, content = self.stored.uploads[self._url()[0].split("/")[-1]]
        content += self._body()
        whole = self.headers["Content-Range"].rpartition("/")[2]
        if whole == "*" or len(content) < int(whole):
            self._answer({}, HTTPStatus.PERMANENT_REDIRECT, {"Range": f"bytes=0-{len(content) - 1}"})
            return
        self.stored.put(path, bytes(content))
        self._answer(self._resource(path))

    def do_DELETE(self) -> None:
        self._answer({}, self._delete(self._url()[0]))

    def _delete(self, url: str) -> HTTPStatus:
        found = _OBJECT.fullmatch(url)
        assert found is not None, url
        path = f"gs://{found[1]}/{unquote(found[2])}"
        return HTTPStatus.NOT_FOUND if self.stored.objects.pop(path, None) is None else HTTPStatus.NO_CONTENT

    def _answer_batch(self, body: bytes) -> None:
        """Deletions, several in one request: the only batch that Beam's file system makes."""
        message = email.message_from_bytes(
            b"Content-Type: " + self.headers["Content-Type"].encode() + b"\r\n\r\n" + body
        )
        parts = []
        for part in message.get_payload():
            method, url, _ = part.get_payload().split(" ", 2)
            assert method == "DELETE", method
            status = self._delete(urlsplit(url).path)
            parts.append(
                "--answer\r\nContent-Type: application/http\r\n\r\n"
                f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n\r\n{{}}\r\n"
            )
        self._send("".join([*parts, "--answer--"]).encode(), "multipart/mixed; boundary=answer")

    def _send_content(self, path: str) -> None:
        content = self.stored.objects[path]
        if found := _RANGE.match(self.headers.get("Range", "")):
            begin, end = int(found[1]), int(found[2] or len(content) - 1)
            if begin >= len(content):
                self._answer({}, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
                return
            piece = content[begin : end + 1]
            told = {"Content-Range": f"bytes {begin}-{begin + len(piece) - 1}/{len(content)}"}
            self._send(piece, status=HTTPStatus.PARTIAL_CONTENT, headers=told)
        else:
            self._send(content)

    def _resource(self, path: str) -> dict[str, Any]:
        bucket, _, name = path.removeprefix("gs://").partition("/")
        content = self.stored.objects[path]
        checksum = base64.b64encode(google_crc32c.Checksum(content).digest()).decode()
        return {
            "kind": "storage#object",
            "bucket": bucket,
            "name": name,
            "size": str(len(content)),
            "generation": "1",
            "crc32c": checksum,
            "updated": self.stored.updated[path],
        }

    def _url(self) -> tuple[str, dict[str, str]]:
        url = urlsplit(self.path)
        return url.path, {name: values[0] for name, values in parse_qs(url.query).items()}

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            pieces = []
            while size := int(self.rfile.readline(), 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(
        self,
        content: dict[str, Any],
        status: HTTPStatus = HTTPStatus.OK,
        headers: dict[str, str] | None = None,
    ) -> None:
        body = b"" if status == HTTPStatus.NO_CONTENT else json.dumps(content).encode()
        self._send(body, "application/json", status, headers)

    def _send(
        self,
        body: bytes,
        kind: str = "application/octet-stream",
        status: HTTPStatus = HTTPStatus.OK,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
