//! A fake API server: one set of objects and one request handler, for clients in this process and over TLS.

mod answer;
mod tls;

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use disk_usage_exporter::cluster::limited;
use hyper::Request;
use hyper::header::AUTHORIZATION;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::PATIENCE;
pub(crate) use answer::PANIC;
pub(crate) use tls::ApiServer;

pub(crate) const PVS: &str = "persistentvolumes";
pub(crate) const CLAIMS: &str = "persistentvolumeclaims";
pub(crate) const PODS: &str = "pods";

/// What goes wrong with a request.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// The response is as usual, but waits for the test.
    Wait(Arc<Notify>),
    /// The connection is closed without a response.
    Close,
    /// There is no response.
    Hang,
    /// Half of the body, then the connection is closed.
    Half,
    /// Half of the body, and nothing more.
    HalfThenSilence,
    /// A body of spaces without end.
    Endless,
    /// A refusal with empty lines without end.
    EndlessRefusal,
    Status(u16),
    /// A status with this `Retry-After`.
    RetryAfter(u16, &'static str),
    /// The server's cache lacks what its store has.
    NotInCache,
    /// Success, with this body.
    Body(String),
}

/// A request, and its response so far.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    pub(crate) verb: &'static str,
    /// `""`: something else than volumes, claims and pods.
    pub(crate) resource: &'static str,
    path: String,
    /// Empty for lists and watches.
    pub(crate) name: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) authorization: Option<String>,
    pub(crate) has_certificate: bool,
    pub(crate) at: Instant,
    /// Gets that were in flight when it arrived, this one included.
    pub(crate) in_flight: usize,
    /// A get in flight, or a watch that has sent the pods.
    is_open: bool,
    /// Bytes of the response's body.
    pub(crate) sent: usize,
}

impl Recorded {
    fn new<B>(request: &Request<B>, has_certificate: bool) -> Self {
        let decode = |value: &str| value.replace("%3D", "=").replace("%2C", ",").replace("%21", "!");
        let pairs = request.uri().query().unwrap_or_default().split('&');
        let pairs = pairs.filter_map(|pair| pair.split_once('='));
        let query: BTreeMap<_, _> = pairs.map(|(name, value)| (name.into(), decode(value))).collect();
        let path = request.uri().path();
        let (parent, last) = path.rsplit_once('/').unwrap();
        let is_of = |resource: &&str| path == "/api/v1/pods" || parent.ends_with(&format!("/{resource}"));
        let resource = [PODS, PVS, CLAIMS].into_iter().find(is_of).unwrap_or_default();
        let name = if resource == last { "" } else { last };
        let list_or_watch = if query.contains_key("watch") { "watch" } else { "list" };
        let authorization = request.headers().get(AUTHORIZATION);
        Self {
            verb: if name.is_empty() { list_or_watch } else { "get" },
            resource,
            path: path.into(),
            name: name.into(),
            query,
            authorization: authorization.map(|value| value.to_str().unwrap().to_owned()),
            has_certificate,
            at: Instant::now(),
            in_flight: 0,
            is_open: !name.is_empty(),
            sent: 0,
        }
    }

    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// Verb, resource and name.
    pub(crate) fn brief(&self) -> String {
        [self.verb, self.resource, &self.name].join(" ").trim_end().to_owned()
    }
}

/// What a watch sends.
#[derive(Debug, Clone)]
enum Event {
    /// Type and pod.
    Pod(&'static str, Value),
    Raw(Vec<u8>),
    /// The watch ends.
    End,
}

/// The path of an object.
fn path_of(object: &Value) -> String {
    let resource = match object["kind"].as_str().unwrap() {
        "PersistentVolume" => PVS,
        "PersistentVolumeClaim" => CLAIMS,
        "Pod" => PODS,
        kind => panic!("unknown kind {kind}"),
    };
    let metadata = &object["metadata"];
    let namespace = metadata["namespace"].as_str().map(|namespace| format!("namespaces/{namespace}/"));
    let name = metadata["name"].as_str().unwrap();
    format!("/api/v1/{}{resource}/{name}", namespace.unwrap_or_default())
}

#[derive(Default)]
pub(crate) struct State {
    /// By path.
    objects: BTreeMap<String, Value>,
    /// The resource version of the last change.
    pub(crate) version: u64,
    /// Events with the versions after them.
    history: Vec<(u64, Event)>,
    /// The resource, or resource and name, that they are about, and how often they still happen.
    pub(crate) faults: Vec<(String, Fault, usize)>,
    requests: Vec<Recorded>,
    /// The only valid token; `None`: all are.
    token: Option<String>,
    pub(crate) handshakes: usize,
}

impl State {
    fn put(&mut self, mut object: Value) {
        let uid = format!("uid-of-{}", object["metadata"]["name"].as_str().unwrap());
        object["metadata"].as_object_mut().unwrap().entry("uid").or_insert(json!(uid));
        let path = path_of(&object);
        let kind = if self.objects.contains_key(&path) { "MODIFIED" } else { "ADDED" };
        let object = self.next_version(kind, object);
        self.objects.insert(path, object);
    }

