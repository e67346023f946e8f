"""What a command leaves on disk: refused beforehand where something is in the way, whole or not at all."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from edgetam_model.errors import InputError
from edgetam_model.exports import new_folder
from edgetam_model.masks import decode_rle
from edgetam_model.render import (
    CLOCK,
    ContactSheet,
    OverlayWriter,
    Rgb,
    draw_overlay,
    drawn_tracks,
    save_png,
)
from edgetam_model.sources import FrameSource
from edgetam_model.tracks import FrameTracks, Tracks

OVERLAY, SHEET, MASKS, TRACKS = "overlay.mp4", "contact_sheet.png", "masks", "tracks.json"

FPS_LIMITS = (0.1, 1000.0)  # what an mp4 can say as its nominal rate; the frames keep their own times
_BANNER = {False: (24, 24, 28), True: (200, 20, 30)}  # paper of the title: dark, red for an alarm


def check_free(folder: Path, names: Iterable[str], *, force: bool) -> None:
    """Raise where one of these names exists in the folder, or the folder is something else.

    Raises:
        InputError: what is in the way, and what to do.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError("out", f"expected a folder, {folder} is a file")
    taken = [name for name in names if (folder / name).exists()]
    if taken and not force:
        what = "exists" if len(taken) == 1 else "exist"
        raise InputError("out", f"{', '.join(taken)} {what} in {folder}; give --force to replace")


def make_folder(folder: Path) -> None:
    """Create a folder and those above it.

    Raises:
        InputError: it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError("out", f"cannot create the folder {folder}: {error.strerror}") from error


@dataclass(frozen=True)
class Pictures:
    """What to draw of tracks.

    Attributes:
        title: above the contact sheet; plain ASCII, the font has no more.
        alarm: whether the title is a warning.
        overlay: write overlay.mp4 too.
    """

    title: str
    alarm: bool
    overlay: bool


def draw_tracks(
    source: FrameSource, tracks: Tracks, frames: range, folder: Path, what: Pictures
) -> Generator[int, None, None]:
    """Write overlay.mp4, contact_sheet.png and masks/ of these frames into the folder, in time order.

    `masks/ID/000123.png` is an object's mask on a frame that it was tracked to, 0 and 255, black where it
    is not seen: objects may overlap, and ids may be any. Yields each frame as it is done; the files are
    complete when the iterator ends. Ctrl-C keeps the overlay so far.

    Args:
        source: the video.
        frames: ascending, without gaps.
    """
    info, sheet = source.info, ContactSheet()
    with ExitStack() as stack:
        masks = stack.enter_context(new_folder(folder / MASKS))
        for track in tracks.objects:
            (masks / str(track.id)).mkdir()
        video = None
        if what.overlay:
            fps = min(max(info.average_fps, FPS_LIMITS[0]), FPS_LIMITS[1])
            video = stack.enter_context(OverlayWriter(folder / OVERLAY, info.width, info.height, fps))
        time = -float("inf")
        wanted = (shown for shown in tracks.by_frame() if shown.frame in frames)
        for (_, rgb), shown in zip(source.frames(frames[0], frames[-1]), wanted, strict=False):
            _save_masks(shown, masks, (info.height, info.width))
            # Damaged files give two frames one time; a player needs them two ticks apart to tell them.
            time = max(shown.time, time + 2 / CLOCK)
            _draw(rgb, shown, time, video, sheet)
            yield shown.frame
    save_png(folder / SHEET, titled(sheet.render(), what.title, alarm=what.alarm))


def _draw(
    rgb: Rgb, shown: FrameTracks, time: float, video: OverlayWriter | None, sheet: ContactSheet
) -> None:
    wanted = sheet.wants_next()
    drawn = draw_overlay(rgb, drawn_tracks(shown)) if video is not None or wanted else rgb
    if video is not None:
        video.write(drawn, time)
    sheet.add(shown.frame, shown.time, drawn)


def _save_masks(shown: FrameTracks, folder: Path, size: tuple[int, int]) -> None:
    for track, record in shown.objects:
        mask = decode_rle(record.mask.rle()) if record.mask else np.zeros(size, np.bool_)
        save_png(folder / str(track.id) / f"{shown.frame:06d}.png", mask)


def titled(image: Rgb, text: str, *, alarm: bool = False) -> Rgb:
    """The image (H, W, 3) below a line of ASCII text, as large as fits; red for an alarm."""
    width = image.shape[1]
    size = max(11, min(32, width // 40))
    while size > 8 and ImageFont.load_default(size).getlength(text) > width - 2 * size:
        size -= 1
    banner = Image.new("RGB", (width, 2 * size + 8), _BANNER[alarm])
    ink, font = (255, 255, 255), ImageFont.load_default(size)
    ImageDraw.Draw(banner).text((size, size + 4), text, ink, font, anchor="lm")
    return np.concatenate((np.asarray(banner), image))
