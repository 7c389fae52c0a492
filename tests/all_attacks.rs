use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::json;

use crate::endurance::unmount;
use crate::hostility::{Attacker, INTERVAL, assert_nothing_missed, series_of_volumes};
use crate::support::apiserver::{self, ApiServer, CLAIMS, PODS, PVS};
use crate::support::env_number;
use crate::support::exporter::Exporter;
use crate::support::fuse::{Behaviour, Fuse};
use crate::support::kubelet::{self, Kubelet, SUMMARY};
use crate::support::memory_limit::MemoryLimit;
use crate::support::namespace::{self, Needs, Node, in_namespace, tmpfs};
use crate::support::objects::{NODE, bound, claim, claim_of, pod, pv};
use crate::tenants::{MOST_LABELS, labels, pod_event};

/// Volumes that must always be shown; all others belong to attackers.
const VOLUMES: usize = 10;
/// How long it is attacked, where the environment gives no number.
const SECONDS: usize = 10;
/// The healthy volumes' pod, a tenant's, and one whose volumes hang.
const HEALTHY: &str = namespace::PODS[0];
const TENANT: &str = namespace::PODS[1];
const HUNG: &str = namespace::PODS[2];

/// Clients, a tenant, a user of the node, hung mounts, an API server and a kubelet: all together, within the shipped
/// memory limit.
#[test]
fn well_behaved_scraper_misses_nothing_under_all_attacks_at_once() {
    in_namespace(Needs::Fuse, |node| {
        let time = Duration::from_secs(env_number("DISK_USAGE_EXPORTER_TEST_SECONDS", SECONDS) as u64);
        let (server, kubelet, limit) = (ApiServer::start(), Kubelet::start(), MemoryLimit::shipped());
        let exporter = start(node, &server, &kubelet, &limit);
        // Dropped before the exporter, whose threads cannot end while they hang.
        let attackers = Attackers { node, server, kubelet, fuse: Fuse::start() };
        let expected = series_of_volumes(&exporter.get("/metrics"));
        let attacks: [fn(&Attackers<'_>, usize); 5] = [
            |attackers, round| attackers.tenant_floods(round),
            |attackers, round| attackers.user_mounts(round),
            |attackers, round| attackers.mount_hangs(round),
            |attackers, round| attackers.api_server_fails(round),
            |attackers, round| attackers.kubelet_fails(round),
        ];
        let attackers = &attackers;
        let attacks = attacks.map(|attack| -> Attacker<'_> {
            (Box::new(move |round| attack(attackers, round)), 4 * INTERVAL)
        });
        assert_nothing_missed(exporter.address, time, &expected, attacks.into());
        limit.assert_kept("all attacks at once", &exporter);
        assert_eq!(exporter.logged("panic").len(), 0);
        for event in
            ["labels_dropped", "kubelet_root_refused", "kubernetes_request_failed", "kubelet_request_failed"]
        {
            assert!(!exporter.logged(event).is_empty(), "the attack arrives: {event}");
        }
    });
}

