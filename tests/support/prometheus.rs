//! A real Prometheus, and a real Alertmanager.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::document::read;
use super::{PATIENCE, ask_until, http};

/// A server that is killed when dropped.
struct Daemon {
    child: Child,
    address: SocketAddr,
    _data: TempDir,
}

impl Daemon {
    /// Starts a program with this configuration, and waits for the line of its log that says that it is ready.
    fn start(program: &str, config: &str, args: &[&str], ready: &str) -> Self {
        let data = tempfile::tempdir().unwrap();
        std::fs::write(data.path().join("config.yml"), config).unwrap();
        // Neither program accepts port 0: take a free one and give it back.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new(program);
        command.arg("--config.file=config.yml").arg(format!("--web.listen-address={address}")).args(args);
        command.current_dir(data.path()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains(ready)), "{program} did not start");
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address, _data: data }
    }

    fn get(&self, path: &str) -> Value {
        serde_json::from_str(&http::get(self.address, path, &[]).text()).unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) struct Prometheus(Daemon);

impl Prometheus {
    /// One with these jobs that scrapes every second.
    pub(crate) fn start(jobs: &str) -> Self {
        Self::start_with_interval("1s", jobs)
    }

    /// One with these jobs and rules that does everything so often.
    pub(crate) fn start_with_interval(interval: &str, jobs: &str) -> Self {
        let settings = ["scrape_interval", "scrape_timeout", "evaluation_interval"];
        let settings = settings.map(|name| format!("{name}: {interval}")).join(", ");
        let config = format!("global: {{{settings}}}\n{jobs}");
        Self(Daemon::start("prometheus", &config, &["--storage.tsdb.path=data"], "Server is ready"))
    }

    pub(crate) fn query(&self, query: &str) -> Vec<Value> {
        let query: Vec<String> = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = self.0.get(&format!("/api/v1/query?query={}", query.concat()));
        answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{answer}")).clone()
    }

    /// Waits for the first result.
    pub(crate) fn wait_for(&self, query: &str) -> Vec<Value> {
        self.wait_until(query, |result| !result.is_empty())
    }

    pub(crate) fn wait_until(&self, query: &str, is_wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        ask_until(PATIENCE, query, || self.query(query), |result| is_wanted(result))
    }
}

pub(crate) struct Alertmanager(Daemon);

impl Alertmanager {
    /// Debian's name of the program.
    pub(crate) const PROGRAM: &str = "prometheus-alertmanager";

    /// One that notifies nobody.
    pub(crate) fn start() -> Self {
        let config = "{route: {receiver: nobody}, receivers: [{name: nobody}]}";
        let args = ["--storage.path=data", "--cluster.listen-address="];
        Self(Daemon::start(Self::PROGRAM, config, &args, "Listening on"))
    }

    /// What makes a Prometheus send its alerts here.
    pub(crate) fn alerting(&self) -> String {
        let targets = format!("[{{targets: ['{}']}}]", self.0.address);
        format!("alerting: {{alertmanagers: [{{static_configs: {targets}}}]}}\n")
    }

    /// Waits until the alerts that are not resolved are as wanted.
    pub(crate) fn wait_until(&self, is_wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let alerts = || self.0.get("/api/v2/alerts").as_array().unwrap().clone();
        ask_until(PATIENCE, "alerts", alerts, |alerts| is_wanted(alerts))
    }
}

/// The job of a manifest for this target, in place of discovery. The target has labels that could be taken for those of a
/// volume.
pub(crate) fn job(manifest: &str, target: SocketAddr) -> String {
    let text = read(manifest);
    let (head, rest) = text.split_once("    kubernetes_sd_configs:\n").unwrap();
    let tail = rest.find("    metric_relabel_configs:\n").map_or("", |at| &rest[at..]);
    let labels = "{namespace: of-target, pod: of-target, container: of-target, node: n}";
    format!("{head}    static_configs: [{{targets: ['{target}'], labels: {labels}}}]\n{tail}")
}
