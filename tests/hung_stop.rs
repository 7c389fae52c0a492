use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::PATIENCE;
use crate::support::exposition::Exposition;
use crate::support::fuse::Behaviour;
use crate::support::http;
use crate::support::namespace::{Needs, Node, in_namespace};
use crate::support::subject::{Subject, all, healthy, outcomes, states, volumes};

/// What the contract gives it to stop.
const SOON: Duration = Duration::from_secs(1);

/// A node some of whose mounts hang, and the program that has asked them.
fn hanging_node(node: &Node, hanging: Behaviour) -> Subject<'_> {
    let (well, ill) = (volumes("well", 3, healthy()), volumes("ill", 20, hanging));
    let it = Subject::start(node, &well, &["--stat-timeout=1h"]);
    assert_eq!(outcomes(&it.exporter.scrape()), all(&well, "measured"));
    it.mount(&ill);
    let mut expected = all(&well, "measured");
    expected.extend(all(&ill, "timeout"));
    assert_eq!(outcomes(&it.exporter.scrape_within(1.0)), expected);
    it
}

/// Waits until another program could have the port, which must be soon.
fn assert_port_is_free_soon(address: SocketAddr, since: Instant) {
    loop {
        match TcpListener::bind(address) {
            Ok(_) => break,
            Err(error) => assert!(since.elapsed() < SOON, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(TcpStream::connect(address).is_err(), "nobody listens");
}

/// A scrape that waits for mounts that hang.
fn scrape_under_way(it: &Subject, hanging: Behaviour) -> TcpStream {
    let (new, before) = (10, it.exporter.threads());
    it.mount(&volumes("new", new, hanging));
    let mut scrape = http::connect(it.exporter.address);
    scrape.write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    let start = Instant::now();
    // Two threads were idle.
    while it.exporter.threads() < before + new - 2 {
        assert!(start.elapsed() < PATIENCE, "it does not ask");
        std::thread::sleep(Duration::from_millis(5));
    }
    scrape
}

#[test]
fn with_mounts_that_nobody_reads_it_is_gone_within_a_second() {
    in_namespace(Needs::Fuse, |node| {
        let mut it = hanging_node(node, Behaviour::Deaf);
        it.exporter.signal(Signal::SIGTERM);
        let since = Instant::now();
        let status = it.exporter.wait_within(SOON).expect("it is not gone");
        assert_eq!(status.code(), Some(0));
        assert_port_is_free_soon(it.exporter.address, since);
    });
}

#[test]
fn with_mounts_that_nobody_answers_its_port_is_free_within_a_second() {
    in_namespace(Needs::Fuse, |node| {
        let mut it = hanging_node(node, Behaviour::Silent);
        it.exporter.signal(Signal::SIGTERM);
        let since = Instant::now();
        assert_port_is_free_soon(it.exporter.address, since);
        // The kernel keeps the threads, and for them the process, dead as it is: here until the answers come.
        assert_eq!(it.exporter.wait_within(SOON.saturating_sub(since.elapsed())), None);
        assert_eq!(it.exporter.state(), 'Z');
        assert!(it.exporter.threads() >= 20);
        it.set(&volumes("ill", 20, healthy()), healthy());
        assert_eq!(it.exporter.wait().code(), Some(0));
    });
}

#[test]
fn a_scrape_under_way_delays_its_end_no_further() {
    in_namespace(Needs::Fuse, |node| {
        let mut it = hanging_node(node, Behaviour::Deaf);
        let _scrape = scrape_under_way(&it, Behaviour::Deaf);
        it.exporter.signal(Signal::SIGTERM);
        let since = Instant::now();
        assert_port_is_free_soon(it.exporter.address, since);
        let status = it.exporter.wait_within(SOON.saturating_sub(since.elapsed())).expect("it is not gone");
        assert_eq!(status.code(), Some(0));
    });
}

#[test]
fn a_client_gets_what_is_measured_by_then_even_if_the_process_cannot_end() {
    in_namespace(Needs::Fuse, |node| {
        let it = hanging_node(node, Behaviour::Silent);
        let mut scrape = scrape_under_way(&it, Behaviour::Silent);
        it.exporter.signal(Signal::SIGTERM);
        let since = Instant::now();
        assert_port_is_free_soon(it.exporter.address, since);
        scrape.set_read_timeout(Some(SOON)).unwrap();
        let mut answer = String::new();
        scrape.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let samples = Exposition::parse(answer.split_once("\r\n\r\n").unwrap().1);
        // Some of the new ones may not have been asked yet.
        let [measured, failed, hung, skipped] = states(&samples);
        assert_eq!([measured, failed, hung + skipped], [3.0, 0.0, 30.0]);
        it.set(&[volumes("ill", 20, healthy()), volumes("new", 10, healthy())].concat(), healthy());
        assert_eq!(it.exporter.wait().code(), Some(0));
    });
}
