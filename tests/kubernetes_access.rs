use std::path::Path;
use std::time::Duration;

use disk_usage_exporter::cluster::Access;
use nix::sys::stat::Mode;
use serde_json::json;

use crate::support::apiserver::{ApiServer, CLAIMS, Fault, PODS, PVS};
use crate::support::cluster::{Cluster, requests, success, volumes, with};
use crate::support::exporter::{Exporter, command, run};
use crate::support::exposition::Exposition;
use crate::support::kubelet::Kubelet;
use crate::support::namespace::{Needs, in_namespace, tmpfs};
use crate::support::objects::NODE;
use crate::support::virtual_node::fail_all;

/// Where a pod has its service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const FAILED: &str = "kubernetes_request_failed";

/// Waits until the exporter shows the claim of its only volume.
fn wait_for_claim(exporter: &Exporter) {
    exporter.scrape_until("the claim's name", |scrape| {
        scrape.label("pv_disk_usage_up", "pvc_name") == ["pv-1-claim"]
    });
}

#[test]
fn hanging_credential_plugin_does_not_delay_the_kubelet() {
    let (cluster, kubelet) = (Cluster::of(&["pv-1"]), Kubelet::start());
    let fifo = cluster.table.path().join("fifo");
    nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let plugin = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": "cat", "args": [fifo],
        "interactiveMode": "Never"});
    let more = ["--sources=mounts,kubelet", &kubelet.endpoint()];
    let exporter = cluster.start_as(&json!({"exec": plugin}), &more);
    // Opening it waits for the plugin, which then waits for its end.
    let hanging = std::fs::File::create(&fifo).unwrap();
    // Requests to both are made on the same thread.
    exporter.scrape_until("the kubelet's response", |scrape| success(scrape, "kubelet") == Some(1.0));
    assert!(cluster.server.requests().is_empty());
    drop(hanging);
    exporter.wait_for_log(FAILED);
}

#[test]
fn refused_token_file_is_read_again() {
    let cluster = Cluster::of(&["pv-1"]);
    cluster.server.require_token("first");
    // A line end is no part of it.
    let token = cluster.server.write("token", "first\n");
    let exporter = cluster.start_as(&json!({"tokenFile": token}), &["--label-refresh=1s"]);
    exporter.wait_until_ready();
    wait_for_claim(&exporter);
    // It is rotated, and the old one is worth nothing from now on.
    cluster.server.write("token", "second");
    cluster.server.require_token("second");
    let before = cluster.server.requests().len();
    let requests = cluster.server.wait_for("the new token", |requests| {
        requests[before..].iter().any(|request| request.authorization.as_deref() == Some("Bearer second"))
    });
    let mut tokens = requests[before..].iter().map(|request| request.authorization.as_deref());
    assert!(
        tokens.position(|token| token == Some("Bearer second")) <= Some(2),
        "read again once it is refused"
    );
    exporter.scrape_until("success", |scrape| success(scrape, PVS) == Some(1.0));
}

#[test]
fn refused_token_is_logged_and_retried() {
    let cluster = Cluster::of(&["pv-1"]);
    cluster.server.require_token("another");
    let exporter = cluster.start(&[]);
    let line = exporter.wait_for_log(FAILED);
    assert!(line["error"].as_str().unwrap().contains("401"), "{line}");
    let scrape = exporter.scrape_until("a retry", |scrape| requests(scrape, PVS, "get", "401") >= 2.0);
    assert!(requests(&scrape, PODS, "watch", "401") >= 1.0);
    assert_eq!(success(&scrape, PODS), Some(0.0));
    // The administrator gives it the right one.
    cluster.server.require_token("good");
    wait_for_claim(&exporter);
    exporter.wait_for_log("kubernetes_recovered");
}

#[test]
fn client_certificate_of_a_kubeconfig_authenticates() {
    let cluster = Cluster::of(&["pv-1"]);
    cluster.server.require_token("none");
    let exporter = cluster.start_as(&cluster.server.user_with_certificate(), &[]);
    exporter.wait_until_ready();
    wait_for_claim(&exporter);
    assert!(cluster.server.requests().iter().all(|request| request.has_certificate));
}

