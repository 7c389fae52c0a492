//! What a server does that it should not.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::record::{Recorded, Verb};
use super::world::Resource;

/// Requests of a kind.
#[derive(Debug, Clone)]
pub(crate) struct Of {
    resource: Resource,
    verb: Verb,
    name: Option<String>,
}

/// Requests for single objects, or `pods`, by their verb.
pub(crate) fn of(verb: Verb, resource: Resource) -> Of {
    Of { resource, verb, name: None }
}

impl Of {
    /// Only those about this object.
    pub(crate) fn named(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }

    fn matches(&self, request: &Recorded) -> bool {
        request.resource == Some(self.resource)
            && request.verb == self.verb
            && self.name.as_ref().is_none_or(|name| *name == request.name)
    }
}

/// What it does.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// Answers as ever, once it is let go.
    Wait(Arc<Notify>),
    /// Closes the connection without an answer.
    Close,
    /// Never answers.
    Hang,
    /// Half of the body, then the end of the connection.
    Half,
    /// Half of the body, and nothing more.
    HalfThenSilence,
    /// A body of spaces without end.
    Endless,
    /// A status, and the seconds of `Retry-After`.
    Status(u16, Option<u64>),
    /// Status 503 with this `Retry-After`.
    RetryAfter(&'static str),
    /// Its cache has not what its store has.
    NotInCache,
    /// Success, with this body.
    Body(String),
    /// The watch goes on for ever without a word, whatever time was asked for.
    Silence,
}

/// Faults that were asked for.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<(Of, Fault, usize)>);

impl Faults {
    pub(super) fn add(&mut self, of: Of, fault: Fault, times: usize) {
        self.0.push((of, fault, times));
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// What is to be done about a request.
    pub(super) fn take(&mut self, request: &Recorded) -> Option<Fault> {
        let found = self.0.iter().position(|(of, fault, _)| {
            let is_cached = request.query("resourceVersion") == Some("0");
            of.matches(request) && (is_cached || !matches!(fault, Fault::NotInCache))
        })?;
        let (_, fault, times) = &mut self.0[found];
        let fault = fault.clone();
        *times -= 1;
        if *times == 0 {
            self.0.remove(found);
        }
        Some(fault)
    }
}

/// What Kubernetes answers instead of an object.
pub(super) fn status(code: u16, request: &Recorded) -> Value {
    let resource = request.resource.map_or("", Resource::name);
    let name = &request.name;
    let (reason, message) = match code {
        401 => ("Unauthorized", "Unauthorized".to_owned()),
        403 => (
            "Forbidden",
            format!(
                "{resource} \"{name}\" is forbidden: User \"system:serviceaccount:kube-system:nobody\" cannot {} resource \"{resource}\" in API group \"\" at the cluster scope",
                request.verb.name()
            ),
        ),
        404 => ("NotFound", format!("{resource} \"{name}\" not found")),
        410 => ("Expired", "too old resource version: 1 (2)".to_owned()),
        429 => ("TooManyRequests", "too many requests, please try again later".to_owned()),
        _ => ("InternalError", format!("an error of the test's own, {code}")),
    };
    let details = json!({"name": name, "kind": resource});
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": reason, "details": details, "code": code})
}
