"""The routes that operators post to."""

from typing import NamedTuple


class Route(NamedTuple):
    """The route of a format (``source``), and the header with the API key."""

    path: str
    source: str
    key_header: str


ROUTES = (
    Route("/api/v1/events", "native", "x-api-key"),
    Route("/api/v1/integrations/fasttrack/bulk", "fasttrack", "x-api-key"),
    Route("/integrations/event", "gameball", "APIKey"),
)
