"""Files that are damaged or hostile: decoded or refused, never a crash, a hang or memory without bound."""

import re
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from tests.property.decoding import decode_many
from tests.property.pictures import files, hostile

from gradserve_server.errors import InvalidInput
from gradserve_server.imaging.decode import decode
from gradserve_server.imaging.jpeg import scan_count

REASONS = {
    "png that claims 100000 x 100000": "IMAGE_TOO_LARGE",
    "png that claims 2147483647 x 1": "IMAGE_TOO_LARGE",
    "png of 16000000 black pixels": "IMAGE_TOO_LARGE",
    "jpeg of 1000 scans": "TOO_MANY_SCANS",
    "jpeg without an end": "UNDECODABLE_IMAGE",
    "webp of 16383 x 16383": "IMAGE_TOO_LARGE",
    "webp with a canvas of 16777216 x 16777216": "IMAGE_TOO_LARGE",
}
"""Why files are refused; the other hostile ones may be decoded, as long as nothing grows."""


@pytest.mark.parametrize("name", REASONS)
def test_files_that_claim_much_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        decode(hostile()[name], max_pixels=2_000_000)
    assert caught.value.reason == REASONS[name]


def test_mutated_files_crash_hang_and_fill_nothing(tmp_path: Path) -> None:
    """`make fuzz` does this with many more."""
    verdict = decode_many(500, 0, tmp_path / "image")
    assert verdict.status == 0, verdict.said
    assert int(re.search(r"'decoded': (\d+)", verdict.said)[1]) > 100
    assert int(re.search(r"'UNDECODABLE_IMAGE': (\d+)", verdict.said)[1]) > 100


def test_scans_are_counted_as_libjpeg_reads_them() -> None:
    assert scan_count(files()["jpeg"]) == 1
    assert scan_count(files()["progressive jpeg"]) == 10
    assert scan_count(files()["png"]) == 0
    assert scan_count(b"") == 0


def test_scans_within_a_segment_and_after_the_end_do_not_count() -> None:
    """A thumbnail in the EXIF data, the film that a telephone appends."""
    exif = Image.Exif()
    exif[0x010E] = "\xff\xda" * 100
    file = BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", exif=exif, comment=b"\xff\xda\xff\xd9" * 100)
    encoded = file.getvalue() + b"\xff\xda" * 100
    assert scan_count(encoded) == 1
    assert decode(encoded, max_pixels=100).shape == (8, 8, 3)
