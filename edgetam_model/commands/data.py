"""`edgetam data preview`: what training would be fed with, as a picture."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edgetam_model.commands.terminal import add_json_and_verbose, print_json, say
from edgetam_model.errors import InputError

if TYPE_CHECKING:  # torch takes a second to import, and help must not wait for it
    from edgetam_model.training.synthetic.clips import ClipBatch

_DESCRIPTION = """\
Look at training data. `preview` writes a PNG with a row per clip, its frames
from left to right and every object's visible part outlined."""

_EPILOG = """\
examples:
  edgetam data preview --out clips.png                    synthetic clips
  edgetam data preview --out clips.png --textures photos/ --seed 7
  edgetam data preview --out mine.png --data my_clips/    windows of your own data

--data takes a folder of <clip>/frames and <clip>/masks, a DAVIS folder, COCO
instances (.json, with --media the folder of its images) or a tracks.json (with
--media its video)."""

MAX_CLIPS = 64  # rows; a picture of more is 16,000 pixels high


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `data` to the command line."""
    parser = verbs.add_parser(
        "data",
        help="look at training data",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("what", choices=["preview"], help="what to do")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.png", help="the picture to write")
    parser.add_argument("--force", action="store_true", help="replace the picture if it is there")
    parser.add_argument("--seed", type=int, default=0, help="of the clips (default 0)")
    parser.add_argument("--clips", type=int, default=8, metavar="N", help="how many (default 8)")
    parser.add_argument("--size", type=int, default=128, help="pixels of a frame's side (default 128)")
    parser.add_argument("--frames", type=int, default=8, help="frames of a clip (default 8)")
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--textures", type=Path, metavar="DIR", help="photographs, contact sheets and cut-out things to use"
    )
    source.add_argument("--data", type=Path, metavar="PATH", help="annotated data instead of synthetic clips")
    parser.add_argument("--media", type=Path, metavar="PATH", help="images or video of the --data file")
    add_json_and_verbose(parser)


def run(args: argparse.Namespace) -> int:
    """Make the clips, draw them, and say where."""
    _check(args)
    from edgetam_model.render import save_png
    from edgetam_model.training.preview import clip_sheet

    batch = _clips(args)
    save_png(args.out, clip_sheet(batch))
    if args.json:
        print_json(
            {
                "picture": str(args.out),
                "clips": [
                    {"index": index, "objects": count, "present": present}
                    for index, count, present in zip(
                        batch.indices.tolist(), batch.objects.tolist(), batch.present.tolist(), strict=True
                    )
                ],
            }
        )
    else:
        say(f"{len(batch)} clips of {args.frames} frames: {args.out}")
    return 0


def _check(args: argparse.Namespace) -> None:
    from edgetam_model.commands.outputs import check_free

    if args.out.suffix.lower() != ".png":
        raise InputError("out", f"expected a name that ends in .png, got {args.out}")
    if not args.out.parent.is_dir():
        raise InputError("out", f"no such folder: {args.out.parent}")
    if not 1 <= args.clips <= MAX_CLIPS:
        raise InputError("clips", f"expected 1 to {MAX_CLIPS}, got {args.clips}")
    if args.media is not None and args.data is None:
        raise InputError("media", "expected --data beside it")
    check_free(args.out.parent, (args.out.name,), force=args.force)


def _clips(args: argparse.Namespace) -> ClipBatch:
    if args.data is not None:
        from edgetam_model.training.datasets import open_annotated
        from edgetam_model.training.windows import AnnotatedWindows, WindowOptions

        windows = WindowOptions(size=args.size, frames=args.frames)
        annotated = AnnotatedWindows(open_annotated(args.data, args.media), windows)
        return annotated.batch(args.seed, 0, args.clips)
    from edgetam_model.training.synthetic.clips import SyntheticClips
    from edgetam_model.training.synthetic.options import SyntheticOptions
    from edgetam_model.training.textures import load_textures

    options = SyntheticOptions(size=args.size, frames=args.frames)
    return SyntheticClips(options, load_textures(args.textures)).batch(args.seed, 0, args.clips)
