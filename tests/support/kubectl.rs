//! `kubectl` itself, on an API server that keeps what it is given and runs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::manifest::{name, text};

/// Resources: group and version, kind, name in paths, whether they are in namespaces.
const RESOURCES: [(&str, &str, &str, bool); 8] = [
    ("v1", "Namespace", "namespaces", false),
    ("v1", "Pod", "pods", true),
    ("v1", "Service", "services", true),
    ("v1", "ServiceAccount", "serviceaccounts", true),
    ("apps/v1", "DaemonSet", "daemonsets", true),
    ("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", false),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", false),
    ("scheduling.k8s.io/v1", "PriorityClass", "priorityclasses", false),
];

#[derive(Default)]
struct State {
    /// By their paths.
    objects: BTreeMap<String, Value>,
    /// Methods and paths, queries and all.
    requests: Vec<String>,
}

/// The server, and a directory with a kubeconfig for it.
pub(crate) struct Store {
    state: Arc<Mutex<State>>,
    /// Where commands run.
    pub(crate) directory: TempDir,
}

impl Store {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "clusters": [{"name": "c", "cluster": {"server": server}}],
            "contexts": [{"name": "c", "context": {"cluster": "c"}}], "current-context": "c",
        });
        std::fs::write(directory.path().join("kubeconfig"), config.to_string()).unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().map(Result::unwrap) {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || serve(&stream, &state));
            }
        });
        Self { state, directory }
    }

    /// Runs a command line of a shell.
    pub(crate) fn run(&self, line: &str) -> Output {
        let mut shell = Command::new("bash");
        shell.args(["-euc", line]).current_dir(&self.directory).env("HOME", self.directory.path());
        shell.env("KUBECONFIG", "kubeconfig").output().unwrap()
    }

    /// Kinds, namespaces and names of the objects.
    pub(crate) fn names(&self) -> BTreeSet<[String; 3]> {
        self.state.lock().unwrap().objects.values().map(name).collect()
    }

    /// Adds an object to a collection such as `/api/v1/namespaces/default/pods`.
    pub(crate) fn put(&self, collection: &str, object: &Value) {
        self.state.lock().unwrap().put(collection, object);
    }

    /// The requests so far, each with its method, path and query.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }
}

/// One request a connection.
fn serve(mut stream: &TcpStream, state: &Mutex<State>) {
    let (mut reader, mut head) = (BufReader::new(stream), String::new());
    while reader.read_line(&mut head).unwrap() > 2 {}
    let mut words = head.split(' ');
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return };
    let headers = head.to_ascii_lowercase();
    let length = headers.split_once("content-length:").and_then(|(_, rest)| rest.lines().next());
    let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
    reader.read_exact(&mut body).unwrap();
    // An answer without schemas, in the only form that `kubectl` reads: field 1, "2.0".
    let (status, kind, answer) = if path.starts_with("/openapi/v2") {
        (200, "application/com.github.proto-openapi.spec.v2.v1.0+protobuf", "\x0a\x032.0".to_owned())
    } else {
        let (status, answer) = state.lock().unwrap().answer(method, path, &body);
        (status, "application/json", answer.to_string())
    };
    // The client may be gone.
    let _ = write!(
        stream,
        "HTTP/1.1 {status} -\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}",
        answer.len()
    );
}

impl State {
    fn put(&mut self, collection: &str, object: &Value) {
        self.objects.insert(format!("{collection}/{}", text(&object["metadata"]["name"])), object.clone());
    }

    fn answer(&mut self, method: &str, target: &str, body: &[u8]) -> (u16, Value) {
        self.requests.push(format!("{method} {target}"));
        let path = target.split('?').next().unwrap();
        let object = match method {
            "POST" => serde_json::from_slice(body).ok().inspect(|object| self.put(path, object)),
            "DELETE" => self.objects.remove(path),
            _ => discovery(path).or_else(|| self.objects.get(path).cloned()).or_else(|| self.pods(path)),
        };
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404});
        object.map_or((404, status), |object| (200, object))
    }

    /// The list of pods that this is the path of.
    fn pods(&self, path: &str) -> Option<Value> {
        let pods = self.objects.iter().filter(|(other, _)| other.starts_with(&format!("{path}/")));
        let pods: Vec<_> = pods.map(|(_, pod)| pod).collect();
        path.ends_with("/pods")
            .then(|| json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods}))
    }
}

/// Which resources there are.
fn discovery(path: &str) -> Option<Value> {
    let group = path.strip_prefix("/apis/").or_else(|| path.strip_prefix("/api/")).unwrap_or_default();
    let resources = RESOURCES.iter().filter(|resource| resource.0 == group);
    let resources = resources.map(|(_, kind, plural, is_namespaced)| {
        let verbs = ["create", "delete", "get", "list", "patch"];
        json!({"name": plural, "singularName": "", "kind": kind, "namespaced": is_namespaced, "verbs": verbs})
    });
    let resources: Vec<Value> = resources.collect();
    let groups: BTreeSet<&str> = RESOURCES.iter().map(|resource| resource.0).collect();
    let groups = groups.into_iter().filter_map(|group| {
        let (name, version) = group.split_once('/')?;
        let version = json!({"groupVersion": group, "version": version});
        Some(json!({"name": name, "versions": [version], "preferredVersion": version}))
    });
    match path {
        "/api" => Some(json!({"kind": "APIVersions", "versions": ["v1"]})),
        "/apis" => Some(json!({"kind": "APIGroupList", "groups": groups.collect::<Vec<_>>()})),
        _ if resources.is_empty() => None,
        _ => Some(json!({"kind": "APIResourceList", "groupVersion": group, "resources": resources})),
    }
}
