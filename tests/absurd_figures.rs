use std::collections::BTreeMap;

use crate::support::fuse::{Behaviour, Figures};
use crate::support::namespace::{Needs, in_namespace};
use crate::support::subject::Subject;

/// Blocks, free, available; inodes, free; bytes of a block, of a fragment.
fn figures(blocks: [u64; 3], inodes: [u64; 2], bytes: [u32; 2]) -> Behaviour {
    Behaviour::Answers(Figures { blocks, inodes, bytes })
}

/// Total, used, available, percent; inodes, used, available, percent.
type Expected = ([Option<f64>; 4], Option<[f64; 4]>);

/// Unknown, as coreutils have it.
const ALL_ONES: u64 = u64::MAX;
/// The most that is not negative.
const MOST: u64 = u64::MAX >> 1;
const MOST_BYTES: u32 = u32::MAX;

/// What servers say, and what of it is true and finite: the public contract, written once more.
fn cases() -> Vec<(&'static str, Behaviour, Option<Expected>)> {
    let huge = MOST as f64 * f64::from(MOST_BYTES);
    let bytes = |total, used, available, percent| [Some(total), Some(used), Some(available), percent];
    let empty = [10.0, 0.0, 10.0, 0.0];
    vec![
        (
            "the-most-full",
            figures([MOST, 0, 0], [MOST, 0], [MOST_BYTES; 2]),
            Some((bytes(huge, huge, 0.0, Some(100.0)), Some([MOST as f64, MOST as f64, 0.0, 100.0]))),
        ),
        (
            "the-most-empty",
            figures([MOST; 3], [MOST; 2], [MOST_BYTES; 2]),
            Some((bytes(huge, 0.0, huge, Some(0.0)), Some([MOST as f64, 0.0, MOST as f64, 0.0]))),
        ),
        (
            "more-free-than-there-is",
            figures([100, 200, 300], [10, 20], [4096; 2]),
            Some((bytes(409_600.0, 0.0, 409_600.0, Some(0.0)), None)),
        ),
        (
            "reserve-exceeded",
            figures([100, 10, 5_u64.wrapping_neg()], [10, 10], [4096; 2]),
            Some((bytes(409_600.0, 368_640.0, 0.0, Some(100.0)), Some(empty))),
        ),
        (
            "quota-exceeded",
            figures([100, 20_u64.wrapping_neg(), 20_u64.wrapping_neg()], [10, 10], [4096; 2]),
            Some((bytes(409_600.0, 491_520.0, 0.0, Some(100.0)), Some(empty))),
        ),
        (
            "free-unknown",
            figures([100, ALL_ONES, 50], [10, ALL_ONES], [4096; 2]),
            Some(([Some(409_600.0), None, Some(204_800.0), None], None)),
        ),
        (
            "available-unknown",
            figures([100, 50, ALL_ONES], [ALL_ONES, 5], [4096; 2]),
            Some(([Some(409_600.0), Some(204_800.0), None, None], None)),
        ),
        (
            "neither-used-nor-available",
            figures([1, 1, 0], [10, 10], [4096; 2]),
            Some((bytes(4096.0, 0.0, 0.0, None), Some(empty))),
        ),
        (
            "no-inodes",
            figures([100, 50, 50], [0, 5], [4096; 2]),
            Some((bytes(409_600.0, 204_800.0, 204_800.0, Some(50.0)), None)),
        ),
        (
            "no-fragment-size",
            figures([100, 50, 50], [0, 0], [512, 0]),
            Some((bytes(51_200.0, 25_600.0, 25_600.0, Some(50.0)), None)),
        ),
        (
            "no-block-size",
            figures([100, 50, 50], [0, 0], [0, 512]),
            Some((bytes(51_200.0, 25_600.0, 25_600.0, Some(50.0)), None)),
        ),
        ("no-size-at-all", figures([100, 50, 50], [10, 5], [0, 0]), None),
        ("no-blocks", figures([0, 50, 50], [10, 5], [4096; 2]), None),
        ("blocks-unknown", figures([ALL_ONES; 3], [ALL_ONES; 2], [4096; 2]), None),
        ("nothing", figures([0; 3], [0; 2], [0; 2]), None),
    ]
}

fn series(expected: Option<Expected>) -> BTreeMap<&'static str, f64> {
    let Some((bytes, inodes)) = expected else {
        return BTreeMap::from([("pv_disk_usage_up", 0.0)]);
    };
    let names = [
        "pv_disk_usage_bytes_total",
        "pv_disk_usage_bytes_used",
        "pv_disk_usage_bytes_available",
        "pv_disk_usage_percent_used",
    ];
    let of_inodes = [
        "pv_disk_usage_inodes",
        "pv_disk_usage_inodes_used",
        "pv_disk_usage_inodes_available",
        "pv_disk_usage_inodes_percent_used",
    ];
    let bytes = names.into_iter().zip(bytes).filter_map(|(name, value)| Some((name, value?)));
    let inodes = inodes.into_iter().flat_map(|inodes| of_inodes.into_iter().zip(inodes));
    let always = [
        ("pv_disk_usage_readonly", 0.0),
        ("pv_disk_usage_filesystem_readonly", 0.0),
        ("pv_disk_usage_up", 1.0),
    ];
    bytes.chain(inodes).chain(always).collect()
}

#[test]
fn whatever_servers_say_what_is_exposed_is_possible() {
    in_namespace(Needs::Fuse, |node| {
        let volumes: Vec<(String, Behaviour)> =
            cases().into_iter().map(|(name, behaviour, _)| (name.to_owned(), behaviour)).collect();
        let scrape = Subject::start(node, &volumes, &[]).exporter.scrape();
        for (name, labels, value) in &scrape.samples {
            assert!(value.is_finite() && *value >= 0.0, "{name}{labels:?} {value}");
        }
        for (name, _, expected) in cases() {
            assert_eq!(scrape.volume(name), series(expected), "{name}");
        }
        let without: Vec<&str> = cases().iter().filter(|case| case.2.is_none()).map(|case| case.0).collect();
        let mut failing = scrape.label("pv_disk_usage_error", "pv_name");
        failing.sort_by_key(|name| without.iter().position(|other| other == name));
        assert_eq!(failing, without);
        assert_eq!(scrape.label("pv_disk_usage_error", "reason"), ["no_figures"; 4]);
    });
}
