//! A cluster and a node of it: an API server, and a mount table that names its volumes.

use std::process::Output;
use std::time::Instant;

use serde_json::{Value, json};

use super::PATIENCE;
use super::apiserver::{ApiServer, Resource};
use super::exporter::{Exporter, run};
use super::exposition::Exposition;
use super::fixture::{Fixture, POD, answering};
use super::objects::{bound_volume, nfs};

/// This node's name.
pub(crate) const NODE: &str = "node-1";

/// The cluster; all volumes are mounted by one pod, [`POD`].
pub(crate) struct Cluster {
    pub(crate) server: ApiServer,
    table: Fixture,
    /// The claims of the pod's volumes.
    claims: Vec<String>,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let cluster = Self { server: ApiServer::start(), table: Fixture::new(), claims: Vec::new() };
        cluster.server.put(pod("app", POD, NODE));
        cluster
    }

    /// A cluster with these volumes on the node.
    pub(crate) fn of(pv_names: &[&str]) -> Self {
        let mut cluster = Self::new();
        for pv_name in pv_names {
            cluster.add(pv_name);
        }
        cluster
    }

    /// Makes a volume with its claim, `<name>-claim`, and mounts it.
    pub(crate) fn add(&mut self, pv_name: &str) {
        self.put(pv_name);
        self.claims.push(claim_of(pv_name));
        self.server.put(pod_of("app", POD, &self.claims));
        self.mount(pv_name);
    }

    /// Makes a volume with its claim.
    pub(crate) fn put(&self, pv_name: &str) {
        self.server.put_all(objects_of(pv_name));
    }

    /// Mounts a volume, whether the cluster has it or not.
    pub(crate) fn mount(&mut self, pv_name: &str) {
        self.table.mount(pv_name, answering());
    }

    /// Mounts a volume for another pod than [`POD`].
    pub(crate) fn mount_by(&mut self, pv_name: &str, pod_uid: &str) {
        self.table.mount_by(pv_name, pod_uid, answering());
        self.table.write();
    }

    /// Mounts one volume for this pod, and nothing else.
    pub(crate) fn mount_only_by(&mut self, pv_name: &str, pod_uid: &str) {
        self.table.clear();
        self.mount_by(pv_name, pod_uid);
    }

    /// Mounts a CSI volume of which the path is all that is known.
    pub(crate) fn mount_csi(&mut self, name: &str, pod_uid: &str) {
        self.table.mount_csi(name, pod_uid);
        self.table.write();
    }

    /// Mounts nothing but these.
    pub(crate) fn mount_only(&mut self, pv_names: &[&str]) {
        self.table.clear();
        for pv_name in pv_names {
            self.table.mount_unwritten(pv_name, answering());
        }
        self.table.write();
    }

    /// Mounts nothing but these, a hundred by each pod.
    pub(crate) fn mount_by_many(&mut self, pv_names: &[&str]) {
        self.table.clear();
        for names in pv_names.chunks(100) {
            let (name, uid) = (format!("of-{}", names[0]), format!("uid-{}", names[0]));
            let claims: Vec<String> = names.iter().map(|name| claim_of(name)).collect();
            self.server.put(pod_of(&name, &uid, &claims));
            for name in names {
                self.table.mount_by(name, &uid, answering());
            }
        }
        self.table.write();
    }

    /// The flags that name this node and its cluster.
    pub(crate) fn args(&self) -> Vec<String> {
        self.args_as(&json!({"token": "good"}))
    }

    /// The same, for a user with these credentials.
    pub(crate) fn args_as(&self, user: &Value) -> Vec<String> {
        let mut args = self.node_args();
        args.extend([self.server.kubeconfig(user), format!("--node-name={NODE}")]);
        args
    }

    /// The flags that name the node alone.
    pub(crate) fn node_args(&self) -> Vec<String> {
        vec!["--rootfs=/".into(), format!("--mount-table={}", self.table.path().join("mountinfo").display())]
    }

    /// The program, serving, with these flags besides.
    pub(crate) fn start(&self, more: &[&str]) -> Exporter {
        Exporter::start(&with(&self.args(), more))
    }

    /// One exposition, printed.
    pub(crate) fn print(&self, more: &[&str]) -> Output {
        run(&with(&self.args(), &[more, &["metrics"]].concat()))
    }
}

/// Both, as the program takes them.
pub(crate) fn with<'a>(args: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    args.iter().map(String::as_str).chain(more.iter().copied()).collect()
}

/// The name of a volume's claim.
pub(crate) fn claim_of(pv_name: &str) -> String {
    format!("{pv_name}-claim")
}

/// A pod on a node.
pub(crate) fn pod(name: &str, uid: &str, node: &str) -> Value {
    json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"namespace": "shop", "name": name, "uid": uid},
        "spec": {"nodeName": node, "containers": [], "volumes": []}})
}

/// A pod of this node that uses these claims.
pub(crate) fn pod_of(name: &str, uid: &str, claims: &[String]) -> Value {
    let volume = |claim: &String| json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}});
    let mut pod = pod(name, uid, NODE);
    pod["spec"]["volumes"] = claims.iter().map(volume).collect();
    pod
}

/// Gives an object of the server another label.
pub(crate) fn relabel(cluster: &Cluster, mut object: Value, value: &str) {
    object["metadata"]["labels"] = json!({"tier": value});
    cluster.server.put(object);
}

/// A volume's claim and its own object.
pub(crate) fn objects_of(pv_name: &str) -> Vec<Value> {
    let [pv, claim, _] = bound_volume(pv_name, nfs(pv_name), &claim_of(pv_name), POD);
    vec![claim, pv]
}

/// A volume's object.
pub(crate) fn pv(pv_name: &str) -> Value {
    bound_volume(pv_name, nfs(pv_name), &claim_of(pv_name), POD)[0].clone()
}

impl Exporter {
    /// Scrapes until this is so.
    pub(crate) fn scrape_until(&self, what: &str, is_so: impl Fn(&Exposition) -> bool) -> Exposition {
        let start = Instant::now();
        loop {
            let scrape = self.scrape();
            if is_so(&scrape) {
                return scrape;
            }
            assert!(start.elapsed() < PATIENCE, "{what}: {scrape:#?}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// Waits until it is ready.
    pub(crate) fn wait_until_ready(&self) {
        let start = Instant::now();
        while self.get("/readyz").status != 200 {
            assert!(start.elapsed() < PATIENCE, "it is never ready");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

/// Volumes in a state.
pub(crate) fn volumes(scrape: &Exposition, state: &str) -> f64 {
    scrape.value("disk_usage_exporter_volumes", &[("state", state)]).unwrap()
}

/// Whether a source could be read the last time.
pub(crate) fn success(scrape: &Exposition, resource: Resource) -> Option<f64> {
    scrape.value("disk_usage_exporter_source_success", &[("source", resource.name())])
}

/// How many requests came to this.
pub(crate) fn requests(scrape: &Exposition, resource: Resource, verb: &str, code: &str) -> f64 {
    let labels = [("resource", resource.name()), ("verb", verb), ("code", code)];
    scrape.value("disk_usage_exporter_kubernetes_requests_total", &labels).unwrap_or(0.0)
}
