"""Files that a program changes and that a crash must not damage."""

import os
from pathlib import Path


def replace_file(path: Path, content: bytes) -> None:
    """Gives a file new content, readable by its owner alone. After a crash it is the old or the new.

    The directory is made if it is missing. When this returns, the content is on the disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.tmp")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
