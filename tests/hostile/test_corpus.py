"""The hostile corpus against every door that takes media: nothing escapes, nobody dies, each is told why.

One list of files goes to Label Studio's image requests, to video jobs and to CVAT's two functions; one list
of addresses goes to those doors that take addresses. Server and worker are real processes, watched all along.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.backend.web_fixtures import Answer, WebServer, serving
from tests.hostile.addresses import addresses, names, sent_tokens
from tests.hostile.disguises import disguises
from tests.hostile.doors import Doors, open_doors
from tests.hostile.images import images
from tests.hostile.items import READ
from tests.hostile.videos import clip, videos
from tests.hostile.watching import Watch, watched

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="inotify tells who opens files on Linux alone"
)
TOKEN = "0123456789abcdef0123456789abcdef01234567"


@dataclass(frozen=True)
class Trap:
    """The doors, and what lies in wait beside them."""

    folder: Path
    doors: Doors
    media: Path
    secret: Path
    watch: Watch
    web: WebServer
    studio: WebServer
    canary: WebServer


@pytest.fixture(scope="module")
def trap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trap]:
    folder = tmp_path_factory.mktemp("hostile")
    media, hidden = folder / "media", folder / "hidden"
    media.mkdir()
    hidden.mkdir()
    secret = hidden / "clip.mp4"
    secret.write_bytes(clip())
    _lay_links(media, secret)
    with serving() as web, serving() as studio, serving() as canary, watched(hidden) as watch:
        canary.routes["/clip.mp4"] = Answer(clip())
        settings = {
            "EDGETAM_ALLOWED_HOSTS": f"127.0.0.1:{web.port}",
            "LABEL_STUDIO_URL": studio.url,
            "LABEL_STUDIO_API_KEY": TOKEN,
        }
        with open_doors(folder, settings, names()) as doors:
            yield Trap(folder, doors, media, secret, watch, web, studio, canary)


def _lay_links(media: Path, secret: Path) -> None:
    """Ways out that lie inside the roots."""
    (media / "link.mp4").symlink_to(secret)
    (media / "folder").symlink_to(secret.parent)
    (media / "loop.mp4").symlink_to(media / "loop.mp4")
    (media / "dangling.mp4").symlink_to(media / "nothing")
    (media / "zero.mp4").symlink_to("/dev/zero")
    os.mkfifo(media / "pipe.mp4")
    here = Path.cwd()
    os.chdir(media)  # a socket's name may have 107 letters
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.mp4")
    os.chdir(here)


def refusals(told: Sequence[tuple[str, str, str]]) -> list[str]:
    """Answers that are not the ones of the table: (whose, expected, got)."""
    return [
        f"{whose}: expected {why or 'that it is read'!r}, got {got[:300]!r}"
        for whose, why, got in told
        if (got != "" if why == READ else re.search(why, got) is None)
    ]


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # says what is then refused
def test_every_hostile_file_is_refused_with_its_reason(trap: Trap) -> None:
    items = images() + videos(str(trap.secret)) + disguises(str(trap.secret), trap.canary.url)
    assert len({item.name for item in items}) == len(items) >= 100
    files = [f"{number}.mp4" for number in range(len(items))]
    for name, item in zip(files, items, strict=True):
        (trap.media / name).write_bytes(item.make())
    told = []
    for name, item in zip(files, items, strict=True):
        content = (trap.media / name).read_bytes()
        told.append((f"image request, {item.name}", item.image, trap.doors.image(name)))
        told += [(f"{f}, {item.name}", item.cvat, trap.doors.cvat(f, content)) for f in trap.doors.functions]
        trap.doors.look()
    for item, got in zip(items, trap.doors.videos(files), strict=True):
        told.append((f"video job, {item.name}", item.video, got))
    assert refusals(told) == []
    assert trap.doors.alive()
    assert trap.watch.opened() == []
    assert trap.canary.asked == []


def test_every_hostile_address_is_refused_with_its_reason(trap: Trap) -> None:
    found = addresses(trap.web, trap.studio, trap.canary, trap.secret)
    assert len({address.value for address in found}) == len(found) >= 40
    values = [address.value for address in found]
    jobs = trap.doors.videos(values)
    told = [(f"video job, {a.value[:80]}", a.why, got) for a, got in zip(found, jobs, strict=True)]
    with ThreadPoolExecutor(8) as pool:  # some of them are waited for until a limit ends it
        images = list(pool.map(trap.doors.image, values))
        trap.doors.look()
    told += [(f"image request, {a.value[:80]}", a.why, got) for a, got in zip(found, images, strict=True)]
    assert refusals(told) == []
    assert trap.doors.alive()
    assert trap.watch.opened() == []
    assert trap.canary.asked == []
    assert sent_tokens({"web": trap.web}) == []
    assert {asked.headers["Authorization"] for asked in trap.studio.asked} == {f"Token {TOKEN}"}
    no_secret_is_written_down(trap)


def no_secret_is_written_down(trap: Trap) -> None:
    """After all that: not in a log, not in what Redis keeps, not among the words of a process."""
    written = [path for path in trap.folder.rglob("*") if path.is_file() and path.suffix in (".log", ".aof")]
    assert {path.name for path in written} >= {"server.log", "worker.log", "appendonly.aof"}
    assert [path.name for path in written if TOKEN.encode() in path.read_bytes()] == []
    for program in trap.doors.programs:
        assert TOKEN.encode() not in Path(f"/proc/{program.pid}/cmdline").read_bytes()


def test_the_traps_would_have_told(trap: Trap) -> None:
    """What was not touched would have been noticed, and what is harmless is read by the same doors."""
    (trap.media / "good.mp4").write_bytes(trap.secret.read_bytes())
    assert "clip.mp4" in trap.watch.opened()
    assert trap.doors.videos(["good.mp4"]) == [READ]
    trap.web.routes["/good.mp4"] = Answer(clip())
    assert trap.doors.videos([f"{trap.web.url}/good.mp4"]) == [READ]
    assert trap.doors.alive()
