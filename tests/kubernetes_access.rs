use std::path::Path;
use std::time::{Duration, Instant};

use disk_usage_exporter::cluster::Access;
use serde_json::json;

use crate::support::apiserver::{Fault, Resource, Verb, of};
use crate::support::cluster::{Cluster, NODE, claim_of, requests, success, volumes, with};
use crate::support::exporter::{Exporter, command, run};
use crate::support::kubelet::Kubelet;
use crate::support::namespace::{Needs, in_namespace, tmpfs};

/// Where a pod has its service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The exporter shows the claim of its only volume.
fn shows_the_claim(exporter: &Exporter) {
    exporter.scrape_until("the claim's name", |scrape| {
        scrape.label("pv_disk_usage_up", "pvc_name") == [claim_of("pv-1")]
    });
}

#[test]
fn a_credential_plugin_that_hangs_stops_nothing_else() {
    let (cluster, kubelet) = (Cluster::of(&["pv-1"]), Kubelet::start());
    let plugin = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": "sleep", "args": ["60"],
        "interactiveMode": "Never"});
    let args = cluster.args_as(&json!({"exec": plugin}));
    let exporter = Exporter::start(&with(&args, &["--sources=mounts,kubelet", &kubelet.endpoint()]));
    exporter.wait_for_log("kubernetes_request_failed");
    // On the same thread.
    exporter.scrape_until("the kubelet's answer", |scrape| {
        scrape.value("disk_usage_exporter_source_success", &[("source", "kubelet")]) == Some(1.0)
    });
}

#[test]
fn a_token_in_a_file_is_read_anew_when_it_is_refused() {
    let cluster = Cluster::of(&["pv-1"]);
    cluster.server.require_tokens(&["first"]);
    // A line end is no part of it.
    let token = cluster.server.write("token", "first\n");
    let args = cluster.args_as(&json!({"tokenFile": token}));
    let exporter = Exporter::start(&with(&args, &["--label-refresh=1s"]));
    exporter.wait_until_ready();
    shows_the_claim(&exporter);
    // It is rotated, and the old one is worth nothing from now on.
    cluster.server.write("token", "second");
    cluster.server.require_tokens(&["second"]);
    let before = cluster.server.requests().len();
    let shows = |token: &str| Some(format!("Bearer {token}"));
    let asked = cluster.server.wait_for("the new token", |requests| {
        requests[before..].iter().any(|request| request.authorization == shows("second"))
    });
    let refused = asked[before..].iter().take_while(|request| request.authorization == shows("first"));
    assert!(refused.count() <= 2, "it is read again once it is refused");
    exporter.scrape_until("it is good", |scrape| success(scrape, Resource::PersistentVolumes) == Some(1.0));
}

#[test]
fn a_token_that_is_refused_is_said_and_tried_ever_more_seldom() {
    let cluster = Cluster::of(&["pv-1"]);
    cluster.server.require_tokens(&["another"]);
    let exporter = cluster.start(&[]);
    let message = "kubernetes_request_failed";
    let warned = exporter.wait_for_log(message);
    assert!(warned["error"].as_str().unwrap().contains("401"), "{warned}");
    let scrape = exporter.scrape_until("it is tried again", |scrape| {
        requests(scrape, Resource::PersistentVolumes, "get", "401") >= 2.0
    });
    assert!(requests(&scrape, Resource::Pods, "watch", "401") >= 1.0);
    assert_eq!(success(&scrape, Resource::Pods), Some(0.0));
    // The administrator gives it the right one.
    cluster.server.require_tokens(&["good"]);
    shows_the_claim(&exporter);
    exporter.wait_for_log("kubernetes_recovered");
}

#[test]
fn a_client_certificate_of_a_kubeconfig_is_shown() {
    let cluster = Cluster::of(&["pv-1"]);
    cluster.server.require_tokens(&[]);
    let args = cluster.args_as(&cluster.server.user_with_certificate());
    let exporter = Exporter::start(&with(&args, &[]));
    exporter.wait_until_ready();
    shows_the_claim(&exporter);
    assert!(cluster.server.requests().iter().all(|request| request.has_certificate));
}

