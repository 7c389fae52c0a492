//! An API server of the test's own: TLS, the answers of a real one, and all that goes wrong with them.

mod certificates;
mod faults;
mod record;
mod serve;
mod world;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use disk_usage_exporter::cluster::limited;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::PATIENCE;
use certificates::Authority;
use faults::Faults;
pub(crate) use faults::{Fault, Of, of};
pub(crate) use record::{Recorded, Verb};
pub(crate) use serve::PANIC;
pub(crate) use world::{Generator, Resource};
use world::{Happening, World};

/// How it takes connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Serving,
    /// Nobody listens, and all connections are closed.
    Refusing,
    /// Connections are made, and nothing comes of them.
    Mute,
}

/// What is counted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) handshakes: usize,
    /// Watches that are open.
    pub(crate) watches: usize,
    /// Requests, but for watches, that are not answered yet.
    pub(crate) in_flight: usize,
}

/// What its connections share.
pub(crate) struct Server {
    state: Mutex<State>,
    /// Something was asked, answered or counted.
    news: Condvar,
    /// Something happened in the world.
    changes: watch::Sender<()>,
    /// The mode that it is in by now.
    modes: watch::Sender<Mode>,
}

#[derive(Default)]
struct State {
    world: World,
    faults: Faults,
    requests: Vec<Recorded>,
    counts: Counts,
    /// The tokens that are good; `None`: whatever is shown.
    tokens: Option<BTreeSet<String>>,
    forbidden: BTreeSet<(Verb, Resource)>,
}

/// The server, running.
pub(crate) struct ApiServer {
    server: Arc<Server>,
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    authority: Authority,
    directory: TempDir,
}

impl ApiServer {
    pub(crate) fn start() -> Self {
        let authority = Authority::new();
        let acceptor = authority.acceptor("127.0.0.1");
        let server = Server::in_process();
        let mode = watch::Sender::new(Mode::Serving);
        let (running, wanted) = (Arc::clone(&server), mode.subscribe());
        let (listening, address) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                listening.send(listener.local_addr().unwrap()).unwrap();
                serve::run(running, acceptor, listener, wanted).await;
            });
        });
        let address = address.recv().unwrap();
        Self { server, address, mode, authority, directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Nobody listens any more, and all connections are closed.
    pub(crate) fn stop(&self) {
        self.set(Mode::Refusing);
    }

    /// Takes connections and says nothing, not even of TLS; those that are open are closed.
    pub(crate) fn mute(&self) {
        self.set(Mode::Refusing);
        self.set(Mode::Mute);
    }

    /// As in the beginning, at the same address.
    pub(crate) fn resume(&self) {
        self.set(Mode::Refusing);
        self.set(Mode::Serving);
    }

    fn set(&self, mode: Mode) {
        let mut modes = self.server.modes.subscribe();
        self.mode.send_replace(mode);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let reached =
            async { tokio::time::timeout(PATIENCE, modes.wait_for(|now| *now == mode)).await.is_ok() };
        assert!(runtime.block_on(reached), "the server does not become {mode:?}");
    }

    /// A file of the test's own.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A kubeconfig with these credentials of its user, `--kubeconfig` and all.
    pub(crate) fn kubeconfig(&self, user: &Value) -> String {
        let authority = self.write("ca.crt", &self.authority.pem());
        let cluster =
            json!({"server": format!("https://{}", self.address), "certificate-authority": authority});
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        format!("--kubeconfig={}", self.write("kubeconfig", &config.to_string()).display())
    }

    /// The user of a kubeconfig that shows a certificate.
    pub(crate) fn user_with_certificate(&self) -> Value {
        let identity = self.authority.client("the exporter");
        let certificate = self.write("client.crt", &identity.certificate);
        json!({"client-certificate": certificate, "client-key": self.write("client.key", &identity.key)})
    }

    /// What a pod finds of its service account.
    pub(crate) fn write_service_account(&self, directory: &Path, token: &str) {
        std::fs::create_dir_all(directory).unwrap();
        let files = [("token", token), ("ca.crt", &self.authority.pem()), ("namespace", "monitoring")];
        for (name, text) in files {
            std::fs::write(directory.join(name), text).unwrap();
        }
    }
}

impl std::ops::Deref for ApiServer {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Server {
    /// A server without connections, which is asked by [`Self::client`].
    pub(crate) fn in_process() -> Arc<Self> {
        let (changes, modes) = (watch::Sender::new(()), watch::Sender::new(Mode::Serving));
        Arc::new(Self { state: Mutex::default(), news: Condvar::new(), changes, modes })
    }

    /// A client that needs no connection.
    pub(crate) fn client(self: &Arc<Self>) -> kube::Client {
        let server = Arc::clone(self);
        limited(move |request| {
            let answer = serve::answer(Arc::clone(&server), request, true);
            async { answer.await.map_err(Into::into) }
        })
    }

    pub(crate) fn put(&self, object: Value) {
        self.change(|world| world.put(object));
    }

    pub(crate) fn put_all(&self, objects: impl IntoIterator<Item = Value>) {
        objects.into_iter().for_each(|object| self.put(object));
    }

