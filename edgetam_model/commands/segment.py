"""`edgetam segment`: what is clicked or boxed on one image, or everything on it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgetam_model.commands.parsing import make_prompt, parse_box, parse_click
from edgetam_model.commands.terminal import (
    UNTRAINED,
    add_json_and_verbose,
    add_model_options,
    print_json,
    say,
)
from edgetam_model.errors import InputError
from edgetam_model.options import Quality

if TYPE_CHECKING:  # torch takes a second to import, and help must not wait for it
    from edgetam_model.commands.progress import Meter
    from edgetam_model.model import EdgeTAM
    from edgetam_model.prompts import Prompt
    from edgetam_model.render import Rgb
    from edgetam_model.results import MaskResult
    from edgetam_model.weights import WeightsInfo

MASKS, OVERLAY, RESULT = "masks", "overlay.png", "result.json"

_DESCRIPTION = """\
Segment one image. Coordinates are pixels, x to the right and y down from the
top-left corner. Clicks, or clicks and one box, mean one object; several boxes
mean an object each."""

_EPILOG = """\
examples:
  edgetam segment dog.jpg --point 210,150 --out dog.png
      only the mask, as one PNG: 255 on the object, 0 elsewhere
  edgetam segment dog.jpg --point 210,150 --point 250,170,0 --out dog
      a click on the object, and one beside it
  edgetam segment dog.jpg --box 120,80,300,260 --box 400,90,520,200 --out both
  edgetam segment dog.jpg --everything --out all

results in DIR:
  masks/001.png  a mask per object, in the order of the boxes (of everything:
                 the largest first), 255 on it and 0 elsewhere
  overlay.png    the image with the masks drawn in
  result.json    per object its mask (COCO run lengths), box, scores and state
A name that ends in .png means the one mask alone.

Exit codes: 0 done, 1 failed, 2 bad input, 130 cancelled."""


def register(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `segment` to the command line."""
    parser = verbs.add_parser(
        "segment",
        help="masks of objects on one image",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("image", metavar="IMAGE", help="JPEG, PNG, WebP, TIFF, BMP, GIF or PPM")
    parser.add_argument(
        "--point",
        action="append",
        default=[],
        metavar="x,y[,0]",
        help="a click on the object, or with ,0 beside it (repeatable)",
    )
    parser.add_argument(
        "--box",
        action="append",
        default=[],
        metavar="x0,y0,x1,y1",
        help="a box around the object; several: several objects",
    )
    parser.add_argument("--everything", action="store_true", help="all masks of the image, without prompts")
    parser.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="DIR|FILE.png",
        help="folder for the results, or the mask alone",
    )
    parser.add_argument("--force", action="store_true", help="replace results that are there already")
    add_model_options(parser, quality=True)
    add_json_and_verbose(parser)


@dataclass(frozen=True)
class _Asked:
    """What was typed, parsed: one prompt per object; none: everything."""

    prompts: tuple[Prompt, ...]
    out: Path
    force: bool
    quality: Quality | None

    @property
    def mask_only(self) -> bool:
        return self.out.suffix.lower() == ".png"


def run(args: argparse.Namespace) -> int:
    """Parse what was typed, segment, and write."""
    prompts = parse_prompts(args.point, args.box, everything=args.everything)
    asked = _Asked(prompts, args.out, args.force, args.quality)
    _check_out(asked)

    from edgetam_model.commands.loading import load
    from edgetam_model.commands.progress import stderr_meter
    from edgetam_model.video import read_image

    rgb = read_image(args.image)
    for prompt in asked.prompts:
        prompt.check_inside(*rgb.shape[:2])
    with stderr_meter() as meter:
        model, info = load(args.weights, args.device, meter)
        results = _segment(model, rgb, asked, meter)
        document = _document(Path(args.image).name, rgb, results, info)
        document["outputs"] = {
            name: str(path) for name, path in _write(asked, rgb, results, document).items()
        }
    if args.json:
        print_json(document)
    else:
        say(summary(document))
    return 0


