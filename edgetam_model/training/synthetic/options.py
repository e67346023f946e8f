"""What synthetic clips look like: sizes, probabilities and ranges, all in one frozen dataclass."""

from __future__ import annotations

from dataclasses import dataclass, fields

from edgetam_model.errors import InputError

Range = tuple[float, float]

MAX_SIZE = 1024  # pixels; one clip of 8 frames then takes 1.5 GB while it is made
MAX_FRAMES = 256
MAX_OBJECTS = 8
BLOCK = 16  # pixels; the compression works on blocks of 8, its colours on blocks of 16


@dataclass(frozen=True)
class SyntheticOptions:
    """Options of the clip generator. A field `p_…` is the probability of something in a clip (or of an
    object, a part); 0 turns it off. Ranges are (low, high), drawn evenly, sizes and speeds evenly in their
    logarithm. Lengths are fractions of the frame's side, times are frames, angles radians.

    Args:
        size: side of the square frames in pixels, a multiple of 16.
        frames: T.
        objects: K, the most objects that are tracked; a clip has 1 to K of them.

        p_photograph: of a texture to be a photograph, where the bank has some.
        p_cutout: of a thing to be a cut-out instead of a drawn shape, where the bank has some.
        p_slim, slim: of a cut-out to be squeezed by so much, and turned any way: poles, tools and necks fill
            little of their box.
        p_flat: of a surface to be mostly one colour, as paint and plastic are.
        p_articulated: of an object to have limbs that swing.
        p_cutout_limbs: of a cut-out that would have them otherwise to keep them.
        limb_length: of each of a limb's two halves, in half extents of the object.
        p_symmetric: of an object to be mirror-symmetric.
        p_part: of each of an object's four further parts (heads, wheels, wings, patches) to be there.
        p_hole: of a part to be a hole.
        p_thin: of a part to be a thin rod.
        p_shading: of an object to be darker towards its edge and away from the light.
        p_elastic: of an object to bend and ripple.
        p_turn: of an object's surface to slide within its outline, as a rolling ball's or a turning head's
            does, so that new parts of it come to be seen.
        turn: how far per frame, in half extents of the object.

        p_close: of a clip to be a crop around the main object, whose size is then `close_size`, else
            `far_size`: the longer side, as a fraction of the frame's.
        speed: typical movement per frame.
        p_growth, growth: of an object to come nearer or go away; the factor by which it grows or shrinks.
        p_twin: of a look-alike: the same textures, a similar shape, tracked by nobody.
        p_camouflage: of the main object to have the background's texture.
        p_fade, fade: of an object to fade into the background; the opacity that is left. Its mask stays.
        p_occluder: of something to pass in front.
        p_leave: of the main object to be hidden for a while and, mostly, to come back.
        hidden_frames: how long it is hidden; shorter clips keep a visible frame at the start.
        p_hidden_by_occluder: of hiding it behind something rather than outside the frame.

        p_camera: of the camera to move.
        p_follow: of a moving camera to follow the main object.
        pan, zoom, roll, tilt: the camera's typical change per frame: of place, of the logarithm of the
            scale, of the angle, of the perspective.

        p_motion_blur, exposure: of blur along the movement; the part of a frame the shutter is open.
        subframes: pictures averaged for motion blur.
        p_illumination, illumination: of light that changes over time; by how much at most.
        p_contact_shadow: of the objects to darken what is just below them.
        p_shade: of soft shadows over the scene.
        p_haze, haze: of haze over the scene; its opacity.
        p_soft, softness: of an unsharp lens; standard deviation in pixels.
        p_noise, noise: of sensor noise; standard deviation where white is 1.
        p_compression, quality: of compression artefacts; JPEG's quality number.

    Raises:
        InputError: a value outside its range, with the field named.
    """

    size: int = 128
    frames: int = 8
    objects: int = 3

    p_photograph: float = 0.75
    p_cutout: float = 0.6
    p_slim: float = 0.0
    slim: Range = (1.5, 4.0)
    p_flat: float = 0.3
    p_articulated: float = 0.45
    p_cutout_limbs: float = 0.0
    limb_length: Range = (0.15, 0.45)
    p_symmetric: float = 0.3
    p_part: float = 0.7
    p_hole: float = 0.12
    p_thin: float = 0.2
    p_shading: float = 0.8
    p_elastic: float = 0.5
    p_turn: float = 0.15
    turn: Range = (0.01, 0.12)

    p_close: float = 0.8
    close_size: Range = (0.28, 0.75)
    far_size: Range = (0.08, 0.9)
    speed: Range = (0.002, 0.05)
    p_growth: float = 0.2
    growth: Range = (1.3, 4.0)
    p_twin: float = 0.25
    p_camouflage: float = 0.1
    p_fade: float = 0.08
    fade: Range = (0.25, 0.7)
    p_occluder: float = 0.25
    p_leave: float = 0.15
    hidden_frames: tuple[int, int] = (1, 10)
    p_hidden_by_occluder: float = 0.5

    p_camera: float = 0.65
    p_follow: float = 0.4
    pan: Range = (0.001, 0.03)
    zoom: float = 0.015
    roll: float = 0.012
    tilt: float = 0.006

    p_motion_blur: float = 0.25
    exposure: Range = (0.2, 0.8)
    subframes: int = 4
    p_illumination: float = 0.5
    illumination: float = 0.25
    p_contact_shadow: float = 0.4
    p_shade: float = 0.25
    p_haze: float = 0.12
    haze: Range = (0.1, 0.6)
    p_soft: float = 0.5
    softness: Range = (0.25, 0.8)
    p_noise: float = 0.6
    noise: Range = (0.005, 0.035)
    p_compression: float = 0.35
    quality: Range = (25.0, 90.0)

    def __post_init__(self) -> None:
        _check_whole("size", self.size, BLOCK, MAX_SIZE)
        if self.size % BLOCK:
            raise InputError("size", f"expected a multiple of {BLOCK} pixels, got {self.size}")
        _check_whole("frames", self.frames, 1, MAX_FRAMES)
        _check_whole("objects", self.objects, 1, MAX_OBJECTS)
        _check_whole("subframes", self.subframes, 2, 16)
        for field in fields(self):
            if field.name.startswith("p_"):
                _check_within(field.name, getattr(self, field.name), 0, 1)
        for name, (low, high) in _RANGES.items():
            _check_range(name, getattr(self, name), low, high)
        for name in ("zoom", "roll", "tilt", "illumination"):
            _check_within(name, getattr(self, name), 0, 0.5)


