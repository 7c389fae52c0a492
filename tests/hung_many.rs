use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::support::exporter::Exporter;
use crate::support::exposition::Exposition;
use crate::support::fuse::{Behaviour, Opcode};
use crate::support::http;
use crate::support::namespace::{Needs, Node, in_namespace};
use crate::support::subject::{FEW_THREADS, Subject, all, healthy, outcomes, states, volumes};

/// So long that whoever waits for it would fail the test.
const FOR_EVER: &str = "--stat-timeout=1h";

/// More mounts hang than there are threads to ask with, and the others are measured by every scrape.
fn assert_the_others_are_measured(node: &Node, hanging: Behaviour) {
    let (well, ill) = (volumes("well", 100, healthy()), volumes("ill", 200, hanging));
    let it = Subject::start(node, &[], &[FOR_EVER]);
    assert!(outcomes(&it.exporter.scrape()).is_empty());
    // In the order of the table, those that hang come first.
    it.mount(&ill);
    it.mount(&well);
    let mut expected = all(&well, "measured");
    expected.extend(all(&ill, "timeout"));
    assert_eq!(outcomes(&it.exporter.scrape_within(5.0)), expected, "the first scrape");
    for _ in 0..5 {
        let scrape = it.exporter.scrape();
        assert_eq!(outcomes(&scrape), expected);
        assert_eq!(states(&scrape), [100.0, 0.0, 200.0, 0.0]);
        it.exporter.wait_for_threads(200 + FEW_THREADS);
    }
    for (name, asked) in it.fuse.asked() {
        let times = asked.get(&Opcode::STATFS).copied().unwrap_or_default();
        assert!(!name.starts_with("ill") || times <= 1, "{name} was asked {times} times");
    }
    it.set(&ill, healthy());
    it.exporter.wait_for_threads(FEW_THREADS);
}

#[test]
fn more_mounts_than_workers_may_hang_unread() {
    in_namespace(Needs::Fuse, |node| assert_the_others_are_measured(node, Behaviour::Deaf));
}

#[test]
fn more_mounts_than_workers_may_hang_unanswered() {
    in_namespace(Needs::Fuse, |node| assert_the_others_are_measured(node, Behaviour::Silent));
}

#[test]
fn a_thousand_slow_mounts_are_measured_whoever_hangs_among_them() {
    in_namespace(Needs::Fuse, |node| {
        let slow = volumes("slow", 1000, Behaviour::AnswersAfter(Duration::from_millis(20)));
        let it = Subject::start(node, &slow, &[]);
        for _ in 0..3 {
            assert_eq!(outcomes(&it.exporter.scrape()), all(&slow, "measured"));
        }
        let much_slower = volumes("much-slower", 5, Behaviour::AnswersAfter(Duration::from_hours(1)));
        it.mount(&much_slower);
        let mut expected = all(&slow, "measured");
        expected.extend(all(&much_slower, "timeout"));
        for _ in 0..3 {
            assert_eq!(outcomes(&it.exporter.scrape()), expected);
        }
    });
}

#[test]
fn who_was_not_asked_is_told_from_who_did_not_answer_and_goes_first() {
    in_namespace(Needs::Fuse, |node| {
        let ill = volumes("ill", 200, Behaviour::Silent);
        let it = Subject::start(node, &[], &[FOR_EVER]);
        it.exporter.scrape();
        it.mount(&ill);
        let mut asked_before = BTreeSet::new();
        for round in 0..100 {
            let scrape = it.exporter.scrape_within(0.2);
            let outcomes = outcomes(&scrape);
            let of = |reason: &str| -> BTreeSet<String> {
                let names = outcomes.iter().filter(|(_, outcome)| *outcome == reason);
                names.map(|(name, _)| name.clone()).collect()
            };
            let (timeout, skipped) = (of("timeout"), of("skipped"));
            assert_eq!(timeout.len() + skipped.len(), 200);
            assert_eq!(states(&scrape), [0.0, 0.0, timeout.len() as f64, skipped.len() as f64]);
            // Who was taken at the last moment is asked just after the scrape.
            assert_eq!(it.fuse.wait_until_held(timeout.len()), timeout);
            assert!(timeout.is_superset(&asked_before));
            assert!(round > 0 || !skipped.is_empty(), "all were asked at once: the test shows nothing");
            if skipped.is_empty() {
                return;
            }
            asked_before = timeout;
        }
        panic!("some are never asked");
    });
}

#[test]
fn many_scrapes_at_once_while_mounts_hang_all_tell_the_same() {
    in_namespace(Needs::Fuse, |node| {
        let (well, ill) = (volumes("well", 20, healthy()), volumes("ill", 20, Behaviour::Silent));
        let it = Subject::start(node, &[&well[..], &ill].concat(), &["--stat-timeout=1s"]);
        let mut expected: BTreeMap<String, String> = all(&well, "measured");
        expected.extend(all(&ill, "timeout"));
        for _ in 0..3 {
            let address = it.exporter.address;
            let scrapes: Vec<_> =
                (0..40).map(|_| std::thread::spawn(move || http::get(address, "/metrics", &[]))).collect();
            let answers: Vec<http::Response> =
                scrapes.into_iter().map(|scrape| scrape.join().unwrap()).collect();
            for answer in answers {
                assert_eq!(answer.status, 200, "{}", answer.text());
                assert_eq!(outcomes(&Exposition::parse(&answer.text())), expected);
            }
            it.exporter.wait_for_threads(20 + FEW_THREADS);
        }
    });
}

#[test]
fn without_more_threads_it_says_so_once_and_goes_on() {
    in_namespace(Needs::Fuse, |node| {
        let (well, ill) = (volumes("well", 20, healthy()), volumes("ill", 200, Behaviour::Deaf));
        let start = || Exporter::start_with_threads(60, node, &["--rootfs=/", FOR_EVER]);
        let it = Subject::start_by(node, &well, start);
        assert_eq!(outcomes(&it.exporter.scrape()), all(&well, "measured"));
        it.mount(&ill);
        for _ in 0..5 {
            let scrape = it.exporter.scrape_within(1.0);
            let mut outcomes = outcomes(&scrape);
            let unwell: BTreeSet<String> = ill.iter().filter_map(|(name, _)| outcomes.remove(name)).collect();
            assert_eq!(outcomes, all(&well, "measured"));
            assert_eq!(unwell, BTreeSet::from(["skipped".to_owned(), "timeout".to_owned()]));
        }
        assert!((30..=60).contains(&it.exporter.threads()), "{}", it.exporter.threads());
        assert_eq!(it.exporter.logged("probe_thread_failed").len(), 1);
        it.set(&ill, healthy());
        it.exporter.wait_for_threads(FEW_THREADS);
        let mut expected = all(&well, "measured");
        expected.extend(all(&ill, "measured"));
        assert_eq!(outcomes(&it.exporter.scrape()), expected);
    });
}
