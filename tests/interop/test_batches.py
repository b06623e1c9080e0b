"""What the protocol page promises for requests with many keys: mget, mput and scan."""

from __future__ import annotations

from typing import cast

from tests.interop.foreign_client import ForeignClient, Reply, bytes_of, error_of, tagged

MALFORMED = b"no context"
REPLY_BYTES = 4_194_304


def _errors(reply: Reply) -> dict[int, dict[str, object]]:
    """Return the errors of single keys, each by its place in the batch and without its message."""
    assert reply["ok"] is True, reply
    pairs = cast("list[tuple[int, dict[str, object]]]", reply["errors"])
    return {index: {name: error[name] for name in error if name != "message"} for index, error in pairs}


def test_a_batch_answers_in_the_order_of_its_keys(client: ForeignClient, key: bytes) -> None:
    keys = [key + name for name in (b"z", b"a", b"m\x00")]
    put = client.ask("mput", keys=keys, values=[b"1", tagged(b"2"), b""])
    assert (put["ok"], put["errors"]) == (True, [])
    got = client.ask("mget", keys=[keys[2], key + b"absent", tagged(keys[0]), keys[0]])
    assert (got["ok"], got["errors"]) == (True, [])
    assert got["values"] == [[b""], [], [b"1"], [b"1"]]
    ctxs, put_ctxs = cast("list[bytes]", got["ctxs"]), cast("list[bytes]", put["ctxs"])
    assert ctxs == [put_ctxs[2], b"", put_ctxs[0], put_ctxs[0]]


def test_a_batch_has_a_context_for_each_key(client: ForeignClient, key: bytes) -> None:
    keys = [key + name for name in (b"a", b"b", b"c")]
    first = client.ask("mput", keys=keys, values=[b"1", b"2", b"3"], ctxs=None)
    ctxs = cast("list[bytes]", first["ctxs"])
    second = client.ask("mput", keys=keys, values=[b"4", b"5", b"6"], ctxs=[ctxs[0], None, tagged(ctxs[2])])
    assert _errors(second) == {}
    values = cast("list[list[bytes]]", client.ask("mget", keys=keys)["values"])
    assert [sorted(siblings) for siblings in values] == [[b"4"], [b"2", b"5"], [b"6"]]


def test_a_key_that_fails_leaves_its_batch_ok(client: ForeignClient, key: bytes) -> None:
    keys = [key + b"good", key + b"bad"]
    put = client.ask("mput", keys=keys, values=[b"1", b"2"], ctxs=[None, MALFORMED])
    assert _errors(put) == {1: {"code": "bad_request", "definite": True}}
    ctxs = cast("list[bytes | None]", put["ctxs"])
    assert ctxs[0]
    assert ctxs[1] is None
    assert client.ask("mget", keys=keys)["values"] == [[b"1"], []]


def test_a_demand_that_cannot_be_met_fails_key_by_key(client: ForeignClient, key: bytes) -> None:
    keys = [key + b"a", key + b"b"]
    refusal = {"code": "no_quorum", "definite": True, "required": 4, "alive": 3}
    put = client.ask("mput", keys=keys, values=[b"1", b"2"], w=4)
    assert (_errors(put), put["ctxs"]) == ({0: refusal, 1: refusal}, [None, None])
    got = client.ask("mget", keys=keys, r=4)
    assert (_errors(got), got["ctxs"], got["values"]) == ({0: refusal, 1: refusal}, [None, None], [[], []])


def test_a_batch_over_a_limit_is_refused_as_a_whole(client: ForeignClient, key: bytes) -> None:
    good = key + b"good"
    requests: list[tuple[dict[str, list[bytes]], str]] = [
        ({"keys": [good, bytes(1025)], "values": [b"1", b"2"]}, "too_large"),
        ({"keys": [good, key], "values": [b"1", bytes(10_241)]}, "too_large"),
        ({"keys": [key + b"%d" % number for number in range(1025)], "values": [b"v"] * 1025}, "too_large"),
        ({"keys": [good, good], "values": [b"1", b"2"]}, "bad_request"),
        ({"keys": [good, key], "values": [b"1"]}, "bad_request"),
        ({"keys": [], "values": []}, "bad_request"),
    ]
    for fields, code in requests:
        assert error_of(client.ask("mput", **fields)) == {"code": code, "definite": True}
    assert client.ask("mget", keys=[good, key])["values"] == [[], []]


def test_what_does_not_fit_into_a_reply_is_asked_for_again(client: ForeignClient, key: bytes) -> None:
    value, keys = bytes(10_240), [key + b"%d" % number for number in range(REPLY_BYTES // 10_240 + 5)]
    assert _errors(client.ask("mput", keys=keys, values=[value] * len(keys))) == {}
    got = client.ask("mget", keys=keys)
    left_out = _errors(got)
    assert len(left_out) >= 5
    assert all(error == {"code": "too_large", "definite": True} for error in left_out.values())
    values = cast("list[list[bytes]]", got["values"])
    assert values == [[] if index in left_out else [value] for index in range(len(keys))]
    assert all(client.get(keys[index])[0] == [value] for index in left_out)


def test_a_scan_goes_on_until_its_cursor_is_null(client: ForeignClient, key: bytes) -> None:
    keys = [key + b"%03d" % number for number in range(120)]
    client.ask("mput", keys=keys, values=keys)
    found: dict[bytes, list[bytes]] = {}
    page = client.ask("scan", prefix=tagged(key), limit=50, with_values=True)
    while True:
        page_keys = cast("list[bytes]", page["keys"])
        assert len(page_keys) <= 50
        found.update(zip(page_keys, cast("list[list[bytes]]", page["values"]), strict=True))
        if page["cursor"] is None:
            break
        page = client.ask("scan", prefix=key, limit=50, with_values=True, cursor=bytes_of(page, "cursor"))
    assert found == {each: [each] for each in keys}
    assert "values" not in client.ask("scan", prefix=key)
    assert error_of(client.ask("scan", prefix=key, limit=1001)) == {"code": "bad_request", "definite": True}
