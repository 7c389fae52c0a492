//! A real Alertmanager.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{PATIENCE, http};

/// Debian's name of the program.
pub(crate) const PROGRAM: &str = "prometheus-alertmanager";

/// An Alertmanager that tells nobody; ended when dropped.
pub(crate) struct Alertmanager {
    child: Child,
    pub(crate) address: SocketAddr,
    _data: tempfile::TempDir,
}

impl Alertmanager {
    pub(crate) fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let file = data.path().join("alertmanager.yml");
        std::fs::write(&file, "{route: {receiver: nobody}, receivers: [{name: nobody}]}").unwrap();
        // It takes no port 0: a free one is found here, and given back.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new(PROGRAM)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.path={}", data.path().display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--cluster.listen-address=")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let start = Instant::now();
        while std::net::TcpStream::connect(address).is_err() {
            assert!(start.elapsed() < PATIENCE, "Alertmanager did not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        Self { child, address, _data: data }
    }

    /// The alerts that it has and that are not resolved.
    pub(crate) fn alerts(&self) -> Vec<Value> {
        let response = http::get(self.address, "/api/v2/alerts", &[("Accept-Encoding", "identity")]);
        assert_eq!(response.status, 200);
        serde_json::from_slice(&response.body).unwrap()
    }

    /// Waits until this is so of them.
    pub(crate) fn wait_until(&self, is_so: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let start = Instant::now();
        loop {
            let alerts = self.alerts();
            if is_so(&alerts) {
                return alerts;
            }
            assert!(start.elapsed() < PATIENCE, "{alerts:#?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
