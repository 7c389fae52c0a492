//! What was asked, and what it cost.

use std::collections::BTreeMap;

use hyper::Request;
use hyper::header::AUTHORIZATION;
use tokio::time::Instant;

use super::world::Resource;

/// What is done to a resource, as RBAC has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
}

impl Verb {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
        }
    }
}

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    pub(crate) path: String,
    pub(crate) verb: Verb,
    /// `None` for anything else that a server has.
    pub(crate) resource: Option<Resource>,
    pub(crate) namespace: String,
    /// Empty for lists and watches.
    pub(crate) name: String,
    pub(super) query: BTreeMap<String, String>,
    pub(crate) authorization: Option<String>,
    /// Whether the client showed a certificate.
    pub(crate) has_certificate: bool,
    pub(crate) at: Instant,
    /// Requests for single objects and lists that were not answered yet, this one included.
    pub(crate) in_flight: usize,
    /// Bytes of the answer's body so far.
    pub(crate) sent: usize,
}

impl Recorded {
    pub(super) fn new<B>(request: &Request<B>, has_certificate: bool) -> Self {
        let path = request.uri().path().to_owned();
        let pairs =
            request.uri().query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        let query: BTreeMap<String, String> =
            pairs.map(|(name, value)| (name.to_owned(), decode(value))).collect();
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let (resource, namespace, name) = match parts[..] {
            ["api", "v1", "persistentvolumes", name] => (Some(Resource::PersistentVolumes), "", name),
            ["api", "v1", "namespaces", namespace, "persistentvolumeclaims", name] => {
                (Some(Resource::PersistentVolumeClaims), namespace, name)
            }
            ["api", "v1", "pods"] => (Some(Resource::Pods), "", ""),
            _ => (None, "", ""),
        };
        let verb = match (name.is_empty(), query.get("watch").map(String::as_str)) {
            (false, _) => Verb::Get,
            (true, Some("true")) => Verb::Watch,
            (true, _) => Verb::List,
        };
        let authorization = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        Self {
            verb,
            resource,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            query,
            authorization: authorization.map(ToOwned::to_owned),
            has_certificate,
            at: Instant::now(),
            in_flight: 0,
            sent: 0,
            path: path.clone(),
        }
    }

    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// The names of what is asked for besides the path.
    pub(crate) fn query_names(&self) -> Vec<&str> {
        self.query.keys().map(String::as_str).collect()
    }

    /// The node that the pods are of.
    pub(super) fn node(&self) -> Option<&str> {
        self.query("fieldSelector")?.split(',').next()?.strip_prefix("spec.nodeName=")
    }

    /// Verb, resource and name, for comparing.
    pub(crate) fn brief(&self) -> String {
        let resource = self.resource.map_or(&*self.path, |resource| resource.name());
        [self.verb.name(), resource, &self.name].join(" ").trim_end().to_owned()
    }
}

fn decode(value: &str) -> String {
    value.replace("%3D", "=").replace("%2C", ",").replace("%21", "!")
}
