"""What was drawn on images, laid over other images: masks that have to do with their picture fit worse there.

Masks that do not belong to their pictures still teach something, such as that objects fill their boxes.
Held-out masks of the same team then fit better than before, though the model looks at nothing any more.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgetam_model.sources import Frame
from edgetam_model.training.task_clips import TaskClip


class ExchangedClip(TaskClip):
    """The objects of one image on the picture of another, at that one's size.

    Args:
        drawn: whose objects.
        shown: whose picture.
    """

    def __init__(self, drawn: TaskClip, shown: TaskClip) -> None:
        super().__init__(drawn.task, drawn.objects, drawn.frames, drawn.media)
        self._shown = shown

    def file_frame(self, number: int) -> Frame:  # noqa: ARG002
        """The other picture, whatever the number. Raises as the base class."""
        return self._shown.file_frame(self._shown.frames[0])


def exchanged(clips: Sequence[TaskClip], turn: int = 0) -> list[TaskClip]:
    """The clips of images, each with the picture of another group where there is one.

    Args:
        clips: of any kind.
        turn: which other picture, from 0; it begins again where there are not so many.
    """
    stills = [clip for clip in clips if clip.task.kind == "image"]
    found: list[TaskClip] = []
    for place, clip in enumerate(stills):
        after = stills[place + 1 :] + stills[:place]
        others = [each for each in after if each.task.group != clip.task.group]
        if others:
            found.append(ExchangedClip(clip, others[turn % len(others)]))
    return found
