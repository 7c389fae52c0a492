use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use disk_usage_exporter::collect::MIN_COLLECTION_INTERVAL;
use serde_json::json;

use crate::real_mounts::assert_as_the_kernel_says;
use crate::support::env_number;
use crate::support::exporter::Exporter;
use crate::support::exposition::{Exposition, Labels};
use crate::support::fixture::{Fixture, answering};
use crate::support::fuse::{Behaviour, Opcode};
use crate::support::hostile::ATTACKS;
use crate::support::http::{self, Response};
use crate::support::namespace::{Needs, Node, PODS, in_namespace};
use crate::support::objects::{bound_volume, nfs};
use crate::support::resources::Resources;
use crate::support::subject::{Subject, all, healthy, outcomes, volumes};

/// A debug build takes ten times as long for a scrape.
const VOLUMES: usize = if cfg!(debug_assertions) { 20 } else { 100 };
/// How long it is attacked, where the environment gives no number.
const SECONDS: usize = 15;
/// What a well-behaved client waits at most, as Prometheus does.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two of its requests.
const INTERVAL: Duration = Duration::from_millis(50);
/// The program's memory at any time, without pages of its own code: hyper has two buffers of 8 KiB for each of 1,100
/// connections. Responses are small here.
const MAX_PEAK_KIB: u64 = (6 << 10) + 1_100 * 18;

/// Every series that names a volume.
type Series = BTreeMap<(String, Labels), String>;

#[test]
fn whatever_others_do_a_well_behaved_scraper_misses_nothing() {
    in_namespace(Needs::Mounts, |node| {
        let time = Duration::from_secs(env_number("DISK_USAGE_EXPORTER_TEST_SECONDS", SECONDS) as u64);
        let (volumes, objects) = mounted(node);
        let exporter = Exporter::start(&["--rootfs=/", &objects]);
        let first = get(&mut connect(exporter.address), "/metrics").unwrap();
        assert_as_the_kernel_says(&Exposition::parse(&first.text()), &volumes);
        let right = series_of_volumes(&first);
        assert!(right.keys().any(|(name, _)| name == "pv_disk_usage_claim_requested_bytes"), "no metadata");
        let before = Resources::at_rest(exporter.pid());
        let stop = AtomicBool::new(false);
        let counts = std::thread::scope(|scope| {
            let attackers = ATTACKS.map(|(name, attack)| {
                let (stop, address) = (&stop, exporter.address);
                let attacker = scope.spawn(move || repeat(stop, || attack(address)));
                (name, attacker)
            });
            let fresh = scope.spawn(|| until(time, &mut Fresh(exporter.address), "/metrics", &right));
            let kept = scope.spawn(|| until(time, &mut Kept::new(exporter.address), "/metrics", &right));
            let probe = scope.spawn(|| until(time, &mut Fresh(exporter.address), "/healthz", &right));
            let behaved = [("scraper", fresh), ("scraper that keeps its connection", kept), ("probe", probe)];
            let behaved = behaved.map(|(name, client)| (name, client.join()));
            stop.store(true, Ordering::Relaxed);
            for (name, attacker) in attackers {
                println!("{name}: {} times", attacker.join().unwrap());
            }
            behaved.map(|(name, outcome)| (name, outcome.unwrap()))
        });
        for (name, Count { requests, missed, longest }) in &counts {
            println!("{name}: {requests} requests, {} missed, {longest:?} at most", missed.len());
        }
        println!("before: {before}\nafter: {}", Resources::of(exporter.pid()));
        let after = before.wait_until_back(exporter.pid());
        println!("at rest: {after}");
        for (name, count) in counts {
            assert_eq!(count.missed, Vec::<String>::new(), "of the {name}");
        }
        let code = before.resident - before.anonymous;
        assert!(after.peak - code <= MAX_PEAK_KIB, "{before}, then {after}");
    });
}

/// Volumes that stay as they are, and a flag for the file of their objects.
fn mounted(node: &Node) -> (BTreeMap<String, PathBuf>, String) {
    let names = (0..VOLUMES).map(|i| format!("pv-{i:03}"));
    let volumes: BTreeMap<_, _> =
        names.map(|name| (name.clone(), node.tmpfs_volume(&name, "size=1m"))).collect();
    let items =
        volumes.keys().flat_map(|name| bound_volume(name, nfs(name), &format!("claim-of-{name}"), PODS[0]));
    let objects = node.path().join("objects.json");
    std::fs::write(&objects, json!({"items": items.collect::<Vec<_>>()}).to_string()).unwrap();
    (volumes, format!("--objects={}", objects.display()))
}

