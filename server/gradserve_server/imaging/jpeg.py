"""Scans of a JPEG file.

A progressive file comes in scans, each of which goes over all pixels. Encoders make about ten; a file may have as many
as fit, each of a few dozen bytes, and keep a decoder busy for hours. So they are counted before any is decoded.
"""

import re

MOST_SCANS = 50

_START_OF_IMAGE = b"\xff\xd8"
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = 0xD9
# Between entropy-coded bytes, 0xff is followed by a zero, by a restart marker, or by the next segment's marker.
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")


def scan_count(encoded: bytes) -> int:
    """Returns the number of scans of the first image in a file; 0 where it is no JPEG.

    What a segment or a thumbnail within one holds does not count, nor what follows the image's end.
    """
    if not encoded.startswith(_START_OF_IMAGE):
        return 0
    count, at = 0, len(_START_OF_IMAGE)
    while (marker := _MARKER.search(encoded, at)) is not None and (code := marker[1][0]) != _END_OF_IMAGE:
        count += code == _START_OF_SCAN
        # A segment says its length, these two bytes included.
        at = marker.end() + int.from_bytes(encoded[marker.end() : marker.end() + 2], "big")
    return count
