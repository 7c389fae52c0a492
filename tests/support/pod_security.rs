//! The Pod Security Standard `restricted`, which includes `baseline`:
//! <https://kubernetes.io/docs/concepts/security/pod-security-standards/>

use std::collections::BTreeSet;

use serde_json::Value;

use super::manifest::list;

/// The standard's name of a control, a restricted field, and the values that are allowed. `C` stands for a container, `S`
/// for a security context, `*` for all elements or fields.
type Control = (&'static str, &'static str, fn(&Value) -> bool);

const CONTROLS: [Control; 23] = [
    ("HostProcess", "S/windowsOptions/hostProcess", |value| *value != true),
    ("Host Namespaces", "spec/hostNetwork", |value| *value != true),
    ("Host Namespaces", "spec/hostPID", |value| *value != true),
    ("Host Namespaces", "spec/hostIPC", |value| *value != true),
    ("Privileged Containers", "S/privileged", |value| *value != true),
    ("HostPath Volumes", "spec/volumes/*/hostPath", Value::is_null),
    ("Host Ports", "C/ports/*/hostPort", |value| value.is_null() || value == 0),
    // Of `livenessProbe`, `readinessProbe` and `startupProbe`.
    ("Host Probes / Lifecycle Hooks", "C/*/*/host", is_empty),
    ("Host Probes / Lifecycle Hooks", "C/lifecycle/*/*/host", is_empty),
    ("AppArmor", "S/appArmorProfile/type", |value| value.is_null() || is_profile(value)),
    ("AppArmor", "metadata/annotations", |value| {
        let mut annotations = value.as_object().into_iter().flatten();
        annotations.all(|(name, value)| {
            !name.starts_with("container.apparmor.security.beta.kubernetes.io/") || value == "runtime/default"
        })
    }),
    ("SELinux", "S/seLinuxOptions/type", |value| {
        let types = ["container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
        is_empty(value) || types.iter().any(|name| value == name)
    }),
    ("SELinux", "S/seLinuxOptions/user", is_empty),
    ("SELinux", "S/seLinuxOptions/role", is_empty),
    ("/proc Mount Type", "S/procMount", |value| value.is_null() || value == "Default"),
    // The standard allows a few. Nothing here needs any.
    ("Sysctls", "spec/securityContext/sysctls/*", |_| false),
    ("Volume Types", "spec/volumes/*", |volume| {
        let kinds = ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "projected", "secret"];
        kinds.iter().chain(&["persistentVolumeClaim"]).any(|kind| volume.get(kind).is_some())
    }),
    ("Privilege Escalation", "S/allowPrivilegeEscalation", |value| value == false),
    ("Running as Non-root", "S/runAsNonRoot", |value| value == true),
    ("Running as Non-root user", "S/runAsUser", |value| value != 0),
    ("Seccomp", "S/seccompProfile/type", is_profile),
    ("Capabilities: drop", "S/capabilities/drop", |value| list(value).contains(&"ALL".into())),
    ("Capabilities: add", "S/capabilities/add", |value| {
        list(value).iter().all(|capability| capability == "NET_BIND_SERVICE")
    }),
];

fn is_empty(value: &Value) -> bool {
    value.is_null() || value == ""
}

fn is_profile(value: &Value) -> bool {
    value == "RuntimeDefault" || value == "Localhost"
}

/// The controls that a pod, or the template of pods, does not meet.
pub(crate) fn unmet(pod: &Value) -> BTreeSet<&'static str> {
    let is_met = |(_, path, is_allowed): &&Control| restricted(pod, path).into_iter().all(is_allowed);
    CONTROLS.iter().filter(|control| !is_met(control)).map(|(name, ..)| *name).collect()
}

/// The values of a restricted field. Of a security context: the pod's if it has one, and each container's or else the
/// pod's.
fn restricted<'a>(pod: &'a Value, path: &str) -> Vec<&'a Value> {
    let of_containers = |path: &str| {
        let kinds = ["initContainers", "containers", "ephemeralContainers"];
        kinds.map(|kind| values(pod, &format!("spec/{kind}/*/{path}"))).concat()
    };
    if let Some(path) = path.strip_prefix("C/") {
        return of_containers(path);
    }
    let Some(field) = path.strip_prefix("S/") else { return values(pod, path) };
    let path = format!("securityContext/{field}");
    let of_pod = values(&pod["spec"], &path)[0];
    let of_containers =
        of_containers(&path).into_iter().map(|value| if value.is_null() { of_pod } else { value });
    of_containers.chain([of_pod].into_iter().filter(|value| !value.is_null())).collect()
}

fn values<'a>(value: &'a Value, path: &str) -> Vec<&'a Value> {
    let Some((first, rest)) = path.split_once('/') else {
        return if path == "*" { children(value) } else { vec![&value[path]] };
    };
    let next = if first == "*" { children(value) } else { vec![&value[first]] };
    next.into_iter().flat_map(|value| values(value, rest)).collect()
}

fn children(value: &Value) -> Vec<&Value> {
    list(value).iter().chain(value.as_object().into_iter().flat_map(|fields| fields.values())).collect()
}
