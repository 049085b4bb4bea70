"""Checks of the machine: the disk, file descriptors, the tenants file."""

import resource
import stat
from collections.abc import Iterator

import psutil

from connectors.doctor.findings import Finding, error, ok, warning
from connectors.edge.tenants import Registry
from streams.errors import ConfigurationError
from streams.settings import Settings

FREE_BYTES_MIN = 5 << 30
FREE_SHARE_MIN = 0.1

FILES_BASE = 512
FILES_A_PARTITION = 128
"""The number of files of one partition: RocksDB's two tables, the generations of the window, and the
producer's sockets.
"""


def check_disk(settings: Settings, free_bytes_min: int = FREE_BYTES_MIN) -> Iterator[Finding]:
    """The findings for the directories of this machine: whether they exist and have free space."""
    for name, path in (
        ("ROUNDHOUSE_DATA_DIR", settings.data_dir),
        ("ROUNDHOUSE_STATE_DIR", settings.state_path),
    ):
        whole = path.resolve()
        existing = next(folder for folder in (whole, *whole.parents) if folder.exists())
        usage = psutil.disk_usage(str(existing))
        left = f"{usage.free / (1 << 30):.1f} GiB of {usage.total / (1 << 30):.0f} are free at {path}"
        mend = f"Free some space, enlarge the volume, or point {name} to another."
        if usage.free < free_bytes_min:
            yield error("disk", left, mend)
        elif usage.free < FREE_SHARE_MIN * usage.total:
            yield warning("disk", left, mend)
        else:
            yield ok("disk", left)


def check_file_descriptors(settings: Settings) -> Iterator[Finding]:
    """The finding for the limit of open files, compared with a worker that has all partitions."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = FILES_BASE + FILES_A_PARTITION * settings.partitions
    found = (
        f"a process may open {soft} files; a worker of {settings.partitions} partitions needs {needed}"
    )
    if soft < needed:
        yield error(
            "file_descriptors",
            found,
            f"Raise the limit for this service: `ulimit -n {needed}`, or LimitNOFILE= in its unit.",
        )
    else:
        yield ok("file_descriptors", found)


def check_tenants(settings: Settings) -> Iterator[Finding]:
    """The finding for the tenants file: readable, by its owner alone, with a valid key."""
    path = settings.tenants_path
    if not path.exists():
        yield error(
            "tenants",
            f"there is no tenants file at {path}: the edge refuses every request",
            "`roundhouse tenant add NAME` makes it, or set ROUNDHOUSE_TENANTS_FILE.",
        )
        return
    try:
        tenants = Registry(path).all()
    except (ConfigurationError, OSError) as problem:
        yield error("tenants", str(problem), "Restore the file from a copy, or correct it.")
        return
    if not any(tenant.keys for tenant in tenants.values()):
        yield error(
            "tenants",
            f"no tenant in {path} has a key: the edge refuses every request",
            "`roundhouse tenant add NAME`, or `roundhouse tenant rotate NAME` for one that exists.",
        )
        return
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield warning(
            "tenants",
            f"{path} can be read by others than its owner",
            f"`chmod 600 {path}`: it contains hashes of keys, not keys, and no other user needs it.",
        )
        return
    yield ok("tenants", f"{len(tenants)} tenants in {path}")
