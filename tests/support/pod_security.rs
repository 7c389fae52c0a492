//! The Pod Security Standard `restricted`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::document::yaml;
use super::manifest::{list, text};

/// The controls that a pod, or the template of pods, does not meet.
pub(crate) fn unmet(pod: &Value) -> BTreeSet<String> {
    let controls = yaml("tests/manifests/controls.yaml");
    let unmet = list(&controls).iter().filter(|control| {
        let (path, allowed) = (text(&control[1]), list(&control[2]));
        !restricted(pod, path).iter().all(|value| allowed.contains(value))
    });
    unmet.map(|control| text(&control[0]).to_owned()).collect()
}

/// The values of a restricted field. Of a security context: the pod's if it has one, and each container's or else the
/// pod's.
fn restricted(pod: &Value, path: &str) -> Vec<Value> {
    let of_containers = |path: &str| {
        let kinds = ["initContainers", "containers", "ephemeralContainers"];
        kinds.map(|kind| values(pod, &format!("spec/{kind}/*/{path}"))).concat()
    };
    if let Some(path) = path.strip_prefix("C/") {
        return of_containers(path);
    }
    let Some(field) = path.strip_prefix("S/") else { return values(pod, path) };
    let path = format!("securityContext/{field}");
    let of_pod = values(&pod["spec"], &path).remove(0);
    let mut restricted = of_containers(&path);
    for value in restricted.iter_mut().filter(|value| value.is_null()) {
        value.clone_from(&of_pod);
    }
    restricted.extend(Some(of_pod).filter(|value| !value.is_null()));
    restricted
}

fn values(value: &Value, path: &str) -> Vec<Value> {
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    let fields = || value.as_object().into_iter().flatten();
    let next: Vec<Value> = match first.strip_suffix('*') {
        _ if path.is_empty() => return vec![value.clone()],
        Some(prefix) => {
            let fields = fields().filter(|(name, _)| name.starts_with(prefix)).map(|(_, value)| value);
            fields.chain(list(value)).cloned().collect()
        }
        None if first == "@" => fields().map(|(name, _)| name.as_str().into()).collect(),
        None => vec![value[first].clone()],
    };
    next.iter().flat_map(|value| values(value, rest)).collect()
}
