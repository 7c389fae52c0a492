use crate::support::exporter::{Exporter, run};
use crate::support::exposition::Exposition;
use crate::support::kubelet::{Certificate, Kubelet, SUMMARY};

const FAILED: &str = "kubelet_request_failed";

fn sizes(scrape: &Exposition) -> usize {
    scrape.all("kubelet_volume_stats_capacity_bytes", &[]).len()
}

/// The program on `node-1`, asking by the node's address, as the manifests do.
fn asking(kubelet: &Kubelet, args: &[&str]) -> Exporter {
    let endpoint = kubelet.endpoint();
    assert!(endpoint.contains("https://127.0.0.2:"), "{endpoint}");
    let named = args.iter().any(|arg| arg.starts_with("--node-name"));
    let node: &[&str] = if named { &[] } else { &["--node-name=node-1"] };
    Exporter::start(&[&[endpoint.as_str()], node, args].concat())
}

fn ca_file(kubelet: &Kubelet, pem: &str) -> String {
    format!("--kubelet-ca-file={}", kubelet.write("ca.crt", pem).display())
}

/// What is said of a handshake that fails, and what to do about it.
fn refused(kubelet: &Kubelet, args: &[&str]) -> (String, String) {
    let exporter = asking(kubelet, args);
    let scrape = exporter.scrape();
    assert_eq!(sizes(&scrape), 0);
    assert!(scrape.value("kubelet_volume_stats_scrape_errors_total", &[]) >= Some(1.0));
    assert_eq!(kubelet.count(SUMMARY), 0, "nothing is asked of a server that is not trusted");
    let said = exporter.wait_for_log(FAILED);
    let text = |key: &str| said[key].as_str().unwrap_or_default().to_owned();
    (text("error"), text("remedy"))
}

#[test]
fn one_signed_by_the_cluster_is_good_by_its_address_or_name() {
    let kubelet = Kubelet::start_with(Certificate::ClusterSigned);
    let ca = ca_file(&kubelet, &kubelet.pki.cluster());
    assert_eq!(sizes(&asking(&kubelet, &[&ca]).scrape()), 3);
    assert_eq!(sizes(&asking(&kubelet, &[&ca, "--node-name=another"]).scrape()), 3);
    assert_eq!(sizes(&asking(&kubelet, &[&ca, "--kubelet-server-name=node-1"]).scrape()), 3);
}

#[test]
fn one_that_the_kubelet_made_is_good_by_the_nodes_name_where_its_directory_is_seen() {
    let kubelet = Kubelet::start_with(Certificate::OwnMade);
    kubelet.write("rootfs/var/lib/kubelet/pki/kubelet.crt", &kubelet.pki.kubelet_crt());
    let rootfs = format!("--rootfs={}", kubelet.directory().join("rootfs").display());
    assert_eq!(sizes(&asking(&kubelet, &[&rootfs]).scrape()), 3);
    // Wherever that is.
    kubelet.write("rootfs/k/pki/kubelet.crt", &kubelet.pki.kubelet_crt());
    std::fs::remove_dir_all(kubelet.directory().join("rootfs/var")).unwrap();
    assert_eq!(sizes(&asking(&kubelet, &[&rootfs, "--kubelet-root=/k"]).scrape()), 3);
    let ca = ca_file(&kubelet, &kubelet.pki.kubelet_crt());
    assert_eq!(sizes(&asking(&kubelet, &[&ca]).scrape()), 3);
}

