"""Downloads from a server on this machine that misbehaves in every way the code knows."""

# ruff: noqa: ARG001 - the fixture that puts the file on the server is asked for, not used

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline.checkpoints.pretrained import download
from pipeline.checkpoints.pretrained.download import fetch
from pipeline.checkpoints.pretrained.published import Published
from pipeline.errors import BadInput, DownloadFailed

DATA = bytes(range(256)) * 8192  # 2 MiB


def published(data: bytes = DATA, name: str = "net") -> Published:
    digits = hashlib.sha256(data).hexdigest()[:8]
    return Published("none", "torchvision", "X", f"https://example.invalid/models/{name}-{digits}.pth")


ROW = published()


@pytest.fixture
def cache(server, tmp_path):
    """The cache folder; the server has the file."""
    server.files[ROW.file] = DATA
    return tmp_path / "cache"


def files_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def begun(cache: Path, data: bytes, version: str | None = '"one"') -> Path:
    """What an interrupted download leaves."""
    cache.mkdir()
    part = cache / f"{ROW.file}.part"
    part.write_bytes(data)
    if version:
        part.with_name(f"{part.name}.version").write_text(version)
    return part


def test_a_whole_download(server, cache, said):
    path = fetch(ROW)
    assert path == cache / ROW.file
    assert path.read_bytes() == DATA
    assert files_of(cache) == [ROW.file]
    assert server.asked == [(ROW.file, None)]
    assert f"Downloading {server.url}/{ROW.file}" in "\n".join(said.notes)


def test_the_second_time_needs_no_network(server, cache, said, monkeypatch):
    fetch(ROW)
    said.notes.clear()
    monkeypatch.setenv("EDGE_PIPELINE_WEIGHTS_URL", "http://127.0.0.1:9")
    assert fetch(ROW).read_bytes() == DATA
    assert len(server.asked) == 1
    assert said.notes == []


def test_an_interrupted_download_goes_on(server, cache):
    begun(cache, DATA[:70_000])
    assert fetch(ROW).read_bytes() == DATA
    assert server.asked == [(ROW.file, "bytes=70000-")]
    assert files_of(cache) == [ROW.file]


def test_a_broken_connection_is_taken_up_within_one_call(server, cache, said):
    server.break_after = [300_000, 900_001]
    assert fetch(ROW).read_bytes() == DATA
    assert server.asked == [(ROW.file, None), (ROW.file, "bytes=300000-"), (ROW.file, "bytes=900001-")]
    assert "ended after 300,000 of 2,097,152 bytes; again in 0 s" in "\n".join(said.notes)


def test_a_connection_that_always_breaks_is_given_up_and_kept(server, cache):
    server.break_after = [100, 200, 300]
    with pytest.raises(DownloadFailed, match="ended after 300 of 2,097,152 bytes.*repeat the command") as caught:
        fetch(ROW)
    assert caught.value.exit_status == 1
    assert "\n" not in str(caught.value)
    assert (cache / f"{ROW.file}.part").read_bytes() == DATA[:300]
    assert fetch(ROW).read_bytes() == DATA
    assert server.asked[-1] == (ROW.file, "bytes=300-")


def test_a_server_that_has_another_version_by_now_sends_all(server, cache):
    begun(cache, b"x" * 70_000, '"an older one"')
    assert fetch(ROW).read_bytes() == DATA
    assert server.asked == [(ROW.file, "bytes=70000-")]


def test_a_part_of_an_unknown_version_is_not_trusted(server, cache):
    server.etag = None
    server.break_after = [5000]
    assert fetch(ROW).read_bytes() == DATA
    assert server.asked == [(ROW.file, None), (ROW.file, None)]


def test_a_server_without_ranges_starts_again(server, cache):
    server.ranges = False
    server.break_after = [5000]
    assert fetch(ROW).read_bytes() == DATA
    assert server.asked == [(ROW.file, None), (ROW.file, "bytes=5000-")]


def test_a_part_that_is_too_long_starts_again(server, cache):
    begun(cache, DATA + b"more")
    assert fetch(ROW).read_bytes() == DATA
    assert server.asked == [(ROW.file, f"bytes={len(DATA) + 4}-"), (ROW.file, None)]


def test_a_part_that_is_whole_needs_no_network(server, cache):
    begun(cache, DATA)
    assert fetch(ROW).read_bytes() == DATA
    assert server.asked == []
    assert files_of(cache) == [ROW.file]


def test_other_bytes_are_deleted_and_said(server, cache):
    server.files[ROW.file] = b"an error page"
    with pytest.raises(DownloadFailed, match=f"not what was published .*{ROW.sha256_start}.*deleted"):
        fetch(ROW)
    assert files_of(cache) == []


def test_a_bad_beginning_is_deleted_so_that_the_next_call_works(server, cache):
    begun(cache, b"x" * 70_000)
    with pytest.raises(DownloadFailed, match="not what was published"):
        fetch(ROW)
    assert files_of(cache) == []
    assert fetch(ROW).read_bytes() == DATA


def test_a_damaged_cached_file_is_fetched_again(server, cache, said):
    fetch(ROW).write_bytes(DATA[:-1])
    assert fetch(ROW).read_bytes() == DATA
    assert "is damaged: downloading it again" in "\n".join(said.notes)


@pytest.mark.parametrize("status", [404, 403, 410])
def test_a_file_that_is_not_there_is_not_asked_for_twice(server, cache, status):
    server.errors = [status]
    with pytest.raises(DownloadFailed, match=rf"the server says {status} .*EDGE_PIPELINE_WEIGHTS_URL"):
        fetch(ROW)
    assert len(server.asked) == 1
    assert files_of(cache) == []


