//! A cluster and a node of it: an API server, and a mount table that names its volumes.

use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};

use super::apiserver::ApiServer;
use super::exporter::{Exporter, run};
use super::exposition::Exposition;
use super::fixture::{Fixture, POD, answering};
use super::objects::{NODE, bound, pod};
use super::{PATIENCE, ask_until};

pub(crate) struct Cluster {
    pub(crate) server: ApiServer,
    pub(crate) table: Fixture,
}

impl Cluster {
    /// A cluster with these volumes, which one pod of the node, [`POD`], mounts.
    pub(crate) fn of(pv_names: &[&str]) -> Self {
        let mut cluster = Self { server: ApiServer::start(), table: Fixture::new() };
        cluster.server.put(pv_names.iter().flat_map(|name| bound(name, "first")));
        cluster.server.put([pod(POD, pv_names)]);
        cluster.mount_only(&pv_names.iter().map(|name| (*name, POD)).collect::<Vec<_>>());
        cluster
    }

    /// Mounts these volumes, whether the cluster has them or not, for pods of these uids, and nothing else.
    pub(crate) fn mount_only(&mut self, mounts: &[(&str, &str)]) {
        self.table.clear();
        for (pv_name, uid) in mounts {
            self.table.mount_by(pv_name, uid, answering());
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

    /// The program, serving, with more flags.
    pub(crate) fn start(&self, more: &[&str]) -> Exporter {
        Exporter::start(&with(&self.args(), more))
    }

    /// The same, for a user with these credentials.
    pub(crate) fn start_as(&self, user: &Value, more: &[&str]) -> Exporter {
        Exporter::start(&with(&self.args_as(user), more))
    }

    /// Prints the metrics once.
    pub(crate) fn print(&self, more: &[&str]) -> Output {
        run(&with(&self.args(), &[more, &["metrics"]].concat()))
    }
}

/// Both, as the program takes them.
pub(crate) fn with<'a>(args: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    args.iter().map(String::as_str).chain(more.iter().copied()).collect()
}

impl Exporter {
    /// Scrapes until this is so.
    pub(crate) fn scrape_until(&self, what: &str, is_so: impl Fn(&Exposition) -> bool) -> Exposition {
        self.scrape_until_within(PATIENCE, what, is_so)
    }

    pub(crate) fn scrape_until_within(
        &self,
        patience: Duration,
        what: &str,
        is_so: impl Fn(&Exposition) -> bool,
    ) -> Exposition {
        ask_until(patience, what, || self.scrape(), is_so)
    }

    pub(crate) fn wait_until_ready(&self) {
        ask_until(PATIENCE, "it is ready", || self.get("/readyz").status, |status| *status == 200);
    }
}

/// Volumes in a state.
pub(crate) fn volumes(scrape: &Exposition, state: &str) -> f64 {
    scrape.value("disk_usage_exporter_volumes", &[("state", state)]).unwrap()
}

/// Whether the last requests for a resource succeeded.
pub(crate) fn success(scrape: &Exposition, resource: &str) -> Option<f64> {
    scrape.value("disk_usage_exporter_source_success", &[("source", resource)])
}

/// Requests with this outcome.
pub(crate) fn requests(scrape: &Exposition, resource: &str, verb: &str, code: &str) -> f64 {
    let labels = [("resource", resource), ("verb", verb), ("code", code)];
    scrape.value("disk_usage_exporter_kubernetes_requests_total", &labels).unwrap_or(0.0)
}
