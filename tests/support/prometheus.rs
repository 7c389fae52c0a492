//! A real Prometheus.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::PATIENCE;
use super::http;

/// A Prometheus with these jobs, and perhaps rules, that does everything every second; ended when dropped.
pub(crate) struct Prometheus {
    child: Child,
    address: SocketAddr,
    _data: tempfile::TempDir,
}

impl Prometheus {
    pub(crate) fn start(jobs: &str) -> Self {
        let data = tempfile::tempdir().unwrap();
        let config =
            format!("global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n{jobs}");
        let file = data.path().join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        // It takes no port 0: a free one is found here, and given back.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", data.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let ready = lines.any(|line| line.unwrap().contains("Server is ready"));
        assert!(ready, "Prometheus did not start");
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address, _data: data }
    }

    pub(crate) fn query(&self, query: &str) -> Vec<Value> {
        let query: Vec<String> = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let path = format!("/api/v1/query?query={}", query.concat());
        let response = http::get(self.address, &path, &[("Accept-Encoding", "identity")]);
        let answer: Value = serde_json::from_slice(&response.body).unwrap();
        answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{answer}")).clone()
    }

    /// Waits for the first result.
    pub(crate) fn wait_for(&self, query: &str) -> Vec<Value> {
        self.wait_until(query, |result| !result.is_empty())
    }

    /// Waits until this is so of a result: Prometheus tells nobody when it has scraped.
    pub(crate) fn wait_until(&self, query: &str, is_so: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let start = Instant::now();
        loop {
            let result = self.query(query);
            if is_so(&result) {
                return result;
            }
            assert!(start.elapsed() < PATIENCE, "{query} gives {result:#?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The job of a manifest, for this target in place of those that Kubernetes would tell. It has labels that could be
/// taken for those of a volume.
pub(crate) fn job(manifest: &str, target: SocketAddr) -> String {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(manifest)).unwrap();
    let (head, rest) = text.split_once("    kubernetes_sd_configs:\n").unwrap();
    let tail = rest.find("    metric_relabel_configs:\n").map_or("", |at| &rest[at..]);
    let labels = "{namespace: of-target, pod: of-target, container: of-target, node: n}";
    format!("{head}    static_configs: [{{targets: ['{target}'], labels: {labels}}}]\n{tail}")
}
