"""The field kit, whole: packed from the real Label Studio, or a server that behaves as CVAT does, annotated
in Chromium where there is no network, killed in between, and merged back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psutil
import pytest

from edgetam_model.demo_clip import BALL, LADYBIRD
from edgetam_model.masks import mask_box
from tests.backend.field.kits import make_kit, shipped
from tests.cvat_function import task_scene
from tests.cvat_function.field.image_server import SIZES, image_task, square
from tests.cvat_function.task_server import BIRD, CAR, TOKEN, TaskServer, serving
from tests.platforms import clips
from tests.platforms.browser import QUIET
from tests.platforms.clips import BLUE, FPS, RED, Box, Clip
from tests.platforms.label_studio_server import LabelStudio
from tests.platforms.processes import RUN, RUN_ID
from tests.platforms.projects import (
    CLICKS,
    VIDEO_CONFIG,
    box_iou,
    box_on,
    image_config,
    image_region,
    ious,
    video_region,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.platforms

NOWHERE = "http://192.0.2.1:8080"  # an address of documentation: nobody answers
SECONDS = 180
RECTANGLES = (
    '<RectangleLabels name="rect" toName="image"><Label value="Ball"/><Label value="Post"/></RectangleLabels>'
)
SCALE, LATER = 320 / clips.WIDTH, 25
PHONE, LAPTOP = (390, 844), (1366, 768)


@dataclass
class Network:
    """A place without a network: a namespace that has its own loopback and nothing else, held by a process.

    Where the system allows no namespaces, `holder` is None, and what is open is looked at instead.
    """

    holder: subprocess.Popen[bytes] | None

    def inside(self, *command: str) -> list[str]:
        """The command, run there."""
        if self.holder is None:
            return list(command)
        target = str(self.holder.pid)
        return ["nsenter", "--target", target, "--user", "--net", "--preserve-credentials", *command]


@contextmanager
def no_network() -> Iterator[Network]:
    possible = subprocess.run(["unshare", "-rn", "true"], check=False, capture_output=True).returncode == 0
    if not possible:
        yield Network(None)
        return
    script = "ip link set lo up && exec sleep 3600"
    env = {**os.environ, RUN: RUN_ID}
    with subprocess.Popen(["unshare", "-rn", "sh", "-c", script], env=env) as holder:
        try:
            time.sleep(0.5)
            network = Network(holder)
            links = subprocess.run(network.inside("ip", "-o", "link"), check=True, capture_output=True).stdout
            assert [line.split()[1] for line in links.splitlines()] == [b"lo:"]
            yield network
        finally:
            holder.kill()


def edgetam(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """One command, to its end."""
    command = [sys.executable, "-m", "edgetam_model.cli", "field", *words]
    quiet = {**os.environ, "OMP_NUM_THREADS": "1", "EDGETAM_OFFLINE": "1", RUN: RUN_ID, **env}
    return subprocess.run(command, check=False, capture_output=True, text=True, env=quiet, timeout=SECONDS)


@dataclass
class Field:
    """A kit that runs where there is no network, and what it was seen to connect to."""

    kit: Path
    network: Network
    process: subprocess.Popen[str] | None = None
    url: str = ""
    reached: set[str] = field(default_factory=set)

    def start(self) -> None:
        """Run it; the address is the first line."""
        words = [sys.executable, "-m", "edgetam_model.cli", "field", "run", str(self.kit)]
        kept = {name: text for name, text in os.environ.items() if "proxy" not in name.lower()}
        env = {**kept, "LABEL_STUDIO_URL": NOWHERE, "OMP_NUM_THREADS": "1", RUN: RUN_ID}
        self.process = subprocess.Popen(
            self.network.inside(*words), stdout=subprocess.PIPE, text=True, env=env
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[-1]

    def look(self) -> None:
        """Note where its connections lead."""
        assert self.process is not None
        with suppress(psutil.Error):
            for one in psutil.Process(self.process.pid).net_connections("inet"):
                self.reached |= {address.ip for address in (one.laddr, one.raddr) if address}

    def kill(self) -> None:
        """End it as a dead battery does."""
        assert self.process is not None
        self.process.kill()
        self.process.communicate()


@dataclass
class Visitor:
    """A person in front of the page."""

    page: Page
    folder: Path
    asked: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def visit(self, url: str) -> None:
        self.page.goto(url)
        self.page.wait_for_selector("#tasks button")

    def open(self, task: int) -> None:
        if not self.page.is_visible(f'#tasks button[data-task="{task}"]'):
            self.page.click("#back")
        self.page.click(f'#tasks button[data-task="{task}"]')
        self.wait(f"S.task && S.task.id === {task} && S.picture !== null")

    def tap(self, place: tuple[float, float], button: Any = "left") -> None:
        """Click a place in pixels of the packed media, and wait for what comes of it."""
        before = self.task()["revision"]
        self.page.mouse.click(*self._place(place), button=button)
        self.wait(f"!S.busy && S.task.revision > {before}")

    def touch(self, place: tuple[float, float]) -> None:
        """Tap with a finger."""
        before = self.task()["revision"]
        self.page.touchscreen.tap(*self._place(place))
        self.wait(f"!S.busy && S.task.revision > {before}")

    def drag(self, box: Box) -> None:
        before = self.task()["revision"]
        self.page.mouse.move(*self._place(box[:2]))
        self.page.mouse.down()
        self.page.mouse.move(*self._place(box[2:]), steps=4)
        self.page.mouse.up()
        self.wait(f"!S.busy && S.task.revision > {before}")

    def press(self, name: str) -> None:
        self.page.click(f"#{name}")

    def choose(self, label: str) -> None:
        self.page.locator("#labels button").get_by_text(label, exact=True).click()

    def pick(self, region: str) -> None:
        self.page.click(f'li[data-object="{region}"] .pick')

    def seek(self, frame: int) -> None:
        self.page.evaluate(f"showFrame({frame})")
        self.wait(f"S.frame === {frame} && S.overlay.frame === {frame} && S.picture !== null")

    def settle(self) -> None:
        """Wait until nothing is computed any more."""
        self.wait("!S.busy && !S.task.running")

    def task(self) -> Any:
        return self.page.evaluate("S.task")

    def line(self, region: str) -> str:
        """One letter for each frame."""
        one = next(one for one in self.task()["objects"] if one["id"] == region)
        return f"{'.' * one['first']}{one['line']}".ljust(self.task()["frames"], ".")

    def wait(self, condition: str) -> None:
        """`page.wait_for_function` would evaluate text, which the page's own policy forbids."""
        deadline = time.monotonic() + SECONDS
        while not self.page.evaluate(f"Boolean({condition})"):
            assert time.monotonic() < deadline, (condition, self.problems)
            self.page.wait_for_timeout(100)

    def shoot(self, name: str, *, phone_only: bool = False) -> None:
        """Keep screenshots, of a phone's size and of a laptop's."""
        for kind, (width, height) in (("phone", PHONE), ("laptop", LAPTOP))[: 1 if phone_only else 2]:
            self.page.set_viewport_size({"width": width, "height": height})
            self.page.wait_for_timeout(300)
            number = len(list(self.folder.glob("*.png"))) + 1
            self.page.screenshot(path=self.folder / f"{number:02d}-{name}-{kind}.png")

    def _place(self, place: tuple[float, ...]) -> tuple[float, float]:
        x, y, scale = self.page.evaluate(
            "(() => { const edge = canvas.getBoundingClientRect(), view = S.view || fitted();"
            " return [edge.x + view.x, edge.y + view.y, view.scale]; })()"
        )
        return x + place[0] * scale, y + place[1] * scale


