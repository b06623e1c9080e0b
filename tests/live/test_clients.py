"""Both clients over real sockets, against nodes of one thread each."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor

import pytest

from kvbus.client import AsyncClient, Client, GetReply, PutReply, Siblings, Unreachable
from kvbus.errors import BadRequest, NoQuorum, RequestTimeout, ShuttingDown, TooLarge
from kvbus.ports.mode import Limits
from tests.fake_node import FakeNode, FakeStore

Run = Callable[[Coroutine[object, object, None]], None]


def uvloop_run(work: Coroutine[object, object, None]) -> None:
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed: pip install kvbus[speed]")
    uvloop.run(work)


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a coroutine on one of the two event loops."""
    return asyncio.run if request.param == "asyncio" else uvloop_run


@pytest.fixture
def nodes() -> Generator[list[FakeNode]]:
    """Serve three nodes that share one store, two replicas a partition."""
    store = FakeStore()
    served = [FakeNode(store) for _ in range(3)]
    for node in served:
        node.join_cluster([other.address for other in served], replicas=2)
    yield served
    for node in served:
        node.stop()


def addresses(nodes: list[FakeNode]) -> list[str]:
    return [node.address for node in nodes]


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for another thread or process."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


# --- the blocking client ---------------------------------------------------------------------------------------


def test_put_get_delete(nodes: list[FakeNode]) -> None:
    with Client(addresses(nodes)) as client:
        written = client.put(b"k", b"v")
        found = client.get(b"k")
        assert (found.value, found.ctx) == (b"v", written.ctx)
        client.delete(b"k", ctx=found.ctx)
        assert client.get(b"k").value is None


def test_a_url_opens_a_client(nodes: list[FakeNode]) -> None:
    hosts = ",".join(address.removeprefix("tcp://") for address in addresses(nodes))
    with Client.from_url(f"kvbus://{hosts}/default") as client:
        client.put(b"k", b"v")
        assert client.get(b"k").value == b"v"


def test_siblings_show_and_modify_merges_them(nodes: list[FakeNode]) -> None:
    with Client(addresses(nodes)) as client:
        client.put(b"k", b"a")
        client.put(b"k", b"b")
        with pytest.raises(Siblings, match="2 siblings") as raised:
            _ = client.get(b"k").value
        assert raised.value.values == [b"a", b"b"]
        client.modify(b"k", lambda found: b"+".join(sorted(found)))
        assert client.get(b"k").value == b"a+b"


def test_many_operations_keep_their_order(nodes: list[FakeNode]) -> None:
    items = [(b"k%d" % number, b"v%d" % number) for number in range(10_000)]
    with Client(addresses(nodes)) as client:
        assert all(isinstance(reply, PutReply) for reply in client.put_many(items))
        replies = client.get_many([key for key, _ in items])
        assert [reply.value for reply in replies if isinstance(reply, GetReply)] == [value for _, value in items]
        assert client.put_many([]) == client.get_many([]) == []


def test_a_pipeline_sends_its_operations_together(nodes: list[FakeNode]) -> None:
    with Client(nodes[0].address, routing="direct") as client:
        client.ping()
        with client.pipeline() as batch:
            tickets = [batch.put(b"%d" % number, b"v") for number in range(10)]
            absent = batch.get(b"absent")
            with pytest.raises(RuntimeError, match="nothing was sent yet"):
                absent.result()
        assert all(ticket.result().ctx for ticket in tickets)
        assert absent.result().values == []
    assert nodes[0].frames == [("ping", 1), ("mput", 10), ("get", 1)]


def test_a_pipeline_left_by_an_exception_sends_nothing(nodes: list[FakeNode]) -> None:
    with Client(addresses(nodes)) as client:

        def interrupted() -> None:
            with client.pipeline() as batch:
                batch.put(b"k", b"v")
                raise KeyError

        with pytest.raises(KeyError):
            interrupted()
        assert client.get(b"k").values == []


