"""`edgetam info`: what a video is, frame by frame."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from edgetam_model.commands.terminal import add_json_and_verbose, complain, print_json, say

if TYPE_CHECKING:
    from edgetam_model.sources import FrameSource

_EPILOG = """\
examples:
  edgetam info dog.mp4
  edgetam info dog.mp4 --table        which frame is shown when
  edgetam info dog.mp4 --json --table

The file is read whole: the count of frames and their times are exact, also
with a variable rate, a start offset, B-frames, edit lists or a cut-off end."""


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `info` to the command line."""
    parser = verbs.add_parser(
        "info",
        help="frames, size, rate and times of a video",
        description="Show the facts of a video file or a folder of images.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("video", metavar="VIDEO", help="a video file or a folder of images")
    parser.add_argument(
        "--table", action="store_true", help="list every frame with its time in seconds (with --json: times)"
    )
    add_json_and_verbose(parser)


def run(args: argparse.Namespace) -> int:
    """Open the video and print what is known of it."""
    from edgetam_model.video import open_source

    with open_source(args.video) as source:
        if args.json:
            times = {"times": source.info.times.tolist()} if args.table else {}
            print_json(facts(source) | times)
        elif args.table:
            say("frame\tseconds")
            for frame, seconds in enumerate(source.info.times.tolist()):
                say(f"{frame}\t{seconds:.6f}")
        else:
            say(describe(facts(source)))
        if not args.json:
            for warning in source.warnings:
                complain(f"warning: {warning}")
    return 0


def facts(source: FrameSource) -> dict[str, Any]:
    """The video's facts for machines; times in seconds."""
    info = source.info
    rate = info.table.rate
    return {
        "width": info.width,
        "height": info.height,
        "frames": info.frames,
        "fps": info.average_fps,
        "fps_exact": f"{rate.numerator}/{rate.denominator}",
        "variable_rate": info.variable_rate,
        "start": info.start_time,
        "duration": info.duration,
        "media_duration": info.media_duration,
        "codec": info.codec,
        "b_frames": info.has_b_frames,
        "rotation": info.rotation,
        "mirrored": info.mirrored,
        "warnings": list(source.warnings),
    }


def describe(known: dict[str, Any]) -> str:
    """The facts for people."""
    turned = f"{known['rotation']}° clockwise" if known["rotation"] else "none"
    media = "not declared" if known["media_duration"] is None else f"{known['media_duration']:.3f} s"
    rows = {
        "frames": f"{known['frames']} (0 to {known['frames'] - 1})",
        "size": f"{known['width']}×{known['height']} pixels, as shown",
        "rate": f"{known['fps']:.3f} fps ({known['fps_exact']}), "
        + ("variable, on average" if known["variable_rate"] else "constant"),
        "first frame at": f"{known['start']:.6f} s",
        "duration": f"{known['duration']:.3f} s of frames; the file says {media} with sound",
        "codec": known["codec"] + (", with B-frames" if known["b_frames"] else ""),
        "rotation": turned + (", mirrored" if known["mirrored"] else ""),
    }
    return "\n".join(f"{name:<15} {value}" for name, value in rows.items())
