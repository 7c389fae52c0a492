use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::support::exporter::Exporter;
use crate::support::exposition::Exposition;
use crate::support::fuse::{Behaviour, Opcode};
use crate::support::http;
use crate::support::namespace::{Needs, Node, in_namespace};
use crate::support::subject::{
    FEW_THREADS, HANGING, Subject, all, healthy, measured_and, outcomes, states, volumes,
};

/// A timeout that no test can wait for.
const NO_TIMEOUT: &str = "--stat-timeout=1h";

#[test]
fn kernel_asks_a_server_for_statfs_and_nothing_else() {
    in_namespace(Needs::Fuse, |node| {
        let volumes = volumes("healthy", 3, healthy());
        let subject = Subject::start(node, &volumes, &[]);
        for _ in 0..3 {
            assert_eq!(subject.outcomes(), all(&volumes, "measured"));
        }
        for (name, asked) in subject.fuse.asked() {
            let opcodes: Vec<Opcode> = asked.keys().copied().collect();
            assert_eq!(opcodes, [Opcode::STATFS, Opcode::INIT], "{name}");
        }
    });
}

/// Of mounts that never answered, or did once, and then hang, only the first scrape waits, for some of these seconds.
/// Every scrape measures all others. Each hung mount costs one thread, and is asked once.
fn assert_one_scrape_waits(
    hanging: Behaviour,
    [hung, well]: [usize; 2],
    has_answered: bool,
    first_scrape_seconds: f64,
) {
    let node = Node::new();
    let case = format!("{hung} {hanging:?} and {well} healthy mounts");
    let well = volumes("well", well, healthy());
    let ill = volumes("ill", hung, if has_answered { healthy() } else { hanging });
    let subject = Subject::start(&node, &[], &[NO_TIMEOUT]);
    assert_eq!(subject.outcomes(), BTreeMap::new(), "{case}");
    // In the order of the table, those that hang come first.
    subject.mount(&ill);
    subject.mount(&well);
    if has_answered {
        assert_eq!(subject.outcomes(), measured_and(&well, &ill, "measured"), "{case}");
        subject.set(&ill, hanging);
    }
    let expected = measured_and(&well, &ill, "timeout");
    assert_eq!(subject.outcomes_within(first_scrape_seconds), expected, "{case}: the first scrape");
    for _ in 0..5 {
        let scrape = subject.exporter.scrape();
        assert_eq!(outcomes(&scrape), expected, "{case}: a later scrape");
        assert_eq!(states(&scrape), [well.len() as f64, 0.0, hung as f64, 0.0], "{case}");
        subject.exporter.wait_for_threads(hung + FEW_THREADS);
    }
    assert!(subject.exporter.threads() > hung, "{case}: each has its thread");
    for (name, asked) in subject.fuse.asked() {
        let times = asked.get(&Opcode::STATFS).copied().unwrap_or_default();
        let is_asked_again = name.starts_with("ill") && times > 1 + usize::from(has_answered);
        assert!(!is_asked_again, "{case}: {name} was asked {times} times");
    }
    subject.set(&ill, healthy());
    subject.exporter.wait_for_threads(FEW_THREADS);
}

#[test]
fn hung_mounts_cost_one_scrape_its_time() {
    in_namespace(Needs::Fuse, |_| {
        assert_one_scrape_waits(Behaviour::Deaf, [1, 9], false, 2.0);
        assert_one_scrape_waits(Behaviour::Silent, [1, 9], false, 2.0);
        assert_one_scrape_waits(Behaviour::Silent, [5, 5], true, 2.0);
        assert_one_scrape_waits(Behaviour::Deaf, [30, 0], false, 2.0);
    });
}

#[test]
fn more_hung_mounts_than_workers_hide_no_other() {
    in_namespace(Needs::Fuse, |_| {
        for hanging in HANGING {
            assert_one_scrape_waits(hanging, [200, 100], false, 4.0);
        }
    });
}

#[test]
fn node_that_hangs_from_the_start_is_ready_and_answered() {
    in_namespace(Needs::Fuse, |node| {
        let well = volumes("well", 3, healthy());
        let hanging = HANGING.map(|hanging| volumes(&format!("{hanging:?}"), 3, hanging)).concat();
        // A client without a limit is refused when it has waited for much longer.
        let subject = Subject::start(node, &[&well[..], &hanging].concat(), &["--stat-timeout=1s"]);
        for _ in 0..3 {
            let scrape = subject.exporter.scrape();
            assert_eq!(outcomes(&scrape), measured_and(&well, &hanging, "timeout"));
            assert_eq!(states(&scrape), [3.0, 0.0, 6.0, 0.0]);
        }
        assert_eq!(subject.exporter.get("/readyz").status, 200);
    });
}

