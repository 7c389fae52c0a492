//! Kubernetes objects, as the manifests give them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::document::root;
use super::tool::{is_there, stdout};

/// Kubernetes objects.
pub(crate) struct Manifest(pub(crate) Vec<Value>);

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

impl Manifest {
    /// Reads a stream of YAML documents.
    pub(crate) fn parse(yaml: &str) -> Self {
        let objects: Vec<Value> =
            serde_saphyr::from_multiple(yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
        Self(objects.into_iter().filter(|object| !object.is_null()).collect())
    }

    /// What `kubectl apply -k` would apply; `None` where there is no `kubectl`.
    pub(crate) fn kustomized(directory: &str) -> Option<Self> {
        let path = root().join(directory);
        is_there("kubectl", &["kustomize", "--help"])
            .then(|| Self::parse(&stdout("kubectl", &["kustomize", path.to_str().unwrap()], "")))
    }

    pub(crate) fn all(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.0.iter().filter(move |object| object["kind"] == kind)
    }

    /// The only object of its kind.
    pub(crate) fn the(&self, kind: &str) -> &Value {
        let objects: Vec<_> = self.all(kind).collect();
        let [object] = objects[..] else { panic!("{} of kind {kind}", objects.len()) };
        object
    }

    pub(crate) fn template(&self) -> &Value {
        &self.the("DaemonSet")["spec"]["template"]
    }

    /// The only container.
    pub(crate) fn container(&self) -> &Value {
        let [container] = list(&self.template()["spec"]["containers"]) else { panic!("{}", self.template()) };
        container
    }

    /// The program's settings as flags: its variables, then its arguments. `$(HOST_IP)` stands in them as it is.
    pub(crate) fn settings(&self) -> Vec<String> {
        let container = self.container();
        let mut has_host_ip = false;
        let variables = list(&container["env"]).iter().filter_map(|variable| {
            let name = text(&variable["name"]);
            has_host_ip |= name == "HOST_IP";
            let flag = name.strip_prefix("DISK_USAGE_EXPORTER_")?.to_lowercase().replace('_', "-");
            let value = text(&variable["value"]);
            assert!(has_host_ip || !value.contains("$("), "only variables before {name} are known to it");
            Some(format!("--{flag}={value}"))
        });
        let variables: Vec<_> = variables.collect();
        let args = container["args"].as_array().into_iter().flatten();
        variables.into_iter().chain(args.map(|arg| text(arg).to_owned())).collect()
    }

    /// The only port: its name and number.
    pub(crate) fn port(&self) -> (&str, u64) {
        let [port] = list(&self.container()["ports"]) else { panic!("{}", self.container()) };
        (text(&port["name"]), port["containerPort"].as_u64().unwrap())
    }

    /// Kind, namespace and name of each object.
    pub(crate) fn names(&self) -> BTreeSet<[String; 3]> {
        self.0.iter().map(name).collect()
    }
}

/// Kind, namespace and name.
pub(crate) fn name(object: &Value) -> [String; 3] {
    let metadata = &object["metadata"];
    [&object["kind"], &metadata["namespace"], &metadata["name"]].map(|value| text(value).to_owned())
}
