//! What an API server says of pods: a list, and the lines of a watch, in pieces of any size.

#![no_main]

use disk_usage_exporter::fuzzing::{listed, watched};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|input: &[u8]| {
    let Some((size, text)) = input.split_first() else { return };
    // What is skipped may be what a whole reading refuses: no UTF-8, numbers without end.
    if let (Some(names), Ok(list)) = (listed(text), serde_json::from_slice::<Value>(text)) {
        // A reading without a schema finds as many pods, or more: what does not parse is left out.
        let items = list["items"].as_array().map_or(0, Vec::len);
        assert!(names.len() <= items, "{names:?} of {items}");
    }
    let pieces: Vec<&[u8]> = text.chunks(usize::from(*size).max(1)).collect();
    let told = watched(&pieces);
    // However it is cut, it says the same.
    assert_eq!(told, watched(&[text]));
    let lines = text.split(|byte| *byte == b'\n').collect::<Vec<_>>();
    let whole = lines[..lines.len() - 1].iter().filter(|line| !line.is_empty());
    assert_eq!(told.len(), whole.count(), "{told:?}");
});
