"""Settings: environment variables with the prefix ``ROUNDHOUSE_``, described in docs/operations.md."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from streams.errors import ConfigurationError


class Settings(BaseSettings):
    """Every setting, with its default. Units come last in names."""

    model_config = SettingsConfigDict(env_prefix="ROUNDHOUSE_", extra="ignore", frozen=True)

    data_dir: Path = Field(Path("data"), description="Directory of all data of this machine.")
    state_dir: Path | None = Field(
        None, description="Directory of the workers' RocksDB; default `<data_dir>/state`."
    )
    tenants_file: Path | None = Field(
        None, description="File of the tenants and their key hashes; default `<data_dir>/tenants.json`."
    )

    kafka_bootstrap: str = Field("127.0.0.1:9092", description="Kafka's bootstrap servers.")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="Protocol of the connections to the brokers."
    )
    kafka_ca_file: Path | None = Field(
        None,
        description="PEM of the authority that signed the brokers' certificates; default the system's.",
    )
    kafka_certificate_file: Path | None = Field(
        None, description="PEM of a client certificate, where the brokers ask for one."
    )
    kafka_key_file: Path | None = Field(None, description="PEM of the client certificate's key.")
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="Mechanism of the login, with a `SASL_` protocol."
    )
    kafka_sasl_username: str | None = Field(None, description="User name of the login.")
    kafka_sasl_password: SecretStr | None = Field(None, description="Password of the login.")
    topic_prefix: str = Field("roundhouse.", description="Prefix of every topic name.")
    partitions: int = Field(
        4,
        ge=1,
        le=1024,
        description="Number of partitions of every topic; `roundhouse repartition` makes more.",
    )
    replication_factor: int = Field(
        1,
        ge=1,
        description="Number of replicas of every topic. With three or more, one may be down.",
    )
    reject_share_max: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Share of items that the edge took as valid and a worker refuses, above which the "
        "worker stops: a deploy is wrong.",
    )
    window_days: int = Field(
        35,
        ge=1,
        description="How long an event id and a round are remembered, at least; at most twice as long.",
    )
    session_timeout_s: float = Field(
        10.0,
        ge=1,
        le=1800,
        description="Time without a heartbeat after which a worker loses its partitions; one that "
        "comes back earlier keeps them.",
    )
    transactions: Literal["partition", "worker"] = Field(
        "partition",
        description="What one transaction of a worker contains: the work of one `partition`, or of all "
        "partitions of the `worker`.",
    )
    worker_linger_ms: int = Field(
        80,
        ge=5,
        description="Least time from batch to batch of an agent, and so from transaction to "
        "transaction, unless a batch has enough bytes.",
    )
    instance: str | None = Field(
        None,
        description="Name of this machine in the consumer group, stable across restarts; default its "
        "host name.",
    )
    standbys: int = Field(
        0,
        ge=0,
        le=8,
        description="Number of other workers that keep a copy of each partition's state.",
    )
    schema_registry_url: str | None = Field(
        None, description="URL of a Confluent schema registry; without one, schema ids are built in."
    )

    edge_host: str = Field("127.0.0.1", description="Address the edge listens on.")
    edge_port: int = Field(8080, ge=0, le=65535, description="Port the edge listens on.")
    body_bytes_max: int = Field(
        10_000_000, ge=1024, le=12_000_000, description="Largest request body, after gunzip."
    )
    items_max: int = Field(10_000, ge=1, description="Most items in one request.")
    request_timeout_s: float = Field(
        60.0, gt=0, description="Longest time for a request's headers, and for its body."
    )
    held_bytes_max: int = Field(
        268_435_456,
        ge=1 << 20,
        description="Most bytes of bodies that one edge process holds; above it, the answer is 503.",
    )
    ack_timeout_s: float = Field(
        10.0, gt=0, description="Time without Kafka's acknowledgement after which the answer is 503."
    )

    tenant_requests_per_s: float | None = Field(
        None, gt=0, description="Requests a second of a tenant in one edge process; default no limit."
    )
    tenant_items_per_s: float | None = Field(
        None, gt=0, description="Items a second of a tenant in one edge process; default no limit."
    )
    tenant_bytes_per_s: float | None = Field(
        None,
        gt=0,
        description="Bytes a second of a tenant in one edge process, after gunzip; default no limit.",
    )
    tenant_burst_s: float = Field(
        10.0, gt=0, description="A tenant may post at once what its limits allow in so long."
    )

    lookup_timeout_s: float = Field(
        5.0,
        gt=0,
        description="Longest time of a question about a batch or an event; then the answer is 503.",
    )

    clickhouse_dsn: str | None = Field(
        None,
        description="`http(s)://user:password@host:port` or `chdb:///path`; "
        "default chDB in `<data_dir>/clickhouse`.",
    )
    clickhouse_ca_file: Path | None = Field(
        None, description="PEM of the authority that signed an https ClickHouse's certificate."
    )
    clickhouse_database: str = Field(
        "roundhouse", pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$", description="Database of all tables."
    )
    clickhouse_cluster: str | None = Field(
        None,
        pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$",
        description="Name of the cluster in ClickHouse's `remote_servers`: tables are replicated and "
        "distributed. Without one, ClickHouse is one node.",
    )
    sink_linger_ms: int = Field(
        200,
        ge=1,
        description="Least time from insert to insert, unless `sink_share` asks for more.",
    )
    sink_share: float = Field(
        0.33, gt=0, le=1, description="Share of its time that the sink spends on inserts, at most."
    )
    sink_rows_max: int = Field(
        50_000, ge=1, description="Number of rows at which the sink inserts at once."
    )
    kpis_settled_s: float = Field(
        600,
        gt=0,
        description="KPIs are kept of periods that have not changed for so long (s). No insert into "
        "ClickHouse may take longer.",
    )
    sql_port: int = Field(
        8124, ge=0, le=65535, description="Loopback port of the sink's read-only SQL."
    )

    status_host: str = Field(
        "127.0.0.1", description="Address on which each process serves its health and its metrics."
    )
    status_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port of health and metrics: the first free one from here on; 0 takes any.",
    )
    stuck_after_s: float = Field(
        300.0,
        ge=10,
        description="A process that has work, waits for nothing outside of it, and gets no further for "
        "so long is stuck.",
    )
    trace_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of requests that are traced, from edge to ClickHouse; 0 is off. "
        "OpenTelemetry's own variables name the collector.",
    )
    stop_within_s: float = Field(
        20.0,
        gt=0,
        description="A process that is told to stop finishes what it has in hand, and ends after so "
        "long at the latest.",
    )

    webhook_timeout_s: float = Field(
        20.0,
        gt=0,
        description="Longest wait for an endpoint in one attempt to deliver a webhook: to connect, to "
        "send, and for its answer, each.",
    )

    console_host: str = Field("127.0.0.1", description="Address the console listens on.")
    console_port: int = Field(8090, ge=0, le=65535, description="Port the console listens on.")
    console_login: Literal["none", "token", "proxy"] | None = Field(
        None,
        description="How viewers of the console sign in: `none`, `token` or `proxy`. Without it nobody "
        "has to on a loopback address, and on another the console does not start.",
    )
    console_token: SecretStr | None = Field(
        None,
        description="The token to sign in with, 16 characters or more, where the login is `token`.",
    )
    console_proxy_header: str | None = Field(
        None, description="Header in which a proxy names the user, where the login is `proxy`."
    )
    console_proxy_addresses: str | None = Field(
        None,
        description="Addresses or networks of the proxy, separated by commas; no other is believed.",
    )
    live_share: float = Field(
        0.03,
        gt=0,
        le=1,
        description="Share of one core that the evaluations of running campaigns take at most, but for "
        "the first of each.",
    )

    @property
    def state_path(self) -> Path:
        """The directory of RocksDB: ``state_dir`` or its default."""
        return self.state_dir or self.data_dir / "state"

    @property
    def tenants_path(self) -> Path:
        """The file of the tenants: ``tenants_file`` or its default."""
        return self.tenants_file or self.data_dir / "tenants.json"

    @property
    def clickhouse_url(self) -> str:
        """The DSN of ClickHouse: ``clickhouse_dsn`` or its default."""
        return self.clickhouse_dsn or f"chdb:///{(self.data_dir / 'clickhouse').resolve()}"

    @property
    def window_s(self) -> int:
        """The idempotency window in seconds."""
        return self.window_days * 86_400

    @classmethod
    def load(cls) -> Self:
        """Reads the settings from the environment. Raises ``ConfigurationError`` naming each wrong
        variable.
        """
        try:
            return cls()
        except ValidationError as error:
            lines = [
                f"  ROUNDHOUSE_{'_'.join(map(str, entry['loc'])).upper()}: {entry['msg']}"
                for entry in error.errors()
            ]
            raise ConfigurationError("wrong settings:\n" + "\n".join(lines)) from None
