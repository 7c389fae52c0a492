//! Each test runs the server in this process, on connections in memory and a clock that only moves while all wait.

use std::future::ready;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use disk_usage_exporter::collect::CollectionPanicked;
use disk_usage_exporter::server::Limits;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep, timeout};

use crate::support::in_process::{
    Bodies, CHUNK_BYTES, Client, Gate, InProcessServer, PIPE_BYTES, PROMETHEUS, gated_server, peer, request,
    server, settle,
};

/// A body that takes many times the buffers of a connection.
const LARGE_CHUNKS: usize = 160;
const SECOND: Duration = Duration::from_secs(1);

async fn assert_healthy(client: &mut Client) {
    client.send("/healthz").await;
    assert_eq!(client.response().await.unwrap().status, 200);
}

#[tokio::test(start_paused = true)]
async fn scrapes_wait_for_one_collection_while_probes_are_answered() {
    let (server, gate) = gated_server(Limits::default());
    let mut scrapes: Vec<_> =
        (0..10).flat_map(|_| 0..20).map(|number| server.connect(peer(number))).collect();
    for scrape in &mut scrapes {
        scrape.send("/metrics").await;
    }
    let _idle: Vec<_> = (0..50).map(|_| server.connect(peer(250))).collect();
    settle().await;
    for path in ["/healthz", "/readyz", "/style.css"] {
        for address in [peer(0), peer(250), peer(251)] {
            assert_ne!(server.get(address, path).await.status, 404, "{path}");
        }
    }
    assert_eq!(gate.waiting(), 200);
    gate.answer_all(&Bodies::default().make(1));
    for mut scrape in scrapes {
        assert_eq!(scrape.response().await.unwrap().body.len(), CHUNK_BYTES);
    }
}

