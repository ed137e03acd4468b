"""A small Linux kernel's memory, made by hand: BTF, lists and trees of it, for tests that need no machine.

`Made` writes structures where a real kernel would; a test may then damage them. It never runs anything.
"""

import struct
from types import SimpleNamespace

import belljar as bj

BASE, SIZE = 0xFFFF_8880_0010_0000, 0x40000
DIRECT = 0xFFFF_8880_0000_0000
SIZES = {"u8": 1, "u16": 2, "u32": 4, "s32": 4, "u64": 8, "s64": 8}
LIST = [("next", "u64"), ("prev", "u64")]
NEW = {
    "list_head": LIST,
    "rb_node": [("__rb_parent_color", "u64"), ("rb_right", "u64"), ("rb_left", "u64")],
    "thread_info": [("flags", "u64"), ("cpu", "u32"), ("pad", "u32")],
    "task_struct": [
        *[
            ("thread_info", "thread_info"),
            ("__state", "u32"),
            ("flags", "u32"),
            ("on_cpu", "s32"),
            ("exit_state", "s32"),
        ],
        *[("pid", "s32"), ("tgid", "s32"), ("comm", "u8[16]"), ("mm", "u64"), ("real_parent", "u64")],
        *[("real_cred", "u64"), ("nsproxy", "u64"), ("start_time", "u64"), ("tasks", "list_head")],
        *[("thread_node", "list_head"), ("signal", "u64"), ("files", "u64")],
    ],
    "signal_struct": [("thread_head", "list_head")],
    "cred": [("uid", "u32"), ("gid", "u32")],
    "ns_common": [("stashed", "u64"), ("inum", "u32"), ("pad", "u32")],
    "mnt_namespace": [("ns", "ns_common"), ("list", "list_head")],
    "nsproxy": [("mnt_ns", "u64")],
    "mm_struct": [
        *[("mm_mt", "maple_tree"), ("pgd", "u64"), ("brk", "u64"), ("start_brk", "u64"), ("start_stack", "u64")],
        *[("arg_start", "u64"), ("arg_end", "u64"), ("env_start", "u64"), ("env_end", "u64")],
    ],
    "maple_tree": [("ma_lock", "u64"), ("ma_root", "u64")],
    "maple_range_64": [("parent", "u64"), ("pivot", "u64[15]"), ("slot", "u64[16]")],
    "maple_arange_64": [("parent", "u64"), ("pivot", "u64[9]"), ("slot", "u64[10]")],
    "vm_area_struct": [
        *[("vm_start", "u64"), ("vm_end", "u64"), ("vm_flags", "u64"), ("vm_pgoff", "u64"), ("vm_file", "u64")],
        *[("vm_ops", "u64"), ("vm_private_data", "u64")],
    ],
    "path": [("mnt", "u64"), ("dentry", "u64")],
    "file": [
        *[("f_path", "path"), ("f_inode", "u64"), ("f_flags", "u32"), ("pad", "u32"), ("f_pos", "s64")],
        ("private_data", "u64"),
    ],
    "files_struct": [("fdt", "u64")],
    "fdtable": [("max_fds", "u32"), ("pad", "u32"), ("fd", "u64")],
    "inode": [("i_mode", "u16"), ("pad", "u16[3]"), ("i_ino", "u64")],
    "qstr": [("hash", "u32"), ("len", "u32"), ("name", "u64")],
    "hlist_bl_node": [("next", "u64"), ("pprev", "u64")],
    "dentry": [
        ("d_hash", "hlist_bl_node"),
        ("d_parent", "u64"),
        ("d_name", "qstr"),
        ("d_inode", "u64"),
        ("d_sb", "u64"),
    ],
    "vfsmount": [("mnt_root", "u64"), ("mnt_sb", "u64"), ("mnt_flags", "s32"), ("pad", "u32")],
    "mount": [
        *[("mnt_parent", "u64"), ("mnt_mountpoint", "u64"), ("mnt", "vfsmount"), ("mnt_id", "s32"), ("pad", "u32")],
        *[("mnt_devname", "u64"), ("mnt_list", "list_head")],
    ],
    "super_block": [("s_type", "u64"), ("s_dev", "u32"), ("pad", "u32"), ("s_flags", "u64")],
    "file_system_type": [("name", "u64")],
    "module_layout": [("base", "u64"), ("size", "u32"), ("pad", "u32")],
    "module": [
        *[
            ("state", "u32"),
            ("pad", "u32"),
            ("list", "list_head"),
            ("name", "u8[56]"),
            ("core_layout", "module_layout"),
        ],
        *[("refcnt", "s32"), ("pad2", "u32"), ("source_list", "list_head"), ("taints", "u64"), ("version", "u64")],
    ],
    "module_use": [("source_list", "list_head"), ("target_list", "list_head"), ("source", "u64"), ("target", "u64")],
    "prb_data_blk_lpos": [("begin", "u64"), ("next", "u64")],
    "prb_desc": [("state_var", "u64"), ("text_blk_lpos", "prb_data_blk_lpos")],
    "printk_info": [("seq", "u64"), ("ts_nsec", "u64"), ("text_len", "u16"), ("facility", "u8"), ("level", "u8:3:5")],
    "prb_desc_ring": [
        *[
            ("count_bits", "u32"),
            ("pad", "u32"),
            ("descs", "u64"),
            ("infos", "u64"),
            ("head_id", "u64"),
            ("tail_id", "u64"),
        ]
    ],
    "prb_data_ring": [("size_bits", "u32"), ("pad", "u32"), ("data", "u64")],
    "printk_ringbuffer": [("desc_ring", "prb_desc_ring"), ("text_data_ring", "prb_data_ring")],
}
OLD = NEW | {
    "task_struct": [
        ("state", "s64") if name == "__state" else ("cpu", "u32") if name == "thread_info" else (name, kind)
        for name, kind in [("pad", "u32"), *NEW["task_struct"]]
    ],
    "mm_struct": [("mmap", "u64"), *NEW["mm_struct"][1:]],
    "vm_area_struct": [*NEW["vm_area_struct"][:2], ("vm_next", "u64"), *NEW["vm_area_struct"][2:]],
}


