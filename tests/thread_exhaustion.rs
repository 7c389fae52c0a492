//! Fewer threads than mounts that hang: what answers is measured, what has no thread is `skipped`.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};

use crate::support::cgroup::Cgroup;
use crate::support::exporter::{BINARY, Exporter};
use crate::support::exposition::Exposition;
use crate::support::fuse::Behaviour;
use crate::support::http;
use crate::support::namespace::{Needs, Node, in_namespace};
use crate::support::subject::{
    FEW_THREADS, HANGING, Subject, Volumes, healthy, measured_and, outcomes, volumes, wait_until,
};
use crate::support::{PATIENCE, ask_until, skip};

/// Threads that the program may have.
const MAX_THREADS: usize = 40;
/// More than that.
const HUNG: usize = 100;

/// The program with some threads at most, and mounts that hang.
struct ShortNode<'a> {
    subject: Subject<'a>,
    ill: Volumes,
    // Dropped last: the program must have ended.
    _cgroup: Option<Cgroup>,
}

impl<'a> ShortNode<'a> {
    fn start(node: &'a Node, before: &Volumes, ill: Volumes, stat_timeout: &str) -> Self {
        let cgroup = limit(MAX_THREADS);
        let start =
            || Exporter::start_with_pids(cgroup.as_ref(), MAX_THREADS, node, &["--rootfs=/", stat_timeout]);
        Self { subject: Subject::start_by(node, before, start), ill, _cgroup: cgroup }
    }

    /// Scrapes: every volume that answers is measured, and some of those that hang are skipped.
    fn assert_measured(&self, well: &Volumes) -> Exposition {
        let scrape = self.subject.exporter.scrape();
        let mut outcomes = outcomes(&scrape);
        for (name, _) in well {
            assert_eq!(outcomes.remove(name).as_deref(), Some("measured"), "{name}");
        }
        let count = |outcome: &str| outcomes.values().filter(|other| *other == outcome).count();
        let (hung, skipped) = (count("timeout"), count("skipped"));
        assert!(skipped > 0 && hung + skipped == self.ill.len(), "{hung} hung, {skipped} skipped");
        assert_eq!(
            scrape.value("disk_usage_exporter_volumes", &[("state", "skipped")]),
            Some(skipped as f64)
        );
        assert_eq!(scrape.value("disk_usage_exporter_panics_total", &[]), Some(0.0));
        scrape
    }
}

fn limit(threads: usize) -> Option<Cgroup> {
    Cgroup::new("pids", |_| vec![("pids.max", threads.to_string())])
}

#[test]
fn new_volumes_are_measured_though_more_mounts_hang_than_there_are_threads() {
    in_namespace(Needs::Fuse, |_| {
        for hanging in HANGING {
            let node = Node::new();
            let mut well = volumes("well", 5, healthy());
            let short = ShortNode::start(&node, &well, volumes("ill", HUNG, hanging), "--stat-timeout=1s");
            let exporter = &short.subject.exporter;
            exporter.wait_until_ready();
            short.subject.mount(&short.ill);
            short.assert_measured(&well);
            assert!(exporter.threads() <= MAX_THREADS);
            for round in ["first", "second", "third"] {
                let new = volumes(round, 2, healthy());
                short.subject.mount(&new);
                well.extend(new);
                short.assert_measured(&well);
            }
            assert_eq!(exporter.logged("probe_thread_failed").len(), 1);
            assert_eq!(exporter.get("/readyz").status, 200);

            // What answers again is measured, and so is what had no thread before.
            short.subject.set(&short.ill, healthy());
            wait_until("all are measured", || {
                short.subject.outcomes().values().all(|outcome| outcome == "measured")
            });
            exporter.wait_for_threads(FEW_THREADS);
        }
    });
}

#[test]
fn volumes_that_come_after_a_start_among_hung_mounts_are_measured() {
    in_namespace(Needs::Fuse, |node| {
        let ill = volumes("ill", HUNG, Behaviour::Deaf);
        let short = ShortNode::start(node, &ill, ill.clone(), "--stat-timeout=1s");
        short.subject.exporter.wait_until_ready();
        short.assert_measured(&Vec::new());
        let new = volumes("new", 5, healthy());
        short.subject.mount(&new);
        short.assert_measured(&new);
    });
}

