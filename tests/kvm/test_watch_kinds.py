"""What can be watched and how: linear addresses, filters, debug registers, many at once; and what is refused."""

import pytest

import belljar as bj

DATA = 0x8000
TABLES = 0x20000


def run_to_end(vm):
    with vm.on_port(0x10, lambda exit: bj.STOP):
        end = vm.run(timeout=30)
    assert isinstance(end, bj.PortOut), end


def writes(vm, *addresses, mode="long"):
    """Load code that writes 1, 2, 3 ... to the addresses."""
    code = "".join(f"mov rbx, {at}; mov dword ptr [rbx], {n};" for n, at in enumerate(addresses, 1))
    vm.load(code + "out 0x10, al", mode)


def map_two_pages(vm):
    """Map linear 0x400000 to DATA and 0x401000 to DATA + 0x2000, in tables that no vCPU uses."""
    for level in range(3):
        vm.memory.write_u64(TABLES + 0x1000 * level + (16 if level == 2 else 0), TABLES + 0x1000 * (level + 1) + 7)
    vm.memory.write_u64(TABLES + 0x3000, DATA + 7)
    vm.memory.write_u64(TABLES + 0x3008, DATA + 0x2000 + 7)


def test_a_linear_range_over_two_pages_is_watched_where_its_tables_lead(vm):
    map_two_pages(vm)
    writes(vm, DATA + 0xFFC, DATA + 0x1000, DATA + 0x2000, DATA + 0x2004)
    seen = []
    wp = vm.watch(0x400FFC, 8, seen.append, virtual=True, cr3=TABLES)
    run_to_end(vm)
    assert [(hit.address, hit.gpa, hit.after) for hit in seen] == [
        (0x400FFC, DATA + 0xFFC, 1),
        (0x401000, DATA + 0x2000, 3),
    ]
    assert (wp.virtual, wp.address, wp.size) == (True, 0x400FFC, 8)


def test_a_linear_address_that_is_not_mapped_is_refused_with_the_level(vm):
    map_two_pages(vm)
    writes(vm, DATA)
    with pytest.raises(ValueError, match=r"0x402000 is not mapped.*level 1"):
        vm.watch(0x402000, 3, virtual=True, cr3=TABLES)


def test_a_filter_says_which_accesses_are_hits(vm):
    writes(vm, DATA, DATA, DATA, DATA)
    wp = vm.watch(DATA, when=bj.exit.after == 3)
    hit = vm.run(timeout=20)
    assert (hit.before, hit.after, wp.hits) == (2, 3, 1)
    assert wp.when is not None
    run_to_end(vm)
    assert wp.hits == 1


def test_a_watch_that_is_to_be_hit_once_goes_with_its_hit(vm):
    writes(vm, DATA, DATA)
    seen = []
    wp = vm.watch(DATA, 8, seen.append, once=True)
    run_to_end(vm)
    assert [hit.after for hit in seen] == [1]
    assert "removed" in repr(wp)


def test_a_decorated_function_is_the_handler_and_a_disabled_watch_has_no_hits(vm):
    writes(vm, DATA, DATA + 4)

    @vm.on_watch(DATA, 8)
    def seen(hit):
        seen.enabled = False

    run_to_end(vm)
    assert (seen.hits, seen.enabled) == (1, False)
    with pytest.raises(TypeError, match="on_watch"):
        vm.watch(DATA + 0x800)(print)


def test_a_handler_stops_the_run_with_its_hit(vm):
    writes(vm, DATA)
    vm.watch(DATA, 8, lambda hit: bj.STOP)
    assert isinstance(vm.run(timeout=20), bj.WatchpointHit)


def test_what_a_handler_sets_holds_after_the_instruction(vm):
    vm.load(f"mov rbx, {DATA}; mov eax, [rbx]; out 0x10, al")

    def answer(hit):
        vm.cpu.regs.rax = 0x55

    vm.watch(DATA, 8, answer, access="r")
    run_to_end(vm)
    assert vm.cpu.regs.rax == 0x55