class Types:
    """BTF of structures: names with the names and kinds of their members, as above."""

    def __init__(self, structures):
        self.types, self.strings, self.ids, self.sizes = [], bytearray(1), {}, dict(SIZES)
        for name, size in SIZES.items():
            signed = 1 << 24 if name.startswith("s") else 0
            self.ids[name] = self._add(1 << 24, name, size, [signed | 8 * size])
        self.structures = structures
        for name in structures:
            self._structure(name)

    def _string(self, text):
        at = len(self.strings)
        self.strings += text.encode() + b"\0"
        return at

    def _add(self, info, name, third, more):
        self.types.append(struct.pack(f"<{3 + len(more)}I", self._string(name) if name else 0, info, third, *more))
        return len(self.types)

    def _id(self, kind):
        name, _, count = kind.partition("[")
        self._structure(name)
        if not count:
            return self.ids[name], self.sizes[name]
        count = int(count.rstrip("]"))
        return self._add(3 << 24, "", 0, [self.ids[name], self.ids["u32"], count]), count * self.sizes[name]

    def _structure(self, name):
        if name in self.ids:
            return
        at, words, members = 0, [], self.structures[name]
        for member, kind in members:
            whole, *bits = kind.split(":")
            number, size = self._id(whole)
            width, first = map(int, bits) if bits else (0, 0)
            words += [self._string(member), number, width << 24 | 8 * at + first]
            at += size
        self.ids[name], self.sizes[name] = self._add(1 << 31 | 4 << 24 | len(members), name, at, words), at

    def bytes(self):
        """Return it as a kernel carries it."""
        types = b"".join(self.types)
        header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(self.strings))
        return header + types + bytes(self.strings)


class Flat:
    """Virtual memory of one piece."""

    def __init__(self, content, base=BASE):
        self.content, self.base, self.reads = content, base, 0

    def read(self, at, size):
        self.reads += 1
        if not self.base <= at <= at + size <= self.base + len(self.content):
            raise bj.GuestMemoryError(f"nothing is mapped at {at:#x}", at, size)
        return bytes(self.content[at - self.base : at - self.base + size])

    def read_u64(self, at):
        return int.from_bytes(self.read(at, 8), "little")

    def read_many(self, addresses, dtype):
        import numpy as np

        kind = np.dtype(dtype)
        return np.frombuffer(b"".join(self.read(at, kind.itemsize) for at in addresses), kind)


