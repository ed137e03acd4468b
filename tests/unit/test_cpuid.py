"""CPUID tables of one's own: leaves, features by name, the names of processors. No KVM is asked."""

import pytest

import belljar as bj
from belljar.cpuid_features import ALIASES, FEATURES


def test_a_feature_is_a_bit_of_a_leaf():
    table = bj.Cpuid()
    table["avx2"] = True
    table["nx"] = True
    assert table.items() == [((7, 0), (0, 1 << 5, 0, 0)), ((0x8000_0001, None), (0, 0, 0, 1 << 20))]
    table["avx2"] = False
    assert table[7] == table[7, 0] == (0, 0, 0, 0) and table.flags == ["nx"]


def test_other_names_mean_the_same_bit():
    table = bj.Cpuid()
    for name in ALIASES:
        table[name] = True
        assert table[ALIASES[name]] and table[name.upper()]


def test_no_two_features_share_a_bit():
    assert len(set(FEATURES.values())) == len(FEATURES)
    assert all(0 <= bit < 32 and 0 <= word < 4 for _, _, word, bit in FEATURES.values())


def test_names_go_in_and_come_out():
    table = bj.Cpuid()
    table.vendor, table.brand = "GenuineIntel", "X" * 48
    assert (table.vendor, table.brand) == ("GenuineIntel", "X" * 48)
    assert table[0] == (1, 0x756E_6547, 0x6C65_746E, 0x4965_6E69)
    table.update({"brand": "short", "vendor": "V"})
    assert (table.vendor, table.brand) == ("V", "short")


@pytest.mark.parametrize(
    ("eax", "signature"), [(0x000A_0671, (6, 0xA7, 1)), (0x00A2_0F12, (25, 0x21, 2)), (0x0000_0543, (5, 4, 3))]
)
def test_family_and_model_are_put_together(eax, signature):
    assert bj.Cpuid({1: (eax, 0, 0, 0)}).signature == signature


def test_a_copy_is_ones_own():
    table = bj.Cpuid({(4, 0): (1, 2, 3, 4), (4, 1): (5, 6, 7, 8), 0: (9, 0, 0, 0)})
    copy = bj.Cpuid(table)
    assert copy == table and list(copy) == [(0, None), (4, 0), (4, 1)] and len(copy) == 3
    copy[4, 1] = (0, 0, 0, 0)
    assert copy != table and copy.diff(table) == {(4, 1): ((0, 0, 0, 0), (5, 6, 7, 8))}
    del copy[4, 1]
    assert copy.diff(table) == {(4, 1): (None, (5, 6, 7, 8))}


def test_a_leaf_without_subleaves_has_none_however_it_is_asked():
    table = bj.Cpuid({1: (1, 2, 3, 4)})
    assert table[1] == table[1, 0] == table[1, None]
    table[1, 0] = (5, 6, 7, 8)
    assert list(table) == [(1, None)]


def test_a_name_that_is_none_says_which_are_near():
    with pytest.raises(KeyError, match="avx2"):
        bj.Cpuid()["avx22"]


def test_every_feature_can_be_listed():
    features = bj.Cpuid({1: (0, 0, 1, 0)}).features
    assert set(features) == set(FEATURES) and [name for name, there in features.items() if there] == ["sse3"]
