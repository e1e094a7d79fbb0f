"""Certificates of an authority of our own, as PEM files."""

from pathlib import Path

import trustme


class Certificates:
    """An authority and the folder its certificates go to."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.folder = folder
        self.root = folder / "authority.pem"
        folder.mkdir(parents=True, exist_ok=True)
        self.authority.cert_pem.write_to_path(str(self.root))

    def issue(self, name: str, file: str = "") -> tuple[Path, Path]:
        """Writes the certificate of `name`, for localhost and with that common name, and its key."""
        issued = self.authority.issue_cert("localhost", "127.0.0.1", common_name=name)
        chain, key = self.folder / f"{file or name}.pem", self.folder / f"{file or name}.key"
        # In place of old ones in one step each, as mounted secrets are.
        for path, contents in ((chain, issued.cert_chain_pems[0].bytes()), (key, issued.private_key_pem.bytes())):
            partial = path.with_suffix(".partial")
            partial.write_bytes(contents)
            partial.replace(path)
        return chain, key