def test_a_scan_goes_from_page_to_page(nodes: list[FakeNode]) -> None:
    with Client(addresses(nodes)) as client:
        client.put_many([(b"a%02d" % number, b"v") for number in range(25)])
        client.put(b"b", b"v")
        assert [entry.key for entry in client.scan(b"a", page_keys=10)] == [b"a%02d" % n for n in range(25)]
        assert [entry.values for entry in client.scan(b"b", with_values=True)] == [[b"v"]]


def test_what_a_node_tells_about_itself(nodes: list[FakeNode]) -> None:
    with Client(addresses(nodes)) as client:
        assert client.hello()["v"] == 1
        assert client.topology()["hash"] == "mmh3_x64_128"
        assert client.stats() == {"writes": 0}


def test_a_refusal_raises_its_typed_error(nodes: list[FakeNode]) -> None:
    for node in nodes:
        node.refusal = NoQuorum("2 of 3 replicas are away", details={"required": 2, "alive": 1})
    with Client(addresses(nodes)) as client:
        with pytest.raises(NoQuorum) as raised:
            client.put(b"k", b"v")
        assert raised.value.definite
        assert raised.value.details["required"] == 2


def test_text_and_unknown_options_are_refused_before_anything_is_sent(nodes: list[FakeNode]) -> None:
    with Client(addresses(nodes)) as client:
        wrong: list[tuple[Callable[..., object], tuple[object, ...], dict[str, object], str]] = [
            (client.put, ("k", b"v"), {}, "key must be bytes, not str; encode it"),
            (client.put, (b"k", "v"), {}, "value must be bytes, not str; encode it"),
            (client.put, (b"k", bytearray(b"v")), {}, "value must be bytes, not bytearray"),
            (client.get, (b"k",), {"w": 2}, r"get\(\) takes no option 'w'; it takes cl, "),
            (client.delete, (b"k",), {"ttl_ms": 2}, r"delete\(\) takes no option 'ttl_ms'"),
            (client.get_many, ("k",), {}, "key must be bytes, not str"),
        ]
        for call, arguments, options, message in wrong:
            with pytest.raises(TypeError, match=message):
                call(*arguments, **options)
    assert all(op in ("hello", "topology") for node in nodes for op, _ in node.frames)


def test_one_bad_key_does_not_spoil_its_batch(nodes: list[FakeNode]) -> None:
    with Client(addresses(nodes)) as client:
        good, empty, long, other = client.put_many([(b"a", b"1"), (b"", b"2"), (bytes(2000), b"3"), (b"b", b"4")])
        assert isinstance(good, PutReply)
        assert isinstance(other, PutReply)
        assert isinstance(empty, BadRequest)
        assert isinstance(long, TooLarge)


def test_values_that_do_not_fit_into_one_reply_are_all_read() -> None:
    with FakeNode(FakeStore(), limits=Limits(reply_bytes=10_000)) as node, Client(node.address) as client:
        keys = [b"%d" % number for number in range(20)]
        client.put_many((key, bytes(1000)) for key in keys)
        assert [len(reply.values[0]) for reply in client.get_many(keys) if isinstance(reply, GetReply)] == [1000] * 20


def test_reads_and_writes_go_on_when_a_node_stops(nodes: list[FakeNode]) -> None:
    with Client(addresses(nodes)) as client:
        keys = [b"%d" % number for number in range(50)]
        client.put_many((key, b"v") for key in keys)
        nodes[1].stop()
        assert all(client.get(key).value == b"v" for key in keys)
        assert all(client.put(key, b"w").ctx for key in keys)


def test_a_read_under_way_at_a_node_that_stops_is_answered_by_another(nodes: list[FakeNode]) -> None:
    nodes[0].silent = True
    with Client(nodes[0].address, deadline_ms=10_000) as client:
        client._machine.links.follow(addresses(nodes))
        stopping = threading.Timer(0.3, nodes[0].stop)
        stopping.start()
        assert client.get(b"k").values == []
        stopping.join()


