use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;

use crate::support::PATIENCE;
use crate::support::exporter::Exporter;
use crate::support::exposition::Exposition;
use crate::support::fuse::{Behaviour, Opcode};
use crate::support::http::{self, Response};
use crate::support::namespace::{Needs, Node, in_namespace, unmount_all};
use crate::support::subject::{
    FEW_THREADS, HANGING, Outcomes, Subject, Volumes, all, healthy, measured_and, outcomes, states, volumes,
    wait_until,
};

/// A timeout that no test can wait for.
const NO_TIMEOUT: &str = "--stat-timeout=1h";

#[test]
fn node_that_hangs_from_the_start_is_ready_and_servers_are_asked_for_statfs_only() {
    in_namespace(Needs::Fuse, |node| {
        let (well, deaf) = (volumes("well", 3, healthy()), volumes("deaf", 3, Behaviour::Deaf));
        let ill = [&deaf[..], &volumes("silent", 3, Behaviour::Silent)].concat();
        // A client without a limit is refused when it has waited for much longer.
        let subject = Subject::start(node, &[&well[..], &ill].concat(), &["--stat-timeout=1s"]);
        for _ in 0..3 {
            let scrape = subject.exporter.scrape();
            assert_eq!(outcomes(&scrape), measured_and(&well, &ill, "timeout"));
            assert_eq!(states(&scrape), [3.0, 0.0, 6.0, 0.0]);
        }
        assert_eq!(subject.exporter.get("/readyz").status, 200);
        for (name, asked) in subject.fuse.asked() {
            let read = [Opcode::STATFS, Opcode::INIT];
            let expected = if name.starts_with("deaf") { &read[1..] } else { &read };
            assert_eq!(asked.into_keys().collect::<Vec<_>>(), expected, "{name}");
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
fn thousand_slow_mounts_are_measured_while_others_hang() {
    in_namespace(Needs::Fuse, |node| {
        let slow = volumes("slow", 1000, Behaviour::AnswersAfter(Duration::from_millis(20)));
        let subject = Subject::start(node, &slow, &[]);
        (0..3).for_each(|_| assert_eq!(subject.outcomes(), all(&slow, "measured")));
        let much_slower = volumes("much-slower", 5, Behaviour::AnswersAfter(Duration::from_hours(1)));
        subject.mount(&much_slower);
        (0..3).for_each(|_| assert_eq!(subject.outcomes(), measured_and(&slow, &much_slower, "timeout")));
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
            let scrape = subject.exporter.scrape_within(0.5);
            let mut outcomes = outcomes(&scrape);
            let of_ill: Vec<String> = ill.iter().filter_map(|(name, _)| outcomes.remove(name)).collect();
            assert_eq!(outcomes, all(&well, "measured"));
            let count = |outcome: &str| of_ill.iter().filter(|other| *other == outcome).count();
            let (hung, skipped) = (count("timeout"), count("skipped"));
            assert!(hung > 0 && skipped > 0 && hung + skipped == 200, "{hung} hung, {skipped} skipped");
            assert_eq!(states(&scrape), [20.0, 0.0, hung as f64, skipped as f64]);
        }
        assert!((30..=60).contains(&subject.exporter.threads()), "{}", subject.exporter.threads());
        assert_eq!(subject.exporter.logged("probe_thread_failed").len(), 1);
        subject.set(&ill, healthy());
        subject.exporter.wait_for_threads(FEW_THREADS);
        assert_eq!(subject.outcomes(), measured_and(&well, &ill, "measured"));
    });
}

/// More than `FEW_THREADS`, so that their threads show.
const ILL: usize = 20;

/// A node with a few volumes that stay healthy, and others that a test makes hang.
struct HangingNode<'a> {
    subject: Subject<'a>,
    well: Volumes,
    ill: Volumes,
}

impl<'a> HangingNode<'a> {
    fn start(node: &'a Node) -> Self {
        let (well, ill) = (volumes("well", 3, healthy()), volumes("ill", ILL, healthy()));
        let subject = Subject::start(node, &[&well[..], &ill].concat(), &[NO_TIMEOUT]);
        let node = Self { subject, well, ill };
        node.assert_outcome("measured");
        node
    }

    fn expected(&self, outcome: &str) -> Outcomes {
        measured_and(&self.well, &self.ill, outcome)
    }

    fn assert_outcome(&self, outcome: &str) {
        assert_eq!(self.subject.outcomes(), self.expected(outcome));
    }

    /// Makes the volumes hang, and the program know it.
    fn hang(&self, hanging: Behaviour) {
        self.subject.set(&self.ill, hanging);
        assert_eq!(self.subject.outcomes_within(1.0), self.expected("timeout"));
        self.assert_outcome("timeout");
        assert!(self.subject.exporter.threads() > ILL);
    }

    /// Each volume has this outcome as soon as its thread is back, and all threads come back.
    fn assert_recovers(&self, outcome: &str) {
        let (hung, back) = (self.expected("timeout"), self.expected(outcome));
        wait_until(outcome, || {
            let outcomes = self.subject.outcomes();
            for (name, now) in &outcomes {
                assert!(*now == hung[name] || *now == back[name], "{name}: {now}");
            }
            outcomes == back
        });
        self.subject.exporter.wait_for_threads(FEW_THREADS);
    }

    fn end_servers(&self) {
        self.ill.iter().for_each(|(name, _)| self.subject.fuse.die(name));
    }

    /// The volumes are not there, and when mounted again they are measured.
    fn assert_unmounted_and_mount(&self) {
        assert_eq!(self.subject.outcomes(), all(&self.well, "measured"));
        self.subject.mount(&self.ill);
        self.assert_outcome("measured");
    }
}

#[test]
fn hung_mounts_have_the_result_that_comes_at_last() {
    in_namespace(Needs::Fuse, |node| {
        let node = HangingNode::start(node);
        for hanging in HANGING {
            for (behaviour, outcome) in [
                (healthy(), "measured"),
                (Behaviour::Fails(Errno::ESTALE), "stale"),
                (Behaviour::Fails(Errno::EIO), "io"),
                (healthy(), "measured"),
            ] {
                node.hang(hanging);
                node.subject.set(&node.ill, behaviour);
                node.assert_recovers(outcome);
            }
        }
        for (errno, reason) in [
            (Errno::ENOTCONN, "not_connected"),
            (Errno::EHOSTDOWN, "not_connected"),
            (Errno::ESTALE, "stale"),
            (Errno::EIO, "io"),
            (Errno::EACCES, "permission"),
            (Errno::ETIMEDOUT, "timeout"),
            (Errno::ENOSYS, "other"),
        ] {
            node.subject.set(&node.ill, Behaviour::Fails(errno));
            node.assert_outcome(reason);
            node.subject.set(&node.ill, healthy());
            node.assert_outcome("measured");
        }
        node.end_servers();
        node.assert_outcome("not_connected");
    });
}

#[test]
fn unmounted_hung_mounts_are_gone() {
    in_namespace(Needs::Fuse, |node| {
        let node = HangingNode::start(node);
        let paths: Vec<_> = node.ill.iter().map(|(name, _)| node.subject.path(name)).collect();
        for hanging in HANGING {
            // Their servers die.
            node.hang(hanging);
            node.end_servers();
            node.assert_recovers("not_connected");
            unmount_all(&paths);
            node.assert_unmounted_and_mount();

            // Lazily unmounted, what hangs keeps its thread until the server dies; others are mounted in its place.
            node.hang(hanging);
            for path in &paths {
                umount2(path, MntFlags::MNT_DETACH).unwrap();
            }
            node.assert_unmounted_and_mount();
            assert!(node.subject.exporter.threads() > ILL);
            node.end_servers();
            node.subject.exporter.wait_for_threads(FEW_THREADS);
            node.assert_outcome("measured");

            // By force, the kernel ends what hangs; until that is gone, the mount is busy.
            node.hang(hanging);
            for path in &paths {
                while umount2(path, MntFlags::MNT_FORCE) == Err(Errno::EBUSY) {}
            }
            node.end_servers();
            node.assert_unmounted_and_mount();
            node.subject.exporter.wait_for_threads(FEW_THREADS);
        }
    });
}

#[test]
fn sigterm_frees_the_port_and_answers_scrapes_while_mounts_hang() {
    let cases = HANGING.into_iter().flat_map(|hanging| [(hanging, false), (hanging, true)]);
    in_namespace(Needs::Fuse, |_| cases.for_each(|(hanging, is_scraped)| assert_stops(hanging, is_scraped)));
}

fn assert_stops(hanging: Behaviour, is_scraped: bool) {
    let node = Node::new();
    let HangingNode { mut subject, ill, .. } = {
        let node = HangingNode::start(&node);
        node.hang(hanging);
        node
    };
    let (address, before) = (subject.exporter.address, subject.exporter.threads());
    let more = volumes("more", 10, hanging);
    let scrape = is_scraped.then(|| {
        subject.mount(&more);
        let mut stream = http::connect(address);
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        // Four threads were idle.
        wait_until("probes", || subject.exporter.threads() >= before + more.len() - 4);
        stream
    });
    subject.exporter.signal(Signal::SIGTERM);
    wait_until("the port is free", || TcpListener::bind(address).is_ok());
    assert!(TcpStream::connect(address).is_err(), "nobody listens");
    if let Some(mut stream) = scrape {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let response = Response::parse(&bytes);
        assert_eq!(response.status, 200, "{}", response.text());
        // Some of the new ones may not have been asked yet.
        let [measured, failed, hung, skipped] = states(&Exposition::parse(&response.text()));
        assert_eq!([measured, failed, hung + skipped], [3.0, 0.0, 30.0]);
    }
    if hanging == Behaviour::Silent {
        // The kernel keeps the threads, and for them the process, until the answers come.
        wait_until("a zombie", || subject.exporter.state() == 'Z');
        assert!(subject.exporter.threads() >= ILL);
        subject.set(&[&ill[..], if is_scraped { &more } else { &[] }].concat(), healthy());
    }
    let status = subject.exporter.wait_within(PATIENCE).expect("it does not end");
    assert_eq!(status.code(), Some(0));
}
