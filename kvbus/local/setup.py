"""The configuration files of a local cluster's nodes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from kvbus.config import load_config
from kvbus.errors import ConfigError
from kvbus.local.folder import LocalNode
from kvbus.local.toml_text import toml_text
from kvbus.settings import read_toml

_REPLICAS = 3
_MADE_HERE = ("node", "listen")


def write_configs(
    nodes: Sequence[LocalNode],
    *,
    mode: str,
    extra: Path | None,
    environ: Mapping[str, str],
    insecure: bool = False,
) -> None:
    """Write each node's ``config.toml``, with the settings of the file ``extra`` merged in, and check it.

    ``insecure`` lets the nodes listen beyond loopback: for those whose network nobody else is in.

    Raises:
        ConfigError: a setting is wrong, or ``extra`` sets what is made here.
    """
    added = {} if extra is None else read_toml(extra)
    for section in _MADE_HERE:
        if section in added:
            raise ConfigError(f"{extra}: [{section}] is different on each node and made by cluster up; leave it out")
    cluster = added.get("cluster")
    if isinstance(cluster, dict) and "initial_members" in cluster:
        raise ConfigError(f"{extra}: [cluster] initial_members is made by cluster up; leave it out")
    for node in nodes:
        Path(node.data_dir).mkdir(parents=True, exist_ok=True)
        settings = _merged(_generated(node, nodes, mode, insecure), added)
        fresh = Path(node.config).with_suffix(".toml.new")
        fresh.write_text(toml_text(settings), encoding="utf-8")
        try:
            load_config(fresh, environ)
        except ConfigError as error:
            fresh.unlink()
            # A wrong key came from the file that the caller wrote, not from the one that is made of it.
            raise ConfigError(str(error).replace(str(fresh), str(extra or node.config), 1)) from None
        fresh.replace(node.config)


def _generated(node: LocalNode, nodes: Sequence[LocalNode], mode: str, insecure: bool) -> dict[str, object]:
    members = [{"name": n.name, "client": n.client, "peer": n.peer, "gossip": n.gossip} for n in nodes]
    return {
        "node": {"name": node.name, "data_dir": node.data_dir},
        "listen": {"client": node.client, "peer": node.peer, "gossip": node.gossip, "http": node.http},
        "cluster": {
            "name": _cluster_name(node.folder.parent),
            "replicas": min(_REPLICAS, len(nodes)),
            "initial_members": members,
        },
        "keyspaces": {"default": {"mode": mode}},
        "faults": {"enabled": True},
        **({"security": {"insecure": True}} if insecure else {}),
    }


def _cluster_name(folder: Path) -> str:
    """Name the cluster after its folder, so that the data of two clusters cannot be mixed up."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", folder.name)[:64].strip("-") or "local"


def _merged(base: Mapping[str, object], added: Mapping[str, object]) -> dict[str, object]:
    merged = dict(base)
    for key, value in added.items():
        mine = merged.get(key)
        if isinstance(mine, dict) and isinstance(value, dict):
            merged[key] = _merged(cast("dict[str, object]", mine), cast("dict[str, object]", value))
        else:
            merged[key] = value
    return merged