_RANGES = {
    "close_size": (0.02, 1.5),
    "far_size": (0.02, 1.5),
    "slim": (1, 8),
    "limb_length": (0.05, 2),
    "speed": (1e-5, 1),
    "turn": (1e-4, 1),
    "growth": (1, 8),
    "fade": (0.05, 1),
    "hidden_frames": (1, MAX_FRAMES),
    "pan": (1e-5, 1),
    "exposure": (0, 1),
    "haze": (0, 0.9),
    "softness": (0.05, 3),
    "noise": (0, 0.5),
    "quality": (5, 100),
}


def _check_whole(name: str, value: object, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise InputError(name, f"expected a whole number from {low} to {high}, got {value!r}")


def _check_within(name: str, value: object, low: float, high: float) -> None:
    if not isinstance(value, (int, float)) or not low <= value <= high:  # NaN is within nothing
        raise InputError(name, f"expected a number from {low} to {high}, got {value!r}")


def _check_range(name: str, value: object, low: float, high: float) -> None:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise InputError(name, f"expected (low, high), got {value!r}")
    if not all(isinstance(v, (int, float)) for v in value) or not low <= value[0] <= value[1] <= high:
        raise InputError(name, f"expected {low} ≤ low ≤ high ≤ {high}, got {value!r}")
