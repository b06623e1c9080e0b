from kvbus.testing.verdict import Verdict


def judge_sets(h):
    acked = {}
    failed = set()
    removed = set()
    lost = []
    for o in h.operations:
        if o.op == "add" and o.outcome == "ok":
            acked.setdefault(o.key, {})[o.element] = o
        if o.op == "add" and o.outcome == "failed":
            failed.add((o.key, o.element))
        if o.op == "remove":
            removed.add((o.key, o.element))
    n = 0
    for o in h.operations:
        if o.op == "read" and o.final:
            if o.outcome != "ok":
                lost.append(("final read failed", o.describe()))
                continue
            for e in acked.get(o.key, {}):
                n += 1
                if e not in o.found and (o.key, e) not in removed:
                    lost.append((o.key, e, acked[o.key][e].describe()))
            for e in o.found:
                if (o.key, e) in failed:
                    lost.append(("invented", o.key, e))
    for o in h.operations:
        if o.op == "remove" and o.outcome == "ok":
            for r in h.operations:
                if r.op == "read" and r.final and r.key == o.key and r.found and o.element in r.found:
                    lost.append(("resurrected", o.key))
    return Verdict(checker="sets", ok=not lost, reason=f"{len(lost)} lost " + str(lost[:2]), judged=n)
