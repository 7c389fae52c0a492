use std::collections::BTreeMap;

use crate::support::fuse::{Behaviour, Opcode};
use crate::support::namespace::{Needs, Node, in_namespace};
use crate::support::subject::{FEW_THREADS, Subject, all, healthy, outcomes, states, volumes};

/// So long that whoever waits for it would fail the test.
const FOR_EVER: &str = "--stat-timeout=1h";

#[test]
fn the_kernel_asks_a_server_for_its_figures_and_nothing_else() {
    in_namespace(Needs::Fuse, |node| {
        let volumes = volumes("healthy", 3, healthy());
        let it = Subject::start(node, &volumes, &[]);
        for _ in 0..3 {
            assert_eq!(outcomes(&it.exporter.scrape()), all(&volumes, "measured"));
        }
        for (name, asked) in it.fuse.asked() {
            let opcodes: Vec<Opcode> = asked.keys().copied().collect();
            assert_eq!(opcodes, [Opcode::STATFS, Opcode::INIT], "{name}");
        }
    });
}

/// Mounts that never answered, or did once, and then hang: only the first scrape waits for them, none of the others
/// goes without its figures, and each costs one thread.
fn assert_one_scrape_waits(node: &Node, hanging: Behaviour, hung: usize, healthy_ones: usize, proven: bool) {
    let well = volumes("well", healthy_ones, healthy());
    let ill = volumes("ill", hung, if proven { healthy() } else { hanging });
    let it = Subject::start(node, &well, &[FOR_EVER]);
    assert_eq!(outcomes(&it.exporter.scrape()), all(&well, "measured"));
    it.mount(&ill);
    let mut expected = all(&well, "measured");
    if proven {
        expected.extend(all(&ill, "measured"));
        assert_eq!(outcomes(&it.exporter.scrape()), expected);
        it.set(&ill, hanging);
    }
    expected.extend(all(&ill, "timeout"));
    // It keeps a fifth of the client's time for sending.
    assert_eq!(outcomes(&it.exporter.scrape_within(2.0)), expected, "the first scrape");
    for _ in 0..10 {
        let scrape = it.exporter.scrape();
        assert_eq!(outcomes(&scrape), expected, "a later scrape");
        assert_eq!(states(&scrape), [healthy_ones as f64, 0.0, hung as f64, 0.0]);
        it.exporter.wait_for_threads(hung + FEW_THREADS);
    }
    assert!(it.exporter.threads() > hung, "each has its thread");
}

#[test]
fn one_mount_that_hangs_costs_one_scrape_its_time() {
    in_namespace(Needs::Fuse, |node| assert_one_scrape_waits(node, Behaviour::Deaf, 1, 9, false));
}

#[test]
fn one_mount_whose_server_has_read_the_request_is_no_worse() {
    in_namespace(Needs::Fuse, |node| assert_one_scrape_waits(node, Behaviour::Silent, 1, 9, false));
}

#[test]
fn mounts_that_answered_once_may_hang_later() {
    in_namespace(Needs::Fuse, |node| assert_one_scrape_waits(node, Behaviour::Silent, 5, 5, true));
}

#[test]
fn every_mount_of_a_node_may_hang() {
    in_namespace(Needs::Fuse, |node| assert_one_scrape_waits(node, Behaviour::Deaf, 30, 0, false));
}

#[test]
fn a_node_that_hangs_from_the_start_is_answered_within_the_time() {
    in_namespace(Needs::Fuse, |node| {
        let (well, deaf) = (volumes("well", 3, healthy()), volumes("deaf", 3, Behaviour::Deaf));
        let silent = volumes("silent", 3, Behaviour::Silent);
        let volumes = [&well[..], &deaf, &silent].concat();
        let outcome_of_each = [all(&well, "measured"), all(&deaf, "timeout"), all(&silent, "timeout")];
        let expected: BTreeMap<String, String> = outcome_of_each.into_iter().flatten().collect();
        // A client without a limit of its own is refused when it has waited for much longer.
        let it = Subject::start(node, &volumes, &["--stat-timeout=1s"]);
        for _ in 0..3 {
            let scrape = it.exporter.scrape();
            assert_eq!(outcomes(&scrape), expected);
            assert_eq!(states(&scrape), [3.0, 0.0, 6.0, 0.0]);
        }
        assert_eq!(it.exporter.get("/readyz").status, 200);
    });
}
