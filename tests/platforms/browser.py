"""Chromium in front of Label Studio's editor, used with mouse and keyboard as a person does."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.platforms.label_studio_server import EMAIL, PASSWORD, LabelStudio

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page, Route

Box = Sequence[float]  # x0, y0, x1, y1 in pixels of the media

PROGRAM = Path("/usr/bin/chromium")
PACKAGE = ("apt-get", "install", "--yes", "--no-install-recommends", "chromium")
PATIENCE = 30_000  # milliseconds for anything on a page; a busy machine needs some 10,000 for the editor
CLICKS, CLICK_WAIT = 10, 3_000  # how often a lost click is repeated, after so many milliseconds
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

_EDITOR = "(window.Htx || window.dataManager?.lsf?.lsf)"
_ANNOTATION = f"{_EDITOR}.annotationStore.selected"
_VIDEO = f"{_ANNOTATION}.names.get('video')"
_IMAGE = f"{_ANNOTATION}.names.get('image')"
_MEDIA_READY = f"({_VIDEO}?.ref?.current?.videoDimensions?.width > 0 || {_IMAGE}?.stageWidth > 1)"
# Left and top edge of the picture on the page, and the page's pixels for one of the picture's.
_PICTURE = f"""(() => {{
    const stage = document.querySelector('.konvajs-content').getBoundingClientRect();
    const image = {_IMAGE}, video = {_VIDEO}?.ref.current;
    if (image) return [
        stage.x + image.zoomingPositionX,
        stage.y + image.zoomingPositionY,
        image.zoomScale * image.stageWidth / image.naturalWidth,
    ];
    const {{width, height}} = video.videoDimensions, {{x, y}} = video.pan;
    return [
        stage.x + stage.width / 2 + x - width * video.zoom / 2,
        stage.y + stage.height / 2 + y - height * video.zoom / 2,
        video.zoom,
    ];
}})()"""


def install_chromium() -> Path:
    """The browser's program; Debian's package is installed where it is missing and we are root.

    Raises:
        OSError, subprocess.CalledProcessError: it is missing and cannot be installed.
    """
    if PROGRAM.exists():
        return PROGRAM
    if os.geteuid() != 0:
        raise FileNotFoundError(f"{PROGRAM} is missing: sudo {' '.join(PACKAGE)}")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (("apt-get", "update", "--quiet"), PACKAGE):
        subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=quiet)
    return PROGRAM


@dataclass
class Editor:
    """Label Studio's editor on one page.

    Attributes:
        page: playwright's.
        label_studio: the server.
        folder: of the screenshots, which are numbered in the order they were taken.
        refused: addresses outside this machine that the page asked for in vain.
    """

    page: Page
    label_studio: LabelStudio
    folder: Path
    refused: list[str] = field(default_factory=list)

    def log_in(self) -> None:
        """Log in as the server's one user."""
        self.page.goto(f"{self.label_studio.url}/user/login/")
        self.page.fill("input[name=email]", EMAIL)
        self.page.fill("input[name=password]", PASSWORD)
        self.page.click("button[type=submit]")
        self.page.wait_for_url(lambda url: "/user/login" not in url, wait_until="commit")

    def open(self, project: int, task: int) -> None:
        """Show a task, with Auto-Annotation on, once its image or video is there."""
        self.page.goto(f"{self.label_studio.url}/projects/{project}/data?task={task}")
        self.page.wait_for_function(f"() => {_EDITOR} && {_ANNOTATION}")
        self.page.wait_for_load_state("networkidle")  # the editor is built a second time as answers arrive
        self.page.wait_for_selector(".konvajs-content canvas")
        self.page.wait_for_function(f"() => {_MEDIA_READY}")
        toggle = self.page.get_by_text("Auto-Annotation").first
        toggle.wait_for()
        if not self.page.evaluate(f"{_EDITOR}.autoAnnotation"):
            toggle.click()
        self.page.wait_for_function(f"() => {_EDITOR}.autoAnnotation")
        self.blur()

    def blur(self) -> None:
        """Take the focus from whatever has it: hotkeys work only then."""
        self.page.evaluate("document.activeElement?.blur()")

    def choose(self, label: str) -> None:
        """Click a label above the video unless what is drawn next would have it already."""
        if label not in self.chosen():
            self.click_label(label)

    def chosen(self) -> list[str]:
        """The labels that are chosen now, buttons among them."""
        names = f"[...{_ANNOTATION}.names.values()]"
        labels = f"{names}.flatMap(tag => tag.selectedLabels ?? []).map(label => label.value)"
        return list(self.page.evaluate(labels))

    def click_label(self, name: str) -> None:
        """Click a label above the video."""
        self.page.locator(".lsf-label, .lsf-label__text").get_by_text(name, exact=True).first.click()

    def draw(self, box: Box) -> None:
        """Drag the mouse from one corner of a box to the other."""
        self.drag(box[:2], box[2:])

    def drag(self, start: Sequence[float], end: Sequence[float]) -> None:
        """Drag the mouse between two places in pixels of the media."""
        mouse = self.page.mouse
        mouse.move(*self._place(start))
        mouse.down()
        mouse.move(*self._place([(a + b) / 2 for a, b in zip(start, end, strict=True)]))
        mouse.move(*self._place(end))
        mouse.up()

    def click(self, place: Sequence[float]) -> None:
        """Click a place in pixels of the media."""
        self.page.mouse.click(*self._place(place))

    def click_against(self, place: Sequence[float]) -> None:
        """Click with Alt: the place does not belong to the object."""
        self.page.keyboard.down("Alt")
        self.click(place)
        self.page.keyboard.up("Alt")

    def select(self, place: Sequence[float]) -> None:
        """Click a drawn region until it is selected; a click right after drawing is sometimes lost.

        Raises:
            AssertionError: it is not.
        """
        from playwright.sync_api import TimeoutError as LostError

        for _ in range(CLICKS):
            self.click(place)
            with suppress(LostError):
                self.page.wait_for_function(f"() => {_ANNOTATION}.selectedRegions.length", timeout=CLICK_WAIT)
                return
        raise AssertionError(f"no region can be selected at {place}")

    def accept(self) -> None:
        """Press the tick, once there is something to accept."""
        self.page.get_by_test_id("bottombar-accept-suggestions-button").click()

    def press(self, key: str) -> None:
        """Press a hotkey."""
        self.blur()
        self.page.keyboard.press(key)

    def seek(self, frame: int) -> None:
        """Show a frame of the video by Label Studio's own 1-based number."""
        self.page.evaluate(f"{_VIDEO}.ref.current.goToFrame({frame})")
        self.page.wait_for_function(f"() => {_VIDEO}.frame === {frame}")

    def add_keyframe(self) -> None:
        """Press the button that gives the selected region a keyframe on the shown frame."""
        self._before_hop(2).click()

    def toggle_visible(self) -> None:
        """Press the button that shows or hides the selected region after the shown frame."""
        self._before_hop(1).click()

    def command(self, text: str) -> None:
        """Type a text beside the selected region, and Enter."""
        box = self.page.get_by_test_id("textarea-input").first
        box.fill(text)
        box.press("Enter")

    def settle(self) -> None:
        """Wait until the editor has made of the backend's answer what it makes of it."""
        self.page.wait_for_function(f"() => !{_EDITOR}.awaitingSuggestions")

    def wait(self, condition: Callable[[], bool]) -> None:
        """Let the page go on until the condition holds.

        Raises:
            TimeoutError: it does not within `PATIENCE`.
        """
        for _ in range(PATIENCE // 100):
            if condition():
                return
            self.page.wait_for_timeout(100)
        raise TimeoutError("what the test waits for does not come")

    def canvas(self) -> bytes:
        """The picture with all that is drawn on it, as PNG."""
        return self.page.locator(".konvajs-content").first.screenshot()

    def regions(self) -> list[Any]:
        """What Submit would store now."""
        return list(self.page.evaluate(f"{_ANNOTATION}.serializeAnnotation()"))

    def submit(self) -> None:
        """Press Submit, and wait until it is stored."""
        with self.page.expect_response(
            lambda answer: "/annotations" in answer.url and answer.request.method == "POST"
        ) as stored:
            self.page.get_by_role("button", name="Submit").click()
        assert stored.value.ok, stored.value.status

    def shoot(self, name: str) -> Path:
        """Keep a screenshot."""
        number = len(list(self.folder.glob("*.png"))) + 1
        path = self.folder / f"{number:02d}-{name}.png"
        self.page.screenshot(path=path)
        return path

    def _before_hop(self, count: int) -> Locator:
        """A button of the timeline that has no name of its own: so many before "Hop backward"."""
        return self.page.get_by_label("Hop backward").locator(f"xpath=preceding::button[{count}]")

    def _place(self, place: Sequence[float]) -> tuple[float, float]:
        """Where a pixel of the media lies on the page."""
        self.page.wait_for_selector(".konvajs-content")  # the editor rebuilds its stage now and then
        x, y, scale = self.page.evaluate(f"() => {_PICTURE}")
        return x + place[0] * scale, y + place[1] * scale


@contextmanager
def browsing(label_studio: LabelStudio, folder: Path) -> Iterator[Editor]:
    """Chromium with one page, logged in, that reaches nothing but this machine, until the block ends."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=install_chromium(), args=QUIET)
        context = browser.new_context(viewport={"width": 1400, "height": 1060})
        context.set_default_timeout(PATIENCE)
        editor = Editor(context.new_page(), label_studio, folder)

        def only_here(route: Route) -> None:
            if urlsplit(route.request.url).hostname == "127.0.0.1":
                route.continue_()
            else:
                editor.refused.append(route.request.url)
                route.abort()

        context.route("**/*", only_here)
        with (folder / "console.log").open("w", encoding="utf-8") as console:
            editor.page.on("console", lambda message: print(message.type, message.text, file=console))
            editor.page.on("pageerror", lambda error: print("uncaught", error.stack, file=console))
            try:
                editor.log_in()
                yield editor
            finally:
                editor.shoot("last")
                browser.close()