// With one mount that takes 1.5 s, 40 clients of 40 addresses once left Prometheus 1 of 91 scrapes, and 60 of its own
// address none.
#[tokio::test(start_paused = true)]
async fn every_scrape_of_prometheus_is_answered_while_many_clients_scrape_in_loops() {
    for addresses in [40, 1] {
        let body = Bodies::default().make(0);
        let scrape = move |_| {
            let body = body.clone();
            async move {
                sleep(Duration::from_millis(1_500)).await;
                Ok(body)
            }
        };
        let server = Arc::new(InProcessServer::start(Limits::default(), scrape));
        for number in 0..60 {
            let server = Arc::clone(&server);
            tokio::spawn(async move {
                loop {
                    let mut client = server.connect(peer(1 + number % addresses));
                    client.send("/metrics").await;
                    client.response().await;
                }
            });
        }
        for _ in 0..10 {
            assert_eq!(server.get(PROMETHEUS, "/metrics").await.status, 200, "{addresses} addresses");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn address_with_most_connections_makes_room() {
    let (server, gate) = gated_server(Limits { connections: 20, ..Limits::default() });
    let mut idle = server.connect(PROMETHEUS);
    assert_healthy(&mut idle).await;
    let mut scrape = server.connect(PROMETHEUS);
    scrape.send("/metrics").await;
    let mut flood: Vec<_> = Vec::new();
    for number in 0..100 {
        let mut client = server.connect(peer(2));
        if number % 2 == 0 {
            client.send("/metrics").await;
        }
        flood.push(client);
        settle().await;
    }
    assert_eq!(gate.waiting(), 1 + 17, "idle connections are closed first, then the oldest scrapes");
    assert!(flood[64].response().await.is_none());
    assert_healthy(&mut idle).await;
    gate.answer_all(&Bodies::default().make(1));
    for scrape in [&mut scrape, &mut flood[66]] {
        assert_eq!(scrape.response().await.unwrap().status, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn oldest_idle_connection_of_an_address_makes_room() {
    let (server, _) = server(Limits { connections: 10, ..Limits::default() }, 1);
    let mut idle: Vec<_> = (0..10).map(|_| server.connect(PROMETHEUS)).collect();
    for client in &mut idle {
        assert_healthy(client).await;
    }
    for path in ["/metrics", "/healthz", "/style.css"] {
        assert_eq!(server.get(PROMETHEUS, path).await.status, 200);
    }
    assert!(idle[0].is_closed().await);
    assert_healthy(&mut idle[9]).await;
}

#[tokio::test(start_paused = true)]
async fn connection_is_read_before_the_next_one_may_take_its_place() {
    let (server, _) = server(Limits { connections: 2, ..Limits::default() }, 1);
    let mut burst: Vec<_> = (0..20).map(|_| server.connect(PROMETHEUS)).collect();
    for client in &mut burst {
        client.send("/healthz").await;
    }
    for mut client in burst {
        assert_eq!(client.response().await.unwrap().status, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn unread_responses_hold_bounded_memory_and_delay_nobody() {
    let limits = Limits { unsent_bytes: 30 * CHUNK_BYTES, ..Limits::default() };
    let (server, bodies) = server(limits, 10);
    let mut unread = Vec::new();
    for number in 0..25 {
        let mut client = server.connect(peer(number));
        // The second response of a pipeline waits behind the first one.
        client.send_raw(request("/metrics").repeat(2).as_bytes()).await;
        client.read_part(1).await;
        unread.push(client);
        assert_eq!(server.get(PROMETHEUS, "/metrics").await.body.len(), 10 * CHUNK_BYTES);
        assert_eq!(server.get(PROMETHEUS, "/healthz").await.status, 200);
        settle().await;
        assert!(bodies.live_bytes() <= limits.unsent_bytes, "{} bytes", bodies.live_bytes());
    }
    assert!(bodies.live_bytes() >= 20 * CHUNK_BYTES, "no more are cut off than must be");
}

#[tokio::test(start_paused = true)]
async fn client_that_has_read_nothing_for_longest_makes_room_for_a_response() {
    let limits = Limits { unsent_bytes: 30 * CHUNK_BYTES, ..Limits::default() };
    let (server, _) = server(limits, 10);
    let mut readers: Vec<_> = (0..3).map(|number| server.connect(peer(number))).collect();
    for reader in &mut readers {
        reader.send("/metrics").await;
        reader.read_part(1).await;
        sleep(SECOND).await;
    }
    // The first one has waited longest, but goes on reading.
    readers[0].read_part(CHUNK_BYTES).await;
    assert_eq!(server.get(PROMETHEUS, "/metrics").await.body.len(), 10 * CHUNK_BYTES);
    let mut lengths = Vec::new();
    for reader in &mut readers {
        let rest = timeout(SECOND, reader.read_to_end()).await;
        lengths.push(rest.map(|bytes| bytes.len()));
    }
    assert!(lengths[0].is_err() && lengths[2].is_err(), "still open: {lengths:?}");
    assert!(lengths[1].as_ref().is_ok_and(|length| *length <= PIPE_BYTES), "cut off: {lengths:?}");
}

#[tokio::test(start_paused = true)]
async fn clients_that_share_a_body_beyond_the_limit_get_it_whole() {
    let (server, gate) = gated_server(Limits { unsent_bytes: 5 * CHUNK_BYTES, ..Limits::default() });
    let mut clients: Vec<_> = (0..4).map(|number| server.connect(peer(number))).collect();
    for client in &mut clients {
        client.send("/metrics").await;
    }
    settle().await;
    gate.answer_all(&Bodies::default().make(100));
    settle().await;
    for mut client in clients {
        assert_eq!(client.response().await.unwrap().body.len(), 100 * CHUNK_BYTES);
    }
}

#[tokio::test(start_paused = true)]
async fn failed_accept_is_retried_after_a_pause_and_frees_a_connection() {
    let (server, _) = server(Limits::default(), 1);
    let mut held: Vec<_> = (0..30).map(|number| server.connect(peer(number))).collect();
    settle().await;
    let before = server.accept_calls();
    (0..10).for_each(|_| server.fail_accept(io::Error::from_raw_os_error(24)));
    sleep(Duration::from_millis(950)).await;
    assert_eq!(server.accept_calls() - before, 9, "one every 100 ms");
    assert!(held[0].is_closed().await && held[8].is_closed().await && !held[20].is_closed().await);
    // No pause after a client that has disconnected.
    sleep(Duration::from_millis(100)).await;
    let start = Instant::now();
    (0..1_000).for_each(|_| server.fail_accept(io::ErrorKind::ConnectionAborted.into()));
    assert_eq!(server.get(PROMETHEUS, "/healthz").await.status, 200);
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn connection_without_a_whole_request_head_is_closed_after_the_head_timeout() {
    let limits = Limits::default();
    let (server, _) = server(limits, 1);
    for sent in ["", "GET /metrics HTTP/1.1\r\nHost: te"] {
        let start = Instant::now();
        let mut client = server.connect(PROMETHEUS);
        client.send_raw(sent.as_bytes()).await;
        assert_eq!(client.read_to_end().await, b"", "after {sent:?}");
        assert_eq!(start.elapsed().as_secs(), limits.head_timeout.as_secs(), "after {sent:?}");
    }
    // Single bytes do not extend it.
    let mut client = server.connect(PROMETHEUS);
    let start = Instant::now();
    while !client.is_closed().await {
        sleep(SECOND).await;
        assert!(start.elapsed() < limits.head_timeout + 2 * SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn idle_connection_is_kept_for_the_head_timeout_and_holds_no_response() {
    let limits = Limits::default();
    let (server, bodies) = server(limits, 3);
    let mut client = server.connect(PROMETHEUS);
    for _ in 0..5 {
        client.send("/metrics").await;
        assert_eq!(client.response().await.unwrap().status, 200);
        settle().await;
        assert_eq!(bodies.live_bytes(), 0);
        sleep(limits.head_timeout.saturating_sub(SECOND)).await;
    }
    sleep(2 * SECOND).await;
    assert!(client.is_closed().await);
}

#[tokio::test(start_paused = true)]
async fn write_timeout_is_for_each_whole_response_however_slowly_it_is_read() {
    let limits = Limits::default();
    let nearly = limits.write_timeout.saturating_sub(SECOND);
    let (server, bodies) = server(limits, LARGE_CHUNKS);
    let mut client = server.connect(PROMETHEUS);
    for _ in 0..3 {
        client.send("/metrics").await;
        client.read_part(1).await;
        sleep(nearly).await;
        assert_eq!(bodies.live_bytes(), LARGE_CHUNKS * CHUNK_BYTES);
        // The rest of the head, and the body but for less than a chunk.
        for _ in 0..LARGE_CHUNKS {
            client.read_part(CHUNK_BYTES).await;
        }
        settle().await;
        let rest = timeout(Duration::ZERO, client.read_to_end()).await;
        assert!(rest.is_err(), "it is closed");
    }
    // A client that does not read.
    client.send("/metrics").await;
    client.read_part(1).await;
    sleep(nearly + 2 * SECOND).await;
    assert_eq!(bodies.live_bytes(), 0);
    assert!(client.read_to_end().await.len() <= PIPE_BYTES);
    // A slow one. It takes more than a chunk at once, so that the server flushes again and again.
    let mut client = server.connect_by(PROMETHEUS, 3 * CHUNK_BYTES);
    client.send("/metrics").await;
    let start = Instant::now();
    while client.0.read_exact(&mut vec![0; 2 * CHUNK_BYTES]).await.is_ok() {
        // A client that is cut off still reads what it was sent.
        assert!(start.elapsed() < limits.write_timeout + 4 * SECOND);
        sleep(2 * SECOND).await;
    }
    assert!(start.elapsed() >= limits.write_timeout);
    assert_eq!(bodies.live_bytes(), 0);
}

// Prometheus once gave up just when it was told why.
#[tokio::test(start_paused = true)]
async fn scrape_is_refused_after_its_measuring_time_and_before_its_client_gives_up() {
    let gate = Gate::default();
    let measuring = Arc::new(Mutex::new(Duration::ZERO));
    let last_measuring = Arc::clone(&measuring);
    let server = InProcessServer::start(Limits::default(), move |scrape| {
        *last_measuring.lock().unwrap() = scrape.measuring;
        gate.wait()
    });
    // Timeout in seconds, time for measuring (a fifth is left for sending), time of the response.
    let cases = [
        ("0.5", 400, 450),
        ("1", 800, 900),
        ("3", 2_000, 2_700),
        ("9", 2_000, 8_500),
        ("10", 2_000, 9_500),
        ("", 2_000, 12_000),
    ];
    for (timeout, measuring_millis, response_millis) in cases {
        let start = Instant::now();
        let mut client = server.connect(PROMETHEUS);
        let header = format!("X-Prometheus-Scrape-Timeout-Seconds: {timeout}");
        client.send_raw(format!("GET /metrics HTTP/1.1\r\nHost: test\r\n{header}\r\n\r\n").as_bytes()).await;
        let response = client.response().await.unwrap();
        assert_eq!((response.status, start.elapsed().as_millis()), (503, response_millis), "{timeout}");
        assert!(response.text().contains("takes longer than this scrape may"), "{}", response.text());
        assert_eq!(measuring.lock().unwrap().as_millis(), measuring_millis, "{timeout}");
    }
}

#[tokio::test(start_paused = true)]
async fn stopping_finishes_responses_in_flight_and_closes_idle_connections() {
    let (mut server, gate) = gated_server(Limits::default());
    let [mut idle, mut scrape, mut disconnecting] = [(); 3].map(|()| server.connect(PROMETHEUS));
    scrape.send("/metrics").await;
    disconnecting.send("/metrics").await;
    settle().await;
    assert_eq!(gate.waiting(), 2);
    drop(disconnecting);
    settle().await;
    assert_eq!(gate.waiting(), 1, "a client that disconnects waits no longer");
    server.stop();
    assert_eq!(idle.read_to_end().await, b"");
    assert!(!server.run.is_finished());
    gate.answer_all(&Bodies::default().make(3));
    assert_eq!(scrape.response().await.unwrap().body.len(), 3 * CHUNK_BYTES);
    assert_eq!(scrape.read_to_end().await, b"", "it is closed");
    server.run.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn stop_timeout_cuts_off_everything_that_does_not_end() {
    let limits = Limits::default();
    let (mut server, gate) = gated_server(limits);
    let (mut half, mut scrape) = (server.connect(PROMETHEUS), server.connect(PROMETHEUS));
    half.send_raw(b"GET /metrics HTT").await;
    scrape.send("/metrics").await;
    settle().await;
    assert_eq!(gate.waiting(), 1);
    let start = Instant::now();
    server.stop();
    (&mut server.run).await.unwrap();
    assert_eq!(start.elapsed().as_millis(), limits.stop_timeout.as_millis());
    assert_eq!(scrape.read_to_end().await, b"");
    assert_eq!(gate.waiting(), 0);
}

// Found by fuzzing: the head of a second response within the first one's body; builds with debug assertions panicked.
#[tokio::test(start_paused = true)]
async fn garbage_behind_a_request_with_a_body_does_not_reach_into_its_response() {
    let (server, _) = server(Limits::default(), LARGE_CHUNKS);
    let mut client = server.connect(PROMETHEUS);
    let request =
        b"GET /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nnonsense\r\n\r\n";
    client.send_raw(request).await;
    let response = client.response().await.unwrap();
    assert_eq!(response.status, 200);
    assert!(response.body == vec![b'a'; LARGE_CHUNKS * CHUNK_BYTES]);
    assert_eq!(client.read_to_end().await, b"");
    assert!(!server.run.is_finished());
}

#[tokio::test(start_paused = true)]
async fn panicking_collection_fails_its_scrapes_alone() {
    let calls = AtomicUsize::new(0);
    let bodies = Bodies::default();
    let server = InProcessServer::start(Limits::default(), move |_| {
        let is_first = calls.fetch_add(1, Ordering::SeqCst) == 0;
        ready(if is_first { Err(CollectionPanicked) } else { Ok(bodies.make(1)) })
    });
    for status in [500, 200] {
        assert_eq!(server.get(PROMETHEUS, "/metrics").await.status, status);
    }
}
