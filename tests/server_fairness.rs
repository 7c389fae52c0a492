//! Each test runs the server in this process, on connections in memory and a clock that only moves while all wait.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use disk_usage_exporter::server::Limits;
use tokio::time::{Instant, sleep};

use crate::support::in_process::{
    Bodies, CHUNK_BYTES, InProcessServer, PIPE_BYTES, PROMETHEUS, gated_server, peer, request, server, settle,
};

#[tokio::test(start_paused = true)]
async fn a_thousand_scrapes_wait_for_one_collection_while_probes_are_answered() {
    let (server, gate) = gated_server(Limits::default());
    let mut scrapes = Vec::new();
    for address in (0..1_000).flat_map(|_| 0..40).take(1_000) {
        let mut client = server.connect(peer(address));
        client.send("/metrics").await;
        scrapes.push(client);
    }
    // Others that ask for nothing.
    let _idle: Vec<_> = (0..300).map(|_| server.connect(peer(250))).collect();
    settle().await;
    for path in ["/healthz", "/readyz", "/style.css"] {
        for address in [peer(0), peer(250), peer(251)] {
            assert_ne!(server.get(address, path).await.status, 404, "{path}");
        }
    }
    assert_eq!(gate.waiting(), 1_000);
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
        for _ in 0..30 {
            assert_eq!(server.get(PROMETHEUS, "/metrics").await.status, 200, "{addresses} addresses");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_address_with_most_connections_makes_room() {
    let limits = Limits { connections: 20, ..Limits::default() };
    let (server, gate) = gated_server(limits);
    let mut idle = server.connect(PROMETHEUS);
    idle.send("/healthz").await;
    assert_eq!(idle.response().await.unwrap().status, 200);
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
    idle.send("/healthz").await;
    assert_eq!(idle.response().await.unwrap().status, 200);
    gate.answer_all(&Bodies::default().make(1));
    assert_eq!(scrape.response().await.unwrap().status, 200);
    assert_eq!(flood[66].response().await.unwrap().status, 200);
}

#[tokio::test(start_paused = true)]
async fn of_one_address_the_oldest_idle_connection_makes_room() {
    let limits = Limits { connections: 10, ..Limits::default() };
    let (server, _) = server(limits, 1);
    let mut held = Vec::new();
    for _ in 0..10 {
        let mut client = server.connect(PROMETHEUS);
        client.send("/healthz").await;
        assert_eq!(client.response().await.unwrap().status, 200);
        held.push(client);
    }
    for path in ["/metrics", "/healthz", "/style.css"] {
        assert_eq!(server.get(PROMETHEUS, path).await.status, 200);
    }
    assert!(held[0].is_closed().await);
    held[9].send("/healthz").await;
    assert_eq!(held[9].response().await.unwrap().status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_read_before_the_next_one_may_take_its_place() {
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
async fn responses_that_nobody_reads_hold_bounded_memory_and_delay_nobody() {
    let limits = Limits { unsent_bytes: 30 * CHUNK_BYTES, ..Limits::default() };
    let (server, bodies) = server(limits, 10);
    let mut held = Vec::new();
    for number in 0..25 {
        let mut client = server.connect(peer(number));
        // The second response of a pipeline waits behind the first one.
        client.send_raw(request("/metrics").repeat(2).as_bytes()).await;
        client.read_part(1).await;
        held.push(client);
        assert_eq!(server.get(PROMETHEUS, "/metrics").await.body.len(), 10 * CHUNK_BYTES);
        assert_eq!(server.get(PROMETHEUS, "/healthz").await.status, 200);
        settle().await;
        assert!(bodies.live_bytes() <= limits.unsent_bytes, "{} bytes", bodies.live_bytes());
    }
    assert!(bodies.live_bytes() >= 20 * CHUNK_BYTES, "no more are cut off than must be");
}

#[tokio::test(start_paused = true)]
async fn the_client_that_has_read_nothing_for_longest_makes_room_for_a_response() {
    let limits = Limits { unsent_bytes: 30 * CHUNK_BYTES, ..Limits::default() };
    let (server, _) = server(limits, 10);
    let mut readers: Vec<_> = (0..3).map(|number| server.connect(peer(number))).collect();
    for reader in &mut readers {
        reader.send("/metrics").await;
        reader.read_part(1).await;
        sleep(Duration::from_secs(1)).await;
    }
    // The first has waited longest, but goes on reading.
    readers[0].read_part(CHUNK_BYTES).await;
    assert_eq!(server.get(PROMETHEUS, "/metrics").await.body.len(), 10 * CHUNK_BYTES);
    let mut lengths = Vec::new();
    for reader in &mut readers {
        lengths.push(
            tokio::time::timeout(Duration::from_secs(1), reader.read_to_end()).await.map(|bytes| bytes.len()),
        );
    }
    assert!(lengths[0].is_err() && lengths[2].is_err(), "still open: {lengths:?}");
    assert!(lengths[1].as_ref().is_ok_and(|length| *length <= PIPE_BYTES), "cut off: {lengths:?}");
}

#[tokio::test(start_paused = true)]
async fn clients_that_share_a_body_beyond_the_limit_get_it_whole() {
    let limits = Limits { unsent_bytes: 5 * CHUNK_BYTES, ..Limits::default() };
    let (server, gate) = gated_server(limits);
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
async fn errors_of_accept_are_retried_after_a_pause_and_free_a_connection() {
    let (server, _) = server(Limits::default(), 1);
    let mut held: Vec<_> = (0..30).map(|number| server.connect(peer(number))).collect();
    settle().await;
    let before = server.accept_calls();
    (0..10).for_each(|_| server.fail_accept(io::Error::from_raw_os_error(24)));
    sleep(Duration::from_millis(950)).await;
    assert_eq!(server.accept_calls() - before, 9, "one every 100 ms");
    assert!(held[0].is_closed().await && held[8].is_closed().await && !held[20].is_closed().await);
    // A client that has disconnected is no reason to pause.
    sleep(Duration::from_millis(100)).await;
    let start = Instant::now();
    (0..1_000).for_each(|_| server.fail_accept(io::ErrorKind::ConnectionAborted.into()));
    assert_eq!(server.get(PROMETHEUS, "/healthz").await.status, 200);
    assert_eq!(start.elapsed(), Duration::ZERO);
}