/// Users of a node can put a row into its table that looks like a kubelet's: they are not to choose whom to trust.
#[test]
fn a_directory_of_the_mount_table_is_not_the_kubelets_own() {
    let kubelet = Kubelet::start_with(Certificate::OwnMade);
    kubelet.write("rootfs/opt/k/pki/kubelet.crt", &kubelet.pki.kubelet_crt());
    let rootfs = kubelet.directory().join("rootfs");
    let row = format!(
        "36 1 8:1 / {}/opt/k/pods/00000000-0000-0000-0000-000000000000/volumes/kubernetes.io~nfs/pv rw - nfs s:/e rw\n",
        rootfs.display()
    );
    let table = format!("--mount-table={}", kubelet.write("mountinfo", &row).display());
    let rootfs = format!("--rootfs={}", rootfs.display());
    let (failure, _) = refused(&kubelet, &["--sources=mounts,kubelet", &table, &rootfs]);
    assert!(failure.contains("/var/lib/kubelet/pki/kubelet.crt: No such file"), "{failure}");
    assert!(!failure.contains("/opt/k"), "{failure}");
}

#[test]
fn a_certificate_that_is_no_file_is_not_waited_for() {
    let kubelet = Kubelet::start_with(Certificate::OwnMade);
    let crt = kubelet.write("rootfs/var/lib/kubelet/pki/kubelet.crt", "");
    std::fs::remove_file(&crt).unwrap();
    nix::unistd::mkfifo(&crt, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let rootfs = format!("--rootfs={}", kubelet.directory().join("rootfs").display());
    let (failure, _) = refused(&kubelet, &[&rootfs]);
    assert!(failure.contains("not a file"), "{failure}");
}

#[test]
fn the_administrators_own_is_good_by_the_name_that_is_given() {
    let kubelet = Kubelet::start_with(Certificate::Administrators);
    let ca = ca_file(&kubelet, &kubelet.pki.administrator());
    let name = "--kubelet-server-name=kubelet.example.org";
    assert_eq!(sizes(&asking(&kubelet, &[&ca, name]).scrape()), 3);
    let (failure, remedy) = refused(&Kubelet::start_with(Certificate::Administrators), &[&ca, name]);
    assert!(failure.contains("not trusted"), "another authority of that name: {failure}, {remedy}");
}

#[test]
fn a_handshake_that_fails_says_what_it_met_and_what_to_set() {
    let own = Kubelet::start_with(Certificate::OwnMade);
    let cluster = ca_file(&own, &own.pki.cluster());
    let (failure, remedy) = refused(&own, &[&cluster]);
    assert!(failure.contains("an authority that is not trusted"), "{failure}");
    for part in ["pki/kubelet.crt", "--kubelet-ca-file", "serverTLSBootstrap", "--insecure-skip-tls-verify"] {
        assert!(remedy.contains(part), "{part}: {remedy}");
    }

    let ca = ca_file(&own, &own.pki.kubelet_crt());
    let (failure, remedy) = refused(&own, &[&ca, "--node-name=node-2"]);
    assert!(failure.contains("is for") && failure.contains("node-1"), "{failure}");
    assert!(failure.contains("127.0.0.2 or node-2"), "{failure}");
    assert!(remedy.contains("--kubelet-server-name") && remedy.contains("NODE_NAME"), "{remedy}");

    let expired = Kubelet::start_with(Certificate::OwnMadeExpired);
    let (failure, remedy) = refused(&expired, &[&ca_file(&expired, &expired.pki.kubelet_crt())]);
    assert!(failure.contains("expired") && remedy.contains("restart it"), "{failure}, {remedy}");

    // What a kubelet does whose request for a certificate nobody has approved.
    let none = Kubelet::start_with(Certificate::ClusterSigned);
    none.alert(80);
    let (failure, remedy) = refused(&none, &[&ca_file(&none, &none.pki.cluster())]);
    assert!(failure.contains("no serving certificate yet"), "{failure}");
    assert!(remedy.contains("kubectl certificate approve"), "{remedy}");
}

#[test]
fn a_port_without_tls_is_told_apart() {
    let plain = Kubelet::start();
    let tls = plain.endpoint().replace("http://", "https://");
    let ca = ca_file(&plain, &plain.pki.cluster());
    let exporter = Exporter::start(&[&tls, &ca]);
    exporter.scrape();
    let said = exporter.wait_for_log(FAILED);
    // What it answers to a handshake depends on how much of it it takes for a request.
    assert!(said["error"].as_str().unwrap().starts_with("no "), "{said}");
}

#[test]
fn without_any_authority_nothing_is_asked() {
    let kubelet = Kubelet::start_with(Certificate::ClusterSigned);
    let rootfs = format!("--rootfs={}", kubelet.directory().display());
    let (failure, remedy) = refused(&kubelet, &[&rootfs]);
    assert!(failure.contains("serviceaccount/ca.crt") && failure.contains("pki/kubelet.crt"), "{failure}");
    assert!(remedy.contains("--kubelet-ca-file"), "{remedy}");
}

#[test]
fn no_certificate_is_checked_only_if_that_is_asked_for() {
    for certificate in [Certificate::OwnMade, Certificate::OwnMadeExpired, Certificate::Administrators] {
        let kubelet = Kubelet::start_with(certificate);
        let exporter = asking(&kubelet, &["--insecure-skip-tls-verify"]);
        assert_eq!(sizes(&exporter.scrape()), 3, "{certificate:?}");
        let message = "kubelet_tls_unverified";
        assert_eq!(exporter.wait_for_log(message)["level"], "WARN");
    }
}

#[test]
fn certificates_are_read_anew_like_tokens() {
    let kubelet = Kubelet::start_with(Certificate::ClusterSigned);
    let ca = ca_file(&kubelet, &kubelet.pki.cluster());
    let exporter = asking(&kubelet, &[&ca, "--scrape-interval=1ns"]);
    exporter.scrape_until("the cluster's", |scrape| sizes(scrape) == 3);
    kubelet.show(Certificate::OwnMade);
    exporter.scrape_until("another authority", |scrape| sizes(scrape) == 0);
    ca_file(&kubelet, &kubelet.pki.kubelet_crt());
    exporter.scrape_until("that is trusted now", |scrape| sizes(scrape) == 3);
}

#[test]
fn a_file_without_certificates_is_said_at_start() {
    let kubelet = Kubelet::start();
    let files = [
        ("nothing", "No such file"),
        ("empty", "no certificate in it"),
        ("broken", ""),
        ("garbage", "no certificate in it that can be used"),
    ];
    for (file, expected) in files {
        let block = |text| format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
        match file {
            "empty" => drop(kubelet.write(file, "")),
            "broken" => drop(kubelet.write(file, &block("!"))),
            "garbage" => drop(kubelet.write(file, &block("AAAA"))),
            _ => {}
        }
        let path = kubelet.directory().join(file);
        let output = run(&["metrics", &kubelet.endpoint(), &format!("--kubelet-ca-file={}", path.display())]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        for part in ["--kubelet-ca-file", path.to_str().unwrap(), expected, "as PEM"] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}

#[test]
fn each_situation_of_a_handshake_is_said() {
    let kubelet = Kubelet::start_with(Certificate::OwnMade);
    let ca = ca_file(&kubelet, &kubelet.pki.cluster());
    let exporter = asking(&kubelet, &[&ca, "--scrape-interval=1ns"]);
    exporter.scrape();
    exporter.wait_for_log(FAILED);
    let said = |what: &str| {
        exporter.logged(FAILED).iter().filter(|said| said["error"].as_str().unwrap().contains(what)).count()
    };
    let errors = |scrape: &Exposition| scrape.value("kubelet_volume_stats_scrape_errors_total", &[]).unwrap();
    // It asks for a certificate of the cluster's now, and nobody has approved it: another thing is to be done.
    kubelet.alert(80);
    let before = errors(&exporter.scrape());
    exporter.scrape_until("three more attempts", |scrape| errors(scrape) >= before + 3.0);
    assert_eq!(("not trusted", said("not trusted")), ("not trusted", 1));
    assert_eq!(("no certificate", said("no serving certificate yet")), ("no certificate", 1));
}
