"""Video containers opened safely, and the exact frame table read from their packets without decoding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import av.error
import numpy as np
from av.packet import Packet
from av.stream import Discard, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from edgetam_model.errors import MediaError
from edgetam_model.sources import NOMINAL_RATE, MediaLimits
from edgetam_model.timetable import TimeTable

# Nothing else may be probed: playlists, concat scripts and image patterns name further files.
DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts"
DECODER_THREADS = 2
SHORTFALL_SECONDS = 0.5  # by which a file may end before its declared length and still count as whole
BLANK_BYTES = 16  # no codec's frame begins with so many zeros, except an uncompressed black one
PADDING_PIXELS = 1 << 18
HEAD_BYTES = 4096  # read to recognise a container


def looks_like_video(path: Path) -> bool:
    """Whether the file's first bytes are those of a container that may be opened.

    Raises:
        MediaError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise MediaError(path.name, f"cannot be read: {error.strerror or error}") from error
    boxes = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp")
    return (
        head[4:8] in boxes
        or head.startswith(b"\x1aE\xdf\xa3")  # EBML: Matroska and WebM
        or (head[:4] == b"RIFF" and head[8:11] == b"AVI")
        or _transport_stream(head, 188, 0)
        or _transport_stream(head, 192, 4)
    )


def _transport_stream(head: bytes, size: int, offset: int) -> bool:
    marks = head[offset::size][:8]
    return len(marks) >= 3 and set(marks) == {0x47}


class Container:
    """One open video file and its main video stream, as a context manager.

    Only local files of the permitted formats are opened, and nothing that they refer to.

    Raises:
        MediaError: another format, damaged, without video, or larger frames than permitted.
    """

    def __init__(self, path: Path, limits: MediaLimits) -> None:
        # Decoders count the rows and columns that pad a frame, hence the slack; sizes known are
        # checked exactly below, and the limit here holds where the header lies.
        pixels = {"max_pixels": str(2 * limits.max_pixels + PADDING_PIXELS)}
        options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file", **pixels}
        try:
            self.file = av.open(str(path), "r", options=options, metadata_errors="replace")
        except av.error.FFmpegError as error:
            raise MediaError(path.name, f"cannot be opened as a video: {error.strerror}") from error
        stream = self.file.streams.best("video")
        if not isinstance(stream, VideoStream) or stream.codec_context is None:
            self.file.close()
            raise MediaError(path.name, "has no video stream that can be decoded")
        self.stream = stream
        decoder = stream.codec_context
        decoder.options = pixels
        decoder.thread_type = "AUTO"
        decoder.thread_count = DECODER_THREADS
        if decoder.width and decoder.height:
            try:
                limits.check_size(path.name, decoder.width, decoder.height)
            except MediaError:
                self.file.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()

    @property
    def has_guessed_times(self) -> bool:
        """Whether the container stores no presentation times and the codec reorders frames."""
        return self.file.format.name == "avi" and bool(self.stream.codec_context.has_b_frames)

    def read_video_only(self) -> None:
        """Skip the packets of other streams from here on."""
        for other in self.file.streams:
            if other.index != self.stream.index:
                other.discard = Discard.all

    def packets(self) -> Iterator[Packet[VideoStream]]:
        """The stream's packets in the order of decoding, from where the file stands.

        Raises:
            av.error.FFmpegError: damage that reading cannot get over.
        """
        for packet in self.file.demux(self.stream):
            if packet.size:  # the empty one at the end stands for a flush, which `decode` does itself
                yield packet

    def decode(self, packets: Iterator[Packet[VideoStream]], *, strict: bool) -> Iterator[VideoFrame]:
        """Decode packets and, at the end, give out what the decoder holds back.

        Damaged packets are passed over; with `strict` the first one ends it, for those who count.
        """
        decoder = self.stream.codec_context
        packet: Packet[VideoStream] | None
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:
                packet = None
            try:
                frames = decoder.decode(packet)
            except av.error.FFmpegError:
                frames = []
                if strict:
                    return
            yield from frames
            if packet is None:
                return


@dataclass(frozen=True, eq=False)
class PacketIndex:
    """What reading every packet, without decoding any, says about a video stream.

    Attributes:
        table: presentation times of the frames that are shown.
        starts: (K,) int64 ascending presentation times of the keyframes.
        counted: whether times are missing or not unique, so that frames are told apart only by
            counting from the first one.
        reordered: whether frames are stored in another order than they are shown (B-frames).
        codec: the codec's name.
        media_duration: seconds of the longest stream as declared, or None.
        damage: what shows that the file is cut off or damaged, or None.
    """

    table: TimeTable
    starts: NDArray[np.int64]
    counted: bool
    reordered: bool
    codec: str
    media_duration: float | None
    damage: str | None


@dataclass
class _Pass:
    """What one pass over the packets gathers; times in ticks of the video stream, in decoding order."""

    shown: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    hidden_starts: list[int] = field(default_factory=list)  # keyframes that an edit list cuts
    packets: int = 0
    latest: int = 0  # time of the frame shown last
    last_duration: int = 0  # of that frame
    end_seconds: float = 0.0  # of the stream that ends last
    untimed: bool = False  # some packets have no presentation time
    damage: str | None = None


