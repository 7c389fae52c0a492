//! Connections and answers.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, RETRY_AFTER};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::faults::{Fault, status};
use super::record::{Recorded, Verb};
use super::world::{Happening, is_on};
use super::{Mode, Server};

type Body = UnsyncBoxBody<Bytes, io::Error>;
/// A body that is sent piece by piece; an error ends the connection.
type Pieces = mpsc::UnboundedSender<io::Result<Bytes>>;

/// A client in this process panics when it reads this.
pub(crate) const PANIC: &str = "panic";

/// Serves until the test ends.
pub(super) async fn run(
    server: Arc<Server>,
    tls: TlsAcceptor,
    first: TcpListener,
    mut mode: watch::Receiver<Mode>,
) {
    let address = first.local_addr().unwrap();
    let mut listener = Some(first);
    let mut connections = JoinSet::new();
    loop {
        let now = *mode.borrow_and_update();
        if now == Mode::Refusing {
            listener = None;
            connections.shutdown().await;
            server.modes.send_replace(now);
            if mode.changed().await.is_err() {
                return;
            }
            continue;
        }
        let listening = match listener.take() {
            Some(listening) => listening,
            None => bind(address).await,
        };
        server.modes.send_replace(now);
        tokio::select! {
            accepted = listening.accept() => {
                let (stream, _) = accepted.unwrap();
                let (server, tls) = (Arc::clone(&server), tls.clone());
                connections.spawn(async move {
                    if now == Mode::Mute {
                        // Connected, and nothing else.
                        std::future::pending::<()>().await;
                    }
                    let Ok(stream) = tls.accept(stream).await else { return };
                    server.count(|counts| counts.handshakes += 1);
                    let has_certificate = stream.get_ref().1.peer_certificates().is_some();
                    let service = hyper::service::service_fn(|request| {
                        answer(Arc::clone(&server), request, has_certificate)
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
            changed = mode.changed() => if changed.is_err() { return },
        }
        listener = Some(listening);
    }
}

async fn bind(address: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            // The connections of before are still closing.
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// One answer; an error closes the connection without any.
pub(super) async fn answer<B>(
    server: Arc<Server>,
    request: Request<B>,
    has_certificate: bool,
) -> Result<Response<Body>, io::Error> {
    let recorded = Recorded::new(&request, has_certificate);
    let (index, fault) = server.arrived(&recorded);
    let flight = Flight { server: Arc::clone(&server), index, ends: recorded.verb != Verb::Watch };
    match &fault {
        Some(Fault::Wait(go)) => go.notified().await,
        Some(Fault::Close) => return Err(io::Error::other("as the test wants it")),
        Some(Fault::Hang) => std::future::pending().await,
        _ => {}
    }
    let (code, retry_after) = match &fault {
        Some(Fault::Status(code, retry_after)) => (*code, *retry_after),
        Some(Fault::RetryAfter(_)) => (503, None),
        Some(Fault::NotInCache) => (404, None),
        _ => (server.allows(&recorded), None),
    };
    let is_streamed =
        matches!(fault, Some(Fault::Body(_) | Fault::Half | Fault::HalfThenSilence | Fault::Endless));
    let is_watch = recorded.verb == Verb::Watch && code == 200 && !is_streamed;
    if is_watch {
        return Ok(Response::new(watch(flight, recorded, matches!(fault, Some(Fault::Silence)))));
    }
    let (code, text) = match &fault {
        Some(Fault::Body(text)) => (200, text.clone()),
        _ => body(&server, code, &recorded),
    };
    let mut response = Response::new(piecewise(flight, text.into(), fault.as_ref()));
    *response.status_mut() = code.try_into().unwrap();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, "application/json".parse().unwrap());
    retry_after.map(|seconds| headers.insert(RETRY_AFTER, seconds.into()));
    if let Some(Fault::RetryAfter(text)) = fault {
        headers.insert(RETRY_AFTER, text.parse().unwrap());
    }
    Ok(response)
}

/// The status and the text of an answer.
fn body(server: &Server, code: u16, request: &Recorded) -> (u16, String) {
    if code != 200 {
        return (code, format!("{:#}\n", status(code, request)));
    }
    let world = server.world();
    let found = match (request.verb, request.resource) {
        (Verb::List | Verb::Watch, Some(_)) => Some(world.list(request.node())),
        (_, Some(resource)) => world.get(resource, &request.namespace, &request.name),
        (_, None) => None,
    };
    match found {
        Some(object) => (200, format!("{object:#}\n")),
        None => (404, format!("{:#}\n", status(404, request))),
    }
}

/// A body with its length, whole or broken as the fault says.
fn piecewise(flight: Flight, text: Bytes, fault: Option<&Fault>) -> Body {
    let half = text.slice(..text.len() / 2);
    let (sender, body) = pieces();
    match fault {
        Some(Fault::Half) => {
            flight.send(&sender, Ok(half));
            flight.send(&sender, Err(io::Error::other("as the test wants it")));
        }
        Some(Fault::HalfThenSilence) => {
            flight.send(&sender, Ok(half));
            tokio::spawn(async move {
                sender.closed().await;
                drop(flight);
            });
        }
        Some(Fault::Endless) => drop(tokio::spawn(async move {
            let spaces = Bytes::from(vec![b' '; 1 << 16]);
            while flight.send(&sender, Ok(spaces.clone())) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })),
        _ => {
            flight.server.sent(flight.index, text.len());
            return Full::new(text).map_err(|never: Infallible| match never {}).boxed_unsync();
        }
    }
    body
}

fn pieces() -> (Pieces, Body) {
    let (sender, mut receiver) = mpsc::unbounded_channel::<io::Result<Bytes>>();
    let stream = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
    let frames = futures_util::StreamExt::map(stream, |piece| {
        let is_panic = piece.as_ref().is_ok_and(|bytes| bytes == PANIC);
        assert!(!is_panic, "as the test wants it");
        piece.map(Frame::data)
    });
    (sender, StreamBody::new(frames).boxed_unsync())
}

/// What happens to the pods of a node from a version on.
fn watch(flight: Flight, request: Recorded, silent: bool) -> Body {
    let (sender, body) = pieces();
    let mut changes = flight.server.changes.subscribe();
    let seconds: u64 = request.query("timeoutSeconds").and_then(|text| text.parse().ok()).unwrap_or(3600);
    let from: u64 = request.query("resourceVersion").and_then(|text| text.parse().ok()).unwrap_or(0);
    tokio::spawn(async move {
        let server = Arc::clone(&flight.server);
        // What is told from when it counts as open on is not missed.
        let mut told = server.world().history.iter().take_while(|(version, _)| *version <= from).count();
        if from == 0 {
            // Every pod as it is, one after the other, and then what happens from now on.
            let pods = server.world().list(request.node());
            for pod in pods["items"].as_array().unwrap() {
                tell(&flight, &sender, &request, Happening::Pod("ADDED", pod.clone()));
            }
            told = server.world().history.len();
        }
        server.count(|counts| counts.watches += 1);
        if silent {
            sender.closed().await;
        }
        let over = tokio::time::sleep(Duration::from_secs(seconds));
        tokio::pin!(over);
        loop {
            changes.borrow_and_update();
            let news: Vec<_> = server.world().history[told..].to_vec();
            told += news.len();
            if !news.into_iter().all(|(_, happening)| tell(&flight, &sender, &request, happening)) {
                break;
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = &mut over => break,
                () = sender.closed() => break,
            }
        }
        server.count(|counts| counts.watches -= 1);
    });
    body
}

/// Tells a watch; `false` if it ends.
fn tell(flight: &Flight, sender: &Pieces, request: &Recorded, happening: Happening) -> bool {
    match happening {
        Happening::Pod(kind, pod) if is_on(&pod, request.node()) => {
            // In this order, as Kubernetes writes it.
            let line = format!("{{\"type\":\"{kind}\",\"object\":{pod}}}\n");
            flight.send(sender, Ok(line.into()))
        }
        Happening::Pod(..) => true,
        Happening::Raw(bytes) => flight.send(sender, Ok(bytes.into())),
        Happening::End => false,
    }
}

/// A request that is being answered.
struct Flight {
    server: Arc<Server>,
    index: usize,
    /// It counts as in flight until it is answered.
    ends: bool,
}

impl Flight {
    fn send(&self, sender: &Pieces, piece: io::Result<Bytes>) -> bool {
        self.server.sent(self.index, piece.as_ref().map_or(0, Bytes::len));
        sender.send(piece).is_ok()
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.ends {
            self.server.count(|counts| counts.in_flight -= 1);
        }
    }
}
