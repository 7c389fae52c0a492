//! Each test runs the server in this process, on connections in memory and a clock that only moves while all wait.

use std::future::ready;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use disk_usage_exporter::collect::CollectionPanicked;
use disk_usage_exporter::server::Limits;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep};

use crate::support::in_process::{
    Bodies, CHUNK_BYTES, InProcessServer, PIPE_BYTES, PROMETHEUS, gated_server, server, settle,
};

/// A body that takes many times the buffers of a connection.
const LARGE_CHUNKS: usize = 160;

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_whole_request_head_is_closed_after_the_timeout() {
    let limits = Limits::default();
    let (server, _) = server(limits, 1);
    for sent in ["", "GET /metrics HTTP/1.1\r\nHost: te"] {
        let start = Instant::now();
        let mut client = server.connect(PROMETHEUS);
        client.send_raw(sent.as_bytes()).await;
        assert_eq!(client.read_to_end().await, b"", "after {sent:?}");
        assert_eq!(start.elapsed().as_secs(), limits.head_timeout.as_secs(), "after {sent:?}");
    }
    // One byte now and then gains no time.
    let mut client = server.connect(PROMETHEUS);
    let start = Instant::now();
    while !client.is_closed().await {
        sleep(Duration::from_secs(1)).await;
        assert!(start.elapsed() < limits.head_timeout + Duration::from_secs(2));
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_kept_for_the_head_timeout_and_holds_no_response() {
    let limits = Limits::default();
    let (server, bodies) = server(limits, 3);
    let mut client = server.connect(PROMETHEUS);
    for _ in 0..5 {
        client.send("/metrics").await;
        assert_eq!(client.response().await.unwrap().status, 200);
        settle().await;
        assert_eq!(bodies.live_bytes(), 0);
        sleep(limits.head_timeout.saturating_sub(Duration::from_secs(1))).await;
    }
    sleep(Duration::from_secs(2)).await;
    assert!(client.is_closed().await);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_cut_off_after_the_write_timeout() {
    let limits = Limits::default();
    let (server, bodies) = server(limits, LARGE_CHUNKS);
    let mut client = server.connect(PROMETHEUS);
    client.send("/metrics").await;
    client.read_part(1).await;
    sleep(limits.write_timeout.saturating_sub(Duration::from_secs(1))).await;
    assert_eq!(bodies.live_bytes(), LARGE_CHUNKS * CHUNK_BYTES);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(bodies.live_bytes(), 0);
    assert!(client.read_to_end().await.len() <= PIPE_BYTES);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_gains_no_time_by_it() {
    let limits = Limits::default();
    let (server, bodies) = server(limits, LARGE_CHUNKS);
    // Takes more than a chunk at once, so that the server flushes again and again.
    let mut client = server.connect_by(PROMETHEUS, 3 * CHUNK_BYTES);
    client.send("/metrics").await;
    let start = Instant::now();
    while client.0.read_exact(&mut vec![0; 2 * CHUNK_BYTES]).await.is_ok() {
        // A client that is cut off still reads what it was sent.
        assert!(start.elapsed() < limits.write_timeout + Duration::from_secs(4));
        sleep(Duration::from_secs(2)).await;
    }
    assert!(start.elapsed() >= limits.write_timeout);
    assert_eq!(bodies.live_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn each_response_of_a_connection_has_the_whole_write_timeout() {
    let limits = Limits::default();
    let (server, _) = server(limits, LARGE_CHUNKS);
    let mut client = server.connect(PROMETHEUS);
    for _ in 0..3 {
        client.send("/metrics").await;
        client.read_part(1).await;
        sleep(limits.write_timeout.saturating_sub(Duration::from_secs(1))).await;
        // The rest of the head, and the body.
        let mut rest = 0;
        while rest < LARGE_CHUNKS * CHUNK_BYTES {
            client.read_part(CHUNK_BYTES).await;
            rest += CHUNK_BYTES;
        }
        settle().await;
        // What is left is less than a chunk.
        let left = tokio::time::timeout(Duration::ZERO, client.read_to_end()).await;
        assert!(left.is_err(), "it is closed");
    }
}

// Prometheus once gave up just when it was told why.
#[tokio::test(start_paused = true)]
async fn a_scrape_is_refused_after_its_measuring_time_and_before_its_client_gives_up() {
    let (server, _gate) = gated_server(Limits::default());
    for (timeout, answered_millis) in [("0.5", 450), ("3", 2_700), ("10", 9_500), ("", 12_000)] {
        let start = Instant::now();
        let mut client = server.connect(PROMETHEUS);
        let header = format!("X-Prometheus-Scrape-Timeout-Seconds: {timeout}");
        client.send_raw(format!("GET /metrics HTTP/1.1\r\nHost: test\r\n{header}\r\n\r\n").as_bytes()).await;
        let response = client.response().await.unwrap();
        assert_eq!((response.status, start.elapsed().as_millis()), (503, answered_millis), "{timeout}");
        assert!(response.text().contains("takes longer than this scrape may"), "{}", response.text());
    }
}

#[tokio::test(start_paused = true)]
async fn a_scrapes_timeout_limits_measuring() {
    let requested = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&requested);
    let bodies = Bodies::default();
    let server = InProcessServer::start(Limits::default(), move |scrape| {
        record.lock().unwrap().push(scrape.measuring.as_millis());
        ready(Ok(bodies.make(1)))
    });
    for header in
        ["", "X-Prometheus-Scrape-Timeout-Seconds: 1\r\n", "X-Prometheus-Scrape-Timeout-Seconds: 9\r\n"]
    {
        let mut client = server.connect(PROMETHEUS);
        client.send_raw(format!("GET / HTTP/1.1\r\nHost: test\r\n{header}\r\n").as_bytes()).await;
        client.response().await.unwrap();
    }
    assert_eq!(*requested.lock().unwrap(), [2_000, 800, 2_000], "a fifth is left for sending");
}

#[tokio::test(start_paused = true)]
async fn stopping_finishes_responses_in_flight_and_closes_what_is_idle() {
    let (mut server, gate) = gated_server(Limits::default());
    let (mut idle, mut scrape) = (server.connect(PROMETHEUS), server.connect(PROMETHEUS));
    scrape.send("/metrics").await;
    settle().await;
    server.stop();
    assert_eq!(idle.read_to_end().await, b"");
    assert!(!server.run.is_finished());
    gate.answer_all(&Bodies::default().make(3));
    assert_eq!(scrape.response().await.unwrap().body.len(), 3 * CHUNK_BYTES);
    assert_eq!(scrape.read_to_end().await, b"", "it is closed");
    server.run.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_does_not_end_is_cut_off_after_the_stop_timeout() {
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
async fn nonsense_behind_a_request_with_a_body_does_not_reach_into_its_response() {
    let (server, _) = server(Limits::default(), LARGE_CHUNKS);
    let mut client = server.connect(PROMETHEUS);
    let request =
        b"GET /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nnonsense\r\n\r\n";
    client.send_raw(request).await;
    let received = client.read_to_end().await;
    let end = received.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    assert!(received.starts_with(b"HTTP/1.1 200 OK\r\n"));
    let body = &received[end + 4..];
    assert!(body.iter().all(|byte| *byte == b'a') && body.len() == LARGE_CHUNKS * CHUNK_BYTES);
    assert!(!server.run.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_disconnects_waits_no_longer() {
    let (server, gate) = gated_server(Limits::default());
    let mut client = server.connect(PROMETHEUS);
    client.send("/metrics").await;
    settle().await;
    assert_eq!(gate.waiting(), 1);
    drop(client);
    settle().await;
    assert_eq!(gate.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_collection_that_panics_is_an_error_of_its_scrapes() {
    let calls = Arc::new(AtomicUsize::new(0));
    let bodies = Bodies::default();
    let server = InProcessServer::start(Limits::default(), move |_| {
        let first = calls.fetch_add(1, Ordering::SeqCst) == 0;
        ready(if first { Err(CollectionPanicked) } else { Ok(bodies.make(1)) })
    });
    assert_eq!(server.get(PROMETHEUS, "/metrics").await.status, 500);
    assert_eq!(server.get(PROMETHEUS, "/metrics").await.status, 200);
}