def test_a_write_under_way_at_a_node_that_stops_has_an_unknown_outcome() -> None:
    with FakeNode(FakeStore()) as node, Client(node.address, routing="direct") as client:
        node.silent = True
        stopping = threading.Timer(0.3, node.stop)
        stopping.start()
        with pytest.raises(RequestTimeout, match="was lost") as raised:
            client.put(b"k", b"v")
        assert not raised.value.definite
        stopping.join()


def test_a_node_that_is_silent_runs_into_the_deadline() -> None:
    with FakeNode(FakeStore()) as node, Client(node.address, deadline_ms=100) as client:
        node.silent = True
        start = time.monotonic()
        with pytest.raises(RequestTimeout, match="within 100 ms"):
            client.get(b"k")
        assert time.monotonic() - start < 3


def test_no_node_at_all_is_a_definite_failure() -> None:
    with Client("tcp://127.0.0.1:1", deadline_ms=200) as client:
        with pytest.raises(Unreachable, match=r"none of tcp://127\.0\.0\.1:1 could be reached") as raised:
            client.put(b"k", b"v")
        assert raised.value.definite


def test_a_node_that_comes_back_is_used_again() -> None:
    store = FakeStore()
    with FakeNode(store) as node, Client(node.address) as client:
        client.put(b"k", b"v")
        node.stop()
        with FakeNode(store, address=node.address):
            assert client.get(b"k").value == b"v"


def test_a_node_that_shuts_down_sends_its_clients_elsewhere(nodes: list[FakeNode]) -> None:
    nodes[0].refusal = ShuttingDown("the node is stopping; ask another one")
    with Client(addresses(nodes)) as client:
        assert all(isinstance(reply, PutReply) for reply in client.put_many((b"%d" % n, b"v") for n in range(100)))


def test_threads_may_share_a_client(nodes: list[FakeNode]) -> None:
    with Client(addresses(nodes)) as client, ThreadPoolExecutor(4) as pool:
        keys = [b"%d" % number for number in range(200)]
        list(pool.map(lambda key: client.put(key, key), keys))
        assert [reply.value for reply in pool.map(client.get, keys)] == keys


def test_threads_may_each_have_a_client(nodes: list[FakeNode]) -> None:
    def work(number: int) -> None:
        with Client(addresses(nodes)) as client:
            items = [(b"%d-%d" % (number, turn), b"v") for turn in range(2000)]
            assert all(isinstance(reply, PutReply) for reply in client.put_many(items))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


def test_a_closed_client_says_so(nodes: list[FakeNode]) -> None:
    client = Client(addresses(nodes))
    client.close()
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.get(b"k")


# --- the asyncio client ----------------------------------------------------------------------------------------


def test_async_operations_of_one_turn_share_frames(run: Run, nodes: list[FakeNode]) -> None:
    async def work() -> None:
        async with AsyncClient(nodes[0].address, routing="direct") as client:
            await client.ping()
            await asyncio.gather(*(client.put(b"%d" % number, b"v") for number in range(100)))
            replies = await asyncio.gather(*(client.get(b"%d" % number) for number in range(100)))
            assert [reply.value for reply in replies] == [b"v"] * 100

    run(work())
    assert nodes[0].frames == [("ping", 1), ("mput", 100), ("mget", 100)]


def test_full_frames_leave_while_the_turn_goes_on(run: Run, nodes: list[FakeNode]) -> None:
    async def work() -> None:
        async with AsyncClient(nodes[0].address, routing="direct") as client:
            await client.ping()
            gets = [client.get(b"%d" % number) for number in range(600)]
            until(lambda: nodes[0].frames[1:] == [("mget", 256), ("mget", 256)])
            assert len(await asyncio.gather(*gets)) == 600

    run(work())


def test_many_workers_each_get_their_own_answers(run: Run, nodes: list[FakeNode]) -> None:
    async def work() -> None:
        async with AsyncClient(addresses(nodes)) as client:

            async def worker(number: int) -> None:
                for turn in range(50):
                    key, value = b"%d" % number, b"%d" % turn
                    await client.modify(key, lambda found: b"%d" % (int(found[0]) + 1 if found else 0))
                    assert (await client.get(key)).value == value

            await asyncio.gather(*(worker(number) for number in range(40)))

    run(work())
    assert all(node.store.writes == 2000 for node in nodes)


