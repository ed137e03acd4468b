//! Dumps of any content: what is read of them is sorted into regions that overlap nowhere and lie in the file.
#![no_main]

use belljar::inspect::saved::{ReadAt, notes, pieces, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    let Ok(Some(saved)) = read(file) else { return };
    for state in notes::states(&saved.notes) {
        state.values();
    }
    for note in &saved.notes {
        notes::kernel_tables(&String::from_utf8_lossy(&note.data));
    }
    let len = ReadAt::len(file);
    let Ok(found) = pieces::pieces(saved.segments, saved.format, len) else { return };
    let mut end = 0;
    for piece in found {
        assert!(piece.at >= end && piece.len > 0 && piece.at % 4096 == 0 && piece.len % 4096 == 0, "{piece:?}");
        end = piece.at + piece.len;
        assert!(piece.mapped.is_none_or(|offset| offset % 4096 == 0 && offset + piece.len <= len), "{piece:?}");
        for chunk in piece.chunks {
            assert!(
                chunk.at >= piece.at && chunk.at + chunk.len <= end && chunk.offset + chunk.len <= len,
                "{chunk:?}"
            );
        }
    }
});
