//! A small BTF made by hand, and what is asked of it and of damaged ones. It never reads a real kernel's.

use proptest::prelude::*;

use super::*;

/// Makes BTF: types as words, and strings.
struct Maker {
    types: Vec<u8>,
    strings: Vec<u8>,
}

impl Maker {
    /// Nothing yet.
    fn new() -> Self {
        Self { types: vec![], strings: vec![0] }
    }

    fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let at = u32::try_from(self.strings.len()).unwrap();
        self.strings.extend(text.bytes().chain([0]));
        at
    }

    /// Adds a type: kind, name, number of parts, third word, and the words that follow; names among them as text.
    fn add(&mut self, kind: u32, name: &str, vlen: u32, third: u32, more: &[(&str, &[u32])]) {
        let mut words = vec![self.string(name), kind << 24 | vlen, third];
        for (name, rest) in more {
            if !name.is_empty() || rest.len() == 2 {
                words.push(self.string(name));
            }
            words.extend(*rest);
        }
        self.types.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    }

    /// The bytes.
    fn bytes(&self) -> Vec<u8> {
        let lengths = [self.types.len(), self.strings.len()].map(|length| u32::try_from(length).unwrap());
        let header = [0x0001_EB9F, 24, 0, lengths[0], lengths[0], lengths[1]];
        let header = header.iter().flat_map(|word: &u32| word.to_le_bytes());
        header.chain(self.types.iter().copied()).chain(self.strings.iter().copied()).collect()
    }
}

/// 1 int, 2 char, 3 char[16], 4 struct node *, 5 the anonymous union, 6 struct node, 7 typedef, 8 const, 9 prototype,
/// 10 function, 11 pointer to const node_t, 12 enum.
fn sample() -> Vec<u8> {
    let mut make = Maker::new();
    make.add(1, "int", 0, 4, &[("", &[1 << 24 | 32])]);
    make.add(1, "char", 0, 1, &[("", &[8])]);
    make.add(3, "", 0, 0, &[("", &[2, 1, 16])]);
    make.add(2, "", 0, 6, &[]);
    make.add(5, "", 2, 8, &[("state", &[1, 0]), ("raw", &[1, 0])]);
    make.add(4, "node", 4, 40, &[("next", &[4, 0]), ("name", &[3, 64]), ("", &[5, 192]), ("more", &[4, 256])]);
    make.add(8, "node_t", 0, 6, &[]);
    make.add(10, "", 0, 7, &[]);
    make.add(13, "", 2, 1, &[("of", &[11]), ("size", &[1])]);
    make.add(12, "walk", 1, 9, &[]);
    make.add(2, "", 0, 8, &[]);
    make.add(6, "mood", 2, 4, &[("GOOD", &[0]), ("BAD", &[7])]);
    make.bytes()
}

fn node(btf: &Btf) -> u32 {
    btf.find("node", &[Kind::Struct]).unwrap()
}

#[test]
fn members_of_an_anonymous_union_are_members_of_the_structure() {
    let btf = Btf::parse(&sample(), None).unwrap();
    let offsets: Vec<_> = btf.members(node(&btf)).into_iter().map(|m| (m.name, m.bit_offset / 8)).collect();
    let expected = [("next", 0), ("name", 8), ("state", 24), ("raw", 24), ("more", 32)];
    assert_eq!(offsets, expected.map(|(name, at)| (name.to_owned(), at)));
}

#[test]
fn a_path_goes_through_typedefs_and_into_arrays() {
    let btf = Btf::parse(&sample(), None).unwrap();
    assert_eq!(btf.at_path(node(&btf), "name[3]").unwrap().bit_offset, 8 * 11);
    assert_eq!(btf.at_path(7, "state").unwrap().bit_offset, 8 * 24);
    assert_eq!(btf.at_path(node(&btf), "name[16]"), None);
    assert_eq!(btf.at_path(node(&btf), "next.name"), None, "a pointer is not followed");
}

#[test]
fn types_print_as_c_writes_them() {
    let btf = Btf::parse(&sample(), None).unwrap();
    assert_eq!(btf.type_name(3), "char[16]");
    assert_eq!(btf.type_name(4), "struct node *");
    assert_eq!(btf.type_name(11), "const node_t *");
    assert_eq!(btf.declaration(3, "name"), "char name[16]");
    assert_eq!(btf.type_name(9), "int(const node_t *of, int size)");
}

#[test]
fn a_function_has_names_and_types_of_its_parameters() {
    let btf = Btf::parse(&sample(), None).unwrap();
    let function = btf.function("walk").unwrap();
    assert_eq!(function.parameters, [("of".to_owned(), 11), ("size".to_owned(), 1)]);
    assert_eq!(function.returns, 1);
    assert_eq!(btf.values(12), [("GOOD", 0), ("BAD", 7)]);
}

#[test]
fn a_modules_types_come_after_the_kernels() {
    let base = Arc::new(Btf::parse(&sample(), None).unwrap());
    let mut make = Maker::new();
    make.strings.clear();
    make.strings.extend(b"\0module_thing\0member\0");
    let first = u32::try_from(base.strings_end()).unwrap();
    let words = [first + 1, 4 << 24 | 1, 40, first + 14, 6, 0];
    make.types.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    let split = Btf::parse(&make.bytes(), Some(base)).unwrap();
    let thing = split.find("module_thing", &[Kind::Struct]).unwrap();
    assert_eq!(thing, 13);
    assert_eq!(split.at_path(thing, "member.name").unwrap().bit_offset, 64);
    assert!(split.function("walk").is_some());
}

#[test]
fn types_that_refer_to_themselves_have_an_end() {
    let mut make = Maker::new();
    make.add(8, "loop", 0, 1, &[]);
    make.add(3, "", 0, 0, &[("", &[2, 2, 2])]);
    make.add(4, "self", 2, 8, &[("", &[3, 0]), ("", &[3, 0])]);
    make.add(13, "", 2, 4, &[("f", &[4]), ("g", &[4])]);
    ask(&make.bytes());
}

/// Asks everything of any bytes.
fn ask(bytes: &[u8]) {
    let Ok(btf) = Btf::parse(bytes, None) else { return };
    let ids = u32::try_from(btf.len().min(64)).unwrap_or(0);
    for id in 0..=ids + 1 {
        let _ = (btf.size(id), btf.type_name(id).len(), btf.values(id).len(), btf.members(id).len());
        let _ = (btf.at_path(id, "name[1].next"), btf.at_path(id, "state"));
    }
    let functions: Vec<_> = btf.named(&[Kind::Function]).map(|(name, _)| name.to_owned()).take(64).collect();
    assert!(functions.iter().all(|name| btf.find(name, &[Kind::Function]).is_some()));
    assert!(functions.iter().all(|name| btf.function(name).is_none_or(|f| f.parameters.len() < 1 << 16)));
}

proptest! {
    #[test]
    fn damaged_btf_is_read_or_refused_and_never_hangs(flips in prop::collection::vec((0usize..400, any::<u8>()), 1..12)) {
        let mut bytes = sample();
        for (at, with) in flips {
            let at = at % bytes.len();
            bytes[at] ^= with;
        }
        ask(&bytes);
    }

    #[test]
    fn any_bytes_behind_a_header_are_read_or_refused(types in prop::collection::vec(any::<u8>(), 0..600)) {
        let make = Maker { types, strings: b"\0next\0name\0".to_vec() };
        ask(&make.bytes());
    }
}