def test_async_batches_scans_and_questions(run: Run, nodes: list[FakeNode]) -> None:
    async def work() -> None:
        async with AsyncClient.from_url("kvbus://" + nodes[0].address.removeprefix("tcp://")) as client:
            items = [(b"k%05d" % number, b"v") for number in range(9000)]
            assert all(isinstance(reply, PutReply) for reply in await client.put_many(items))
            assert all(isinstance(reply, GetReply) for reply in await client.get_many(key for key, _ in items))
            assert [entry.key async for entry in client.scan(b"k")] == [key for key, _ in items]
            assert (await client.hello())["v"] == 1
            assert (await client.topology())["epoch"] == 1
            assert await client.stats() == {"writes": 9000}
            await client.delete(b"k00000", ctx=(await client.get(b"k00000")).ctx)
            assert (await client.get(b"k00000")).value is None
            assert await client.get_many([]) == []

    run(work())


def test_async_fail_over(run: Run, nodes: list[FakeNode]) -> None:
    async def work() -> None:
        async with AsyncClient(addresses(nodes)) as client:
            keys = [b"%d" % number for number in range(100)]
            await client.put_many((key, b"v") for key in keys)
            nodes[2].silent = True
            reads = [client.get(key) for key in keys]
            await asyncio.to_thread(until, lambda: client._machine.links.any_up)
            await asyncio.to_thread(nodes[2].stop)
            assert [(await read).value for read in reads] == [b"v"] * 100
            assert all([(await client.put(key, b"w")).ctx for key in keys])

    run(work())


def test_async_failures_are_typed(run: Run) -> None:
    async def work() -> None:
        async with AsyncClient("tcp://127.0.0.1:1", deadline_ms=100) as client:
            with pytest.raises(Unreachable):
                await client.put(b"k", b"v")
            get: Callable[..., object] = client.get
            with pytest.raises(TypeError, match="key must be bytes"):
                get("k")
        with pytest.raises(RuntimeError, match="closed"):
            await client.get(b"k")

    run(work())


def test_a_cancelled_operation_harms_nobody(run: Run, nodes: list[FakeNode]) -> None:
    async def work() -> None:
        async with AsyncClient(addresses(nodes)) as client:
            cancelled, kept = client.put(b"a", b"1"), client.put(b"b", b"2")
            cancelled.cancel()
            assert (await kept).ctx
            with pytest.raises(asyncio.CancelledError):
                await cancelled

    run(work())


def test_closing_answers_who_still_waits(run: Run) -> None:
    async def work() -> None:
        with FakeNode(FakeStore()) as node:
            client = AsyncClient(node.address)
            await client.ping()
            node.silent = True
            write = client.put(b"k", b"v")
            await asyncio.sleep(0.05)
            await client.close()
            with pytest.raises(RequestTimeout, match="closed"):
                await write

    run(work())


def test_an_idle_client_wakes_up_by_itself(run: Run, nodes: list[FakeNode]) -> None:
    """ZeroMQ's descriptor is edge-triggered: a look too few, and a reply is never seen."""

    async def work() -> None:
        async with AsyncClient(addresses(nodes)) as client:
            for number in range(500):
                await asyncio.wait_for(client.put(b"%d" % number, b"v"), 5)
                if number % 100 == 0:
                    await asyncio.sleep(0.03)

    run(work())


@pytest.mark.parametrize("end", ["", "del client; gc.collect()"])
def test_a_client_that_nobody_closed_does_not_hold_up_the_end_of_its_process(end: str) -> None:
    lines = ["import gc", "from kvbus import Client", "client = Client('tcp://127.0.0.1:9', deadline_ms=50)"]
    lines += ["try: client.ping()", "except Exception: pass", end, "print('over')"]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, timeout=30, check=True)
    assert done.stdout.split() == [b"over"]