#[test]
fn service_account_is_used_in_a_cluster() {
    in_namespace(Needs::Mounts, |_| {
        // Hides the system's own files where a pod has its service account.
        tmpfs(Path::new("/var/run"), "size=1m");
        let cluster = Cluster::of(&["pv-1"]);
        let set_token = |token: &str| {
            cluster.server.write_service_account(Path::new(SERVICE_ACCOUNT), token);
            cluster.server.require_token(token);
        };
        set_token("first");
        let (host, port) =
            (cluster.server.address.ip().to_string(), cluster.server.address.port().to_string());
        let env =
            [("KUBERNETES_SERVICE_HOST", &*host), ("KUBERNETES_SERVICE_PORT", &*port), ("NODE_NAME", NODE)];
        let args = cluster.node_args();
        let exporter = Exporter::start_with_env(&env, &with(&args, &["--label-refresh=1s"]));
        exporter.wait_until_ready();
        wait_for_claim(&exporter);
        set_token("second");
        cluster.server.wait_for("the new token", |requests| {
            requests.last().unwrap().authorization.as_deref() == Some("Bearer second")
        });
        // Without the node's name the host's is that of the pod: no pods are watched, and nothing waits for them.
        drop(exporter);
        let before = cluster.server.requests().len();
        let exporter = Exporter::start_with_env(&env[..2], &with(&args, &[]));
        exporter.wait_until_ready();
        wait_for_claim(&exporter);
        exporter.wait_for_log("node_name_missing");
        assert!(cluster.server.requests()[before..].iter().all(|request| request.verb == "get"));
        assert_eq!(success(&exporter.scrape(), PODS), None);
    });
}

#[test]
fn untrusted_server_receives_no_token() {
    let cluster = Cluster::of(&["pv-1"]);
    let args = cluster.args();
    cluster.server.write("ca.crt", &ApiServer::start().authority.pem());
    let exporter = Exporter::start(&with(&args, &[]));
    let line = exporter.wait_for_log(FAILED);
    assert!(line["error"].as_str().unwrap().contains("certificate"), "{line}");
    assert!(requests(&exporter.scrape(), PODS, "watch", "tls") >= 1.0);
    assert!(cluster.server.requests().is_empty());
}

#[test]
fn unreachable_server_ends_the_program_only_if_it_is_required() {
    let [cluster, mute] = [["pv-1"], ["pv-1"]].map(|names| Cluster::of(&names));
    cluster.server.stop();
    mute.server.mute();
    let required = ["--kubernetes=required"];
    let mut exporter = cluster.start(&required);
    // It serves as long as it tries.
    exporter.scrape_until("a failed request", |scrape| success(scrape, PODS) == Some(0.0));
    let [printed, printed_without] = std::thread::scope(|scope| {
        let prints = [scope.spawn(|| cluster.print(&required)), scope.spawn(|| mute.print(&[]))];
        prints.map(|print| print.join().unwrap())
    });
    assert_eq!((printed.status.code(), printed.stdout.len()), (Some(1), 0));
    let errors = String::from_utf8_lossy(&printed.stderr);
    let expected = "error: --kubernetes=required: the API server could not be asked within 10s";
    assert!(
        [expected, "cannot connect", "--kubernetes=auto"].iter().all(|part| errors.contains(part)),
        "{errors}"
    );
    assert!(printed_without.status.success());
    assert!(String::from_utf8_lossy(&printed_without.stdout).contains("pv_disk_usage_up{pv_name=\"pv-1\""));
    // It still serves after those ten seconds.
    exporter.scrape();
    let status = exporter.wait_within(Duration::from_mins(1)).expect("it ends");
    assert_eq!(status.code(), Some(1));
}

