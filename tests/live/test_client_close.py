"""A client that is closed while its operations are under way."""

from __future__ import annotations

import asyncio

from kvbus.client import AsyncClient, Unreachable


def test_a_batch_of_several_parts_ends_with_an_outcome_for_each_operation() -> None:
    async def work() -> None:
        client = AsyncClient("tcp://127.0.0.1:9")
        under_way = asyncio.ensure_future(client.put_many([(b"%d" % number, b"v") for number in range(17_000)]))
        await asyncio.sleep(0)
        await client.close()
        replies = await asyncio.wait_for(under_way, 10)
        assert [type(reply) for reply in replies] == [Unreachable] * 17_000

    asyncio.run(work())