#[test]
fn in_a_cluster_the_pods_service_account_is_used() {
    in_namespace(Needs::Mounts, |_| {
        // A place of the test's own for what a pod has there.
        tmpfs(Path::new("/var/run"), "size=1m");
        let cluster = Cluster::of(&["pv-1"]);
        cluster.server.require_tokens(&["first"]);
        cluster.server.write_service_account(Path::new(SERVICE_ACCOUNT), "first");
        let address = cluster.server.address();
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let env = [
            ("KUBERNETES_SERVICE_HOST", host.as_str()),
            ("KUBERNETES_SERVICE_PORT", port.as_str()),
            ("NODE_NAME", NODE),
        ];
        let args = cluster.node_args();
        let exporter = Exporter::start_with_env(&env, &with(&args, &["--label-refresh=1s"]));
        exporter.wait_until_ready();
        shows_the_claim(&exporter);
        cluster.server.write_service_account(Path::new(SERVICE_ACCOUNT), "second");
        cluster.server.require_tokens(&["second"]);
        cluster.server.wait_for("the new token", |requests| {
            requests.last().unwrap().authorization.as_deref() == Some("Bearer second")
        });
        // Without the node's name the host's is that of the pod: no pods are asked for, and nothing waits for them.
        drop(exporter);
        let before = cluster.server.requests().len();
        let exporter = Exporter::start_with_env(&env[..2], &with(&args, &[]));
        exporter.wait_until_ready();
        shows_the_claim(&exporter);
        exporter.wait_for_log("node_name_missing");
        let asked = cluster.server.requests();
        assert!(asked[before..].iter().all(|request| request.verb == Verb::Get));
        assert_eq!(success(&exporter.scrape(), Resource::Pods), None);
    });
}

#[test]
fn a_server_that_is_not_the_trusted_one_learns_no_token() {
    let cluster = Cluster::of(&["pv-1"]);
    let other = Cluster::of(&["pv-1"]);
    let args = cluster.args();
    // The kubeconfig names one server and trusts the authority of another.
    let kubeconfig = args.iter().find_map(|arg| arg.strip_prefix("--kubeconfig=")).unwrap();
    let text = std::fs::read_to_string(kubeconfig).unwrap();
    let (ours, theirs) = (cluster.server.address().to_string(), other.server.address().to_string());
    std::fs::write(kubeconfig, text.replace(&ours, &theirs)).unwrap();
    let exporter = Exporter::start(&with(&args, &[]));
    let message = "kubernetes_request_failed";
    let warned = exporter.wait_for_log(message);
    assert!(warned["error"].as_str().unwrap().contains("certificate"), "{warned}");
    let scrape = exporter.scrape();
    assert!(requests(&scrape, Resource::Pods, "watch", "tls") >= 1.0);
    assert!(other.server.requests().is_empty());
}

#[test]
fn what_is_required_and_cannot_be_reached_ends_the_program() {
    let cluster = Cluster::of(&["pv-1"]);
    cluster.server.stop();
    let started = Instant::now();
    let mut exporter = cluster.start(&["--kubernetes=required"]);
    // It serves as long as it tries.
    exporter.scrape_until("it is tried", |scrape| success(scrape, Resource::Pods) == Some(0.0));
    let status = exporter.wait_within(Duration::from_secs(45)).expect("it goes on");
    assert_eq!(status.code(), Some(1));
    assert!(started.elapsed() >= Duration::from_secs(29), "{:?}", started.elapsed());
    let printed = cluster.print(&["--kubernetes=required"]);
    assert_eq!(printed.status.code(), Some(1));
    let said = String::from_utf8_lossy(&printed.stderr);
    assert!(
        said.contains("error: --kubernetes=required: the API server could not be asked within 10s"),
        "{said}"
    );
    assert!(said.contains("cannot connect") && said.contains("--kubernetes=auto"), "{said}");
    assert!(printed.stdout.is_empty());
}

#[test]
fn what_is_required_may_say_no() {
    let cluster = Cluster::of(&["pv-1"]);
    for (verb, resource) in [
        (Verb::Watch, Resource::Pods),
        (Verb::Get, Resource::PersistentVolumes),
        (Verb::Get, Resource::PersistentVolumeClaims),
    ] {
        cluster.server.forbid(verb, resource);
    }
    let printed = cluster.print(&["--kubernetes=required"]);
    assert!(printed.status.success(), "{printed:?}");
    assert!(String::from_utf8_lossy(&printed.stdout).contains("pv_name=\"pv-1\""));
}

#[test]
fn printing_goes_on_without_a_server_that_is_not_required() {
    let cluster = Cluster::of(&["pv-1"]);
    cluster.server.mute();
    let started = Instant::now();
    let printed = cluster.print(&[]);
    assert!(printed.status.success());
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    assert!(String::from_utf8_lossy(&printed.stdout).contains("pv_disk_usage_up{pv_name=\"pv-1\""));
}

