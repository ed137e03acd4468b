//! Members of structures and unions: listed with the anonymous ones inside, and found by a path.
//! It never follows a pointer.

use super::{Btf, Kind};

/// So many anonymous structures inside one another are entered.
const DEEPEST: usize = 24;
/// So many members are listed; the largest structure of a kernel has some 300.
const MOST: usize = 16 << 10;

/// One member of a structure, seen from the outermost one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name, or path.
    pub name: String,
    /// Offset in bits.
    pub bit_offset: u64,
    /// Width in bits, of a bit field.
    pub bits: Option<u32>,
    /// The number of its type.
    pub id: u32,
}

impl Btf {
    /// The members of the structure `id`, those of anonymous structures and unions inside it among them.
    pub fn members(&self, id: u32) -> Vec<Member> {
        let (mut found, mut budget) = (vec![], MOST);
        self.collect(self.resolve(id), 0, 0, &mut found, &mut budget);
        found
    }

    fn collect(&self, id: u32, base: u64, depth: usize, found: &mut Vec<Member>, budget: &mut usize) {
        let Some(raw) = self.raw(id).filter(|_| depth < DEEPEST) else { return };
        for member in raw.members() {
            let Some(left) = budget.checked_sub(1) else { return };
            *budget = left;
            let (name, at) = (self.string(member.name), base + u64::from(member.bit_offset));
            if name.is_empty() {
                self.collect(self.resolve(member.id), at, depth + 1, found, budget);
            } else {
                found.push(self.member(name, member.id, at, member.bits));
            }
        }
    }

    /// A bit field of old has its width in an integer type of its own.
    fn member(&self, name: &str, id: u32, at: u64, bits: u32) -> Member {
        let integer = self.raw(self.resolve(id)).and_then(|raw| Some((raw.integer()?, raw.size_or_type)));
        let (bits, first) = match integer {
            Some(((width, first), size)) if bits == 0 && u64::from(width) != 8 * u64::from(size) => (width, first),
            _ => (bits, 0),
        };
        Member { name: name.to_owned(), bit_offset: at + u64::from(first), bits: Some(bits).filter(|b| *b != 0), id }
    }

    /// The member that `path` leads to from the structure `id`: "se.sum_exec_runtime", "comm", "pids[1].node".
    pub fn at_path(&self, id: u32, path: &str) -> Option<Member> {
        let mut here = Member { name: path.to_owned(), bit_offset: 0, bits: None, id };
        for part in path.split('.').take(DEEPEST) {
            let (name, indices) = part.split_at(part.find('[').unwrap_or(part.len()));
            let member = self.members(here.id).into_iter().find(|member| member.name == name)?;
            here.bit_offset = here.bit_offset.checked_add(member.bit_offset)?;
            (here.bits, here.id) = (member.bits, member.id);
            for index in indices.split_terminator(']') {
                self.enter(&mut here, index.strip_prefix('[')?.parse().ok()?)?;
            }
        }
        Some(here)
    }

    /// Goes to an element of an array; one without a length has any.
    fn enter(&self, here: &mut Member, index: u32) -> Option<()> {
        let raw = self.raw(self.resolve(here.id)).filter(|raw| raw.kind == Kind::Array)?;
        let (element, count) = raw.array()?;
        if count != 0 && index >= count {
            return None;
        }
        let skipped = self.size(element)?.checked_mul(u64::from(index))?.checked_mul(8)?;
        here.bit_offset = here.bit_offset.checked_add(skipped)?;
        here.id = element;
        Some(())
    }
}
