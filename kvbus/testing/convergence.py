from kvbus.testing.verdict import Verdict


def judge_digests(d):
    parts = {}
    for n, m in d.items():
        for p, x in m.items():
            parts.setdefault(p, {})[n] = x
    bad = [p for p, m in parts.items() if len(set(m.values())) > 1]
    return Verdict(
        checker="convergence", ok=not bad, reason=f"{len(bad)} of {len(parts)} partitions differ", judged=len(parts)
    )
