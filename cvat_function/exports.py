"""CVAT's exports of tasks and projects as a source of annotations: the entry point of `edgetam.sources`.

CVAT for images 1.1 and for video 1.1, COCO 1.0 and Segmentation mask 1.1, with images inside or without.
"""

from __future__ import annotations

import re
from pathlib import Path

from cvat_function.export_archive import MAX_TEXT, ExportArchive, Pictures
from cvat_function.export_coco import read_coco
from cvat_function.export_drawn import Gathering
from cvat_function.export_masks import OBJECTS, read_masks
from cvat_function.export_xml import read_xml
from edgetam_model.training.annotations import AnnotationSet, ReadOptions

XML = "annotations.xml"

_INSTANCES = re.compile(r"annotations/instances_([^/]+)\.json")
_HEAD = 4096  # bytes in which a document of CVAT's has begun


def read_export(path: Path, options: ReadOptions) -> AnnotationSet | None:
    """The annotations of a zip that CVAT exported, or of its annotations.xml alone.

    Returns:
        None for any other file, zips of other kinds included.

    Raises:
        InputError: a zip or document that is damaged, too large, or made to do harm.
    """
    if not path.is_file():
        return None
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith(b"PK\x03\x04"):
        with ExportArchive(path) as archive:
            return _read_archive(archive, options)
    if not head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<") or b"<annotations" not in head:
        return None
    gathering = Gathering(Pictures(None, None))
    with path.open("rb") as file:
        read_xml(file, path.name, gathering, options)
    return gathering.finished()


def _read_archive(archive: ExportArchive, options: ReadOptions) -> AnnotationSet | None:
    gathering = Gathering(Pictures(archive, options.unpack))
    instances = [match for match in map(_INSTANCES.fullmatch, sorted(archive.members)) if match]
    if XML in archive.members:
        with archive.open(XML, MAX_TEXT) as file:
            read_xml(file, XML, gathering, options)
    elif instances:
        for match in instances:
            read_coco(archive.read(match[0], MAX_TEXT), match[0], match[1], gathering, options)
    elif any(member.startswith(OBJECTS) for member in archive.members):
        read_masks(archive, gathering)
    else:
        return None
    return gathering.finished()
