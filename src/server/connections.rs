//! Connections: their limits, and how they end.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::open::Open;
use super::paced::{Activity, Paced};
use super::routes::Routes;

/// Connections at one time, more than there may be scrapes. Beyond it one that waits for no answer makes room for the newest.
const MOST_CONNECTIONS: usize = 64;
/// How long a client may take for a request's head, and stay idle between requests; no usual interval of scrapes, at
/// which both sides might act at once.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a client may take to read an answer that does not fit into the kernel's buffers.
const READER_TIMEOUT: Duration = Duration::from_secs(30);
/// A request's head, and pieces of an answer: hyper's least is 8 KiB.
const BUFFER_BYTES: usize = 16 << 10;
/// How long what is in flight may take when the program is told to stop: it must be gone within a second, and no scrape
/// waits for mounts by then.
const STOP_TIMEOUT: Duration = Duration::from_millis(700);

pub(super) struct Connections {
    routes: Arc<Routes>,
    tasks: JoinSet<()>,
    open: Arc<Open>,
    stopping: watch::Sender<bool>,
}

impl Connections {
    pub(super) fn new(routes: Arc<Routes>) -> Self {
        Self { routes, tasks: JoinSet::new(), open: Arc::default(), stopping: watch::Sender::new(false) }
    }

    pub(super) fn add(&mut self, stream: TcpStream, peer: IpAddr) {
        // Without it answers are only later.
        let _ = stream.set_nodelay(true);
        self.forget_ended();
        while self.open.count() >= MOST_CONNECTIONS && self.open.make_room() {}
        let activity = Arc::new(Activity::default());
        let (routes, open) = (Arc::clone(&self.routes), Arc::clone(&self.open));
        let connection = serve(stream, peer, routes, open, Arc::clone(&activity), self.stopping.subscribe());
        let task = self.tasks.spawn(connection);
        self.open.add(task, activity, peer);
    }

    /// Drops what is left of connections that have ended.
    fn forget_ended(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        self.open.forget_ended();
    }

    /// Ends one, if any can be.
    pub(super) fn make_room(&self) -> bool {
        self.open.make_room()
    }

    pub(super) async fn stop(mut self) {
        self.stopping.send_replace(true);
        let all_ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_TIMEOUT, all_ended).await.is_err() {
            tracing::warn!("connections that did not end in time are cut off");
        }
    }
}

pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    peer: IpAddr,
    routes: Arc<Routes>,
    open: Arc<Open>,
    activity: Arc<Activity>,
    mut stopping: watch::Receiver<bool>,
) {
    let paced = Paced::new(stream, READER_TIMEOUT, Arc::clone(&activity));
    let service = service_fn(|request: Request<Incoming>| {
        let (routes, open, activity) = (Arc::clone(&routes), Arc::clone(&open), Arc::clone(&activity));
        async move {
            activity.begin();
            let mut answer = routes.answer(&request, peer).await;
            // Behind a request with a body, hyper 1.12 may answer one that it cannot read in the midst of this answer.
            if !request.body().is_end_stream() {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            activity.hand_over(open.make_room_for_answer(&routes.unsent).await);
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(paced), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = async { drop(stopping.wait_for(|stopping| *stopping).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::SingleFlight;
    use crate::health::Health;
    use crate::runtime::CancelHandle;
    use crate::server::{Form, Unsent};
    use crate::snapshot::Snapshot;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// More than the kernel's buffers hold.
    const BODY_BYTES: usize = 32 << 20;

    fn routes() -> Arc<Routes> {
        let body = bytes::Bytes::from(vec![b'a'; BODY_BYTES]);
        let collect = |_: &_, _| Snapshot { complete: true, ..Snapshot::default() };
        let encode = move |_: &Snapshot, _: Form| body.clone();
        let scrapes = SingleFlight::start(CancelHandle::default(), collect, encode).unwrap();
        let health = Arc::new(Health::default());
        Arc::new(Routes::new(scrapes, Duration::from_secs(2), health, Unsent::default()))
    }

    // Found by fuzzing: the head of a second answer within the first one's body; builds with debug assertions panicked.
    #[test]
    fn nonsense_behind_a_request_with_a_body_does_not_reach_into_its_answer() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            let address = listener.local_addr().unwrap();
            let server = tokio::spawn(crate::server::run(listener, routes(), std::future::pending()));
            let mut client = TcpStream::connect(address).await.unwrap();
            let request = b"GET /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
            client.write_all(&[&request[..], b"nonsense\r\n\r\n"].concat()).await.unwrap();
            let mut answer = Vec::new();
            let read = tokio::time::timeout(HEAD_TIMEOUT / 2, client.read_to_end(&mut answer)).await;
            assert!(matches!(read, Ok(Ok(_))), "{read:?}");
            let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
            assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
            assert!(
                answer[end + 4..].iter().all(|byte| *byte == b'a') && answer.len() - end - 4 == BODY_BYTES
            );
            assert!(!server.is_finished());
        });
    }
}
