use std::collections::BTreeMap;
use std::io::{self, BufReader, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::real_mounts::assert_as_the_kernel_says;
use crate::support::env_number;
use crate::support::exporter::Exporter;
use crate::support::exposition::{Exposition, Labels};
use crate::support::hostile::ATTACKS;
use crate::support::http::{self, Response};
use crate::support::namespace::{Needs, in_namespace};
use crate::support::objects::objects_flag;
use crate::support::resources::Resources;

/// A debug build takes ten times as long for a scrape.
const VOLUMES: usize = if cfg!(debug_assertions) { 20 } else { 100 };
/// How long it is attacked, where the environment gives no number.
const SECONDS: usize = 6;
/// How long the well-behaved client waits: Prometheus' default.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two requests of a client, so that other tests can run too.
pub(crate) const INTERVAL: Duration = Duration::from_millis(50);
/// The program's memory at any time, without pages of its own code: hyper has two buffers of 8 KiB for each of 1,100
/// connections. Responses are small here.
const MAX_PEAK_KIB: u64 = (6 << 10) + 1_100 * 18;

/// Every series that names a volume.
pub(crate) type Series = BTreeMap<(String, Labels), String>;

#[test]
fn well_behaved_scraper_misses_nothing_during_attacks() {
    in_namespace(Needs::Mounts, |node| {
        let time = Duration::from_secs(env_number("DISK_USAGE_EXPORTER_TEST_SECONDS", SECONDS) as u64);
        let names: Vec<_> = (0..VOLUMES).map(|number| format!("pv-{number:03}")).collect();
        let paths = names.iter().map(|name| node.tmpfs_volume(name, "size=1m"));
        let volumes: BTreeMap<_, _> = names.iter().zip(paths).collect();
        let claims: Vec<_> = names.iter().map(|name| (name.clone(), format!("claim-of-{name}"))).collect();
        let objects = objects_flag(node, &claims);
        let exporter = Exporter::start(&["--rootfs=/", &objects]);
        let first = exporter.get("/metrics");
        assert_as_the_kernel_says(&Exposition::parse(&first.text()), &volumes);
        let expected = series_of_volumes(&first);
        assert!(
            expected.keys().any(|(name, _)| name == "pv_disk_usage_claim_requested_bytes"),
            "no metadata"
        );
        let before = Resources::at_rest(exporter.pid());
        assert_nothing_missed(exporter.address, time, &expected, Vec::new());
        let after = before.wait_until_back(exporter.pid());
        let code = before.resident - before.anonymous;
        assert!(after.peak - code <= MAX_PEAK_KIB, "{before}, then {after}");
    });
}

/// What is done again and again, with the number of the time, and the pause in between.
pub(crate) type Attacker<'a> = (Box<dyn Fn(usize) + Send + 'a>, Duration);

/// Well-behaved clients get everything for this time, while all clients that mean harm attack, and these.
pub(crate) fn assert_nothing_missed(
    address: SocketAddr,
    time: Duration,
    expected: &Series,
    mut attackers: Vec<Attacker<'_>>,
) {
    attackers.extend(
        ATTACKS.map(|(_, attack)| -> Attacker<'_> { (Box::new(move |_| attack(address)), INTERVAL) }),
    );
    let stop = &AtomicBool::new(false);
    let missed = std::thread::scope(|scope| {
        for (attack, pause) in attackers {
            scope.spawn(move || {
                for round in (0..).take_while(|_| !stop.load(Ordering::Relaxed)) {
                    attack(round);
                    std::thread::sleep(pause);
                }
            });
        }
        let clients = [(false, "/metrics"), (true, "/metrics"), (false, "/healthz")];
        let clients = clients.map(|(keeps_connection, path)| {
            let client = Client { address, stream: None, keeps_connection };
            scope.spawn(move || missed_requests(client, path, time, expected))
        });
        let missed = clients.map(std::thread::ScopedJoinHandle::join);
        stop.store(true, Ordering::Relaxed);
        missed.map(Result::unwrap)
    });
    assert_eq!(missed, [(); 3].map(|()| Vec::<String>::new()));
}

/// Sends requests for this time. Every exposition must be as expected.
fn missed_requests(mut client: Client, path: &str, time: Duration, expected: &Series) -> Vec<String> {
    let start = Instant::now();
    let mut missed = Vec::new();
    while start.elapsed() < time {
        match client.get(path) {
            Ok(response) if response.status != 200 => {
                missed.push(format!("{path}: {} {}", response.status, response.text()));
            }
            Ok(response) if path == "/metrics" => assert_eq!(series_of_volumes(&response), *expected),
            Ok(_) => {}
            Err(error) => missed.push(format!("{path}: {error} at {:?}", start.elapsed())),
        }
        std::thread::sleep(INTERVAL);
    }
    missed
}

/// Of those whose name begins as this test's do.
pub(crate) fn series_of_volumes(response: &Response) -> Series {
    let samples = Exposition::parse(&response.text()).samples.into_iter();
    let is_ours = |(key, value): &(String, String)| key == "pv_name" && value.starts_with("pv-");
    let of_volumes = samples.filter(|(_, labels, _)| labels.iter().any(is_ours));
    of_volumes.map(|(name, labels, value)| ((name, labels), value.to_string())).collect()
}

/// A client on another address than the attackers.
struct Client {
    address: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
    keeps_connection: bool,
}

impl Client {
    /// One request, as Prometheus sends it. Like every HTTP client it repeats one whose kept connection the server has
    /// closed meanwhile.
    fn get(&mut self, path: &str) -> io::Result<Response> {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: test\r\nAccept-Encoding: gzip\r\n\
             X-Prometheus-Scrape-Timeout-Seconds: {}\r\n\r\n",
            SCRAPE_TIMEOUT.as_secs()
        );
        if let Some(stream) = self.stream.as_mut().filter(|_| self.keeps_connection) {
            match http::exchange(stream, &request) {
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                response => return response,
            }
        }
        let stream = http::connect_from(self.address, Ipv4Addr::new(127, 0, 0, 2));
        stream.set_read_timeout(Some(SCRAPE_TIMEOUT)).unwrap();
        http::exchange(self.stream.insert(BufReader::new(stream)), &request)
    }
}
