//! `kubectl` itself, on an API server that keeps what it is given and runs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::manifest::text;

/// Resources: group and version, kind, name in paths, whether they are in namespaces.
const RESOURCES: [(&str, &str, &str, bool); 10] = [
    ("v1", "Namespace", "namespaces", false),
    ("v1", "Pod", "pods", true),
    ("v1", "Service", "services", true),
    ("v1", "ServiceAccount", "serviceaccounts", true),
    ("apps/v1", "DaemonSet", "daemonsets", true),
    ("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", false),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", false),
    ("rbac.authorization.k8s.io/v1", "Role", "roles", true),
    ("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings", true),
    ("scheduling.k8s.io/v1", "PriorityClass", "priorityclasses", false),
];

/// What says of itself that it has no schemas, in the only form that `kubectl` reads: field 1, "2.0".
const NO_SCHEMAS: &[u8] = b"\x0a\x032.0";

#[derive(Default)]
struct Kept {
    /// By their paths.
    objects: BTreeMap<String, Value>,
    /// Methods and paths, queries and all.
    requests: Vec<String>,
}

/// The server, and a directory with a kubeconfig for it.
pub(crate) struct Store {
    kept: Arc<Mutex<Kept>>,
    directory: TempDir,
}

impl Store {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let config = kubeconfig(listener.local_addr().unwrap());
        std::fs::write(directory.path().join("kubeconfig"), config.to_string()).unwrap();
        let kept = Arc::new(Mutex::new(Kept::default()));
        let serving = Arc::clone(&kept);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let serving = Arc::clone(&serving);
                std::thread::spawn(move || serve(&stream.unwrap(), &serving));
            }
        });
        Self { kept, directory }
    }

    /// Where its commands run.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    /// Runs a command line of a shell.
    pub(crate) fn run(&self, line: &str) -> Output {
        let mut shell = Command::new("bash");
        shell.args(["-euc", line]).current_dir(self.directory()).env("KUBECONFIG", self.kubeconfig());
        shell.env("HOME", self.directory()).output().unwrap()
    }

    /// Kinds, namespaces and names of what is kept.
    pub(crate) fn names(&self) -> BTreeSet<[String; 3]> {
        let kept = self.kept.lock().unwrap();
        let names = kept.objects.values().map(|object| {
            let metadata = &object["metadata"];
            [&object["kind"], &metadata["namespace"], &metadata["name"]].map(|value| text(value).to_owned())
        });
        names.collect()
    }

    pub(crate) fn put(&self, object: Value) {
        let path = format!("{}/{}", collection(&object), text(&object["metadata"]["name"]));
        self.kept.lock().unwrap().objects.insert(path, object);
    }

    /// What was asked about this.
    pub(crate) fn requests(&self, part: &str) -> Vec<String> {
        let kept = self.kept.lock().unwrap();
        kept.requests.iter().filter(|request| request.contains(part)).cloned().collect()
    }
}

fn kubeconfig(address: SocketAddr) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "here", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "me", "user": {}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "current-context": "here",
    })
}

/// The path of the objects of its kind, in its namespace.
fn collection(object: &Value) -> String {
    let kind = (text(&object["apiVersion"]), text(&object["kind"]));
    let (group, _, plural, is_namespaced) = RESOURCES.into_iter().find(|of| (of.0, of.1) == kind).unwrap();
    let group = if group == "v1" { "/api/v1".into() } else { format!("/apis/{group}") };
    match &object["metadata"]["namespace"] {
        Value::String(namespace) if is_namespaced => format!("{group}/namespaces/{namespace}/{plural}"),
        _ => format!("{group}/{plural}"),
    }
}

/// One request a connection.
fn serve(stream: &TcpStream, kept: &Mutex<Kept>) {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    reader.read_line(&mut line).unwrap();
    let mut words = line.split(' ');
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return };
    let mut header = String::new();
    while reader.read_line(&mut header).is_ok_and(|read| read > 2) {
        let lower = header.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        header.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let (status, kind, answer) = kept.lock().unwrap().answer(method, path, &body);
    let head = format!(
        "HTTP/1.1 {status} so\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        answer.len()
    );
    // Who asked may be gone.
    let _ = (&*stream).write_all(&[head.as_bytes(), &answer].concat());
}

impl Kept {
    /// Status, type and body.
    fn answer(&mut self, method: &str, path: &str, body: &[u8]) -> (u16, &'static str, Vec<u8>) {
        self.requests.push(format!("{method} {path}"));
        if path.starts_with("/openapi/v2") {
            return (200, "application/com.github.proto-openapi.spec.v2.v1.0+protobuf", NO_SCHEMAS.to_vec());
        }
        let path = path.split('?').next().unwrap();
        let (status, answer) = match method {
            "POST" if !body.is_empty() => {
                let object: Value = serde_json::from_slice(body).unwrap();
                let path = format!("{path}/{}", text(&object["metadata"]["name"]));
                self.objects.insert(path, object.clone());
                (201, object)
            }
            "DELETE" => match self.objects.remove(path) {
                Some(object) => (200, object),
                None => not_found(path),
            },
            _ => self.found(path).map_or_else(|| not_found(path), |found| (200, found)),
        };
        (status, "application/json", answer.to_string().into_bytes())
    }

    fn found(&self, path: &str) -> Option<Value> {
        discovered(path).or_else(|| self.objects.get(path).cloned()).or_else(|| {
            // Of lists there are those of pods.
            let parent = path.strip_suffix("/pods")?;
            let pods = self.objects.iter().filter(|(other, _)| other.starts_with(&format!("{parent}/pods/")));
            let pods: Vec<&Value> = pods.map(|(_, pod)| pod).collect();
            Some(json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods}))
        })
    }
}

fn not_found(path: &str) -> (u16, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 404,
        "reason": "NotFound", "message": format!("nothing at {path}"),
    });
    (404, status)
}

/// What says which resources there are.
fn discovered(path: &str) -> Option<Value> {
    if path == "/api" {
        return Some(json!({"kind": "APIVersions", "versions": ["v1"]}));
    }
    let groups: BTreeSet<&str> = RESOURCES.iter().map(|of| of.0).filter(|group| *group != "v1").collect();
    if path == "/apis" {
        let groups = groups.iter().map(|group| {
            let (name, version) = group.split_once('/').unwrap();
            let version = json!({"groupVersion": group, "version": version});
            json!({"name": name, "versions": [version], "preferredVersion": version})
        });
        let groups: Vec<Value> = groups.collect();
        return Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}));
    }
    let group = path.strip_prefix("/apis/").or_else(|| path.strip_prefix("/api/"))?;
    let of = RESOURCES.iter().filter(|of| of.0 == group);
    let resources = of.map(|(_, kind, plural, is_namespaced)| {
        let verbs = ["create", "delete", "get", "list", "patch", "watch"];
        json!({"name": plural, "singularName": "", "kind": kind, "namespaced": is_namespaced, "verbs": verbs})
    });
    let resources: Vec<Value> = resources.collect();
    let list = json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group, "resources": resources,
    });
    (!resources.is_empty()).then_some(list)
}