def test_an_error_of_a_handler_ends_the_run_with_the_access_made(vm):
    writes(vm, DATA)
    vm.watch(DATA, 8, lambda hit: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        vm.run(timeout=20)
    assert vm.memory.read_u32(DATA) == 1


def test_several_watches_of_one_page_are_each_told_and_share_it(vm):
    writes(vm, DATA, DATA + 8, DATA + 4)
    seen = []
    wide = vm.watch(DATA, 16, lambda hit: seen.append(("wide", hit.address)))
    narrow = vm.watch(DATA + 4, 4, lambda hit: seen.append(("narrow", hit.address)))
    run_to_end(vm)
    assert seen == [("wide", DATA), ("wide", DATA + 8), ("wide", DATA + 4), ("narrow", DATA + 4)]
    assert (wide.hits, narrow.hits) == (3, 1)


def test_thousands_of_pages_can_be_watched(new_vm):
    vm = new_vm("32M")
    pages = range(0x100000, 0x100000 + 3000 * 0x2000, 0x2000)
    writes(vm, pages[0], pages[1] + 0x1000, pages[2999], pages[1500] - 8)
    seen = []
    watches = [vm.watch(0x100000, len(pages) * 0x2000, seen.append, when=bj.exit.address % 0x2000 < 0x1000)]
    watches += [vm.watch(page, 8, access="rw", when=bj.exit.write == 0) for page in pages[:50]]
    run_to_end(vm)
    assert [hit.address for hit in seen] == [pages[0], pages[2999]]
    for watch in watches:
        watch.remove()
    assert vm.memory.read_u32(pages[2999]) == 3


def test_host_reads_and_writes_of_a_watched_page_are_no_hits(vm):
    writes(vm, DATA + 0x100)
    wp = vm.watch(DATA, 0x10, access="rw")
    vm.memory.write(DATA, b"abc")
    assert vm.memory.read(DATA, 3) == b"abc"
    run_to_end(vm)
    assert wp.hits == 0


def test_handlers_of_mmio_and_limits_never_see_a_trapped_access_that_is_no_hit(vm):
    writes(vm, *[DATA + 0x100] * 20)
    vm.watch(DATA, 8)
    with vm.on_exit(bj.MmioWrite, lambda exit: pytest.fail("an access to RAM")), vm.on_port(0x10, lambda exit: bj.STOP):
        assert isinstance(vm.run(timeout=20, max_exits=2), bj.PortOut)


def test_a_write_to_rom_is_a_hit_and_stays_dropped(new_vm):
    vm = new_vm("1M")
    vm.memory.add(0x200000, 0x1000, rom=True)
    vm.memory.write(0x200000, b"\x07" * 8)
    writes(vm, 0x200000)
    seen = []
    vm.watch(0x200000, 8, seen.append)
    run_to_end(vm)
    assert [(hit.before, hit.after) for hit in seen] == [(0x07070707, 0x07070707)]
    assert vm.memory.read_u32(0x200000) == 0x07070707


def test_a_region_that_is_watched_is_not_removed(new_vm):
    vm = new_vm("1M")
    vm.memory.add(0x200000, 0x3000)
    before = str(vm.memory.regions)
    wp = vm.watch(0x201000, 4, access="r")
    assert str(vm.memory.regions) == before, "traps are not seen in the map"
    with pytest.raises(ValueError, match="watchpoints: remove"):
        vm.memory.remove(0x200000)
    wp.remove()
    vm.memory.remove(0x200000)
    with pytest.raises(bj.GuestMemoryError):
        vm.watch(0x201000)


def test_what_means_nothing_is_refused(vm):
    for wrong in [{"access": "q"}, {"size": 0}, {"cr3": 0x1000}, {"hw": True}, {"size": 1 << 40}]:
        with pytest.raises((ValueError, bj.GuestMemoryError)):
            vm.watch(DATA, **wrong)
    for virtual in (False, True):
        with pytest.raises(KeyError, match="jiffies"):
            vm.watch("jiffies", virtual=virtual)
    with pytest.raises(TypeError):
        vm.watch(DATA, handler=5)


@pytest.mark.needs(hardware_watchpoints=True)
@pytest.mark.parametrize("mode", ["long", "user"])
def test_a_debug_register_watches_what_fits_one(vm, mode):
    vm.memory.write_u32(DATA, 9)
    writes(vm, DATA, DATA + 8, DATA, mode=mode)
    seen = []
    wp = vm.watch(DATA, 4, seen.append, virtual=True)
    assert wp.mechanism == "debug register"
    run_to_end(vm)
    assert [(hit.id, hit.address, hit.gpa, hit.before, hit.after) for hit in seen] == [
        (wp.id, DATA, DATA, 9, 1),
        (wp.id, DATA, DATA, 1, 3),
    ]
    wp.remove()
    five = [vm.watch(DATA + 8 * n, 8, virtual=True) for n in range(5)]
    assert [wp.mechanism for wp in five].count("debug register") == 4
    assert five[4].mechanism == "memory trap (read-only page)"
    with pytest.raises(ValueError, match="debug register"):
        vm.watch(DATA, 4, virtual=True, hw=True)


@pytest.mark.needs(hardware_watchpoints=False)
def test_where_debug_registers_do_not_work_a_trap_is_taken_and_insisting_is_refused(vm):
    writes(vm, DATA)
    assert vm.watch(DATA, 4, virtual=True).mechanism == "memory trap (read-only page)"
    with pytest.raises(bj.HostError, match="debug registers"):
        vm.watch(DATA, 4, virtual=True, hw=True)


def test_hits_are_recorded_natively(vm):
    writes(vm, DATA, DATA + 8, DATA)
    vm.on_watch(DATA + 8)
    wp = vm.on_watch(DATA)
    with vm.trace(watch=wp, fields=["address", "before", "after", "rip"]) as trace:
        run_to_end(vm)
    records = trace.read()
    assert records["after"].tolist() == [1, 3]
    assert records["before"].tolist() == [0, 1]


def test_a_trace_makes_watchpoints_of_its_own_and_takes_them_away(vm):
    writes(vm, DATA, DATA + 8, DATA + 16)
    with vm.trace(watch=[(DATA, 8), DATA + 16], fields=["kind", "address"]) as trace:
        run_to_end(vm)
    kinds = [trace.KINDS[kind] for kind in trace.read()["kind"]]
    assert kinds.count("WatchpointHit") == 2


def test_a_string_that_is_copied_over_a_watched_range_is_told_piece_by_piece(vm):
    vm.memory.write(0x9000, bytes(range(1, 65)))
    vm.load(f"mov rsi, 0x9000; mov rdi, {DATA}; mov rcx, 8; rep movsq; out 0x10, al")
    seen = []
    vm.watch(DATA + 8, 20, seen.append)
    run_to_end(vm)
    assert [(hit.address, hit.size) for hit in seen] == [(DATA + 8, 8), (DATA + 16, 8), (DATA + 24, 4)]
    assert vm.memory.read(DATA, 64) == bytes(range(1, 65))
    assert vm.cpu.regs.rcx == 0