def scan(container: Container, name: str, limits: MediaLimits) -> PacketIndex:
    """Read every packet of a freshly opened file into the table of its frames.

    Raises:
        MediaError: no frames, more than the limits allow, or a clock that jumps back midway.
    """
    found = _read_all(container, name, limits)
    damage = found.damage or _shortfall(container, found)
    if not found.shown:
        raise MediaError(name, f"has no readable video frames{f' ({damage})' if damage else ''}")
    if (np.diff(found.starts) < 0).any():
        raise MediaError(name, "its clock jumps back midway; join it first: ffmpeg -i IN -c copy OUT.mp4")
    decoded = np.array(found.shown, np.int64)
    reordered = bool((np.diff(decoded) < 0).any())
    # AVI stores no presentation times. Where a decoder reorders frames and the packets' times do not,
    # these times are mere guesses of libavformat; players show one frame a tick from 0 on.
    counted = found.untimed or (container.has_guessed_times and not reordered)
    ambiguous = len(np.unique(decoded)) < len(decoded)  # Matroska rounds to 1 ms: two frames, one time
    return PacketIndex(
        table=_table(container, decoded - decoded.min() if counted else decoded, found.last_duration),
        starts=np.unique(np.array(found.starts + found.hidden_starts, np.int64)),
        counted=counted or ambiguous,
        reordered=reordered or counted,
        codec=container.stream.codec_context.name,
        media_duration=_declared_seconds(container),
        damage=damage,
    )


def _read_all(container: Container, name: str, limits: MediaLimits) -> _Pass:
    found = _Pass()
    corrupt = False
    vp8 = container.stream.codec_context.name in ("vp8", "libvpx")
    try:
        for packet in container.file.demux():
            if not packet.size:
                continue
            _note_end(found, packet)
            if packet.stream_index != container.stream.index:
                continue
            found.packets += 1
            corrupt = packet.is_corrupt
            if corrupt or _is_blank(packet):
                found.damage = found.damage or f"damaged or cut off after {len(found.shown)} frames"
            if not (vp8 and _is_hidden_vp8(packet)):
                _add(found, packet)
                limits.check_frames(name, found.packets)
    except av.error.FFmpegError as error:
        found.damage = f"unreadable past {len(found.shown)} frames ({error.strerror})"
    if corrupt and found.shown:  # the packet that the file ends in is incomplete
        found.shown.pop()
    return found


def _add(found: _Pass, packet: Packet[Stream]) -> None:
    time = packet.pts
    if time is None:
        found.untimed = True
        time = packet.dts if packet.dts is not None else len(found.shown)
    if packet.is_keyframe:
        (found.hidden_starts if packet.is_discard else found.starts).append(time)
    if packet.is_discard:
        return
    if not found.shown or time >= found.latest:
        found.latest, found.last_duration = time, packet.duration or 0
    found.shown.append(time)


def _note_end(found: _Pass, packet: Packet[Stream]) -> None:
    if packet.pts is not None and packet.time_base is not None:
        end = (packet.pts + (packet.duration or 0)) * packet.time_base
        found.end_seconds = max(found.end_seconds, float(end))


def _shortfall(container: Container, found: _Pass) -> str | None:
    """What the container promises and does not hold, as far as its format says."""
    listed = len(container.stream.index_entries)
    if listed > found.packets:
        return f"cut off: {found.packets} of {listed} frames are there"
    declared = _declared_seconds(container)
    if declared is not None and declared - found.end_seconds > SHORTFALL_SECONDS:
        return f"cut off: {found.end_seconds:.2f} of {declared:.2f} seconds are there"
    if container.file.format.name == "mpegts" and container.file.size % 188 and container.file.size % 192:
        return "cut off in the middle of a packet"
    return None


def _table(container: Container, shown: NDArray[np.int64], last_duration: int) -> TimeTable:
    pts = np.sort(shown)
    time_base = container.stream.time_base or Fraction(1, NOMINAL_RATE)
    rate = container.stream.average_rate
    gap = int(np.median(np.diff(pts))) if len(pts) > 1 else 0
    last = last_duration or gap or max(1, round(1 / ((rate or NOMINAL_RATE) * time_base)))
    start = container.file.start_time
    origin = Fraction(0 if start is None else start, av.time_base)
    return TimeTable(pts, int(pts[-1]) + last, time_base, origin, rate)


def _declared_seconds(container: Container) -> float | None:
    length = container.file.duration
    return length / av.time_base if length else None


def _is_blank(packet: Packet[Stream]) -> bool:
    """Whether the packet begins in a hole of zeros, as unfinished downloads have them."""
    return not any(memoryview(packet)[:BLANK_BYTES])


def _is_hidden_vp8(packet: Packet[Stream]) -> bool:
    """VP8 stores reference frames that are never shown as packets of their own (RFC 6386, 9.1)."""
    return not memoryview(packet)[0] & 0x10