class Made:
    """The memory of a kernel with a process "sh" (pid 1) of two threads, and a thread of the kernel (pid 2)."""

    def __init__(self, structures=NEW, *, has_btf=True):
        self.content, self.next, self.symbols = bytearray(SIZE), 0x1000, {}
        raw = Types(structures).bytes()
        self.btf = bj.Btf(raw)
        start = self.room(len(raw))
        self.content[start - BASE : start - BASE + len(raw)] = raw
        if has_btf:
            self.symbols |= {"__start_BTF": start, "__stop_BTF": start + len(raw)}
        self.memory, self.user = Flat(self.content), Flat(bytearray(b"sh\0-c\0exit\0A=1\0B=x=y\0"), 0x7000_0000)
        self.cpus = []
        banner = b"Linux version 6.1.0-made (me) #7 now\0"
        self.symbols["linux_banner"] = self.bytes(banner)
        self._processes()
        self.log(["first line", "second line"])
        self._modules()

    def virtual(self, cr3):
        return self.user if cr3 == 0x5000 else self.memory

    @property
    def linux(self):
        """What is under test."""
        kernel = SimpleNamespace(
            base=BASE,
            slide=0,
            symbols=self.symbols,
            cr3=0x1000,
            levels=4,
            banner="Linux version 6.1.0-made (me) #7 now",
        )
        return bj.linux.Linux(self, kernel)

    def room(self, size):
        """Return where so many bytes have room."""
        at, self.next = self.next, self.next + (size + 255) // 256 * 256
        return BASE + at

    def bytes(self, content):
        at = self.room(len(content))
        self.content[at - BASE : at - BASE + len(content)] = content
        return at

    def text(self, text):
        return self.bytes(text.encode() + b"\0")

    def set(self, structure, at, **values):
        """Set members: a double underscore stands for the dot."""
        for name, value in values.items():
            path = name if self.btf.has(structure, name) else name.replace("__", ".")
            if self.btf.has(structure, path):
                member = self.btf.member(structure, path)
                content = (
                    value
                    if isinstance(value, bytes)
                    else (value % (1 << 8 * member.size)).to_bytes(member.size, "little")
                )
                if member.bits:
                    content = bytes([value << member.bit_offset % 8])
                self.content[at - BASE + member.offset : at - BASE + member.offset + len(content)] = content

    def new(self, structure, **values):
        at = self.room(self.btf.size(structure))
        self.set(structure, at, **values)
        return at

    def ring(self, structure, link, head, members):
        """Link structures as the kernel's lists are: in a circle through their head."""
        places = [head, *(at + self.btf.offset(structure, link) for at in members)]
        for i, at in enumerate(places):
            words = struct.pack("<2Q", places[(i + 1) % len(places)], places[i - 1])
            self.content[at - BASE : at - BASE + 16] = words

    def dentry(self, name, parent=None, sb=0, hashed=1, inode=0):
        at = self.new("dentry", d_name__name=self.text(name), d_name__len=len(name), d_sb=sb, d_inode=inode)
        self.set("dentry", at, d_parent=parent or at, d_hash__pprev=hashed)
        return at

    def file(self, name, mode, *, fstype="ext9", parent=None, inode=7, flags=0, hashed=1):
        sb = self.superblock(fstype)
        dentry = self.dentry(name, parent or self.root, sb, hashed)
        node = self.new("inode", i_mode=mode, i_ino=inode)
        mount = self.mount + self.btf.offset("mount", "mnt")
        return self.new("file", f_path__mnt=mount, f_path__dentry=dentry, f_inode=node, f_flags=flags)

    def superblock(self, fstype):
        kind = self.new("file_system_type", name=self.text(fstype))
        return self.new("super_block", s_type=kind)

    def _processes(self):
        sb = self.superblock("rootfs")
        self.root = self.dentry("/", None, sb)
        self.mount = self.new("mount", mnt__mnt_root=self.root, mnt__mnt_sb=sb, mnt_id=1, mnt_devname=self.text("none"))
        self.set("mount", self.mount, mnt_parent=self.mount, mnt_mountpoint=self.root)
        where = self.dentry("srv", self.root, sb)
        top = self.dentry("/", None, self.superblock("tmpfs"))
        self.inner = self.new("mount", mnt_parent=self.mount, mnt_mountpoint=where, mnt__mnt_root=top, mnt_id=2)
        self.set(
            "mount", self.inner, mnt__mnt_flags=0x21, mnt_devname=self.text("me"), mnt__mnt_sb=self.superblock("tmpfs")
        )
        self.space = self.new("mnt_namespace", ns__inum=4026531841)
        self.ring("mount", "mnt_list", self.space + self.btf.offset("mnt_namespace", "list"), [self.mount, self.inner])
        proxy, cred = self.new("nsproxy", mnt_ns=self.space), self.new("cred", uid=1000, gid=100)
        self.init = self.new("task_struct", comm=b"swapper/0", flags=0x200000)
        self.symbols["init_task"] = self.init
        signal = self.new("signal_struct")
        common = {
            "real_cred": cred,
            "nsproxy": proxy,
            "signal": signal,
            "real_parent": self.init,
            "start_time": 1500000000,
        }
        self.mm = self._space()
        self.fdt = self.new("fdtable", max_fds=4, fd=self._descriptors())
        files = self.new("files_struct", fdt=self.fdt)
        shell = common | {"mm": self.mm, "files": files, "tgid": 1}
        self.sh = self.new("task_struct", pid=1, comm=b"sh", **shell, on_cpu=1, thread_info__cpu=3, cpu=3)
        self.second = self.new("task_struct", pid=9, comm=b"worker", __state=1, state=1, **shell)
        self.kthread = self.new(
            "task_struct",
            pid=2,
            tgid=2,
            comm=b"kthreadd",
            flags=0x200000,
            __state=0x402,
            state=0x402,
            real_parent=self.init,
        )
        self.ring("task_struct", "tasks", self.init + self.btf.offset("task_struct", "tasks"), [self.sh, self.kthread])
        self.ring("task_struct", "thread_node", signal, [self.sh, self.second])

    def _descriptors(self):
        files = [
            self.file("tty", 0o020600, inode=5, flags=2),
            0,
            self.file("gone", 0o100644, hashed=0, inode=6),
            self.file("", 0o010600, fstype="pipefs", inode=77, flags=1),
        ]
        return self.bytes(struct.pack("<4Q", *files))

    def _space(self):
        program = self.file("busybox", 0o100755, inode=8)
        parts = [
            (0x400000, 0x401000, 5, program, 3),
            (0x600000, 0x603000, 3, 0, 0),
            (0x7FFF000000, 0x7FFF001000, 3, 0, 0),
        ]
        self.areas = [
            self.new("vm_area_struct", vm_start=start, vm_end=end, vm_flags=flags, vm_file=file, vm_pgoff=offset)
            for start, end, flags, file, offset in parts
        ]
        for area, following in zip(self.areas, self.areas[1:], strict=False):
            self.set("vm_area_struct", area, vm_next=following)
        pivots, slots, _at = [], [], 0
        for (start, end, *_), area in zip(parts, self.areas, strict=True):
            pivots, slots, _at = [*pivots, start - 1, end - 1], [*slots, 0, area], end
        leaf = self.bytes(struct.pack("<Q", 0) + _words(pivots, 15) + _words([*slots, 0], 16))
        inner = self.bytes(struct.pack("<Q", 0) + _words([2**64 - 1], 9) + _words([leaf | 1 << 3 | 2], 10))
        self.leaf, self.inner_node = leaf, inner
        strings = {"arg_start": 0x7000_0000, "arg_end": 0x7000_000B, "env_start": 0x7000_000B, "env_end": 0x7000_0015}
        return self.new(
            "mm_struct", mm_mt__ma_root=inner | 3 << 3 | 2, mmap=self.areas[0], pgd=DIRECT + 0x5000, brk=0x602000,
            start_brk=0x600000, start_stack=0x7FFF000800, **strings,
        )  # fmt: skip

    def log(self, lines):
        """Write a log of these lines."""
        data, descs, infos = bytearray(1024), bytearray(), bytearray()
        at = 0
        for number, line in enumerate(lines):
            end = at + (8 + len(line) + 7) // 8 * 8
            data[at + 8 : at + 8 + len(line)] = line.encode()
            descs += struct.pack("<3Q", 2 << 62 | number, at, end)
            infos += struct.pack("<2QHBB", number, 10**9 * number, len(line), 0, 6 << 5)
            at = end
        rings = {"desc_ring__count_bits": 3, "desc_ring__head_id": len(lines) - 1, "text_data_ring__size_bits": 10}
        rings |= {"desc_ring__descs": self.bytes(descs.ljust(8 * 24, b"\0")), "text_data_ring__data": self.bytes(data)}
        self.prb = self.new("printk_ringbuffer", desc_ring__infos=self.bytes(infos.ljust(8 * 20, b"\0")), **rings)
        self.symbols["prb"] = self.bytes(struct.pack("<Q", self.prb))

    def _modules(self):
        head = self.symbols["modules"] = self.room(16)
        inside = {"core_layout__base": 0xFFFFFFFFC0000000, "core_layout__size": 0x3000, "refcnt": 2}
        ring = self.new("module", name=b"virtio_ring", **inside)
        user = self.new("module", name=b"virtio", refcnt=1, version=self.text("1.0"))
        use = self.new("module_use", source=user, target=ring)
        self.ring("module", "list", head, [user, ring])
        self.ring("module_use", "source_list", ring + self.btf.offset("module", "source_list"), [use])
        self.ring("module_use", "source_list", user + self.btf.offset("module", "source_list"), [])


def _words(values, count):
    return struct.pack(f"<{count}Q", *values, *[0] * (count - len(values)))
