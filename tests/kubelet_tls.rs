use std::fs;

use nix::sys::stat::Mode;

use crate::support::exporter::{Exporter, run};
use crate::support::exposition::Exposition;
use crate::support::kubelet::{Certificate, Kubelet, Pki, SUMMARY};

/// Flags; `DIR` is the directory of the test.
const CA: &str = "--kubelet-ca-file=DIR/ca.crt";
const ROOTFS: &str = "--rootfs=DIR/rootfs";
const TABLE: &str = "--mount-table=DIR/mountinfo";
const BOTH: &str = "--sources=mounts,kubelet";
const INSECURE: &str = "--insecure-skip-tls-verify";

fn sizes(scrape: &Exposition) -> usize {
    scrape.all("kubelet_volume_stats_capacity_bytes", &[]).len()
}

fn errors(scrape: &Exposition) -> f64 {
    scrape.value("kubelet_volume_stats_scrape_errors_total", &[]).unwrap()
}

/// Starts the program on `node-1` with the node's address as the endpoint, as the manifests do.
fn start(kubelet: &Kubelet, args: &[&str]) -> Exporter {
    let endpoint = kubelet.endpoint();
    assert!(endpoint.contains("https://127.0.0.2:"), "{endpoint}");
    let args = args.iter().map(|arg| arg.replace("DIR", kubelet.directory().to_str().unwrap()));
    let mut args: Vec<String> = args.chain([endpoint]).collect();
    if !args.iter().any(|arg| arg.starts_with("--node-name")) {
        args.push("--node-name=node-1".into());
    }
    Exporter::start(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Writes a mount table with a volume below this kubelet directory of the root file system.
fn write_mount_table(kubelet: &Kubelet, kubelet_root: &str) {
    let pod = "pods/00000000-0000-0000-0000-000000000000/volumes/kubernetes.io~nfs/pv";
    let rootfs = kubelet.directory().join("rootfs");
    let row = format!("36 1 8:1 / {}/{kubelet_root}/{pod} rw - nfs s:/e rw\n", rootfs.display());
    kubelet.write("mountinfo", &row);
}

/// Checks that the handshake fails, and what the log says about it.
fn assert_refused(kubelet: &Kubelet, args: &[&str], errors_parts: &[&str], remedy_parts: &[&str]) {
    let exporter = start(kubelet, args);
    let scrape = exporter.scrape();
    assert_eq!(sizes(&scrape), 0, "{args:?}");
    assert!(errors(&scrape) >= 1.0, "{args:?}");
    assert_eq!(kubelet.count(SUMMARY), 0, "no request to a server that is not trusted: {args:?}");
    let line = exporter.wait_for_log("kubelet_request_failed");
    for (key, parts) in [("error", errors_parts), ("remedy", remedy_parts)] {
        let text = line[key].as_str().unwrap_or_default();
        assert!(parts.iter().all(|part| text.contains(part)), "{key} without one of {parts:?}: {text}");
    }
}

#[test]
fn certificate_with_a_trusted_authority_and_an_expected_name_is_accepted() {
    use Certificate::{Administrators, ClusterSigned, OwnMade, OwnMadeExpired};
    let cluster: (&str, fn(&Pki) -> String) = ("ca.crt", Pki::cluster);
    let administrator: (&str, fn(&Pki) -> String) = ("ca.crt", Pki::administrator);
    let own = |path| -> (&str, fn(&Pki) -> String) { (path, Pki::kubelet_crt) };
    let default_root = "rootfs/var/lib/kubelet/pki/kubelet.crt";
    let cases: [(Certificate, _, &[&str]); 11] = [
        (ClusterSigned, cluster, &[CA]),
        (ClusterSigned, cluster, &[CA, "--node-name=another"]),
        (ClusterSigned, cluster, &[CA, "--kubelet-server-name=node-1"]),
        (OwnMade, own("ca.crt"), &[CA]),
        (OwnMade, own(default_root), &[ROOTFS]),
        (OwnMade, own("rootfs/k/pki/kubelet.crt"), &[ROOTFS, "--kubelet-root=/k"]),
        (OwnMade, own("rootfs/opt/k/pki/kubelet.crt"), &[ROOTFS, BOTH, TABLE]),
        (Administrators, administrator, &[CA, "--kubelet-server-name=kubelet.example.org"]),
        (OwnMade, cluster, &[INSECURE]),
        (OwnMadeExpired, cluster, &[INSECURE]),
        (Administrators, cluster, &[INSECURE]),
    ];
    for (certificate, (path, authority), args) in cases {
        let kubelet = Kubelet::start_with(certificate);
        kubelet.write(path, &authority(&kubelet.pki));
        write_mount_table(&kubelet, "opt/k");
        let exporter = start(&kubelet, args);
        let scrape = exporter.scrape();
        assert_eq!((sizes(&scrape), errors(&scrape)), (3, 0.0), "{certificate:?} {args:?}");
        let is_unverified = args == [INSECURE];
        let warnings = exporter.logged("kubelet_tls_unverified");
        assert_eq!(warnings.len(), usize::from(is_unverified), "{certificate:?} {args:?}");
        assert!(warnings.iter().all(|line| line["level"] == "WARN"), "{warnings:?}");
    }
}

#[test]
fn refused_certificate_is_logged_with_a_remedy() {
    use Certificate::{Administrators, ClusterSigned, NotApproved, OwnMade, OwnMadeExpired};
    let cluster: fn(&Pki) -> String = Pki::cluster;
    let other_of_that_name = |_: &Pki| Pki::new().administrator();
    let untrusted =
        ["pki/kubelet.crt", "--kubelet-ca-file", "serverTLSBootstrap", "--insecure-skip-tls-verify"];
    let cases: [(_, fn(&Pki) -> String, &[&str], &[&str], &[&str]); 6] = [
        (OwnMade, cluster, &[CA], &["an authority that is not trusted"], &untrusted),
        (
            OwnMade,
            Pki::kubelet_crt,
            &[CA, "--node-name=node-2"],
            &["is for", "node-1", "127.0.0.2 or node-2"],
            &["--kubelet-server-name", "NODE_NAME"],
        ),
        (OwnMadeExpired, Pki::kubelet_crt, &[CA], &["expired"], &["restart it"]),
        (
            Administrators,
            other_of_that_name,
            &[CA, "--kubelet-server-name=kubelet.example.org"],
            &["not trusted"],
            &untrusted,
        ),
        (NotApproved, cluster, &[CA], &["no serving certificate yet"], &["kubectl certificate approve"]),
        // No authority at all.
        (
            ClusterSigned,
            cluster,
            &["--rootfs=DIR"],
            &["serviceaccount/ca.crt", "pki/kubelet.crt"],
            &["--kubelet-ca-file"],
        ),
    ];
    for (certificate, authority, args, errors, remedy) in cases {
        let kubelet = Kubelet::start_with(certificate);
        kubelet.write("ca.crt", &authority(&kubelet.pki));
        assert_refused(&kubelet, args, errors, remedy);
    }
}

/// A user who may mount on the node can add a row to the mount table that looks like a kubelet's.
#[test]
fn kubelet_directory_of_another_user_is_not_trusted() {
    let kubelet = Kubelet::start_with(Certificate::OwnMade);
    let crt = kubelet.write("rootfs/home/mallory/pki/kubelet.crt", &kubelet.pki.kubelet_crt());
    if std::os::unix::fs::chown(&crt, Some(65534), None).is_err() {
        eprintln!("left out: only root can give files away");
        return;
    }
    write_mount_table(&kubelet, "home/mallory");
    assert_refused(&kubelet, &[BOTH, TABLE, ROOTFS], &["it belongs to the user 65534"], &[]);
    // A pipe does not block the program.
    fs::remove_file(&crt).unwrap();
    nix::unistd::mkfifo(&crt, Mode::S_IRWXU).unwrap();
    assert_refused(&kubelet, &[BOTH, TABLE, ROOTFS], &["it is no file"], &[]);
}

#[test]
fn unusable_ca_file_is_an_error_at_start() {
    let kubelet = Kubelet::start();
    let block = |text| format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
    let files = [
        ("nothing", None, "No such file"),
        ("empty", Some(String::new()), "no certificate in it"),
        ("broken", Some(block("!")), ""),
        ("garbage", Some(block("AAAA")), "no certificate in it that can be used"),
    ];
    for (file, text, expected) in files {
        text.iter().for_each(|text| drop(kubelet.write(file, text)));
        let path = kubelet.directory().join(file);
        let output = run(&["metrics", &kubelet.endpoint(), &format!("--kubelet-ca-file={}", path.display())]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        for part in ["--kubelet-ca-file", path.to_str().unwrap(), expected, "as PEM"] {
            assert!(stderr.contains(part), "{part}: {stderr}");
        }
    }
}
