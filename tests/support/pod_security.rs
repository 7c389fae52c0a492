//! The Pod Security Standard `restricted`, which takes in `baseline`:
//! <https://kubernetes.io/docs/concepts/security/pod-security-standards/>

use std::collections::BTreeSet;

use serde_json::Value;

/// A pod, or the template of pods.
struct Pod<'a>(&'a Value);

type Control = (&'static str, fn(&Pod) -> bool);

/// Each control, by the name that the standard gives it, and whether a Linux pod meets it.
const CONTROLS: [Control; 17] = [
    ("HostProcess", |pod| pod.given("/windowsOptions/hostProcess").all(|given| given == false)),
    ("Host Namespaces", |pod| {
        ["hostNetwork", "hostPID", "hostIPC"].iter().all(|name| pod.spec()[name] != true)
    }),
    ("Privileged Containers", |pod| pod.given("/privileged").all(|given| given == false)),
    ("HostPath Volumes", |pod| pod.volumes().all(|volume| volume.get("hostPath").is_none())),
    ("Host Ports", |pod| {
        let ports = pod.containers().flat_map(|container| list(&container["ports"]));
        ports.filter_map(|port| port.get("hostPort")).all(|port| port == 0)
    }),
    ("Host Probes / Lifecycle Hooks", |pod| {
        let hooks = pod.containers().flat_map(|container| {
            ["livenessProbe", "readinessProbe", "startupProbe"]
                .map(|probe| &container[probe])
                .into_iter()
                .chain(["postStart", "preStop"].map(|hook| &container["lifecycle"][hook]))
        });
        hooks
            .flat_map(|hook| ["httpGet", "tcpSocket"].map(|by| &hook[by]["host"]))
            .all(|host| host.is_null() || host == "")
    }),
    ("AppArmor", |pod| {
        pod.given("/appArmorProfile/type").all(|given| given == "RuntimeDefault" || given == "Localhost")
            && pod.annotations("container.apparmor.security.beta.kubernetes.io/").all(|profile| {
                profile
                    .as_str()
                    .is_some_and(|name| name == "runtime/default" || name.starts_with("localhost/"))
            })
    }),
    ("SELinux", |pod| {
        let types = ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
        pod.given("/seLinuxOptions/type").all(|given| types.iter().any(|name| given == name))
            && ["/seLinuxOptions/user", "/seLinuxOptions/role"]
                .iter()
                .all(|field| pod.given(field).all(|given| given == ""))
    }),
    ("/proc Mount Type", |pod| pod.given("/procMount").all(|given| given == "Default")),
    // The standard lets a few pass. Nothing here needs any.
    ("Sysctls", |pod| list(&pod.spec()["securityContext"]["sysctls"]).next().is_none()),
    ("Volume Types", |pod| {
        let kinds = [
            "configMap",
            "csi",
            "downwardAPI",
            "emptyDir",
            "ephemeral",
            "persistentVolumeClaim",
            "projected",
            "secret",
        ];
        pod.volumes().all(|volume| kinds.iter().any(|kind| volume.get(kind).is_some()))
    }),
    ("Privilege Escalation", |pod| {
        pod.containers().all(|container| container["securityContext"]["allowPrivilegeEscalation"] == false)
    }),
    ("Running as Non-root", |pod| pod.everywhere("/runAsNonRoot", |given| given == true)),
    ("Running as Non-root user", |pod| pod.given("/runAsUser").all(|given| given != 0)),
    ("Seccomp", |pod| {
        let good = |given: &Value| given == "RuntimeDefault" || given == "Localhost";
        pod.everywhere("/seccompProfile/type", good) && pod.given("/seccompProfile/type").all(good)
    }),
    ("Capabilities: drop", |pod| {
        pod.capabilities("drop").all(|mut dropped| dropped.any(|capability| capability == "ALL"))
    }),
    ("Capabilities: add", |pod| {
        pod.capabilities("add").all(|mut added| added.all(|capability| capability == "NET_BIND_SERVICE"))
    }),
];

/// The controls that a pod, or the template of pods, does not meet.
pub(crate) fn unmet(pod: &Value) -> BTreeSet<&'static str> {
    CONTROLS.iter().filter(|(_, meets)| !meets(&Pod(pod))).map(|(name, _)| *name).collect()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

impl<'a> Pod<'a> {
    fn spec(&self) -> &'a Value {
        &self.0["spec"]
    }

    fn containers(&self) -> impl Iterator<Item = &'a Value> {
        let spec = self.spec();
        ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(|kind| list(&spec[kind]))
    }

    fn volumes(&self) -> impl Iterator<Item = &'a Value> {
        list(&self.spec()["volumes"])
    }

    fn annotations(&self, prefix: &'static str) -> impl Iterator<Item = &'a Value> {
        let all = self.0["metadata"]["annotations"].as_object().into_iter().flatten();
        all.filter(move |(name, _)| name.starts_with(prefix)).map(|(_, value)| value)
    }

    /// What the security contexts of the pod and of its containers say, where they say anything.
    fn given(&self, field: &'static str) -> impl Iterator<Item = &'a Value> {
        let contexts = self.containers().chain([self.spec()]).map(|part| &part["securityContext"]);
        contexts.filter_map(|context| context.pointer(field)).filter(|given| !given.is_null())
    }

    /// Whether each container says so itself, or else the pod.
    fn everywhere(&self, field: &str, is_good: fn(&Value) -> bool) -> bool {
        let of = |part: &'a Value| part["securityContext"].pointer(field);
        self.containers().all(|container| of(container).or(of(self.spec())).is_some_and(is_good))
    }

    fn capabilities(&self, what: &'static str) -> impl Iterator<Item = impl Iterator<Item = &'a Value>> {
        self.containers().map(move |container| list(&container["securityContext"]["capabilities"][what]))
    }
}