def parse_prompts(points: Sequence[str], boxes: Sequence[str], *, everything: bool) -> tuple[Prompt, ...]:
    """One prompt per object; none for everything.

    Raises:
        InputError: text that is no prompt, none at all, or prompts that do not go together.
    """
    if everything:
        if points or boxes:
            raise InputError("everything", "expected no --point and no --box beside it")
        return ()
    if len(boxes) > 1 and points:
        raise InputError("point", f"expected at most one --box beside clicks, got {len(boxes)}")
    clicks = [parse_click(text) for text in points]
    if len(boxes) > 1:
        return tuple(make_prompt([], parse_box(text)) for text in boxes)
    if not clicks and not boxes:
        raise InputError("prompt", "expected --point, --box or --everything, got none of them")
    prompt = make_prompt(clicks, parse_box(boxes[0]) if boxes else None)
    if not prompt.has_positive:
        raise InputError("point", "expected a positive click or a box: negative clicks alone select nothing")
    return (prompt,)


def _check_out(asked: _Asked) -> None:
    from edgetam_model.commands.outputs import check_free

    if not asked.mask_only:
        check_free(asked.out, (MASKS, OVERLAY, RESULT), force=asked.force)
    elif len(asked.prompts) != 1:
        raise InputError("out", f"expected a folder for several masks, got {asked.out}")
    elif asked.out.is_dir():
        raise InputError("out", f"expected a file, {asked.out} is a folder")
    else:
        check_free(asked.out.parent, (asked.out.name,), force=asked.force)


def _segment(model: EdgeTAM, rgb: Rgb, asked: _Asked, meter: Meter) -> list[MaskResult]:
    from edgetam_model.image_predictor import EverythingOptions, ImageOptions, ImagePredictor

    prompts = asked.prompts
    predictor = ImagePredictor(model, ImageOptions(quality=asked.quality))
    meter.stage("reading the image")
    predictor.set_image(rgb)
    if len(prompts) == 1:
        return [predictor.predict(prompts[0])]
    if prompts:
        return predictor.predict_boxes([prompt.box for prompt in prompts])
    options = EverythingOptions()
    meter.stage("segmenting", options.points_per_side**2, "clicks")
    return predictor.everything(options, lambda done, _: meter.reach(done))


def _document(name: str, rgb: Rgb, results: Sequence[MaskResult], info: WeightsInfo) -> dict[str, Any]:
    """The result for machines; objects count from 1."""
    from edgetam_model.masks import encode_rle

    height, width = rgb.shape[:2]
    return {
        "image": {"name": name, "width": width, "height": height},
        "weights": {"name": info.name, "trained": info.trained, "fingerprint": info.fingerprint},
        "objects": [
            {
                "id": number,
                "state": result.state,
                "score": round(float(result.object_score), 4),
                "iou": round(float(result.iou), 4),
                "box": result.box,
                "mask": None if result.box is None else encode_rle(result.mask),
            }
            for number, result in enumerate(results, start=1)
        ],
    }


def _write(
    asked: _Asked, rgb: Rgb, results: Sequence[MaskResult], document: dict[str, Any]
) -> dict[str, Path]:
    """Name → path of everything that was written."""
    from edgetam_model.commands.outputs import make_folder
    from edgetam_model.exports import new_folder
    from edgetam_model.render import Drawn, draw_overlay, save_png

    if asked.mask_only:
        make_folder(asked.out.parent)
        return {"mask": save_png(asked.out, results[0].mask)}
    make_folder(asked.out)
    outputs = {name: asked.out / name for name in (MASKS, OVERLAY, RESULT)}
    with new_folder(outputs[MASKS]) as folder:
        for number, result in enumerate(results, start=1):
            save_png(folder / f"{number:03d}.png", result.mask)
    drawn = [Drawn(n, "", r.mask, r.state, r.object_score) for n, r in enumerate(results, start=1)]
    save_png(outputs[OVERLAY], draw_overlay(rgb, drawn))
    outputs[RESULT].write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    return outputs


def summary(document: dict[str, Any]) -> str:
    """What was found and where it is, for people."""
    weights = document["weights"]
    trained = "" if weights["trained"] else f": {UNTRAINED}"
    lines = [f"{len(document['objects'])} found, weights {weights['name']}{trained}"]
    if not document["objects"]:
        lines.append("these weights are sure of nothing here; others may be: edgetam weights list")
    for found in document["objects"]:
        where = "no mask" if found["box"] is None else "box " + ",".join(map(str, found["box"]))
        lines.append(f"object {found['id']}: {found['state']}, {where}, estimated IoU {found['iou']:.2f}")
    lines += [f"{name:<13} {path}" for name, path in document["outputs"].items()]
    return "\n".join(lines)