fn repeat(stop: &AtomicBool, mut act: impl FnMut()) -> usize {
    let mut times = 0;
    while !stop.load(Ordering::Relaxed) {
        act();
        times += 1;
        // Hostile, but the machine has other tests to run.
        std::thread::sleep(INTERVAL);
    }
    times
}

/// What became of a client's requests.
#[derive(Default)]
struct Count {
    requests: usize,
    missed: Vec<String>,
    longest: Duration,
}

/// Asks again and again; every answer must be right.
fn until(time: Duration, client: &mut impl Client, path: &str, right: &Series) -> Count {
    let start = Instant::now();
    let mut count = Count::default();
    while start.elapsed() < time {
        let asked = Instant::now();
        count.requests += 1;
        let answer = client.ask(path);
        count.longest = count.longest.max(asked.elapsed());
        match answer {
            Ok(response) if response.status == 200 && path == "/metrics" => {
                assert_eq!(series_of_volumes(&response), *right);
            }
            Ok(response) if response.status == 200 => {}
            Ok(response) => count.missed.push(format!("{} {}", response.status, response.text())),
            Err(error) => {
                let (took, at) = (asked.elapsed(), start.elapsed());
                count.missed.push(format!("{error} after {took:?}, at {at:?}"));
            }
        }
        std::thread::sleep(INTERVAL);
    }
    count
}

fn series_of_volumes(response: &Response) -> Series {
    let samples = Exposition::parse(&response.text()).samples.into_iter();
    let of_volumes = samples.filter(|(_, labels, _)| labels.iter().any(|(key, _)| key == "pv_name"));
    of_volumes.map(|(name, labels, value)| ((name, labels), value.to_string())).collect()
}

trait Client {
    fn ask(&mut self, path: &str) -> io::Result<Response>;
}

/// A new connection for each request.
struct Fresh(SocketAddr);

impl Client for Fresh {
    fn ask(&mut self, path: &str) -> io::Result<Response> {
        get(&mut connect(self.0), path)
    }
}

/// One connection for all, and a new one when the server has closed it between two requests: what every HTTP client does.
struct Kept {
    address: SocketAddr,
    stream: BufReader<TcpStream>,
}

impl Kept {
    fn new(address: SocketAddr) -> Self {
        Self { address, stream: connect(address) }
    }
}

impl Client for Kept {
    fn ask(&mut self, path: &str) -> io::Result<Response> {
        get(&mut self.stream, path).or_else(|error| {
            if error.kind() != ErrorKind::ConnectionAborted {
                return Err(error);
            }
            self.stream = connect(self.address);
            get(&mut self.stream, path)
        })
    }
}

fn connect(address: SocketAddr) -> BufReader<TcpStream> {
    let stream = http::connect_from_elsewhere(address);
    stream.set_read_timeout(Some(SCRAPE_TIMEOUT)).unwrap();
    BufReader::new(stream)
}

/// One request, as Prometheus sends it, and its whole answer; aborted where the server closed before it began.
fn get(stream: &mut BufReader<TcpStream>, path: &str) -> io::Result<Response> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: test\r\nAccept-Encoding: gzip\r\n\
         X-Prometheus-Scrape-Timeout-Seconds: {}\r\n\r\n",
        SCRAPE_TIMEOUT.as_secs()
    );
    let aborted = |error: io::Error| match error.kind() {
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => ErrorKind::ConnectionAborted.into(),
        _ => error,
    };
    stream.get_mut().write_all(request.as_bytes()).map_err(aborted)?;
    if stream.fill_buf().map_err(aborted)?.is_empty() {
        return Err(ErrorKind::ConnectionAborted.into());
    }
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_until(b'\n', &mut head)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
    let mut response = Response::parse(&head);
    response.body = vec![0; response.header("content-length").unwrap().parse().unwrap()];
    stream.read_exact(&mut response.body)?;
    Ok(response)
}

/// A node with so many volumes, of some 140 KiB each in its exposition: their labels are as large as they may be.
fn talkative(volumes: usize) -> Fixture {
    let mut fixture = Fixture::new();
    let labels: BTreeMap<_, _> = (0..7).map(|label| (format!("long-{label}"), "x".repeat(1000))).collect();
    let items = (0..volumes).map(|i| {
        let pv_name = format!("pv-{i}");
        fixture.mount_unwritten(&pv_name, answering());
        json!({"kind": "PersistentVolume", "metadata": {"name": pv_name, "labels": labels}, "spec": {}})
    });
    let objects = json!({"items": items.collect::<Vec<_>>()});
    fixture.set_objects(&objects);
    fixture.write();
    fixture
}

