"""Every error that Roundhouse raises on purpose, one sentence each.

Bad input is not among them: it is a value (:class:`streams.formats.validation.Invalid`). These
errors are outages, bugs, and mistakes of the person who runs the system.
"""


class RoundhouseError(Exception):
    """Base of all errors that Roundhouse raises on purpose."""


class ConfigurationError(RoundhouseError):
    """A setting, file or command is wrong; the message says which and how to mend it."""


class EnvelopeError(RoundhouseError):
    """A request body is not JSON or has the wrong outer form, so no items can be read from it.

    ``code`` and ``pointer`` are those of an item error: see docs/operators.md.
    """

    def __init__(self, code: str, pointer: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.pointer = pointer
        self.message = message


class TooManyItems(EnvelopeError):
    """A request body holds more items than the setting ``items_max`` allows."""


class InputGap(RoundhouseError):
    """Input between the last applied position and the next record is missing: records were lost."""


class StateMismatch(RoundhouseError):
    """Local state belongs to another Kafka cluster or is ahead of its changelog."""


class StateDamaged(RoundhouseError):
    """Local state cannot be read or is incomplete; it can be rebuilt from its changelog."""


class NewerVersion(RoundhouseError):
    """A newer version wrote something that this one cannot read; the message says what to deploy."""


class NotDrained(RoundhouseError):
    """The line has work left, or workers that run, where it must stand still."""


class TooManyRejects(RoundhouseError):
    """Translate refuses many items that the edge took as valid: edge and worker run different
    versions.
    """


class DeliveryFailed(RoundhouseError):
    """Kafka did not take a record that must not be lost."""


class BrokerUnavailable(RoundhouseError):
    """No Kafka broker answered in time."""


class SinkMismatch(RoundhouseError):
    """A record on a canonical topic is not framed as Roundhouse frames it."""


class PortInUse(ConfigurationError):
    """Another process listens on a port that the settings name."""


class NameTaken(RoundhouseError):
    """Another process runs under the name of this worker."""


class ReleaseTooOld(RoundhouseError):
    """The group has a worker of an earlier release, which does not fence transactions of this one."""


class GaveUp(ConfigurationError):
    """A supervised process ended because of a wrong setting, so it is not started again."""


class ConflictStands(RoundhouseError):
    """The line has refused a correction."""


class RawRecordGone(RoundhouseError):
    """The retention of ``raw.batches`` has deleted the record of a request that is read again."""


class NotRunning(RoundhouseError):
    """No stack runs on the data directory."""


class NotSettled(RoundhouseError):
    """The line did not settle in time what was posted or written."""


class Overtaken(RoundhouseError):
    """Another process has begun to write what this one writes, so this one has ended its work."""


class AlreadySettled(RoundhouseError):
    """A campaign was settled under another definition, or is to be reviewed and was not settled."""


class ResultChanged(RoundhouseError):
    """The stored rows of a result are not what was evaluated."""


class NotReadOnly(RoundhouseError):
    """A query is not one statement that only reads."""


class ClickHouseUnavailable(RoundhouseError):
    """ClickHouse does not answer, or not in time, or has no tables yet."""


class QueryFailed(RoundhouseError):
    """ClickHouse refused a query; the message is ClickHouse's own."""


class DefinitionError(RoundhouseError):
    """A campaign's definition is wrong; the message names file and line of each mistake."""


class RatesError(RoundhouseError):
    """A file of rates is wrong; the message has a line for each mistake. Nothing is imported."""
