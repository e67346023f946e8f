"""`edgetam track`: objects through a video, from prompts to tracks, masks and pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgetam_model.commands.parsing import parse_labels, parse_range, place_prompts
from edgetam_model.commands.terminal import add_json_and_verbose, add_model_options

FORMATS = ("coco", "mot", "yolo", "yolo-seg", "davis")  # a test holds them against exports.FORMATS

_DESCRIPTION = """\
Follow objects through a video and write their masks on every frame.

VIDEO is a video file (mp4, mov, mkv, webm, avi, mpeg-ts) or a folder of images.
Coordinates are pixels, x to the right and y down from the top-left corner.
Frames count from 0 (`edgetam info --table VIDEO` shows which is when).
A prompt says where it applies with @FRAME and whom it is for with #ID; without
them frame 0 and object 1 are meant. Clicks and a box of the same object and
frame work together. More prompts on later frames correct the track there."""

_EPILOG = """\
examples:
  edgetam track dog.mp4 --box 120,80,300,260 --out dog
      the object in the box on frame 0, to the last frame
  edgetam track dog.mp4 --box 120,80,300,260@0#1 --box 400,90,520,200@0#2 \\
      --label 1=dog --label 2=ball --format coco --format mot --out both
      two objects with names, and exports for other tools
  edgetam track dog.mp4 --point 210,150@90 --point 250,170,0@90 \\
      --range 60-120 --direction both --out part
      a click on and one beside the object on frame 90, then both ways to
      frame 60 and frame 120
  edgetam track dog.mp4 --mask dog.png@12 --direction backward --out earlier

results in DIR:
  tracks.json        every object on every frame: box, mask (COCO run lengths),
                     state (visible, absent, lost), scores, and the prompts
  masks/ID/000012.png
                     an object's mask on a frame, 255 on it and 0 elsewhere
  overlay.mp4        the video with the masks drawn in
  contact_sheet.png  up to 20 frames of it on one page
  coco/, mot/, yolo/, yolo-seg/, davis/
                     what --format asked for, every frame filled in

Ctrl-C stops after the frame at hand and keeps what is finished (exit code 130).
Exit codes: 0 done, 1 failed, 2 bad input, 130 cancelled."""


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `track` to the command line."""
    parser = verbs.add_parser(
        "track",
        help="follow objects through a video",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("video", metavar="VIDEO", help="a video file or a folder of images")
    prompts = parser.add_argument_group("prompts (at least one; each may be repeated)")
    prompts.add_argument(
        "--box",
        action="append",
        default=[],
        metavar="x0,y0,x1,y1[@FRAME][#ID]",
        help="a box around the object",
    )
    prompts.add_argument(
        "--point",
        action="append",
        default=[],
        metavar="x,y[,0][@FRAME][#ID]",
        help="a click on the object, or with ,0 beside it",
    )
    prompts.add_argument(
        "--mask",
        action="append",
        default=[],
        metavar="FILE.png[@FRAME][#ID]",
        help="the object's mask: an image of the video's size, black where the object is not",
    )
    prompts.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="ID=NAME",
        help="what an object is called in the results",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--range",
        default="0-",
        metavar="A-B",
        help="only frames A to B, both included; A- goes to the end, A means that frame alone",
    )
    parser.add_argument(
        "--direction",
        choices=("forward", "backward", "both"),
        default="forward",
        help="from the first prompt to the range's end (default), from the last one to its start, or both",
    )
    parser.add_argument(
        "--format", action="append", default=[], choices=FORMATS, help="also write this format (repeatable)"
    )
    parser.add_argument("--no-overlay", action="store_true", help="leave out overlay.mp4")
    parser.add_argument("--non-overlapping", action="store_true", help="give every pixel to one object only")
    parser.add_argument("--force", action="store_true", help="replace results that are in DIR already")
    add_model_options(parser, quality=True)
    add_json_and_verbose(parser)


def run(args: argparse.Namespace) -> int:
    """Parse what was typed, then track."""
    prompts = place_prompts(args.point, args.box, args.mask)
    frames = parse_range(args.range)
    labels = parse_labels(args.label)

    from edgetam_model.commands.progress import stderr_meter
    from edgetam_model.commands.tracking import TrackJob, run_job

    job = TrackJob(
        video=args.video,
        prompts=prompts,
        out=args.out,
        labels=labels,
        frames=frames,
        direction=args.direction,
        formats=tuple(dict.fromkeys(args.format)),
        overlay=not args.no_overlay,
        non_overlapping=args.non_overlapping,
        force=args.force,
        weights=args.weights,
        device=args.device,
        quality=args.quality,
    )
    with stderr_meter() as meter:
        report = run_job(job, meter)
    return report.print(as_json=args.json)
