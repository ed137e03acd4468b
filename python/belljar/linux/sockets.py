"""Sockets of the guest: those that processes have open, and those in the kernel's tables. It never reads their data."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from belljar.errors import KernelError
from belljar.linux import files
from belljar.linux.table import KernelAddress, Row, Table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import SimpleNamespace

    from belljar.linux.layout import Layout, Wanted
    from belljar.linux.reading import Reading
    from belljar.linux.tasks import Task

MOST_BUCKETS = 1 << 20
UNIX_BUCKETS = 256
TCP_STATES = (
    *("", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT"),
    *("CLOSE", "CLOSE_WAIT", "LAST_ACK", "LISTEN", "CLOSING", "NEW_SYN_RECV"),
)
TYPES = {1: "stream", 2: "dgram", 3: "raw", 4: "rdm", 5: "seqpacket", 6: "dccp", 10: "packet"}
UNIX, INET, INET6, NETLINK, PACKET = 1, 2, 10, 16, 17
PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6", 132: "sctp", 136: "udplite", 262: "mptcp"}
FAMILIES = {UNIX: "unix", NETLINK: "netlink", PACKET: "packet", 38: "alg", 40: "vsock", 44: "xdp"}

COMMON: Wanted = {
    "family": "__sk_common.skc_family",
    "state": "__sk_common.skc_state",
    "daddr": "__sk_common.skc_daddr",
    "saddr": "__sk_common.skc_rcv_saddr",
    "dport": "__sk_common.skc_dport",
    "sport": "__sk_common.skc_num",
    "daddr6": "__sk_common.skc_v6_daddr",
    "saddr6": "__sk_common.skc_v6_rcv_saddr",
}
SOCK: Wanted = {**COMMON, "protocol": "sk_protocol", "type": "sk_type", "socket": "sk_socket", "uid": "sk_uid"}


@dataclass(frozen=True, repr=False)
class Socket(Row):
    """A socket: ``protocol`` ("tcp", "udp6", "unix", ...), both ends, state, inode, and who has it open.

    ``local`` and ``remote`` are "address:port"; ``local`` of a unix socket is its path ("@name" for an abstract one).
    ``state`` is "LISTEN", "ESTABLISHED", ... as netstat says, "" where there is none. ``pids`` are the processes, none
    for what no process has open any more; ``address`` is that of its ``struct sock``.
    """

    protocol: str
    type: str
    local: str
    remote: str
    state: str
    inode: int
    uid: int | None
    pids: tuple[int, ...]
    address: KernelAddress


class Sockets(Table[Socket]):
    """Sockets, which print as a table."""

    COLUMNS: ClassVar[dict[str, str]] = {
        "protocol": "",
        "type": "",
        "local": "",
        "remote": "",
        "state": "",
        "inode": ">",
        "uid": ">",
        "pids": "",
        "address": "x",
    }
    TITLE = "socket"


Owners = dict[int, tuple[int, list[int]]]
"""By the address of the `struct sock`: the inode's number, and who has it open."""


def sockets(look: Reading, owners: Owners, everywhere: bool) -> list[Socket]:
    """Return the sockets that have owners and, if asked, those in the kernel's tables, too."""
    full = look.layout("sock", SOCK, "family state")
    records = look.many(full, owners)
    rows = [_socket(look, address, record, *owners[address]) for address, record in records.items()]
    if everywhere:
        rows += [row for address, row in _tabled(look, full) if address not in owners]
    return rows


def open_in(look: Reading, task: Task, owners: Owners) -> None:
    """Note which sockets a process has open."""
    numbers = files.descriptors(look, task.record.files)
    records = look.many(look.layout("file", files.FILE, "inode dentry flags"), numbers.values())
    layout = look.layout("inode", {"mode": "i_mode", "number": "i_ino"}, "mode number")
    inodes = look.many(layout, (record.inode for record in records.values()))
    mine = [(r, inodes[r.inode]) for r in records.values() if r.inode in inodes]
    opened = [(record.private, inode.number) for record, inode in mine if inode.mode >> 12 == 0o14]
    _of_files(look, task.tgid, opened, owners)


def _of_files(look: Reading, pid: int, opened: list[tuple[int, int]], owners: Owners) -> None:
    """Note who has sockets open: pairs of `struct socket` and inode."""
    found = look.many(look.layout("socket", {"sk": "sk"}, "sk"), (socket for socket, _ in opened))
    for socket, inode in opened:
        record = found.get(socket)
        if record is not None and record.sk:
            pids = owners.setdefault(record.sk, (inode, []))[1]
            pids.extend([pid] if pid not in pids else [])


def _tabled(look: Reading, full: Layout) -> Iterator[tuple[int, Socket]]:
    seen: set[int] = set()
    inodes = look.layout("socket_alloc", {"inode": "vfs_inode.i_ino"}, "inode")
    for address, family in _hashed(look):
        if address in seen:
            continue
        seen.add(address)
        record = look.at(full, address) if family != "timewait" else look.at(_common(look), address)
        if record is None:
            continue
        inode = look.at(inodes, record.socket) if getattr(record, "socket", 0) else None
        yield address, _socket(look, address, record, 0 if inode is None else inode.inode, [])


def _common(look: Reading) -> Layout:
    return look.layout("sock", COMMON, "family state", name="sock.common")


