//! Pieces and tables against a plain model: a page at a time. No kernel is asked.

use proptest::prelude::*;

use super::slots::{Piece, pieces};
use super::*;

fn region(page: u64, pages: u64) -> RegionInfo {
    RegionInfo::new(GuestPhys(page * PAGE), pages * PAGE, false, 0, &[]).expect("small")
}

fn watch(first: u64, last: u64, accesses: Accesses) -> Arc<Watch> {
    let parts = vec![Part { span: Span { first, last }, at: first + 0x10_0000 }];
    Arc::new(Watch::new(1, parts, Terms { accesses, ..Terms::default() }))
}

const WRITES: Accesses = Accesses { reads: false, writes: true, executes: false };
const READS: Accesses = Accesses { reads: true, writes: false, executes: false };

proptest! {
    #[test]
    fn every_page_is_shown_as_its_watches_want_it(
        ranges in prop::collection::vec((0u64..0x8000, 0u64..0x2000, any::<bool>()), 0..6),
    ) {
        let watches: Vec<_> =
            ranges.iter().map(|(at, len, reads)| watch(*at, at + len, if *reads { READS } else { WRITES })).collect();
        let table = Table::new(watches.clone());
        let region = region(1, 6);
        let pieces = pieces(&region, table.pages_in(&region));
        for page in 0..12 {
            let (first, last) = (page * PAGE, page * PAGE + PAGE - 1);
            let of: Vec<_> = watches.iter().filter(|w| w.parts[0].span.overlaps(Span { first, last })).collect();
            let shown = pieces.iter().find(|p| p.at <= first && first < p.at + p.len);
            let wanted = match () {
                () if !(1..7).contains(&page) || of.iter().any(|w| w.accesses.reads) => None,
                () => Some(!of.is_empty()),
            };
            prop_assert_eq!(shown.map(|p| p.read_only), wanted);
        }
        prop_assert!(pieces.windows(2).all(|pair| {
            pair[0].at + pair[0].len < pair[1].at || pair[0].read_only != pair[1].read_only
        }), "adjacent pages share a slot");
    }

    #[test]
    fn an_access_touches_the_watches_that_have_its_bytes(
        first in 0u64..0x3000, len in 1u64..0x1800, at in 0u64..0x4ff8, size in 1u64..9,
    ) {
        prop_assume!(at / PAGE == (at + size - 1) / PAGE);
        let table = Table::new(vec![watch(first, first + len - 1, WRITES)]);
        let touched = table.touched(GuestPhys(at), size, Access::Write);
        let expected: Vec<_> = (at..at + size).filter(|byte| (first..first + len).contains(byte)).collect();
        prop_assert_eq!(touched.len(), usize::from(!expected.is_empty()));
        for (_, span, own) in touched {
            prop_assert_eq!((Some(&span.first), Some(&span.last)), (expected.first(), expected.last()));
            prop_assert_eq!(own, span.first + 0x10_0000);
        }
        prop_assert!(table.touched(GuestPhys(at), size, Access::Read).is_empty());
    }
}

#[test]
fn a_watch_that_is_switched_off_is_not_touched() {
    let watched = watch(8, 15, WRITES);
    let table = Table::new(vec![Arc::clone(&watched)]);
    watched.enable(false);
    assert!(table.touched(GuestPhys(8), 8, Access::Write).is_empty());
    assert_eq!(table.kind_at(GuestPhys(0xfff)), Some(Kind::ReadOnly));
}

#[test]
fn a_region_without_traps_is_one_piece() {
    let region = region(0, 4);
    assert_eq!(pieces(&region, std::iter::empty()), [Piece { at: 0, len: 4 * PAGE, read_only: false }]);
    let hole = [(PAGE, Kind::Hole)];
    let around = pieces(&region, hole.into_iter());
    assert_eq!(around.iter().map(|p| (p.at, p.len)).collect::<Vec<_>>(), [(0, PAGE), (2 * PAGE, 2 * PAGE)]);
}

#[test]
fn a_watch_that_is_to_be_hit_once_is() {
    let terms = Terms { accesses: WRITES, once: true, ..Terms::default() };
    let watch = Watch::new(1, Vec::new(), terms);
    assert!(watch.hit() && !watch.hit());
    assert_eq!(watch.hits(), 1);
}