#[test]
fn thousand_slow_mounts_are_measured_while_others_hang() {
    in_namespace(Needs::Fuse, |node| {
        let slow = volumes("slow", 1000, Behaviour::AnswersAfter(Duration::from_millis(20)));
        let subject = Subject::start(node, &slow, &[]);
        for _ in 0..3 {
            assert_eq!(subject.outcomes(), all(&slow, "measured"));
        }
        let much_slower = volumes("much-slower", 5, Behaviour::AnswersAfter(Duration::from_hours(1)));
        subject.mount(&much_slower);
        for _ in 0..3 {
            assert_eq!(subject.outcomes(), measured_and(&slow, &much_slower, "timeout"));
        }
    });
}

#[test]
fn skipped_mounts_are_not_hung_and_are_probed_first_next_time() {
    in_namespace(Needs::Fuse, |node| {
        let subject = Subject::start(node, &[], &[NO_TIMEOUT]);
        subject.exporter.scrape();
        subject.mount(&volumes("ill", 200, Behaviour::Silent));
        let mut timed_out_before = BTreeSet::new();
        for round in 0..100 {
            let scrape = subject.exporter.scrape_within(0.2);
            let outcomes = outcomes(&scrape);
            let of = |reason: &str| -> BTreeSet<String> {
                let names = outcomes.iter().filter(|(_, outcome)| *outcome == reason);
                names.map(|(name, _)| name.clone()).collect()
            };
            let (timed_out, skipped) = (of("timeout"), of("skipped"));
            assert_eq!(timed_out.len() + skipped.len(), 200);
            assert_eq!(states(&scrape), [0.0, 0.0, timed_out.len() as f64, skipped.len() as f64]);
            // A mount that was taken at the last moment is asked just after the scrape.
            assert_eq!(subject.fuse.wait_until_held(timed_out.len()), timed_out);
            assert!(timed_out.is_superset(&timed_out_before));
            assert!(round > 0 || !skipped.is_empty(), "all were asked at once: the test shows nothing");
            if skipped.is_empty() {
                return;
            }
            timed_out_before = timed_out;
        }
        panic!("some are never asked");
    });
}

#[test]
fn concurrent_scrapes_of_hung_mounts_get_the_same() {
    in_namespace(Needs::Fuse, |node| {
        let (well, ill) = (volumes("well", 20, healthy()), volumes("ill", 20, Behaviour::Silent));
        let subject = Subject::start(node, &[&well[..], &ill].concat(), &["--stat-timeout=1s"]);
        let address = subject.exporter.address;
        for _ in 0..3 {
            let scrapes = [(); 40].map(|()| std::thread::spawn(move || http::get(address, "/metrics", &[])));
            for response in scrapes.map(|scrape| scrape.join().unwrap()) {
                assert_eq!(response.status, 200, "{}", response.text());
                let outcomes = outcomes(&Exposition::parse(&response.text()));
                assert_eq!(outcomes, measured_and(&well, &ill, "timeout"));
            }
            subject.exporter.wait_for_threads(20 + FEW_THREADS);
        }
    });
}

#[test]
fn without_more_threads_hung_mounts_are_skipped_and_it_is_logged_once() {
    in_namespace(Needs::Fuse, |node| {
        let (well, ill) = (volumes("well", 20, healthy()), volumes("ill", 200, Behaviour::Deaf));
        let start = || Exporter::start_with_threads(60, node, &["--rootfs=/", NO_TIMEOUT]);
        let subject = Subject::start_by(node, &well, start);
        assert_eq!(subject.outcomes(), all(&well, "measured"));
        subject.mount(&ill);
        for _ in 0..5 {
            let mut outcomes = subject.outcomes_within(1.0);
            let of_ill: BTreeSet<String> = ill.iter().filter_map(|(name, _)| outcomes.remove(name)).collect();
            assert_eq!(outcomes, all(&well, "measured"));
            assert_eq!(of_ill, BTreeSet::from(["skipped".to_owned(), "timeout".to_owned()]));
        }
        assert!((30..=60).contains(&subject.exporter.threads()), "{}", subject.exporter.threads());
        assert_eq!(subject.exporter.logged("probe_thread_failed").len(), 1);
        subject.set(&ill, healthy());
        subject.exporter.wait_for_threads(FEW_THREADS);
        assert_eq!(subject.outcomes(), measured_and(&well, &ill, "measured"));
    });
}
