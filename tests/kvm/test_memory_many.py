"""Many values from all over guest memory at once: memory.read_many."""

import numpy as np
import pytest

import belljar as bj


def test_words_come_in_the_order_of_their_addresses(vm):
    vm.memory.write(0x1000, np.arange(512, dtype="<u8"))
    indices = np.random.default_rng(1).permutation(512)
    words = vm.memory.read_many(0x1000 + 8 * indices.astype("u8"))
    assert words.dtype == np.dtype("<u8") and words.tolist() == indices.tolist()


@pytest.mark.parametrize("kind", [list, tuple, iter, np.array, lambda a: np.array(a, "u4"), lambda a: np.array(a)[::1]])
def test_addresses_are_any_integers(vm, kind):
    vm.memory.write_u64(0x1003, 5)
    assert vm.memory.read_many(kind([0x1003, 0x1004])).tolist() == [5, 0]


def test_addresses_with_gaps_between_them_in_their_own_array_are_taken_as_they_are(vm):
    vm.memory.write(0x1000, np.arange(8, dtype="<u8"))
    assert vm.memory.read_many(np.arange(0x1000, 0x1040, 8)[::3]).tolist() == [0, 3, 6]


def test_the_answer_has_the_shape_of_the_question(vm):
    vm.memory.write(0x1000, np.arange(4, dtype="<u8"))
    places = np.array([[0x1000, 0x1008], [0x1010, 0x1018]])
    assert vm.memory.read_many(places.T).tolist() == [[0, 2], [1, 3]]


def test_structures_are_read_by_their_dtype(vm):
    kind = np.dtype([("pid", "<u4"), ("name", "S4")])
    vm.memory.write(0x1000, np.array([(1, b"init"), (2, b"sh")], dtype=kind))
    assert vm.memory.read_many([0x1008, 0x1000], kind)["name"].tolist() == [b"sh", b"init"]


def test_the_answer_is_a_copy_that_can_be_changed(vm):
    words = vm.memory.read_many([0x1000])
    words += 1
    assert vm.memory.read_u64(0x1000) == 0


def test_nothing_is_read_at_no_address(vm):
    assert vm.memory.read_many([]).shape == (0,)
    assert vm.memory.read_many(np.empty((0, 2), "u8")).shape == (0, 2)
    assert vm.memory.read_many([0x1000], "V0").shape == (1,)


@pytest.mark.parametrize("address", [2**20 - 7, 2**40, 2**64 - 1])
def test_the_address_that_has_no_memory_is_named(vm, address):
    with pytest.raises(bj.GuestMemoryError, match=hex(address)):
        vm.memory.read_many([0, address])


@pytest.mark.parametrize("addresses", [[-1], np.array([-1]), [2**64]])
def test_what_is_no_address_is_refused(vm, addresses):
    with pytest.raises(OverflowError, match="an address is an integer from 0 to"):
        vm.memory.read_many(addresses)


def test_what_is_not_made_of_integers_is_refused(vm):
    with pytest.raises(TypeError):
        vm.memory.read_many(np.array([1.5]))
    with pytest.raises(TypeError):
        vm.memory.read_many(5)


def test_objects_and_too_much_are_refused(vm):
    with pytest.raises(TypeError, match="no Python objects"):
        vm.memory.read_many([0], object)
    with pytest.raises((MemoryError, OverflowError)):
        vm.memory.read_many(np.zeros(1 << 20, "u8"), f"V{2**31 - 1}")


def test_a_closed_vm_says_so(new_vm):
    vm = new_vm("1M")
    vm.close()
    with pytest.raises(bj.ClosedError):
        vm.memory.read_many([0])