/// Mounts the healthy volumes, and starts the exporter, which knows all about them when this returns.
fn start(node: &Node, server: &ApiServer, kubelet: &Kubelet, limit: &MemoryLimit) -> Exporter {
    let names: Vec<String> = (0..VOLUMES).map(|number| format!("pv-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    server.put(names.iter().flat_map(|name| bound(name, "first")));
    server.put([pod(HEALTHY, &names)]);
    for name in &names {
        node.tmpfs_volume(name, "size=1m");
    }
    // What the tenant and the hung pod will mount.
    let mut tenant = pod(TENANT, &["evil-0", "evil-1", "evil-2", "evil-3", "evil-4"]);
    let inline = json!({"name": "pv-0", "nfs": {"server": "nas", "path": "/pv-0"}});
    tenant["spec"]["volumes"].as_array_mut().unwrap().push(inline);
    server.put([tenant, pod(HUNG, &[])]);
    let exporter = limit.start(&[
        &server.kubeconfig(&json!({"token": "good"})),
        &format!("--node-name={NODE}"),
        "--rootfs=/",
        "--sources=mounts,kubelet",
        "--scrape-interval=1s",
        &kubelet.endpoint(),
    ]);
    exporter.scrape_until("the healthy volumes' labels", |scrape| {
        let shown =
            |label| scrape.label("pv_disk_usage_mount_info", label).into_iter().collect::<BTreeSet<_>>();
        let claims = scrape.label("pv_disk_usage_up", "pvc_name");
        names.iter().all(|name| claims.contains(&&*claim_of(name)))
            && shown("pod_name").contains(&*format!("name-of-{HEALTHY}"))
    });
    exporter
}

struct Attackers<'a> {
    node: &'a Node,
    server: ApiServer,
    kubelet: Kubelet,
    fuse: Fuse,
}

impl Attackers<'_> {
    /// Labels and pods without end, a borrowed name, and volumes that come and go.
    fn tenant_floods(&self, round: usize) {
        let name = format!("evil-{}", round % 5);
        let mut objects = [pv(&name, &claim_of(&name), ""), claim(&claim_of(&name), &round.to_string())];
        objects[1]["metadata"]["labels"] = labels(MOST_LABELS).into();
        self.server.put(objects);
        // A volume of its own, and one that is named like a healthy one.
        for name in [&*name, "pv-0"] {
            match (round % 50, self.node.volume(TENANT, "nfs", name)) {
                (0..5, path) => tmpfs(&path, "size=1m"),
                (25..30, path) => unmount(&path),
                _ => {}
            }
        }
        if round.is_multiple_of(10) && round < 1000 {
            self.server.send_to_watches(pod_event(round / 10, 50_000));
        }
        let mut borrower = pod(&format!("borrower-{round}"), &[]);
        borrower["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": HEALTHY});
        self.server.put([borrower.clone()]);
        self.server.remove([borrower]);
    }

    /// A kubelet's directory in a home, and a FIFO in place of a file.
    fn user_mounts(&self, round: usize) {
        let home = self.node.path().join(format!("home-{}", round % 20));
        let volume = home.join(format!("kubelet/pods/{TENANT}/volumes/kubernetes.io~nfs/pv-1"));
        let csi = self.node.volume(TENANT, "csi", &format!("fifo-{}", round % 20));
        if (round / 20).is_multiple_of(2) {
            std::fs::create_dir_all(&volume).unwrap();
            std::fs::set_permissions(&home, Permissions::from_mode(0o777)).unwrap();
            std::fs::create_dir_all(csi.join("mount")).unwrap();
            let _ = mkfifo(&csi.join("vol_data.json"), Mode::S_IRWXU);
            tmpfs(&csi.join("mount"), "size=1m");
            tmpfs(&volume, "size=1m");
        } else {
            unmount(&csi.join("mount"));
            unmount(&volume);
        }
    }

    /// Up to ten mounts hang at a time; then they answer, and go.
    fn mount_hangs(&self, round: usize) {
        let name = format!("hung-{}", round % 10);
        if (round / 10).is_multiple_of(2) {
            let path = self.node.volume(HUNG, "nfs", &name);
            self.fuse.mount(&name, &path, [Behaviour::Silent, Behaviour::Deaf][round % 2]);
        } else {
            self.fuse.die(&name);
            unmount(&self.node.kubelet().join(format!("pods/{HUNG}/volumes/kubernetes.io~nfs/{name}")));
        }
    }

    /// What it says of an attacker's volume is absurd; to other requests it does not answer, or not to the end.
    fn api_server_fails(&self, round: usize) {
        use apiserver::Fault::*;
        if !round.is_multiple_of(5) {
            return;
        }
        let absurd = Body(format!("{{\"metadata\":{}", "[".repeat(1 << 20)));
        self.server.fault("persistentvolumes evil-4", absurd, 1);
        let faults =
            [Hang, Endless, HalfThenSilence, Close, Half, Status(500), RetryAfter(429, "1"), Status(401)];
        let resource = [PVS, CLAIMS, PODS][round / 5 % 3];
        self.server.fault(resource, faults[round / 5 % faults.len()].clone(), 1);
        if round.is_multiple_of(20) {
            self.server.end_watches();
        }
    }

    fn kubelet_fails(&self, round: usize) {
        use kubelet::Fault::*;
        let faults = [
            Raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{".into()),
            Status(500, "x".repeat(1 << 20)),
            Status(200, "[".repeat(1 << 20)),
            Endless("{\"pods\":[", "{},"),
            Late(Duration::from_secs(1)),
            Stall(String::new()),
        ];
        self.kubelet.clear_faults();
        self.kubelet.fault(SUMMARY, faults[round / 10 % faults.len()].clone(), 1);
    }
}
