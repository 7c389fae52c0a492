//! The cluster's objects, and what happened to them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// A kind of object, by its name in paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Resource {
    PersistentVolumes,
    PersistentVolumeClaims,
    Pods,
}

impl Resource {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PersistentVolumes => "persistentvolumes",
            Self::PersistentVolumeClaims => "persistentvolumeclaims",
            Self::Pods => "pods",
        }
    }
}

/// Namespace (empty for what has none) and name.
pub(super) type Name = (String, String);

/// Objects that nobody put there one by one.
pub(crate) type Generator = Box<dyn Fn(Resource, &str) -> Option<Value> + Send>;

/// A pod by its number.
pub(super) type PodGenerator = Box<dyn Fn(usize) -> Value + Send>;

/// What a watch is told.
#[derive(Debug, Clone)]
pub(super) enum Happening {
    /// An event of a pod: type, object.
    Pod(&'static str, Value),
    /// Whatever the test wants to be told.
    Raw(Vec<u8>),
    /// Watches end.
    End,
}

/// All of it.
#[derive(Default)]
pub(super) struct World {
    objects: BTreeMap<(Resource, Name), Value>,
    pub(super) generator: Option<Generator>,
    pub(super) pods: Option<(usize, PodGenerator)>,
    /// The version of the last change.
    pub(super) version: u64,
    /// What happened, with the version after it.
    pub(super) history: Vec<(u64, Happening)>,
}

impl World {
    /// Puts an object there, or in place of the one that is; it gets a uid if it has none.
    pub(super) fn put(&mut self, mut object: Value) {
        let (resource, name) = identify(&object);
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let uid = format!("uid-of-{}-{}", resource.name(), name.1);
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.entry("uid").or_insert(json!(uid));
        let before = self.objects.insert((resource, name), object.clone());
        if resource == Resource::Pods {
            let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
            self.history.push((self.version, Happening::Pod(kind, object)));
        }
    }

    pub(super) fn remove(&mut self, resource: Resource, namespace: &str, name: &str) {
        let mut object =
            self.objects.remove(&(resource, (namespace.into(), name.into()))).expect("not there");
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if resource == Resource::Pods {
            self.history.push((self.version, Happening::Pod("DELETED", object)));
        }
    }

    pub(super) fn tell(&mut self, happening: Happening) {
        self.history.push((self.version, happening));
    }

    pub(super) fn get(&self, resource: Resource, namespace: &str, name: &str) -> Option<Value> {
        let known = self.objects.get(&(resource, (namespace.into(), name.into())));
        known.cloned().or_else(|| self.generator.as_ref()?(resource, name))
    }

    /// The pods of a node, as a list has them: without what is the same for all.
    pub(super) fn list(&self, node: Option<&str>) -> Value {
        let pods = self.objects.iter().filter(|((resource, _), _)| *resource == Resource::Pods);
        let generated = self.pods.iter().flat_map(|(count, make)| (0..*count).map(make));
        let pods = pods.map(|(_, pod)| pod.clone()).chain(generated).filter(|pod| is_on(pod, node));
        let items: Vec<Value> = pods.map(without_kind).collect();
        let metadata = json!({"resourceVersion": self.version.to_string()});
        json!({"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": items})
    }
}

pub(super) fn is_on(pod: &Value, node: Option<&str>) -> bool {
    node.is_none_or(|node| pod["spec"]["nodeName"] == node)
}

fn without_kind(mut object: Value) -> Value {
    let fields = object.as_object_mut().unwrap();
    fields.remove("kind");
    fields.remove("apiVersion");
    object
}

fn identify(object: &Value) -> (Resource, Name) {
    let resource = match object["kind"].as_str().unwrap() {
        "PersistentVolume" => Resource::PersistentVolumes,
        "PersistentVolumeClaim" => Resource::PersistentVolumeClaims,
        "Pod" => Resource::Pods,
        kind => panic!("what is a {kind}?"),
    };
    let metadata = &object["metadata"];
    let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
    (resource, (text("namespace"), text("name")))
}
