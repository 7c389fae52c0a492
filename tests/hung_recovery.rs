use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;

use crate::support::PATIENCE;
use crate::support::exposition::Exposition;
use crate::support::fuse::Behaviour;
use crate::support::http::{self, Response};
use crate::support::namespace::{Needs, Node, in_namespace, unmount};
use crate::support::subject::{
    FEW_THREADS, HANGING, Outcomes, Subject, Volumes, all, healthy, measured_and, states, volumes, wait_until,
};

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
        let subject = Subject::start(node, &[&well[..], &ill].concat(), &["--stat-timeout=1h"]);
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
    });
}

#[test]
fn every_error_is_in_the_next_scrape() {
    in_namespace(Needs::Fuse, |node| {
        let node = HangingNode::start(node);
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
            paths.iter().for_each(|path| unmount(path));
            node.assert_unmounted_and_mount();

            // Lazily unmounted, what hangs keeps its thread until the server dies; others are mounted in its place.
            node.hang(hanging);
            paths.iter().for_each(|path| umount2(path, MntFlags::MNT_DETACH).unwrap());
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

/// Begins a scrape that waits for more mounts that hang.
fn scrape_in_flight(node: &HangingNode, more: &Volumes) -> TcpStream {
    let before = node.subject.exporter.threads();
    node.subject.mount(more);
    let mut stream = http::connect(node.subject.exporter.address);
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    // Two threads were idle.
    wait_until("probes", || node.subject.exporter.threads() >= before + more.len() - 2);
    stream
}

#[test]
fn sigterm_frees_the_port_and_answers_scrapes_while_mounts_hang() {
    in_namespace(Needs::Fuse, |_| {
        for (hanging, is_scraped) in
            HANGING.into_iter().flat_map(|hanging| [(hanging, false), (hanging, true)])
        {
            let node = Node::new();
            let mut node = HangingNode::start(&node);
            node.hang(hanging);
            let more = volumes("more", 10, hanging);
            let scrape = is_scraped.then(|| scrape_in_flight(&node, &more));
            node.subject.exporter.signal(Signal::SIGTERM);
            let address = node.subject.exporter.address;
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
                wait_until("a zombie", || node.subject.exporter.state() == 'Z');
                assert!(node.subject.exporter.threads() >= ILL);
                let volumes = if is_scraped { [&node.ill[..], &more].concat() } else { node.ill.clone() };
                node.subject.set(&volumes, healthy());
            }
            let status = node.subject.exporter.wait_within(PATIENCE).expect("it does not end");
            assert_eq!(status.code(), Some(0));
        }
    });
}
