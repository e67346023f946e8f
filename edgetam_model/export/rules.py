"""What a host must do, in words and numbers; `host` is the same in code. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence

from edgetam_model import (
    answering,
    colour_cut,
    credence,
    first_looks,
    ground,
    outlines,
    pieces,
    searching,
    windows,
)
from edgetam_model.config import EdgeTAMConfig
from edgetam_model.export.manifest import Constants
from edgetam_model.options import TrackerOptions


def host_rules(
    config: EdgeTAMConfig, constants: Constants, options: TrackerOptions, attentions: Sequence[int]
) -> tuple[str, ...]:
    """One line per rule, in the order in which a frame is worked on.

    `attentions`: conditioning slots of each memory attention that the export has, ascending.
    """
    windowed = _windows(config) if config.window_scale else ()
    believed = _belief(constants) if config.window_scale and options.verify else ()
    return (
        *_pixels(config),
        *windowed,
        *_prompts(config, constants),
        *_answers(config, constants, options),
        *_bank(config, options, attentions),
        *_evidence(config),
        *believed,
        *_corrections(),
    )


def _pixels(config: EdgeTAMConfig) -> tuple[str, ...]:
    side = config.image_size
    what = "the object's window" if config.window_scale else "the frame"
    return (
        f"pixels: {what}, RGB, stretched to {side} x {side} without keeping its shape, bilinear with "
        f"antialiasing "
        "(triangle filter as wide as a source pixel or the scale, whichever is larger; half-pixel centres; "
        "columns first, then rows), rounded to 0 ... 255; the graph normalises.",
        f"coordinates: x * {side} / width, y * {side} / height of {what}, from its top left corner.",
    )


def _windows(config: EdgeTAMConfig) -> tuple[str, ...]:
    scale = config.window_scale
    looks = ", ".join(f"{share:g}" for share in first_looks.FIRST_LOOKS)
    return (
        f"window of a box: a square {scale:g} times as wide as the box's longer side (at least "
        f"{windows.MIN_BOX:g} pixels), around its middle, moved to lie in the frame, in whole pixels.",
        "window of a prompt: of its box or mask; of an earlier result the one it was seen in; enlarged "
        "where "
        f"clicks lie outside, by {windows.CLICK_MARGIN:g} of its side beyond them.",
        "clicks alone: those up to the first positive one are answered in the whole frame and in windows "
        f"of {looks} of its shorter side around that one, where these hold them all; kept is the best "
        "predicted IoU, less "
        f"{first_looks.DISTRUST:g} per halving of the window, less {first_looks.NO_OBJECT:g} for a mask "
        f"below "
        f"{first_looks.TINY:g} of the window or from border to border.",
        "colours, for a prompt without a mask and earlier logits: OpenCV's grabCut on the pixels that the "
        f"network sees ({colour_cut.ROUNDS} rounds, mask mode, random seed 0). With a box what is outside is "
        "background, and inside the mask answered in that window is probably object and the rest probably "
        "background; else that mask is probably object, "
        f"{colour_cut.BORDER} pixels along the edge are background and the rest probably is; clicks are "
        f"certain within {colour_cut.SEED_RADIUS} pixels, and without a box only pieces with a positive "
        f"click stay. The cut as logits of +-{colour_cut.CUT_LOGIT:g} is then an earlier result to the same "
        "prompt. That answer counts; from a box only if its predicted IoU is less than "
        f"{answering.WORSE:g} lower.",
        *_boxes(),
        "further clicks, in their order: all so far are answered with the last answer as an earlier result, "
        "and then with the colours' cut of that answer in its place. The window is the one around the last "
        "mask and the positive clicks, if it is at least "
        f"{answering.WIDER:g} times as wide as that of the last answer, else that one. To a positive click "
        "beside the last mask that click alone is answered first, and what it shows joins the earlier result "
        f"with logits of at least {colour_cut.CUT_LOGIT:g}.",
        "window of the next frame: around the box of the last mask (regions below "
        f"{windows.SPECK:g} of the largest one do not count); its side changes by a factor of at most "
        f"{windows.GROWTH:g} and {windows.SLACK:g} x {scale:g} pixels, or shrinks by {windows.ZOOM:g} "
        f"where it is more "
        f"than {windows.FAR:g} times too wide; without a mask it grows by {windows.SEARCH:g} of its side "
        f"on each side.",
    )


def _boxes() -> tuple[str, str]:
    g = ground
    return (
        "ground, for a prompt with a box: the window, softened by a Gaussian of standard deviation "
        f"{g.SOFTENED:g}, as 8-bit Lab; a pixel in the box or within {g.MARGIN} of it costs {g.PACE:g} "
        f"and what the Euclidean length of max - min over its 3 x 3 neighbours exceeds {g.FREE:g} by, "
        "half of it where a way begins or ends; ground is all outside the box, and what ways along rows and "
        f"columns from farther outside reach for less than {g.DEPTH:g} within {g.TURNS} sweeps over both. "
        "The colours' cut begun without ground in the first "
        f"mask is the mask, if it has at most {g.SMALLER:g} of the answer's area and comes within "
        f"{g.NEAR:g} of the window's side to {g.SIDES} sides of the box or ground has {g.MOSTLY:g} of the "
        f"answer; not if less than {colour_cut.LEAST:g} of the first mask is left to begin with, or less "
        f"than {colour_cut.HALF:g} while the answer's predicted IoU is {colour_cut.SURE:g} or "
        f"more, or while that is {colour_cut.CERTAIN:g} or more. Pointer, score and predicted IoU are then "
        "the answer's to the prompt with that cut.",
        "closer look, for a prompt with a box whose window's longer side has more pixels of the frame than "
        f"the network sees: all of this once more in a window around the box with {answering.CLOSER:g} as "
        "its scale. Its mask, as the wider window shows it (bilinear), is the mask, if it has at most "
        f"{answering.ROOM:g} times the area; pointer, score and predicted IoU are then the answer's to the "
        "prompt in the wider window with that mask as an earlier result.",
    )


def _prompts(config: EdgeTAMConfig, constants: Constants) -> tuple[str, ...]:
    first, second = constants.box_labels
    return (
        f"slots: a box's two corners first (labels {first}, {second}, clipped to the frame), then "
        f"clicks; without any, "
        f"one slot has label {constants.no_click_label}; the others have {constants.unused_label}.",
        "multimask: 1 when tracking and for at most one click without a box, else 0; dynamic_multimask: "
        "1 for "
        "prompts, 0 when tracking.",
        f"earlier logits as a prompt: clamped to +-{constants.logit_limit:g} into mask_logits, has_mask "
        f"1; where the "
        "window differs, resampled bilinearly to it.",
        f"a given mask: stretched to {config.image_size} x {config.image_size} as pixels are, 0 or 1 at "
        f"0.5; "
        f"mask_prompt's 4 x 4 convolution of stride 4, each number repeated to fill {config.mask_size} x "
        f"{config.mask_size}, into mask_logits; features are stride16, unremembered 0, seen 0, no clicks, "
        "multimask 0. Only the pointer is used, and the score says whether it is present: the mask "
        "itself is the answer, as logits "
        f"{constants.mask_offset:g} + {constants.mask_gain:g} x mask, IoU 1, score "
        f"+-{-constants.mask_offset:g}.",
    )


def _answers(config: EdgeTAMConfig, constants: Constants, options: TrackerOptions) -> tuple[str, ...]:
    trusted = (
        (
            f"pointed at: the score of a prompt with anything positive counts at least "
            f"{constants.shown_score:g}.",
        )
        if config.window_scale
        else ()
    )
    return (
        *trusted,
        f"absent: at a score of 0 or less every logit is {constants.absent_logit:g}, and pointer_present "
        f"is 0.",
        f"holes of at most {options.fill_hole_area} logits' pixels are filled (8-connected) in what is "
        f"shown and, "
        "on prompted frames, in what is remembered.",
        "the mask at the frame's size: logits resized bilinearly with half-pixel centres, > 0.",
        f"reliable: score above 0 and IoU at least {options.lost_iou:g}; {options.lost_after} frames in "
        f"a row "
        "without: lost.",
    )


def _bank(config: EdgeTAMConfig, options: TrackerOptions, attentions: Sequence[int]) -> tuple[str, ...]:
    recent, pointers = config.recent_memories, config.max_pointers
    slots = ", ".join(
        f"memory_attention_{count} has {count + recent} memory slots and {count + pointers - 1} pointer slots"
        for count in attentions
    )
    choice = "; the smallest one that all fits into" if len(attentions) > 1 else ""
    return (
        "a memory of every frame: latents of the memory encoder, pointer, whether the object was there. "
        "Prompted "
        f"frames are conditioning memories, made of the cleaned mask with binarize "
        f"{options.binarize_prompted_memory:d}; tracked ones of the mask as decoded, binarize 0.",
        f"conditioning memories read per frame: at most {options.max_conditioning_frames}: the nearest "
        f"before, the "
        "nearest after, then the nearest; in order of time, age 0. A frame never reads its own.",
        f"recent memories: of the frames {recent} ... 1 before, in the direction of tracking, age so "
        f"many; a "
        "conditioning memory that was not chosen counts as recent where it lies there. Missing ones "
        "leave no gap.",
        "pointers: of the chosen conditioning frames already passed, then of the frames 1 ... "
        f"{pointers - 1} before, nearest first.",
        f"{slots}{choice}.",
        "a frame on which nothing is remembered: no memory attention; features are stride16, unremembered 1.",
        f"kept: latents of the last {recent} frames, pointers of the last {pointers}, per direction, "
        f"around the "
        "frame computed last and around the frontier; all conditioning memories.",
    )


def _evidence(config: EdgeTAMConfig) -> tuple[str, ...]:
    if not config.evidence_width:
        return ()
    return (
        "traces: a memory keeps the frame's keys, the labels of the memory encoder and its window. "
        "recent: of the "
        "frame before (or else as shown); shown: of the nearest chosen conditioning frame already "
        "passed, or else "
        "of the nearest. place: (x0 - X0) / W, (y0 - Y0) / H, w / W, h / H for the trace's window x0, "
        "y0, w, h and "
        "this frame's X0, Y0, W, H. seen is 1 with memories, else 0.",
    )


def _belief(constants: Constants) -> tuple[str, ...]:
    c = credence
    return (
        _likeness(),
        _pieces(),
        "belief in tracked masks, as they are whatever their score says, with the mask last seen: after an "
        "absence, score + "
        f"{c.IOU_GAIN:g} x (IoU - {c.USUAL_IOU:g}) + {c.LIKENESS_GAIN:g} x (likeness, at least "
        f"{c.LEAST_LIKENESS:g}, - {c.USUAL_LIKENESS:g}) - {c.SIZE_LOSS:g} x (|ln(area / area on the nearest "
        f"prompted frame)| - {c.SIZE_FREE:g}, at least 0) >= {c.RETURN_MERIT:g}; else a likeness of at least "
        f"{c.TURNED:g} times the last mask's, unless that is below {c.KNOWN:g}, one of at least "
        f"{c.LEAST_LIKENESS:g} or |ln(area / area on the nearest prompted frame)| <= {c.SIZE_FREE:g}, "
        f"and a mask whose IoU with the last one is >= {c.STAYING_OVERLAP:g}, with "
        f"{c.STAYING_SIZE:g} to "
        f"{1 / c.STAYING_SIZE:.3g} times its area, and score > {c.STAYING_SCORE:g}; or score > 0 (where that "
        f"IoU is < {c.APART:g}: >= {c.JUMP_SCORE:g}, and below {c.COLLAPSE:g} of the last area IoU >= "
        f"{c.JUMP_IOU:g}) and at most "
        f"{c.SWOLLEN:g} times the last area, and either score >= {c.CLEAR_SCORE:g}, or IoU >= "
        f"{c.POOR_IOU:g} and at least {c.COLLAPSE:g} of the last area. What is believed has a score of at "
        f"least {constants.shown_score:g}; what is not is absent, with one of at most "
        f"{constants.denied_score:g}.",
        *_search(),
    )


def _search() -> tuple[str, ...]:
    c, s = credence, searching
    return (
        "places: for every place of a view's keys, sum of sqrt(p x q) over the cells whose share p of the "
        "nearest prompted frame's mask (histogram as for likeness) is above "
        f"{s.RARE:g}, q the same of all places in a box around it, with the longer side of that mask's box "
        "in the frame (in whole places, at least 1; beyond the view q gets nothing); the highest is the best "
        f"place, and the next one is at least {s.APART:g} of that side away in x or y. Its window is that of "
        "such a box.",
        f"further looks: after an absence, at the best {s.PLACES} places of the view and, where the score is "
        "above 0, at the window of the box of what was found, if that is at least "
        f"{c.WORTHWHILE:g} times smaller; then this look counts in place of the first. Of all that are "
        "believed the one with the highest such sum counts.",
        f"what is followed and believed with a likeness below {s.DOUBTED:g}: looks at those of the best "
        f"{s.PLACES} places that have at least {s.ALIKE:g} times the sum of the best one of the prompted "
        f"frame's own view, and whose box has an IoU below {s.ELSEWHERE:g} with the mask's. They are judged "
        "as after an absence, and the first one that is believed "
        f"counts instead with a score above 0 and a likeness of at least {c.SURE_LIKENESS:g} and "
        f"{c.GAINED:g} more than the mask's; the second one after it with a higher sum than that.",
    )


def _likeness() -> str:
    o = outlines
    return (
        "likeness of a mask: sum of sqrt(p x q) over the cells of two histograms, the mask's and the one of "
        "the nearest prompted frame's mask; "
        f"{credence.USUAL_LIKENESS:g} where that one is empty. Of the last three keys r, g, b of every place "
        f"with more than {o.INSIDE:g} of its pixels in the mask (or else any), weighed by that share: "
        f"(r + g + b) / 3 in {o.LUMA_CELLS} cells of {o.LUMA_CELL:g}, r - g and (r + g) / 2 - b in "
        f"{o.CHROMA_CELLS} of {o.CHROMA_CELL:g} each, the middle one at 0, what is beyond in the last one; "
        "trilinear; the sum is 1."
    )


def _pieces() -> str:
    p = pieces
    return (
        "pieces of a tracked mask, connected over corners: after an absence those stay that have at least "
        f"{p.SPECK:g} of its area and {p.BEST_LIKENESS:g} of the likeness of the piece most alike, but "
        f"where some of those have {p.BACK:g} of the area on the nearest prompted frame, only the one of "
        "them most alike; else "
        "those that have less of its area, or a pixel "
        f"within {p.NEAR:g} of the window's side (an ellipse) of the last mask, or, unless those with such a "
        f"pixel have {p.WHOLE:g} of the last mask's area in the frame, at least {p.PART_LIKENESS:g} of its "
        "likeness. Where none would stay, all do. "
        "The logits of the others change their sign."
    )


def _corrections() -> tuple[str, ...]:
    return (
        "a prompt on a tracked frame is decoded with the memories of its direction, its clicks together "
        "with that "
        "frame's logits and in their window; it becomes a conditioning memory.",
        "a prompt puts the frames up to the neighbouring prompts in doubt: those after it are tracked "
        "again "
        "forward, those before it backward; their recent memories are forgotten first.",
    )
