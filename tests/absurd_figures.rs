use std::collections::BTreeMap;

use crate::support::fuse::{Behaviour, Figures};
use crate::support::namespace::{Needs, in_namespace};
use crate::support::subject::{Subject, Volumes};

const BYTES: [&str; 4] = [
    "pv_disk_usage_bytes_total",
    "pv_disk_usage_bytes_used",
    "pv_disk_usage_bytes_available",
    "pv_disk_usage_percent_used",
];
const INODES: [&str; 4] = [
    "pv_disk_usage_inodes",
    "pv_disk_usage_inodes_used",
    "pv_disk_usage_inodes_available",
    "pv_disk_usage_inodes_percent_used",
];
/// What must not be exposed.
const NONE: f64 = f64::NAN;
const NO_INODES: [f64; 4] = [NONE; 4];
const MAX: u64 = u64::MAX;
const MAX_BYTES: u32 = u32::MAX;

/// What a server answers, and what of it is true and finite: the public contract, written once more.
type Case = (&'static str, [u64; 3], [u64; 2], [u32; 2], Option<([f64; 4], [f64; 4])>);

#[test]
fn whatever_a_server_answers_exposed_figures_are_possible() {
    let (huge, max) = (MAX as f64 * f64::from(MAX_BYTES), MAX as f64);
    let (empty, half) = ([409_600.0, 0.0, 409_600.0, 0.0], [409_600.0, 204_800.0, 204_800.0, 50.0]);
    let (half_of_512, no_inode_used) = ([51_200.0, 25_600.0, 25_600.0, 50.0], [10.0, 0.0, 10.0, 0.0]);
    let full = ([huge, huge, 0.0, 100.0], [max, max, 0.0, 100.0]);
    let free = ([huge, 0.0, huge, 0.0], [max, 0.0, max, 0.0]);
    let cases: [Case; 11] = [
        ("most-full", [MAX, 0, 0], [MAX, 0], [MAX_BYTES; 2], Some(full)),
        ("most-empty", [MAX; 3], [MAX; 2], [MAX_BYTES; 2], Some(free)),
        ("more-free-than-there-is", [100, 200, 300], [10, 20], [4096; 2], Some((empty, no_inode_used))),
        ("negative-free", [100, MAX, MAX - 5], [10, MAX], [4096; 2], Some((empty, no_inode_used))),
        ("no-room", [1, 1, 0], [10, 10], [4096; 2], Some(([4096.0, 0.0, 0.0, NONE], no_inode_used))),
        ("no-inodes", [100, 50, 50], [0, 5], [4096; 2], Some((half, NO_INODES))),
        ("no-fragment-size", [100, 50, 50], [0, 0], [512, 0], Some((half_of_512, NO_INODES))),
        ("no-block-size", [100, 50, 50], [0, 0], [0, 512], Some((half_of_512, NO_INODES))),
        ("no-size", [100, 50, 50], [10, 5], [0, 0], None),
        ("no-blocks", [0, 50, 50], [10, 5], [4096; 2], None),
        ("nothing", [0; 3], [0; 2], [0; 2], None),
    ];
    in_namespace(Needs::Fuse, |node| {
        let volumes = cases.iter().map(|(name, blocks, inodes, bytes, _)| {
            let figures = Figures { blocks: *blocks, inodes: *inodes, bytes: *bytes };
            ((*name).to_owned(), Behaviour::Answers(figures))
        });
        let scrape = Subject::start(node, &volumes.collect::<Volumes>(), &[]).exporter.scrape();
        for (name, labels, value) in &scrape.samples {
            assert!(value.is_finite() && *value >= 0.0, "{name}{labels:?} {value}");
        }
        for (name, .., expected) in cases {
            let of_figures = |(bytes, inodes)| {
                let figures = BYTES.into_iter().zip(bytes).chain(INODES.into_iter().zip(inodes));
                figures
                    .filter(|(_, value): &(_, f64)| !value.is_nan())
                    .chain([("pv_disk_usage_readonly", 0.0)])
            };
            let mut series: BTreeMap<&str, f64> = expected.into_iter().flat_map(of_figures).collect();
            series.insert("pv_disk_usage_up", f64::from(u8::from(expected.is_some())));
            assert_eq!(scrape.volume(name), series, "{name}");
        }
        let mut errors = scrape.label("pv_disk_usage_error", "pv_name");
        errors.sort_unstable();
        assert_eq!(errors, ["no-blocks", "no-size", "nothing"]);
        assert_eq!(scrape.label("pv_disk_usage_error", "reason"), ["no_figures"; 3]);
    });
}