    fn remove(&mut self, object: &Value) {
        let removed = self.objects.remove(&path_of(object)).expect("the object exists");
        self.next_version("DELETED", removed);
    }

    /// Gives an object the next resource version; if it is a pod, watches send it.
    fn next_version(&mut self, kind: &'static str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if object["kind"] == "Pod" {
            self.history.push((self.version, Event::Pod(kind, object.clone())));
        }
        object
    }

    /// Gets in flight, or watches that have sent the pods.
    pub(crate) fn open(&self, verb: &str) -> usize {
        self.requests.iter().filter(|request| request.verb == verb && request.is_open).count()
    }
}

pub(crate) struct Server {
    state: Mutex<State>,
    /// A request or its response made progress.
    progress: Condvar,
    /// The objects changed.
    changes: watch::Sender<()>,
}

impl Server {
    pub(crate) fn new() -> Arc<Self> {
        let (state, progress, changes) = (Mutex::default(), Condvar::new(), watch::Sender::new(()));
        Arc::new(Self { state, progress, changes })
    }

    /// A client that needs no connection.
    pub(crate) fn client(self: &Arc<Self>) -> kube::Client {
        let server = Arc::clone(self);
        limited(move |request| {
            let response = answer::answer(Arc::clone(&server), request, true);
            async { response.await.map_err(Into::into) }
        })
    }

    /// Adds or replaces objects; one without a uid gets one.
    pub(crate) fn put(&self, objects: impl IntoIterator<Item = Value>) {
        self.change(|state| objects.into_iter().for_each(|object| state.put(object)));
    }

    pub(crate) fn remove(&self, objects: impl IntoIterator<Item = Value>) {
        self.change(|state| objects.into_iter().for_each(|object| state.remove(&object)));
    }

    /// Removes a pod without an event.
    pub(crate) fn remove_unnoticed(&self, pod: &Value) {
        self.change(|state| {
            state.remove(pod);
            state.history.pop();
        });
    }

    /// Sends the watches a bookmark at the current version.
    pub(crate) fn bookmark(&self) {
        let metadata = json!({"resourceVersion": self.lock().version.to_string()});
        let object = json!({"kind": "Pod", "apiVersion": "v1", "metadata": metadata});
        self.send_to_watches(format!("{}\n", json!({"type": "BOOKMARK", "object": object})));
    }

    pub(crate) fn send_to_watches(&self, bytes: impl Into<Vec<u8>>) {
        self.change(|state| state.history.push((state.version, Event::Raw(bytes.into()))));
    }

    /// Ends the open watches.
    pub(crate) fn end_watches(&self) {
        self.change(|state| state.history.push((state.version, Event::End)));
    }

    /// The next so many requests about a resource, or an object (`persistentvolumes pv-1`), go wrong.
    pub(crate) fn fault(&self, target: &str, fault: Fault, times: usize) {
        self.lock().faults.extend((times > 0).then(|| (target.into(), fault, times)));
    }

    /// From now on this token is valid, and no other.
    pub(crate) fn require_token(&self, token: &str) {
        self.lock().token = Some(token.into());
    }

    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.lock().requests.clone()
    }

    pub(crate) fn wait_for(&self, what: &str, is_so: impl Fn(&[Recorded]) -> bool) -> Vec<Recorded> {
        let is_not = |state: &mut State| !is_so(&state.requests);
        let (state, wait) = self.progress.wait_timeout_while(self.lock(), PATIENCE, is_not).unwrap();
        let briefs: Vec<_> = state.requests.iter().map(Recorded::brief).collect();
        assert!(!wait.timed_out(), "{what}: {briefs:#?}");
        state.requests.clone()
    }

    pub(crate) fn wait_for_open_watch(&self) {
        self.wait_for("an open watch", |requests| {
            requests.iter().any(|request| request.verb == "watch" && request.is_open)
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changes.send_replace(());
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Changes what is recorded of a request.
    fn update(&self, index: usize, update: impl FnOnce(&mut Recorded)) {
        update(&mut self.lock().requests[index]);
        self.progress.notify_all();
    }

    /// Records a request; returns its index and its fault.
    fn record(&self, request: &Recorded) -> (usize, Option<Fault>) {
        let mut state = self.lock();
        let in_flight = state.open("get") + usize::from(request.is_open);
        state.requests.push(Recorded { in_flight, ..request.clone() });
        self.progress.notify_all();
        let object = [request.resource, &request.name].join(" ");
        let is_cached = request.query("resourceVersion") == Some("0");
        let applies = |(target, fault, _): &(String, Fault, usize)| {
            (target == request.resource || *target == object)
                && (is_cached || !matches!(fault, Fault::NotInCache))
        };
        let found = state.faults.iter().position(applies);
        let fault = found.map(|found| {
            state.faults[found].2 -= 1;
            state.faults[found].1.clone()
        });
        state.faults.retain(|(_, _, times)| *times > 0);
        (state.requests.len() - 1, fault)
    }
}
