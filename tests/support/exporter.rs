//! The program, running.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::cgroup::Cgroup;
use super::exposition::Exposition;
use super::http;
use super::namespace::{Node, bind};
use super::{PATIENCE, ask_until};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_disk-usage-exporter");

/// The program with these arguments, no others from the environment, and no cluster that is not the test's own.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    let is_setting = |name: &str| name.starts_with("DISK_USAGE_EXPORTER_") || name.starts_with("KUBE");
    for (name, _) in std::env::vars().filter(|(name, _)| is_setting(name) || name == "NODE_NAME") {
        command.env_remove(name);
    }
    command.env("HOME", "/nonexistent");
    command.args(args);
    command
}

/// Runs it to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

/// The program, serving; killed when dropped.
pub(crate) struct Exporter {
    child: Child,
    pub(crate) address: SocketAddr,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<Value>>,
    grown: Condvar,
    is_paused: Mutex<bool>,
    resumed: Condvar,
}

impl Exporter {
    /// Starts it on a free port of the loopback interface, and waits until it listens.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_with_env(&[], args)
    }

    /// The same, with these settings in the environment.
    pub(crate) fn start_with_env(env: &[(&str, &str)], args: &[&str]) -> Self {
        let mut command = command(&["--listen-host=127.0.0.1"]);
        Self::spawn(command.envs(env.iter().copied()).args(args))
    }

    /// Starts it with these options of `ulimit`.
    pub(crate) fn start_limited(ulimit: &str, args: &[&str]) -> Self {
        Self::spawn_limited(ulimit, "", Path::new(BINARY), args)
    }

    /// Starts it with no more than so many threads, on a node of the test's own.
    pub(crate) fn start_with_threads(most: usize, node: &Node, args: &[&str]) -> Self {
        let binary = node.path().join("exporter");
        std::fs::write(&binary, "").unwrap();
        bind(Path::new(BINARY), &binary);
        std::fs::set_permissions(node.path(), Permissions::from_mode(0o755)).unwrap();
        // The system's own root has no limit.
        let is_system = std::fs::read_to_string("/proc/self/uid_map").unwrap().trim().ends_with("4294967295");
        let user = if is_system { "setpriv --reuid=65534 --clear-groups" } else { "" };
        Self::spawn_limited(&format!("-u {most}"), user, &binary, args)
    }

    /// The same, by a cgroup where one can be made.
    pub(crate) fn start_with_pids(cgroup: Option<&Cgroup>, most: usize, node: &Node, args: &[&str]) -> Self {
        let Some(cgroup) = cgroup else { return Self::start_with_threads(most, node, args) };
        Self::spawn(cgroup.command(BINARY).arg("--listen-host=127.0.0.1").args(args))
    }

    /// Starts it as the user 1000, who may do nothing that others may not; only root can.
    pub(crate) fn start_restricted(directory: &Path, args: &[&str]) -> Self {
        let binary = directory.join("exporter");
        std::fs::copy(BINARY, &binary).unwrap();
        std::fs::set_permissions(directory, Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new("setpriv");
        let nobody = ["--reuid=1000", "--regid=1000", "--clear-groups"];
        command.args(nobody).args(["--bounding-set=-all", "--no-new-privs"]);
        Self::spawn(command.arg(binary).arg("--listen-host=127.0.0.1").args(args))
    }

    /// Starts it as root without any capability, and with this directory as its root, where it is `/exporter`.
    pub(crate) fn start_contained(root: &Path, args: &[&str]) -> Self {
        let mut command = Command::new("chroot");
        let nothing = ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"];
        command.arg(root).arg("setpriv").args(nothing).args(["/exporter", "--listen-host=127.0.0.1"]);
        let binary = root.join("exporter");
        std::fs::write(&binary, "").unwrap();
        bind(Path::new(BINARY), &binary);
        Self::spawn(command.args(args))
    }

    /// Under a limit of the shell's (minimal shells have no `-u`), by way of another command.
    fn spawn_limited(ulimit: &str, by: &str, binary: &Path, args: &[&str]) -> Self {
        let mut command = Command::new("bash");
        let script = format!("ulimit {ulimit}; exec {by} \"$0\" \"$@\"");
        command.arg("-c").arg(script).arg(binary).arg("--listen-host=127.0.0.1");
        Self::spawn(command.args(args))
    }

    /// Starts it under `strace`, which writes all system calls to a file.
    pub(crate) fn start_traced(trace: &Path, args: &[&str]) -> Self {
        let mut command = Command::new("strace");
        // -D: the child is the program itself, so that killing it ends both.
        command.args(["-D", "-f", "-o", trace.to_str().unwrap(), BINARY, "--listen-host=127.0.0.1"]);
        Self::spawn(command.args(args))
    }

    /// Starts it on a free port, and waits until it listens.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.arg("--listen-port=0").stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Log::default());
        let writer = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                writer.lines.lock().unwrap().push(line);
                writer.grown.notify_all();
                let is_paused = writer.is_paused.lock().unwrap();
                drop(writer.resumed.wait_while(is_paused, |is_paused| *is_paused).unwrap());
            }
        });
        let address = log.wait_for("listening")["address"].as_str().unwrap().parse().unwrap();
        Self { child, address, log }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of the log about this event.
    pub(crate) fn wait_for_log(&self, event: &str) -> Value {
        self.log.wait_for(event)
    }

    /// The lines of the log about this event, so far.
    pub(crate) fn logged(&self, event: &str) -> Vec<Value> {
        let lines = self.log.lines.lock().unwrap();
        lines.iter().filter(|line| line["event"] == event).cloned().collect()
    }

    /// The resources that lines of the log about this event name.
    pub(crate) fn logged_resources(&self, event: &str) -> BTreeSet<String> {
        self.logged(event).iter().map(|line| line["resource"].to_string()).collect()
    }

    /// Reads the log no longer, but for some lines, or reads it again.
    pub(crate) fn read_log(&self, read: bool) {
        *self.log.is_paused.lock().unwrap() = !read;
        self.log.resumed.notify_all();
    }

    /// One answer.
    pub(crate) fn get(&self, path: &str) -> http::Response {
        http::get(self.address, path, &[])
    }

    /// One scrape in the text format.
    pub(crate) fn scrape(&self) -> Exposition {
        self.scrape_with(&[])
    }

    /// One scrape by a client with so many seconds of time.
    pub(crate) fn scrape_within(&self, seconds: f64) -> Exposition {
        self.scrape_with(&[("X-Prometheus-Scrape-Timeout-Seconds", &seconds.to_string())])
    }

    fn scrape_with(&self, headers: &[(&str, &str)]) -> Exposition {
        let response = http::get(self.address, "/metrics", headers);
        assert_eq!(response.status, 200, "{}", response.text());
        Exposition::parse(&response.text())
    }

    /// Its threads, those that hang in the kernel included.
    pub(crate) fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap().count()
    }

    /// Waits until it has no more threads than this.
    pub(crate) fn wait_for_threads(&self, most: usize) {
        ask_until(PATIENCE, "threads", || self.threads(), |threads| *threads <= most);
    }

    /// What the kernel says of its first thread: `S`, `Z` and so on.
    pub(crate) fn state(&self) -> char {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid().cast_signed()), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> ExitStatus {
        self.wait_within(PATIENCE).expect("it does not end")
    }

    /// Waits so long for its end.
    pub(crate) fn wait_within(&mut self, time: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        loop {
            let status = self.child.try_wait().unwrap();
            if status.is_some() || start.elapsed() >= time {
                return status;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Log {
    fn wait_for(&self, event: &str) -> Value {
        let find = |lines: &[Value]| lines.iter().find(|line| line["event"] == event).cloned();
        let is_missing = |lines: &mut Vec<Value>| find(lines).is_none();
        let lines = self.lines.lock().unwrap();
        let (lines, _) = self.grown.wait_timeout_while(lines, PATIENCE, is_missing).unwrap();
        find(&lines).unwrap_or_else(|| panic!("no {event:?} in the log: {lines:#?}"))
    }
}