def test_a_busy_server_is_asked_again(server, cache):
    server.errors = [503, 500]
    assert fetch(ROW).read_bytes() == DATA
    assert len(server.asked) == 3


def test_no_network_is_one_line(server, cache, monkeypatch):
    monkeypatch.setenv("EDGE_PIPELINE_WEIGHTS_URL", "http://127.0.0.1:9")
    with pytest.raises(
        DownloadFailed, match=r"Cannot download http://127.0.0.1:9/[^ ]*: Connection refused.*Check the network"
    ) as caught:
        fetch(ROW)
    assert "\n" not in str(caught.value)
    assert files_of(cache) == []


def test_an_unknown_host_is_one_line(server, cache, monkeypatch):
    monkeypatch.setenv("EDGE_PIPELINE_WEIGHTS_URL", "http://no-such-host.invalid/")
    with pytest.raises(DownloadFailed, match="Cannot download http://no-such-host.invalid/net-"):
        fetch(ROW)


def test_a_server_that_says_nothing_is_given_up(server, cache, monkeypatch):
    server.gate = threading.Event()
    server.break_after = [10, 10, 10]
    monkeypatch.setattr(download, "TIMEOUT_S", 0.2)
    with pytest.raises(DownloadFailed, match="no answer within 0.2 s"):
        fetch(ROW)
    server.gate.set()


@pytest.mark.parametrize("mirror", ["file:///etc", "weights", "ftp://example.invalid/", "http://"])
def test_a_mirror_is_a_web_address(mirror, monkeypatch):
    monkeypatch.setenv("EDGE_PIPELINE_WEIGHTS_URL", mirror)
    with pytest.raises(BadInput, match="EDGE_PIPELINE_WEIGHTS_URL is"):
        fetch(ROW)


def test_without_a_mirror_the_published_address_counts(monkeypatch):
    monkeypatch.delenv("EDGE_PIPELINE_WEIGHTS_URL", raising=False)
    assert download.address(ROW) == ROW.url


def test_where_files_are_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGE_PIPELINE_WEIGHTS_DIR", str(tmp_path / "mine"))
    assert download.folder() == tmp_path / "mine"
    monkeypatch.delenv("EDGE_PIPELINE_WEIGHTS_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert download.folder() == tmp_path / "edge-pipeline" / "weights"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for ignored in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert download.folder() == tmp_path / "home" / ".cache" / "edge-pipeline" / "weights"


def test_a_cache_that_cannot_be_written_is_said(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGE_PIPELINE_WEIGHTS_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(BadInput, match="Cannot keep .*Not a directory.*EDGE_PIPELINE_WEIGHTS_DIR"):
        fetch(ROW)


FETCH = f"""
from pipeline.checkpoints.pretrained.download import fetch
from pipeline.checkpoints.pretrained.published import Published
from edge_apps.progress import shown_by
from edge_apps.progress_bars import ProgressBars
with shown_by(ProgressBars()):
    print(fetch(Published("none", "torchvision", "X", {ROW.url!r})))
"""


def other_process() -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", FETCH], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ.copy()
    )


def wait_for(what) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_two_processes_at_once_download_once(server, cache):
    server.gate, server.break_after = threading.Event(), [1_000_000]
    first = other_process()
    wait_for(lambda: server.asked)  # it has the lock, and half the file is all that it gets for now
    second = other_process()
    said = second.stderr.readline()
    assert "Another process is downloading" in said
    server.gate.set()
    assert [process.wait(60) for process in (first, second)] == [0, 0]
    assert {process.communicate()[0].strip() for process in (first, second)} == {str(cache / ROW.file)}
    assert (cache / ROW.file).read_bytes() == DATA
    assert server.asked == [(ROW.file, None), (ROW.file, "bytes=1000000-")]
    assert files_of(cache) == [ROW.file]


def test_a_killed_download_goes_on(server, cache):
    server.gate, server.break_after = threading.Event(), [1_000_000]
    process, part = other_process(), cache / f"{ROW.file}.part"
    wait_for(lambda: part.exists() and part.stat().st_size >= 1 << 18)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    have = part.stat().st_size
    server.gate.set()
    assert fetch(ROW).read_bytes() == DATA
    assert server.asked[-1] == (ROW.file, f"bytes={have}-")


def test_a_missing_network_is_said_with_the_host(cache, monkeypatch):
    def unknown(*given, **more):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(download, "PAUSES_S", ())
    monkeypatch.setenv("EDGE_PIPELINE_WEIGHTS_URL", "http://example.invalid/models")
    with pytest.raises(DownloadFailed, match=r"no network, or no such host: example\.invalid\. Check the network"):
        fetch(ROW)


@pytest.mark.parametrize("length", ["abc", "-5", "1e9", "9" * 30, "", "٣"])
def test_a_length_that_is_none_is_not_believed(server, cache, length):
    server.length = length.encode().decode("latin-1")
    assert fetch(ROW).read_bytes() == DATA


@pytest.mark.parametrize("stated", [True, False])
def test_a_file_larger_than_any_published_one_is_not_kept(server, cache, monkeypatch, stated):
    monkeypatch.setattr(download, "LARGEST", len(DATA) - 1)
    server.length = None if stated else "abc"
    with pytest.raises(DownloadFailed, match="is larger than any published file .* at most 2,097,151 are downloaded"):
        fetch(ROW)
    assert not list(cache.glob("*.part"))


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x"])
def test_a_redirect_to_anything_but_the_web_is_not_followed(server, cache, target):
    server.redirect = target
    with pytest.raises(DownloadFailed, match="redirect") as caught:
        fetch(ROW)
    assert "\n" not in str(caught.value)