#[test]
fn server_that_dies_with_more_mounts_than_threads_hides_no_other() {
    in_namespace(Needs::Fuse, |node| {
        let ill = volumes("ill", HUNG, healthy());
        let short = ShortNode::start(node, &Vec::new(), ill, "--stat-timeout=1s");
        short.subject.mount_of("nas", &short.ill);
        let mut well = volumes("well", 5, healthy());
        short.subject.mount(&well[..3]);
        short.subject.mount_of("other", &well[3..]);
        assert_eq!(short.subject.outcomes(), measured_and(&well, &short.ill, "measured"));
        short.subject.set(&short.ill, Behaviour::Deaf);
        short.assert_measured(&well);
        for name in ["one", "two", "three"] {
            let new = volumes(name, 3, healthy());
            short.subject.mount(&new[..2]);
            short.subject.mount_of("other", &new[2..]);
            well.extend(new);
            short.assert_measured(&well);
        }
    });
}

/// How often the threads of a process gave way or waited.
fn context_switches(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let statuses =
        tasks.map(|task| fs::read_to_string(task.unwrap().path().join("status")).unwrap_or_default());
    let of = |status: String| -> u64 {
        let lines = status.lines().filter(|line| line.contains("voluntary_ctxt_switches"));
        lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
    };
    statuses.map(of).sum()
}

#[test]
fn scrapes_neither_spin_nor_wait_for_threads_that_are_not_given() {
    in_namespace(Needs::Fuse, |node| {
        let well = volumes("well", 5, healthy());
        let short = ShortNode::start(node, &well, volumes("ill", HUNG, Behaviour::Deaf), "--stat-timeout=1h");
        let exporter = &short.subject.exporter;
        exporter.wait_until_ready();
        short.subject.mount(&short.ill);
        exporter.scrape_within(1.0);
        let before = context_switches(exporter.pid());
        let scrapes = 10;
        for _ in 0..scrapes {
            // A client without a limit: waiting for the mounts would take an hour.
            short.assert_measured(&well);
        }
        let switches = (context_switches(exporter.pid()) - before) / scrapes;
        assert!(switches < 200, "{switches} context switches a scrape");
    });
}

/// The program until it ends, or serves.
fn start_with(threads: usize, kubeconfig: &Path, log: &Path) -> (Option<Cgroup>, Child) {
    let cgroup = limit(threads);
    let mut command = cgroup.as_ref().expect("seen before").command(BINARY);
    let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
    command.args([
        "--listen-host=127.0.0.1",
        "--listen-port=0",
        "--node-name=node",
        "--rootfs=/",
        &kubeconfig,
    ]);
    let child = command.stderr(Stdio::from(fs::File::create(log).unwrap())).spawn().unwrap();
    (cgroup, child)
}

#[test]
fn program_that_is_given_hardly_any_threads_serves_or_says_why_not() {
    if limit(1).is_none() {
        return skip("no cgroup can be made here");
    }
    in_namespace(Needs::Fuse, |node| {
        node.tmpfs_volume("well", "size=1m");
        let files = tempfile::tempdir().unwrap();
        let (kubeconfig, log) = (files.path().join("kubeconfig"), files.path().join("log"));
        // A name, so that it is looked up, for which a thread is needed.
        fs::write(
            &kubeconfig,
            "{kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}], \
             clusters: [{name: c, cluster: {server: 'https://localhost:1'}}], users: [{name: u, user: {token: t}}]}",
        )
        .unwrap();
        let mut has_served = false;
        for threads in 1..=FEW_THREADS {
            let (_cgroup, mut child) = start_with(threads, &kubeconfig, &log);
            let text = || fs::read_to_string(&log).unwrap();
            let event = |text: &str, event: &str| {
                let lines = text.lines().map(|line| serde_json::from_str(line).unwrap_or_default());
                lines.into_iter().find(|line: &serde_json::Value| line["event"] == event)
            };
            ask_until(
                PATIENCE,
                "it serves or ends",
                || (child.try_wait().unwrap(), text()),
                |(status, text)| {
                    status.is_some()
                        || ["kubernetes_request_failed", "panic"]
                            .iter()
                            .any(|name| event(text, name).is_some())
                },
            );
            let status = child.try_wait().unwrap();
            if let Some(status) = status {
                assert!(!status.success() && text().contains("error: "), "{threads}: {}", text());
            } else {
                let address =
                    event(&text(), "listening").unwrap()["address"].as_str().unwrap().parse().unwrap();
                let response = http::get(address, "/metrics", &[]);
                assert_eq!(response.status, 200);
                let scrape = Exposition::parse(&response.text());
                assert_eq!(scrape.value("disk_usage_exporter_panics_total", &[]), Some(0.0), "{threads}");
                has_served = true;
                child.kill().unwrap();
                child.wait().unwrap();
            }
            assert!(!text().contains("panic"), "{threads}: {}", text());
        }
        assert!(has_served, "{FEW_THREADS} threads are enough");
    });
}
