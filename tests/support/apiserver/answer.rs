//! The handler of requests.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, RETRY_AFTER};
use hyper::{Request, Response};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Event, Fault, Recorded, Server};

/// A client in this process panics when it reads this.
pub(crate) const PANIC: &str = "panic";

/// The response; an error closes the connection without any.
pub(super) async fn answer<B>(
    server: Arc<Server>,
    request: Request<B>,
    has_certificate: bool,
) -> io::Result<Response<UnsyncBoxBody<Bytes, io::Error>>> {
    let request = Recorded::new(&request, has_certificate);
    let (index, fault) = server.record(&request);
    let (sender, receiver) = mpsc::unbounded_channel();
    let sending = Sending { server, index, sender };
    match &fault {
        Some(Fault::Wait(go)) => go.notified().await,
        Some(Fault::Close) => return Err(closed()),
        Some(Fault::Hang) => std::future::pending().await,
        _ => {}
    }
    let status = match fault {
        Some(Fault::Status(code) | Fault::RetryAfter(code, _)) => Some(code),
        Some(Fault::NotInCache) => Some(404),
        Some(Fault::EndlessRefusal) => Some(403),
        _ => sending.server.refusal(&request),
    };
    let (code, body, events) = match &fault {
        Some(Fault::Body(body)) => (200, body.clone(), None),
        _ if status.is_none() && request.verb == "watch" => sending.server.first_events(&request, index),
        _ => sending.server.object(status, &request),
    };
    let mut response = Response::builder().status(code).header(CONTENT_TYPE, "application/json");
    if let Some(Fault::RetryAfter(_, text)) = fault {
        response = response.header(RETRY_AFTER, text);
    }
    sending.start(body.into(), fault, request, events);
    let frames = stream::unfold(receiver, |mut receiver: mpsc::UnboundedReceiver<_>| async move {
        let piece: io::Result<Bytes> = receiver.recv().await?;
        assert!(piece.as_ref().map_or(true, |bytes| bytes != PANIC), "the test wants a panic");
        Some((piece.map(Frame::data), receiver))
    });
    Ok(response.body(StreamBody::new(frames).boxed_unsync()).unwrap())
}

fn closed() -> io::Error {
    io::Error::other("the test wants the connection closed")
}

impl Server {
    /// The status for a client that is not known.
    fn refusal(&self, request: &Recorded) -> Option<u16> {
        let state = self.lock();
        let is_valid = |token: &String| request.authorization.as_ref() == Some(&format!("Bearer {token}"));
        let is_known = request.has_certificate || state.token.as_ref().is_none_or(is_valid);
        (!is_known).then_some(401)
    }

    /// The object that is requested, or what Kubernetes answers instead.
    fn object(&self, status: Option<u16>, request: &Recorded) -> (u16, String, Option<usize>) {
        if let Some(object) = self.lock().objects.get(&request.path).filter(|_| status.is_none()) {
            return (200, format!("{object:#}\n"), None);
        }
        let Recorded { verb, resource, name, .. } = request;
        let code = status.unwrap_or(404);
        let reason =
            if code == 403 { format!("is forbidden: nobody cannot {verb} it") } else { "fails".into() };
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": format!("{resource} \"{name}\" {reason}"), "code": code});
        (code, format!("{status:#}\n"), None)
    }

    /// What a watch sends at first, and the number of events after which it goes on.
    fn first_events(&self, request: &Recorded, index: usize) -> (u16, String, Option<usize>) {
        let from: u64 = request.query("resourceVersion").unwrap().parse().unwrap();
        let mut state = self.lock();
        state.requests[index].is_open = true;
        self.progress.notify_all();
        if from > 0 {
            let known = state.history.iter().take_while(|(version, _)| *version <= from).count();
            return (200, String::new(), Some(known));
        }
        let pods = state.objects.values().filter(|object| object["kind"] == "Pod");
        let events = pods.filter_map(|pod| request.event("ADDED", pod));
        (200, events.collect(), Some(state.history.len()))
    }
}

impl Recorded {
    /// The line about a pod, if the watch is about its node.
    fn event(&self, kind: &str, pod: &Value) -> Option<String> {
        let selector = format!("spec.nodeName={},", pod["spec"]["nodeName"].as_str().unwrap());
        let is_selected = self.query("fieldSelector").is_none_or(|query| query.starts_with(&selector));
        // In this order, as Kubernetes writes it.
        is_selected.then(|| format!("{{\"type\":\"{kind}\",\"object\":{pod}}}\n"))
    }
}

/// A response that is being sent.
struct Sending {
    server: Arc<Server>,
    index: usize,
    sender: mpsc::UnboundedSender<io::Result<Bytes>>,
}

impl Sending {
    /// Sends the body, whole or broken, and then the events after so many.
    fn start(self, body: Bytes, fault: Option<Fault>, request: Recorded, events: Option<usize>) {
        let half = body.slice(..body.len() / 2);
        match (fault, events) {
            (Some(Fault::Half), _) => {
                self.send(half);
                let _ = self.sender.send(Err(closed()));
            }
            (Some(Fault::HalfThenSilence), _) => {
                self.send(half);
                tokio::spawn(async move { self.sender.closed().await });
            }
            (Some(fault @ (Fault::Endless | Fault::EndlessRefusal)), _) => drop(tokio::spawn(async move {
                let byte = if matches!(fault, Fault::Endless) { b' ' } else { b'\n' };
                while self.send(vec![byte; 1 << 16].into()) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })),
            (_, events) => {
                self.send(body);
                let Some(events) = events else { return };
                let seconds = Duration::from_secs(request.query("timeoutSeconds").unwrap().parse().unwrap());
                tokio::spawn(async move { timeout(seconds, self.follow(&request, events)).await });
            }
        }
    }

    /// Sends events until the watch ends.
    async fn follow(&self, request: &Recorded, mut sent: usize) {
        let mut changes = self.server.changes.subscribe();
        loop {
            let events = self.server.lock().history[sent..].to_vec();
            sent += events.len();
            for (_, event) in events {
                let line = match event {
                    Event::Pod(kind, pod) => request.event(kind, &pod).map(String::into_bytes),
                    Event::Raw(bytes) => Some(bytes),
                    Event::End => return,
                };
                line.map(|line| self.send(line.into()));
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = self.sender.closed() => return,
            }
        }
    }

    /// Sends a piece of the body; whether the client is still there.
    fn send(&self, piece: Bytes) -> bool {
        self.server.update(self.index, |request| request.sent += piece.len());
        self.sender.send(Ok(piece)).is_ok()
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.server.update(self.index, |request| request.is_open = false);
    }
}
