//! The connections that are open, and which of them must make room.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::paced::{Activity, Paced};
use super::routes::Routes;

/// Connections at one time, more than there may be scrapes. The oldest that waits for no answer makes room for the newest.
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
    /// The oldest first.
    open: VecDeque<(AbortHandle, Arc<Activity>)>,
    stopping: watch::Sender<bool>,
}

impl Connections {
    pub(super) fn new(routes: Arc<Routes>) -> Self {
        Self { routes, tasks: JoinSet::new(), open: VecDeque::new(), stopping: watch::Sender::new(false) }
    }

    pub(super) fn add(&mut self, stream: TcpStream) {
        self.forget_ended();
        while self.open.len() >= MOST_CONNECTIONS && self.make_room() {}
        let activity = Arc::new(Activity::default());
        let routes = Arc::clone(&self.routes);
        let connection = serve(stream, routes, Arc::clone(&activity), self.stopping.subscribe());
        let task = self.tasks.spawn(connection);
        self.open.push_back((task, activity));
    }

    /// Drops what is left of connections that have ended.
    fn forget_ended(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        self.open.retain(|(task, _)| !task.is_finished());
    }

    /// Ends the oldest connection that waits for a request, else the oldest whose client does not read its answer.
    pub(super) fn make_room(&mut self) -> bool {
        let oldest =
            |wanted: fn(&Activity) -> bool| self.open.iter().position(|(_, activity)| wanted(activity));
        let found = oldest(Activity::is_idle).or_else(|| oldest(Activity::is_sending));
        let Some((task, _)) = found.and_then(|at| self.open.remove(at)) else {
            return false;
        };
        task.abort();
        true
    }

    pub(super) async fn stop(mut self) {
        self.stopping.send_replace(true);
        let all_ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_TIMEOUT, all_ended).await.is_err() {
            tracing::warn!("connections that did not end in time are cut off");
        }
    }
}

async fn serve(
    stream: TcpStream,
    routes: Arc<Routes>,
    activity: Arc<Activity>,
    mut stopping: watch::Receiver<bool>,
) {
    // Without it answers are only later.
    let _ = stream.set_nodelay(true);
    let paced = Paced::new(stream, READER_TIMEOUT, Arc::clone(&activity));
    let service = service_fn(|request| {
        let (routes, activity) = (Arc::clone(&routes), Arc::clone(&activity));
        async move {
            activity.begin();
            let answer = routes.answer(&request).await;
            activity.hand_over();
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
