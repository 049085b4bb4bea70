"""The name of a worker in the consumer group, and the checks that no other process has the same name.

Static membership (KIP-345): a worker that rejoins under its name within the session time-out keeps its
partitions, and those of other workers do not move. aiokafka 0.14 sends the name when it joins, and
sends no LeaveGroup, but its heartbeats do not contain the name, so the broker never answers
FENCED_INSTANCE_ID: two processes with one name take each other's partitions at every heartbeat,
without end. Two checks replace that answer: a lock on the worker's directory, and a request to the
broker when partitions are revoked.

The client id of a member says whether its release fences transactional ids that write several
partitions (:mod:`streams.state.takeover`). Where such ids are used, a member without that mark would
count events twice: the others stop when they see it.
"""

import fcntl
import logging
import os
import secrets
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streams.errors import NameTaken, ReleaseTooOld
from streams.kafka.clients import client_config
from streams.settings import Settings

log = logging.getLogger(__name__)

_ANSWER_WITHIN_S = 5.0
_READS_OWNERS = "-owners"
"""The end of the client ids of releases that read who owns a partition; 0.1.0 does not."""


class Membership:
    """A worker's membership in the group, for the life of its process.

    ``name`` tells people which worker it is. ``instance_id`` is stable across restarts. With standbys
    it contains the id of the worker's state: a worker that lost its disk joins as a new member, and its
    old partitions go to workers with copies. ``client_id`` is unique to this process.
    """

    def __init__(self, settings: Settings, worker: str) -> None:
        """Raises ``NameTaken`` if another process works in the worker's directory."""
        self.worker = worker
        self.directory = directory = settings.state_path / worker
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(directory / "lock", worker)
        self.group = f"{settings.topic_prefix}line"
        machine = settings.instance or socket.gethostname()
        self.name = f"{machine}-{worker}"
        name = settings.topic_prefix + self.name
        self.instance_id = f"{name}-{_state_id(directory)}" if settings.standbys else name
        self.client_id = f"{worker}-{secrets.token_hex(4)}{_READS_OWNERS}"
        self.joined = False
        self._settings = settings

    def check(self) -> None:
        """After a rebalance began, raises ``NameTaken`` if another process joined as this worker.

        If the membership has only expired, no process has it, and this process may join again. Raises
        ``ReleaseTooOld`` as :meth:`check_releases` does.
        """
        if not self.joined:  # the worker's previous process may still be the member
            return
        members = self._members()
        self._check_releases(members)
        for member in members:
            if member.group_instance_id == self.instance_id and member.client_id != self.client_id:
                raise NameTaken(
                    f"another process, on {member.host}, has joined the consumer group {self.group} as "
                    f"{self.instance_id} and has this worker's partitions now. Give every machine its "
                    "own host name or ROUNDHOUSE_INSTANCE, and its workers names of their own (--name)."
                )

    def check_releases(self) -> None:
        """Raises ``ReleaseTooOld`` if transactions have all partitions of a worker, and the group has
        a worker of a release that does not fence such transactions.
        """
        if self._settings.transactions == "worker":
            self._check_releases(self._members())

    def _check_releases(self, members: Iterable[Any]) -> None:
        if self._settings.transactions == "partition":
            return
        for member in members:
            if not member.client_id.endswith(_READS_OWNERS):
                raise ReleaseTooOld(
                    f"{member.group_instance_id or member.client_id}, on {member.host}, is a worker of "
                    "an earlier release, which does not fence transactions of several partitions. "
                    "Deploy this release on all workers with ROUNDHOUSE_TRANSACTIONS=partition first, "
                    "or stop that worker."
                )

    def _members(self) -> list[Any]:
        admin = AdminClient({**client_config(self._settings), "log_level": 0})
        found = admin.describe_consumer_groups([self.group], request_timeout=_ANSWER_WITHIN_S)
        try:
            return list(found[self.group].result().members)
        except KafkaException as error:  # the next rebalance asks again
            log.info("the members of %s are not known: %s", self.group, error.args[0].str())
            return []


def _locked(path: Path, worker: str) -> IO[str]:
    """A file that this process keeps locked until it ends."""
    file = open(path, "a+")  # noqa: SIM115
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        raise NameTaken(
            f"process {file.read().strip()} runs as {worker} in {path.parent}. Give every worker of a "
            "machine its own --name, or its own ROUNDHOUSE_STATE_DIR and ROUNDHOUSE_INSTANCE."
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def _state_id(directory: Path) -> str:
    """The id of a state directory, which is created once and lost with the directory."""
    path = directory / "state-id"
    if not path.exists():
        fresh = path.with_suffix(".tmp")
        fresh.write_text(secrets.token_hex(4))
        fresh.replace(path)
    return path.read_text()