def _hashed(look: Reading) -> Iterator[tuple[int, str]]:
    """Yield every socket in the tables of TCP, UDP and unix sockets."""
    node = look.layout("sock", {**COMMON, "next": "__sk_common.skc_node.next"}, "next state", name="sock.node")
    for table, buckets in (("tcp_hashinfo", _tcp), ("udp_table", _udp), ("init_net", _unix)):
        address = look.symbols.get(table)
        try:
            heads = () if address is None else buckets(look, address)
            for at, record in (found for first in heads for found in look.hlist(node, first)):
                yield at, "timewait" if table == "tcp_hashinfo" and record.state in {6, 12} else table
        except KernelError as error:
            look.problem(str(error), address or 0)


def _heads(look: Reading, address: int, count: int, step: int) -> Iterator[int]:
    """Yield the chains of a hash table that are not empty."""
    if count > MOST_BUCKETS:
        look.problem(f"a hash table of {count} chains", address)
        count = MOST_BUCKETS
    content = look.bytes(address, count * step) if address else None
    if content is not None:
        words = memoryview(content).cast("Q")[:: step // 8]
        yield from (word for word in words.tolist() if word and not word & 1)


def _tcp(look: Reading, address: int) -> Iterator[int]:
    wanted = {"ehash": "ehash", "mask": "ehash_mask", "listen": "lhash2", "listen_mask": "lhash2_mask"}
    table = look.at(look.layout("inet_hashinfo", wanted, "ehash mask"), address)
    if table is None:
        return
    yield from _heads(look, table.ehash, table.mask + 1, look.size("inet_ehash_bucket"))
    if table.listen:
        size = look.size("inet_listen_hashbucket")
        content = look.bytes(table.listen, min(table.listen_mask + 1, MOST_BUCKETS) * size) or b""
        at = next((look.offset("inet_listen_hashbucket", m) for m in ("nulls_head.first", "head.first") if
                   look.has("inet_listen_hashbucket", m)), 0)  # fmt: skip
        heads = (int.from_bytes(content[i + at : i + at + 8], "little") for i in range(0, len(content), size))
        yield from (head for head in heads if head and not head & 1)


def _udp(look: Reading, address: int) -> Iterator[int]:
    table = look.at(look.layout("udp_table", {"hash": "hash", "mask": "mask"}, "hash mask"), address)
    if table is not None:
        yield from _heads(look, table.hash, table.mask + 1, look.size("udp_hslot"))


def _unix(look: Reading, address: int) -> Iterator[int]:
    if look.has("net", "unx.table.buckets"):
        yield from _heads(look, look.word(address + look.offset("net", "unx.table.buckets")) or 0, UNIX_BUCKETS, 8)
    elif "unix_socket_table" in look.symbols:
        yield from _heads(look, look.symbol("unix_socket_table"), 2 * UNIX_BUCKETS, 8)


def _socket(look: Reading, address: int, record: SimpleNamespace, inode: int, pids: list[int]) -> Socket:
    number = getattr(record, "protocol", 6)
    inet = record.family in {INET, INET6}
    name = PROTOCOLS.get(number, f"raw:{number}") if inet else FAMILIES.get(record.family, f"family {record.family}")
    if inet:
        local, remote = _ends(record)
    else:
        local, remote = (_unix_name(look, address), "") if record.family == UNIX else ("", "")
    return Socket(
        protocol=name + ("6" if record.family == INET6 and not name.endswith("6") else ""),
        type=TYPES.get(getattr(record, "type", 1), "?"),
        local=local,
        remote=remote,
        state=_state(record, number),
        inode=inode,
        uid=getattr(record, "uid", None),
        pids=tuple(pids),
        address=address,
    )


def _state(record: SimpleNamespace, protocol: int) -> str:
    """Return the state as netstat says it: UDP's connected ones are "ESTABLISHED", others have none."""
    tcp = record.family in {INET, INET6} and protocol in {6, 262}
    if not tcp and record.family != UNIX and record.state != 1:
        return ""
    if record.family == UNIX and record.state == 7:
        return ""
    return TCP_STATES[record.state] if record.state < len(TCP_STATES) else "?"


def _ends(record: SimpleNamespace) -> tuple[str, str]:
    dport = int.from_bytes(record.dport.to_bytes(2, "little"), "big")
    if record.family == INET6 and record.saddr6 is not None:
        return _six(record.saddr6, record.sport), _six(record.daddr6, dport)
    return _four(record.saddr, record.sport), _four(record.daddr, dport)


def _four(address: int, port: int) -> str:
    return f"{ipaddress.IPv4Address(address.to_bytes(4, 'little'))}:{port}"


def _six(address: bytes, port: int) -> str:
    return f"[{ipaddress.IPv6Address(address[:16])}]:{port}"


def _unix_name(look: Reading, address: int) -> str:
    """Return the path of a unix socket; an abstract one begins with a zero byte, and is shown with "@"."""
    at = look.word(address + look.offset("unix_sock", "addr")) if look.has("unix_sock", "addr") else None
    if not at:
        return ""
    length = look.word(at + look.offset("unix_address", "len"), 4) or 0
    content = look.bytes(at + look.offset("unix_address", "name"), min(length, 128)) or b""
    path = content[2:]
    path = b"@" + path[1:] if path.startswith(b"\0") else path.split(b"\0")[0]
    return path.decode("utf-8", "backslashreplace")