#[test]
fn printing_waits_for_the_labels() {
    let cluster = Cluster::of(&["pv-1"]);
    let slow = Fault::Status(503, Some(1));
    cluster.server.fault(of(Verb::Get, Resource::PersistentVolumeClaims), slow, 1);
    let printed = cluster.print(&[]);
    assert!(String::from_utf8_lossy(&printed.stdout).contains("pvc_name=\"pv-1-claim\""), "{printed:?}");
}

/// What the program says to these flags; it must not start.
fn refused(args: &[&str]) -> String {
    let output = run(args);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn settings_that_cannot_be_used_are_said_with_a_remedy() {
    let cluster = Cluster::new();
    let broken = cluster.server.write("broken", "clusters: [");
    let empty = cluster.server.write("empty", "");
    let cases = [
        (vec!["--kubernetes=yes".into()], "possible values: auto, required, off"),
        (vec!["--node-name=a,b=c".into()], "as `kubectl get nodes` prints it"),
        (vec!["--node-name=".into()], "as `kubectl get nodes` prints it"),
        (vec!["--kubeconfig=".into()], "give the path of a kubeconfig"),
        (vec!["--label-refresh=0s".into()], "--label-refresh"),
        (vec!["--kubeconfig=/nonexistent".into()], "no kubeconfig at /nonexistent"),
        (vec![format!("--kubeconfig={}", broken.display())], "/broken cannot be used"),
        (vec![format!("--kubeconfig={}", empty.display())], "/empty cannot be used"),
        (vec!["--kubernetes=required".into()], "give one by --kubeconfig"),
        (
            vec!["--kubernetes=required".into(), "--objects=/dev/null".into()],
            "'--kubernetes=required' cannot be used with '--objects'",
        ),
    ];
    for (args, expected) in cases {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let said = refused(&[&args[..], &["metrics"]].concat());
        assert!(said.contains(expected), "{args:?}: {said}");
        assert!(said.contains("error: ") && !said.contains("clusters"), "it quotes no kubeconfig: {said}");
    }
}

#[test]
fn a_kubeconfig_that_was_only_found_may_be_broken() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".kube")).unwrap();
    std::fs::write(home.path().join(".kube/config"), "clusters: [").unwrap();
    let output = command(&["--rootfs=/", "metrics"]).env("HOME", home.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("kubernetes_unavailable"), "{said}");
}

#[test]
fn several_kubeconfigs_count_as_one() {
    let cluster = Cluster::of(&["pv-1"]);
    let args = cluster.args();
    let kubeconfig = args.iter().find_map(|arg| arg.strip_prefix("--kubeconfig=")).unwrap();
    let whole: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(kubeconfig).unwrap()).unwrap();
    let user = json!({"apiVersion": "v1", "kind": "Config", "users": whole["users"]});
    let mut rest = whole.clone();
    rest["users"] = json!([]);
    let files = [
        cluster.server.write("user", &user.to_string()),
        "/nonexistent".into(),
        cluster.server.write("rest", &rest.to_string()),
    ];
    let joined = std::env::join_paths(files).unwrap();
    let mut args = cluster.node_args();
    args.push(format!("--node-name={NODE}"));
    let output = command(&with(&args, &["metrics"])).env("KUBECONFIG", joined).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("pvc_name=\"pv-1-claim\""), "{output:?}");
    assert_eq!(volumes_pending(&output.stdout), 0.0);
}

fn volumes_pending(text: &[u8]) -> f64 {
    let text = std::str::from_utf8(text).unwrap();
    volumes(&crate::support::exposition::Exposition::parse(text), "pending")
}

/// What is said of this kubeconfig.
fn refused_kubeconfig(kubeconfig: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kubeconfig");
    std::fs::write(&path, kubeconfig).unwrap();
    Access::Kubeconfig(vec![path]).load().unwrap_err().to_string()
}

#[test]
fn no_secret_is_said() {
    let with = |cluster: &str, users: &str| {
        format!(
            "{{kind: Config, current-context: c, contexts: [{{name: c, context: {{cluster: c, user: u}}}}], \
             clusters: [{{name: c, cluster: {{server: 'https://server', {cluster}}}}}], users: {users}"
        )
    };
    let proxy = with("proxy-url: 'http://user:hunter2@proxy.example:3128'", "[{name: u, user: {}}]}");
    let said = refused_kubeconfig(&proxy);
    assert!(said.contains("the proxy proxy.example,") && !said.contains("hunter2"), "{said}");
    for users in ["hunter2}", "[{name: u, user: hunter2}]}", "[{name: u, user: {token: hunter2"] {
        let said = refused_kubeconfig(&with("", users));
        assert!(said.contains("cannot be used") && !said.contains("hunter2"), "{users}: {said}");
    }
}