/// Each holds the answer of a collection of its own.
#[test]
fn answers_that_nobody_reads_hold_little_memory_whoever_asks_meanwhile() {
    let fixture = talkative(40);
    let exporter = Exporter::start(&[&fixture.flag()]);
    let length = exporter.get("/metrics").body.len();
    assert!(length > 4 << 20, "{length} bytes");
    let mut held = Vec::new();
    for _ in 0..25 {
        // The second answer of a connection waits behind its first.
        let mut reader = connect(exporter.address);
        reader.get_mut().write_all(&b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n".repeat(2)).unwrap();
        assert!(!reader.fill_buf().unwrap().is_empty());
        held.push(reader);
        assert_eq!(exporter.get("/metrics").body.len() >> 20, length >> 20);
    }
    let resources = Resources::of(exporter.pid());
    println!("{resources}");
    assert!(resources.peak < 80 << 10, "{resources}");
}

#[test]
fn whoever_shares_a_large_answer_gets_it_whole() {
    let mut fixture = talkative(90);
    // So that the collection takes long enough to be shared.
    fixture.mount("hung", json!("hang"));
    let exporter = Exporter::start(&[&fixture.flag(), "--stat-timeout=1s"]);
    let request = b"GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    let mut streams: Vec<TcpStream> = (0..4).map(|_| http::connect(exporter.address)).collect();
    for stream in &mut streams {
        stream.write_all(request).unwrap();
    }
    for mut stream in streams {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let response = Response::parse(&bytes);
        assert_eq!(response.header("content-length"), Some(&*response.body.len().to_string()));
        assert!(response.body.len() > 8 << 20, "{} bytes", response.body.len());
    }
}

/// One request on a new connection of this address, and its whole response; nothing if the server closed it.
fn scrape_from(address: SocketAddr, client: Ipv4Addr) {
    let mut stream = http::connect_from(address, client);
    let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    let _ = stream.read_to_end(&mut Vec::new());
}

// With a mount that takes 1.5 s, 40 clients of 40 addresses left Prometheus 1 of 91 scrapes, and 60 of its own address none.
#[test]
fn while_crowds_scrape_a_slow_node_in_loops_a_well_behaved_scraper_misses_nothing() {
    in_namespace(Needs::Fuse, |node| {
        let slow = volumes("slow", 1, Behaviour::AnswersAfter(Duration::from_millis(1_500)));
        let it = Subject::start(node, &slow, &["--stat-timeout=5s"]);
        let address = it.exporter.address;
        let others = (1..=40).map(|number| Ipv4Addr::new(127, 0, 1, number));
        let crowd: Vec<_> = others.chain([http::ELSEWHERE; 60]).collect();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for client in crowd {
                let stop = &stop;
                scope.spawn(move || repeat(stop, || scrape_from(address, client)));
            }
            let scrapes: Vec<_> = (0..5).map(|_| get(&mut connect(address), "/metrics")).collect();
            stop.store(true, Ordering::Relaxed);
            for scrape in scrapes.into_iter().map(Result::unwrap) {
                assert_eq!(scrape.status, 200, "{}", scrape.text());
                assert_eq!(outcomes(&Exposition::parse(&scrape.text())), all(&slow, "measured"));
            }
        });
    });
}

// One client in a loop caused 58,100 statfs calls in 5 s.
#[test]
fn clients_in_loops_cause_one_statfs_in_100_ms() {
    in_namespace(Needs::Fuse, |node| {
        let it = Subject::start(node, &volumes("well", 1, healthy()), &[]);
        let (address, start) = (it.exporter.address, Instant::now());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..10).for_each(|_| drop(get(&mut connect(address), "/metrics").unwrap())));
            }
        });
        let intervals = start.elapsed().as_millis() / MIN_COLLECTION_INTERVAL.as_millis();
        let calls = it.fuse.asked()["well-0000"][&Opcode::STATFS];
        // The collection at start, and one that begins as the first client scrapes.
        assert!((2..=intervals + 2).contains(&(calls as u128)), "{calls} calls in {intervals} intervals");
    });
}