    pub(crate) fn remove(&self, resource: Resource, namespace: &str, name: &str) {
        self.change(|world| world.remove(resource, namespace, name));
    }

    /// Removes an object without telling the watches.
    pub(crate) fn forget(&self, resource: Resource, namespace: &str, name: &str) {
        self.change(|world| {
            world.remove(resource, namespace, name);
            world.history.pop();
        });
    }

    /// Any number of objects besides those put there.
    pub(crate) fn generate(&self, generator: Generator) {
        self.change(|world| world.generator = Some(generator));
    }

    /// The version of the last change.
    pub(crate) fn version(&self) -> String {
        self.world().version.to_string()
    }

    /// Any number of pods besides those put there.
    pub(crate) fn generate_pods(&self, count: usize, make: impl Fn(usize) -> Value) {
        // Here and not at the first watch, which would keep a node waiting for its pods.
        let pods = (0..count).map(make).collect();
        self.change(|world| world.pods = pods);
    }

    /// Tells the watches a bookmark, at the version of now.
    pub(crate) fn bookmark(&self) {
        let version = self.world().version.to_string();
        let object = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": version},
            "spec": {"containers": null}, "status": {}});
        self.tell_watches(format!("{}\n", json!({"type": "BOOKMARK", "object": object})));
    }

    /// Tells the watches whatever the test wants.
    pub(crate) fn tell_watches(&self, bytes: impl Into<Vec<u8>>) {
        self.change(|world| world.tell(Happening::Raw(bytes.into())));
    }

    /// Ends the watches, as after their time.
    pub(crate) fn end_watches(&self) {
        self.change(|world| world.tell(Happening::End));
    }

    /// The next so many requests of a kind go wrong.
    pub(crate) fn fault(&self, of: Of, fault: Fault, times: usize) {
        self.lock().faults.add(of, fault, times);
    }

    pub(crate) fn clear_faults(&self) {
        self.lock().faults.clear();
    }

    /// From now on these tokens are good, and no others.
    pub(crate) fn require_tokens(&self, tokens: &[&str]) {
        self.lock().tokens = Some(tokens.iter().map(|token| (*token).to_owned()).collect());
    }

    pub(crate) fn forbid(&self, verb: Verb, resource: Resource) {
        self.lock().forbidden.insert((verb, resource));
    }

    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.lock().requests.clone()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Waits until this is so of the requests.
    pub(crate) fn wait_for(&self, what: &str, is_so: impl Fn(&[Recorded]) -> bool) -> Vec<Recorded> {
        let mut found = Vec::new();
        self.wait(what, |state| {
            found.clone_from(&state.requests);
            is_so(&state.requests)
        });
        found
    }

    /// Waits until this is so of the counts.
    pub(crate) fn wait_for_counts(&self, what: &str, is_so: impl Fn(&Counts) -> bool) {
        self.wait(what, |state| is_so(&state.counts));
    }

    fn wait(&self, what: &str, mut is_so: impl FnMut(&State) -> bool) {
        let start = Instant::now();
        let mut state = self.lock();
        while !is_so(&state) {
            let left = PATIENCE.saturating_sub(start.elapsed());
            let briefs: Vec<_> = state.requests.iter().map(Recorded::brief).collect();
            assert!(!left.is_zero(), "{what}: {:?}, {briefs:#?}", state.counts);
            state = self.news.wait_timeout(state, left.min(Duration::from_secs(1))).unwrap().0;
        }
    }

    fn change(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.lock().world);
        self.changes.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn world(&self) -> impl std::ops::Deref<Target = World> + '_ {
        struct Locked<'a>(MutexGuard<'a, State>);
        impl std::ops::Deref for Locked<'_> {
            type Target = World;
            fn deref(&self) -> &World {
                &self.0.world
            }
        }
        Locked(self.lock())
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.lock().counts);
        self.news.notify_all();
    }

    /// Takes a request down: its index, and what goes wrong with it.
    fn arrived(&self, request: &Recorded) -> (usize, Option<Fault>) {
        let mut state = self.lock();
        state.counts.in_flight += usize::from(request.verb != Verb::Watch);
        let in_flight = state.counts.in_flight;
        state.requests.push(Recorded { in_flight, ..request.clone() });
        let fault = state.faults.take(request);
        self.news.notify_all();
        (state.requests.len() - 1, fault)
    }

    fn sent(&self, index: usize, bytes: usize) {
        self.lock().requests[index].sent += bytes;
        self.news.notify_all();
    }

    /// The status for this client.
    fn allows(&self, request: &Recorded) -> u16 {
        let state = self.lock();
        let token = request.authorization.as_ref().and_then(|value| value.strip_prefix("Bearer "));
        let is_known =
            state.tokens.as_ref().is_none_or(|good| token.is_some_and(|token| good.contains(token)));
        let is_forbidden =
            request.resource.is_some_and(|resource| state.forbidden.contains(&(request.verb, resource)));
        match (is_known || request.has_certificate, is_forbidden) {
            (false, _) => 401,
            (true, true) => 403,
            (true, false) => 200,
        }
    }
}
