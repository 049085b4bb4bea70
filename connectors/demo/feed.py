"""Posts a day over HTTP, several requests at a time."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

import httpx

from connectors.demo.day import GAMEBALL, Post

CONCURRENCY = 8
RETRIES = 20


async def feed(
    url: str,
    keys: Mapping[str, str],
    posts: Sequence[Post],
    progress: Callable[[int], None] = lambda items: None,
) -> dict[str, int]:
    """Posts all requests and returns the acknowledged items by tenant; the posts of a tenant stay
    roughly in order.

    A request that gets 503 or no answer is posted again, as an operator would. Raises
    ``RuntimeError`` if the edge answers with any other error.
    """
    by_tenant: dict[str, list[Post]] = defaultdict(list)
    for post in posts:
        by_tenant[post.tenant].append(post)
    counts: Counter[str] = Counter()
    async with httpx.AsyncClient(base_url=url, timeout=60.0) as client:

        async def run(tenant: str) -> None:
            queue = by_tenant[tenant]
            for start in range(0, len(queue), CONCURRENCY):
                some = queue[start : start + CONCURRENCY]
                await asyncio.gather(*(_post(client, keys[tenant], post) for post in some))
                items = sum(post.items for post in some)
                counts[tenant] += items
                progress(items)

        await asyncio.gather(*(run(tenant) for tenant in by_tenant))
    return dict(counts)


async def _post(client: httpx.AsyncClient, key: str, post: Post) -> None:
    headers = {"content-type": "application/json"}
    headers["APIKey" if post.path == GAMEBALL else "x-api-key"] = key
    if post.idempotency_key:
        headers["idempotency-key"] = post.idempotency_key
    for attempt in range(RETRIES):
        try:
            answer = await client.post(post.path, content=post.body, headers=headers)
        except httpx.TransportError:
            if attempt == RETRIES - 1:
                raise
            await asyncio.sleep(0.5)
            continue
        if answer.status_code == 503:
            await asyncio.sleep(float(answer.headers["retry-after"]))
            continue
        expected = 422 if post.invalid else 204
        if answer.status_code != expected:
            raise RuntimeError(f"{post.path} answered {answer.status_code}: {answer.text[:2000]}")
        return
    raise RuntimeError(f"{post.path} was not acknowledged in {RETRIES} attempts")