@contextmanager
def visiting(network: Network, chromium: Path, folder: Path, *, touch: bool = False) -> Iterator[Visitor]:
    """Chromium in the same place as the page; what it asks for elsewhere is noted."""
    from playwright.sync_api import sync_playwright

    program = folder / "chromium"
    program.write_text(f'#!/bin/sh\nexec {" ".join(network.inside(str(chromium)))} "$@"\n')
    program.chmod(0o755)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=QUIET)
        page = browser.new_page(viewport={"width": LAPTOP[0], "height": LAPTOP[1]}, has_touch=touch)
        page.set_default_timeout(1000 * SECONDS)
        visitor = Visitor(page, folder)
        page.on("request", lambda request: visitor.asked.append(request.url))
        page.on("pageerror", lambda error: visitor.problems.append(str(error)))
        try:
            yield visitor
        finally:
            browser.close()


def middle(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def scaled(box: Box, scale: float) -> Box:
    x0, y0, x1, y1 = (edge * scale for edge in box)
    return x0, y0, x1, y1


@dataclass(frozen=True)
class Projects:
    """A project of two clips, one with a region of its own, and one of a picture."""

    videos: int
    clip: Clip
    task: int
    annotation: int
    region: dict[str, Any]
    empty: int
    images: int
    still: Clip
    picture: int
    rectangle: dict[str, Any]


@pytest.fixture(scope="module")
def projects(label_studio: LabelStudio, tmp_path_factory: pytest.TempPathFactory) -> Projects:
    folder = tmp_path_factory.mktemp("field")
    clip, still = clips.two_discs(folder / "discs.mp4"), clips.still(folder / "still.png")
    videos = label_studio.create_project("field clips", VIDEO_CONFIG)
    empty = label_studio.import_media(videos, clip.path, {"fps": FPS})
    task = label_studio.import_media(videos, clip.path, {"fps": FPS})
    region = video_region(clip.boxes[0][BLUE], 1, len(clip.boxes), "Post")
    stored = label_studio.call("POST", f"/api/tasks/{task}/annotations/", {"result": [region]})
    images = label_studio.create_project("field pictures", image_config(CLICKS + RECTANGLES))
    picture = label_studio.import_media(images, still.path)
    rectangle = image_region(still.boxes[0][BLUE], "Post")
    label_studio.call("POST", f"/api/tasks/{picture}/annotations/", {"result": [rectangle]})
    return Projects(videos, clip, task, stored["id"], region, empty, images, still, picture, rectangle)


def site(label_studio: LabelStudio) -> dict[str, str]:
    return {
        "LABEL_STUDIO_URL": label_studio.url,
        "LABEL_STUDIO_API_KEY": label_studio.token,
        "EDGETAM_WEIGHTS": "default",
    }


def pack(label_studio: LabelStudio, project: int, out: Path, *words: str) -> None:
    done = edgetam(
        "pack", "--from", f"label-studio:{project}", "--out", str(out), *words, **site(label_studio)
    )
    assert done.returncode == 0, done.stderr


def merge(label_studio: LabelStudio, kit: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return edgetam("merge", str(kit), *words, **site(label_studio))


def frozen(label_studio: LabelStudio, *tasks: int) -> Any:
    return [sorted(label_studio.annotations(task), key=lambda one: int(one["id"])) for task in tasks]


def test_clips_go_out_and_come_back_through_a_killed_process(
    label_studio: LabelStudio, projects: Projects, chromium: Path, logs: Path, tmp_path: Path
) -> None:
    pack(label_studio, projects.videos, tmp_path / "kit.zip", "--max-side", "320")
    folder = logs / "field-clips"
    folder.mkdir()
    with no_network() as network, visiting(network, chromium, folder) as person:
        running = Field(tmp_path / "kit.zip", network)
        running.start()
        person.visit(running.url)
        person.shoot("list")
        ball, noted = _begun(person, running, projects)
        running.kill()
        running.start()
        person.visit(running.url)
        _went_on(person, projects, ball, noted)
        _corrected(person, projects, ball)
        running.look()
        running.kill()
    assert person.problems == []
    assert {urlsplit(url).hostname for url in person.asked if not url.startswith("data:")} == {"127.0.0.1"}
    assert {urlsplit(url).scheme for url in person.asked} <= {"http", "data"}
    assert running.reached <= {"127.0.0.1"}, running.reached

    planned = merge(label_studio, tmp_path / "kit", "--dry-run")
    assert "would update" in planned.stderr
    assert label_studio.annotations(projects.task)[0]["result"] == [projects.region]
    done = merge(label_studio, tmp_path / "kit")
    assert done.returncode == 0, done.stderr
    _stands_in_label_studio(label_studio, projects, ball)
    _merging_again_changes_nothing(label_studio, projects, tmp_path)


def _begun(person: Visitor, running: Field, projects: Projects) -> tuple[str, str]:
    """Point at a new object, and track it with the region that came along, to the middle; its id and line."""
    clip, frames = projects.clip, len(projects.clip.boxes)
    person.open(projects.task)
    assert person.line(projects.region["id"]) == "k" * frames
    person.choose("Ball")
    person.tap(middle(scaled(clip.boxes[0][RED], SCALE)))
    person.shoot("tapped")
    (ball,) = (one["id"] for one in person.task()["objects"] if not one["given"])
    person.pick(projects.region["id"])
    person.press("track")
    person.wait("S.task.running && S.task.running.done > 5")
    person.shoot("tracking")
    running.look()
    person.wait("!S.task.running || S.task.running.done > 12")
    noted = person.line(ball)
    assert "v" in noted
    assert "." in noted  # it is not finished yet
    return ball, noted


def _went_on(person: Visitor, projects: Projects, ball: str, noted: str) -> None:
    """After the end it stands where it was, or further, and tracking goes on."""
    person.open(projects.task)
    resumed = person.line(ball)
    assert all(resumed[frame] == code for frame, code in enumerate(noted) if code != ".")
    person.shoot("resumed")
    person.press("resume")
    person.settle()
    assert "." not in person.line(ball)
    assert person.line(projects.region["id"]).count("k") == 1  # the keyframe that a person drew


def _corrected(person: Visitor, projects: Projects, ball: str) -> None:
    """A correction on a later frame, and a wrong object that is taken back."""
    person.pick(ball)
    person.seek(LATER)
    person.drag(scaled(projects.clip.boxes[LATER][RED], SCALE))
    person.settle()
    assert person.line(ball)[LATER] == "p"
    person.press("new")
    person.drag((200.0, 5.0, 240.0, 40.0))
    assert len(person.task()["objects"]) == 3
    person.press("undo")
    person.wait("!S.busy && S.task.objects.length === 2")
    person.shoot("tracked")
    person.press("done")
    person.wait("!S.busy && S.tasks.some((task) => task.done)")


def _stands_in_label_studio(label_studio: LabelStudio, projects: Projects, ball: str) -> None:
    clip, frames = projects.clip, len(projects.clip.boxes)
    (stored,) = label_studio.annotations(projects.task)
    assert stored["id"] == projects.annotation
    regions = {region["id"]: region for region in stored["result"]}
    assert set(regions) == {projects.region["id"], ball}
    assert regions[ball]["value"]["labels"] == ["Ball"]
    assert regions[projects.region["id"]]["value"]["labels"] == ["Post"]
    for name, colour in ((ball, RED), (projects.region["id"], BLUE)):
        fits = ious(regions[name], clip, colour, range(1, frames + 1))
        assert min(fits) > 0.5, fits
        assert sum(fits) / len(fits) > 0.8, fits
    assert len(regions[ball]["value"]["sequence"]) < frames
    assert box_iou(box_on(regions[ball], LATER + 1), clip.boxes[LATER][RED]) > 0.8
    assert label_studio.annotations(projects.empty) == []


def _merging_again_changes_nothing(label_studio: LabelStudio, projects: Projects, folder: Path) -> None:
    before = frozen(label_studio, projects.task, projects.empty)
    again = merge(label_studio, folder / "kit")
    assert again.returncode == 0, again.stderr
    # Another copy of the kit, which knows nothing of the merge, finds it as well.
    copy = shutil.copytree(folder / "kit", folder / "copy")
    (copy / "work/merged.jsonl").unlink()
    assert merge(label_studio, copy).returncode == 0
    assert frozen(label_studio, projects.task, projects.empty) == before


def test_pictures_come_back_new_and_conflicts_stay_as_they_are(
    label_studio: LabelStudio, projects: Projects, chromium: Path, logs: Path, tmp_path: Path
) -> None:
    kit = tmp_path / "kit"
    pack(label_studio, projects.images, kit)
    folder = logs / "field-pictures"
    folder.mkdir()
    boxes = projects.still.boxes[0]
    with no_network() as network, visiting(network, chromium, folder) as person:
        running = Field(kit, network)
        running.start()
        person.visit(running.url)
        person.open(projects.picture)
        person.press("new")
        person.choose("Ball")
        person.tap(middle(boxes[RED]))
        (ball,) = (one["id"] for one in person.task()["objects"] if not one["given"])
        x, y = middle(boxes[RED])
        person.tap((x + 70, y + 60), "right")  # what does not belong to it
        assert person.task()["objects"][1]["id"] == ball
        person.shoot("picture")
        running.kill()

    # Somebody worked on the same annotation meanwhile.
    (known,) = label_studio.annotations(projects.picture)
    moved = {**projects.rectangle, "value": {**projects.rectangle["value"], "x": 1.0}}
    label_studio.call("PATCH", f"/api/annotations/{known['id']}/", {"result": [moved]})
    refused = merge(label_studio, kit)
    assert refused.returncode == 1
    assert "conflict" in refused.stderr
    assert [one["result"] for one in label_studio.annotations(projects.picture)] == [[moved]]

    stored = merge(label_studio, kit, "--as-new")
    assert stored.returncode == 0, stored.stderr
    both = frozen(label_studio, projects.picture)
    assert both[0][0]["result"] == [moved]
    assert [entry["id"] for entry in both[0][1]["result"]] == [projects.rectangle["id"], ball]
    assert both[0][1]["result"][0] == projects.rectangle
    for words in ((), ("--as-new",)):
        assert merge(label_studio, kit, *words).returncode == 0
    assert frozen(label_studio, projects.picture) == both


def test_doubtful_frames_are_walked_through_by_touch(chromium: Path, logs: Path, tmp_path: Path) -> None:
    clip = clips.behind_post(tmp_path / "post.mp4")
    kit = make_kit(tmp_path / "kit", clip.path, shipped(), video=True)
    folder = logs / "field-doubts"
    folder.mkdir()
    with no_network() as network, visiting(network, chromium, folder, touch=True) as person:
        running = Field(kit.root, network)
        running.start()
        person.page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
        person.visit(running.url)
        person.shoot("list", phone_only=True)
        person.open(1)
        person.touch(middle(clip.boxes[0][RED]))
        person.press("track")
        person.wait("!S.busy && S.task.objects.length === 1")
        person.settle()
        doubts = person.task()["doubts"]
        assert doubts >= 1  # it goes behind a post
        person.press("check")
        for left in range(doubts, 0, -1):
            person.wait(f"!S.busy && S.review && S.task.doubts === {left} && S.frame === S.review.frame")
            person.shoot(f"check-{left}", phone_only=True)
            person.press("right")
        person.wait("!S.busy && S.task.doubts === 0 && !S.review")
        person.shoot("checked", phone_only=True)
        running.kill()
    assert person.problems == []


def at_cvat(server: TaskServer) -> dict[str, str]:
    return {"CVAT_HOST": server.url, "CVAT_ACCESS_TOKEN": TOKEN, "EDGETAM_WEIGHTS": "default"}


def done(*words: str, **env: str) -> None:
    """One command that must succeed."""
    ended = edgetam(*words, **env)
    assert ended.returncode == 0, ended.stderr


def test_a_video_of_cvat_goes_out_and_comes_back(chromium: Path, logs: Path, tmp_path: Path) -> None:
    folder, kit = logs / "field-cvat", tmp_path / "kit"
    folder.mkdir()
    first, scale = task_scene.FIRST, 0.75
    with serving(task_scene.task()) as server, no_network() as network:
        drawn = {
            "shapes": [task_scene.box_shape(first, BALL)],
            "tracks": [task_scene.polygon_track(first, LADYBIRD)],
        }
        before = server.create(31, drawn)
        width = str(int(task_scene.WIDTH * scale))
        done("pack", "--from", "cvat:7", "--out", str(kit), "--max-side", width, **at_cvat(server))
        with visiting(network, chromium, folder) as person:
            running = Field(kit, network)
            running.start()
            person.visit(running.url)
            person.open(7)
            person.seek(first)
            person.shoot("packed")
            person.pick("31/track:50")
            person.press("track")
            person.settle()
            assert "k" not in person.line("31/track:50")[first + 1 :]
            person.press("new")
            person.choose("tree")
            box = mask_box(task_scene.scene().masks[first][BALL])
            assert box is not None
            person.drag(scaled(box, scale))
            person.shoot("tracked")
            running.kill()
        assert person.problems == []
        done("merge", str(kit), **at_cvat(server))
        shape, new = server.annotations([31])["shapes"]
        assert shape["id"] == before["shapes"][0]["id"]
        assert (new["type"], new["frame"], new["label_id"]) == ("polygon", first, 9)
        tracks = server.annotations([31, 32])["tracks"]
        assert [(track["label_id"], track["frame"]) for track in tracks] == [(CAR, first), (CAR, 9)]
        written = len(server.patches)
        done("merge", str(kit), **at_cvat(server))
        assert len(server.patches) == written


def test_images_of_cvat_are_walked_through_by_touch(chromium: Path, logs: Path, tmp_path: Path) -> None:
    folder, kit = logs / "field-cvat-images", tmp_path / "kit"
    folder.mkdir()
    with image_task() as server, no_network() as network:
        rectangle = {"type": "rectangle", "label_id": CAR, "frame": 1, "points": list(square(1))}
        server.create(31, {"shapes": [rectangle]})
        done("pack", "--from", "cvat:7", "--out", str(kit), **at_cvat(server))
        with visiting(network, chromium, folder, touch=True) as person:
            running = Field(kit, network)
            running.start()
            person.page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
            person.visit(running.url)
            person.open(7)
            assert not person.page.is_visible("#track")
            person.choose("bird")
            person.touch(middle(square(0)))
            person.shoot("first")
            for frame in (1, 2):
                person.press("next")
                person.wait(
                    f"S.frame === {frame} && S.picture && S.picture.naturalWidth === {SIZES[frame][0]}"
                )
                assert person.page.evaluate("S.selected") is None
                person.shoot(f"image-{frame}")
            person.touch(middle(square(2)))
            person.shoot("last")
            running.kill()
        assert person.problems == []
        done("merge", str(kit), **at_cvat(server))
        shapes = server.annotations([31])["shapes"]
        assert [(one["frame"], one["label_id"]) for one in shapes] == [(1, CAR), (0, BIRD), (2, BIRD)]
