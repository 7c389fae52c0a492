//! Kubernetes objects, as the manifests give them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::tool::is_there;

/// What `kubectl apply -k` would apply; `None` where there is no `kubectl`.
pub(crate) fn kustomized(directory: &str) -> Option<Manifest> {
    is_there("kubectl", &["kustomize", "--help"]).then(|| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
        let output = Command::new("kubectl").arg("kustomize").arg(path).output().unwrap();
        assert!(output.status.success(), "{directory}: {}", String::from_utf8_lossy(&output.stderr));
        let objects = serde_saphyr::from_multiple(std::str::from_utf8(&output.stdout).unwrap());
        Manifest(objects.unwrap_or_else(|error| panic!("{directory}: {error}")))
    })
}

/// Kubernetes objects.
pub(crate) struct Manifest(pub(crate) Vec<Value>);

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

impl Manifest {
    /// The only object of its kind.
    pub(crate) fn the(&self, kind: &str) -> &Value {
        let mut found = self.0.iter().filter(|object| object["kind"] == kind);
        let object = found.next().unwrap_or_else(|| panic!("no {kind}"));
        assert!(found.next().is_none(), "more than one {kind}");
        object
    }

    pub(crate) fn template(&self) -> &Value {
        &self.the("DaemonSet")["spec"]["template"]
    }

    /// The only container.
    pub(crate) fn container(&self) -> &Value {
        let containers = list(&self.template()["spec"]["containers"]);
        assert_eq!(containers.len(), 1);
        &containers[0]
    }

    pub(crate) fn args(&self) -> Vec<&str> {
        list(&self.container()["args"]).iter().map(text).collect()
    }

    /// Names of ports, and what they are.
    pub(crate) fn ports(&self) -> BTreeMap<&str, Option<u64>> {
        let ports = list(&self.container()["ports"]).iter();
        ports.map(|port| (text(&port["name"]), port["containerPort"].as_u64())).collect()
    }

    /// Environment variables, and the fields that they tell.
    pub(crate) fn env(&self) -> BTreeMap<&str, &str> {
        let env = list(&self.container()["env"]).iter();
        env.map(|variable| (text(&variable["name"]), text(&variable["valueFrom"]["fieldRef"]["fieldPath"])))
            .collect()
    }

    /// Kind, namespace and name of each object.
    pub(crate) fn names(&self) -> BTreeSet<[&str; 3]> {
        let objects = self.0.iter().map(|object| (&object["kind"], &object["metadata"]));
        objects.map(|(kind, meta)| [text(kind), text(&meta["namespace"]), text(&meta["name"])]).collect()
    }
}
