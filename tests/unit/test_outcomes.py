"""Replies as the client reads them: each operation's outcome, in order."""

from __future__ import annotations

import pytest

from kvbus.client.replies import GetReply, MalformedReply, PutReply, outcomes
from kvbus.errors import TooLarge

RECEIPT, WAY = {"mode": "ap"}, {"ring": 7}
WORTH = {"degraded": True, "acks": 1, "receipt": RECEIPT}


def test_a_batch_of_gets_has_every_field_in_its_place() -> None:
    reply = {"ok": True, "values": [[b"a"], []], "ctxs": [b"c", None], **WORTH, "explain": WAY}
    assert outcomes("get", 2, True, reply) == [
        GetReply(values=[b"a"], ctx=b"c", degraded=True, acks=1, receipt=RECEIPT, explain=WAY),
        GetReply(values=[], ctx=None, degraded=True, acks=1, receipt=RECEIPT, explain=WAY),
    ]


def test_a_batch_of_puts_has_every_field_in_its_place() -> None:
    found = outcomes("put", 2, True, {"ok": True, "ctxs": [b"c", b"d"], **WORTH})
    assert found == [PutReply(ctx=token, degraded=True, acks=1, receipt=RECEIPT) for token in (b"c", b"d")]
    assert [type(each) for each in found] == [PutReply, PutReply]


def test_an_operation_of_a_batch_has_its_own_error() -> None:
    error = {"code": "too_large", "message": "full", "definite": True}
    reply = {"ok": True, "values": [[b"a"], []], "ctxs": [b"c", None], "errors": [[1, error]]}
    first, second = outcomes("get", 2, True, reply)
    assert first == GetReply([b"a"], b"c")
    assert isinstance(second, TooLarge)


@pytest.mark.parametrize(
    "reply",
    [{"ok": True}, {"ok": True, "values": [[b"a"]]}, {"ok": True, "values": [[b"a"], []], "ctxs": [b"c"]},
     {"ok": True, "values": [[b"a"], []], "errors": [[2, {}]]}, {"ok": True, "values": 5}],
)  # fmt: skip
def test_a_column_of_another_length_is_no_answer(reply: dict[str, object]) -> None:
    with pytest.raises(MalformedReply):
        outcomes("get", 2, True, reply)