#[test]
fn printing_waits_for_labels_and_takes_a_refusal_for_an_answer() {
    let cluster = Cluster::of(&["pv-1"]);
    cluster.server.fault(CLAIMS, Fault::RetryAfter(503, "1"), 1);
    let printed = cluster.print(&[]);
    assert!(String::from_utf8_lossy(&printed.stdout).contains("pvc_name=\"pv-1-claim\""), "{printed:?}");
    fail_all(&cluster.server, &Fault::Status(403));
    let printed = cluster.print(&["--kubernetes=required"]);
    assert!(printed.status.success(), "{printed:?}");
    assert!(String::from_utf8_lossy(&printed.stdout).contains("pv_name=\"pv-1\""));
}

#[test]
fn unusable_settings_are_refused_with_a_remedy() {
    let cluster = Cluster::of(&[]);
    let broken = format!("--kubeconfig={}", cluster.server.write("broken", "clusters: [").display());
    let empty = format!("--kubeconfig={}", cluster.server.write("empty", "").display());
    let conflict = "'--kubernetes=required' cannot be used with '--objects'";
    for (args, expected) in [
        (&["--kubernetes=yes"][..], "possible values: auto, required, off"),
        (&["--node-name=a,b=c"], "as `kubectl get nodes` prints it"),
        (&["--node-name="], "as `kubectl get nodes` prints it"),
        (&["--kubeconfig="], "give the path of a kubeconfig"),
        (&["--label-refresh=0s"], "--label-refresh"),
        (&["--kubeconfig=/nonexistent"], "no kubeconfig at /nonexistent"),
        (&[&broken], "/broken cannot be used"),
        (&[&empty], "/empty cannot be used"),
        (&["--kubernetes=required"], "give one by --kubeconfig"),
        (&["--kubernetes=required", "--objects=/dev/null"], conflict),
    ] {
        let output = run(&[args, &["metrics"]].concat());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {errors}");
        assert!(errors.contains(expected) && errors.contains("error: "), "{args:?}: {errors}");
        assert!(!errors.contains("clusters"), "it quotes no kubeconfig: {errors}");
    }
}

#[test]
fn broken_kubeconfig_in_the_home_directory_is_only_a_warning() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".kube")).unwrap();
    std::fs::write(home.path().join(".kube/config"), "clusters: [").unwrap();
    let output = command(&["--rootfs=/", "metrics"]).env("HOME", home.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("kubernetes_unavailable"), "{output:?}");
}

#[test]
fn kubeconfigs_are_merged() {
    let cluster = Cluster::of(&["pv-1"]);
    cluster.server.require_token("good");
    let users = json!([{"name": "test", "user": {"token": "good"}}]);
    let user = json!({"apiVersion": "v1", "kind": "Config", "users": users}).to_string();
    let rest = cluster.server.kubeconfig(&json!({}));
    let rest = rest.strip_prefix("--kubeconfig=").unwrap();
    let files = [cluster.server.write("user", &user), "/nonexistent".into(), rest.into()];
    let (args, node_name) = (cluster.node_args(), format!("--node-name={NODE}"));
    let mut command = command(&with(&args, &[&node_name, "metrics"]));
    let output = command.env("KUBECONFIG", std::env::join_paths(files).unwrap()).output().unwrap();
    let printed = Exposition::parse(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(printed.label("pv_disk_usage_up", "pvc_name"), ["pv-1-claim"]);
    assert_eq!(volumes(&printed, "pending"), 0.0);
}

#[test]
fn errors_contain_no_secrets() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for (cluster, users, expected) in [
        (
            "proxy-url: 'http://u:hunter2@proxy.example:1'",
            "[{name: u, user: {}}]}",
            "the proxy proxy.example,",
        ),
        ("", "hunter2}", "cannot be used"),
        ("", "[{name: u, user: hunter2}]}", "cannot be used"),
        ("", "[{name: u, user: {token: hunter2", "cannot be used"),
    ] {
        let kubeconfig = format!(
            "{{kind: Config, current-context: c, contexts: [{{name: c, context: {{cluster: c, user: u}}}}], \
             clusters: [{{name: c, cluster: {{server: 'https://server', {cluster}}}}}], users: {users}"
        );
        std::fs::write(file.path(), kubeconfig).unwrap();
        let error = Access::Kubeconfig(vec![file.path().into()]).load().unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains("hunter2"), "{users}: {error}");
    }
}
