use std::thread;
use std::time::Duration;

use crate::support::fuse::Behaviour;
use crate::support::http;
use crate::support::namespace::{Needs, in_namespace};
use crate::support::subject::{Subject, healthy, measured_and, outcomes, volumes};

/// A client with little time shares the collection of one that has more, and neither costs the other its figures.
#[test]
fn a_scrape_with_less_time_than_a_mount_needs_gets_the_others_beside_one_with_more() {
    in_namespace(Needs::Fuse, |node| {
        let well = volumes("well", 3, healthy());
        let slow = volumes("slow", 1, Behaviour::AnswersAfter(Duration::from_millis(3500)));
        let subject = Subject::start(node, &[&well[..], &slow].concat(), &["--stat-timeout=20s"]);
        let exporter = &subject.exporter;
        thread::scope(|scope| {
            let long = scope.spawn(|| exporter.scrape_within(60.0));
            thread::sleep(Duration::from_millis(200));
            let hurried = outcomes(&exporter.scrape_within(2.0));
            assert_eq!(hurried, measured_and(&well, &slow, "timeout"));
            // Clients without any patience.
            while !long.is_finished() {
                let hasty = [("X-Prometheus-Scrape-Timeout-Seconds", "0.000001")];
                http::get(exporter.address, "/metrics", &hasty);
            }
            assert_eq!(outcomes(&long.join().unwrap()), measured_and(&well, &slow, "measured"));
        });
    });
}
