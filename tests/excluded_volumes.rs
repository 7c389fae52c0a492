use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::cluster::{Cluster, volumes};
use crate::support::exporter::{Exporter, run};
use crate::support::exposition::Exposition;
use crate::support::fixture::{Fixture, POD, answering};
use crate::support::fuse::{Behaviour, Fuse, Opcode};
use crate::support::kubelet::{Kubelet, SUMMARY, claims, recorded_summary};
use crate::support::namespace::{Needs, PODS, in_namespace};
use crate::support::objects::{bound_volume, nfs, write_objects};
use crate::support::subject::{FEW_THREADS, Subject, healthy, states};

const NOTICE: &str =
    "not measured: excluded by --fs-types-exclude, --storage-classes-exclude or --namespaces-exclude";

/// The volumes that have any series of theirs.
fn shown(scrape: &Exposition) -> Vec<&str> {
    let shown = scrape.label("pv_disk_usage_up", "pv_name");
    for family in ["pv_disk_usage_volume_info", "pv_disk_usage_mount_info", "pv_disk_usage_bytes_total"] {
        assert_eq!(scrape.label(family, "pv_name"), shown, "{family}");
    }
    assert_eq!(scrape.all("pv_disk_usage_error", &[]), []);
    shown
}

/// Names and notices of `df`.
fn df(args: &[&str]) -> (Vec<String>, String) {
    let output = run(&[args, &["df", "-o=json"]].concat());
    assert!(output.status.success(), "{output:?}");
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let name = |row: &Value| row["volume"].as_str().or(row["claim"].as_str()).unwrap().to_owned();
    let mut names: Vec<String> = rows.iter().map(name).collect();
    names.sort();
    (names, String::from_utf8(output.stderr).unwrap())
}

#[test]
fn mounts_of_an_excluded_type_are_never_asked_and_do_not_count_as_hung() {
    in_namespace(Needs::Fuse, |node| {
        node.tmpfs_volume("kept", "size=1m");
        let fuse = [("silent", Behaviour::Silent), ("deaf", Behaviour::Deaf), ("well", healthy())];
        let fuse = fuse.map(|(name, behaviour)| (name.to_owned(), behaviour));
        let subject = Subject::start(node, &fuse, &["--fs-types-exclude=nfs4,fus*", "--stat-timeout=1h"]);
        for _ in 0..3 {
            let scrape = subject.exporter.scrape_within(60.0);
            assert_eq!(shown(&scrape), ["kept"]);
            assert_eq!((states(&scrape), volumes(&scrape, "excluded")), ([1.0, 0.0, 0.0, 0.0], 3.0));
        }
        subject.exporter.wait_for_threads(FEW_THREADS);
        let page = subject.exporter.get("/").text();
        assert!(page.contains(&format!("3 volumes {NOTICE}")) && !page.contains("deaf"), "{page}");
        for (name, asked) in subject.fuse.asked() {
            assert_eq!(asked.into_keys().collect::<Vec<_>>(), [Opcode::INIT], "{name}");
        }
        assert_eq!(subject.exporter.logged("volume_failed").len(), 0);
        let (names, notices) = df(&["--rootfs=/", "--fs-types-exclude=fuse"]);
        assert_eq!(names, ["kept"]);
        assert!(notices.contains(&format!("3 volumes {NOTICE}")), "{notices}");
    });
}

#[test]
fn tmpfs_is_excluded_by_a_variable_and_a_type_is_no_part_of_another() {
    in_namespace(Needs::Mounts, |node| {
        node.tmpfs_volume("pv-1", "size=1m");
        let scrape = |list| {
            let env = [("DISK_USAGE_EXPORTER_FS_TYPES_EXCLUDE", list)];
            let scrape = Exporter::start_with_env(&env, &["--rootfs=/"]).scrape();
            (shown(&scrape).len(), volumes(&scrape, "measured"), volumes(&scrape, "excluded"))
        };
        for list in ["", "tmp", "devtmpfs,TMPFS,mpfs*"] {
            assert_eq!(scrape(list), (1, 1.0, 0.0), "{list}");
        }
        for list in ["tmpfs", "ext4, tmp*", "*"] {
            assert_eq!(scrape(list), (0, 0.0, 1.0), "{list}");
        }
        // Without the API server nothing tells these, and the log says so.
        let exporter =
            Exporter::start(&["--rootfs=/", "--storage-classes-exclude=*", "--namespaces-exclude=*"]);
        assert_eq!((shown(&exporter.scrape()).len(), exporter.logged("exclusions_unknown").len()), (1, 1));
    });
}

/// A volume of this class with a claim of its name in this namespace.
fn bound(name: &str, class: Option<&str>, namespace: &str) -> [Value; 2] {
    let [mut pv, mut claim, _] = bound_volume(name, nfs(name), name, "");
    pv["spec"]["storageClassName"] = json!(class);
    pv["spec"]["claimRef"]["namespace"] = json!(namespace);
    claim["metadata"]["namespace"] = json!(namespace);
    [pv, claim]
}

fn pod(namespace: &str, uid: &str) -> Value {
    json!({"kind": "Pod", "metadata": {"namespace": namespace, "name": "p", "uid": uid}, "spec": {}})
}

#[test]
fn volumes_are_excluded_by_class_and_namespace_as_soon_as_these_are_known() {
    in_namespace(Needs::Fuse, |node| {
        let fuse = Fuse::start();
        for name in ["by-class", "by-claim", "kept", "no-class", "unknown"] {
            fuse.mount(name, &node.volume(PODS[0], "nfs", name), healthy());
        }
        // Of this one only the pod is known.
        fuse.mount("by-pod", &node.volume(PODS[1], "nfs", "by-pod"), healthy());
        let objects = |dev: &str| {
            let bound = [
                bound("by-class", Some("scratch-ssd"), "shop"),
                bound("by-claim", Some("standard"), dev),
                bound("kept", Some("standard"), "shop"),
                bound("no-class", None, "shop"),
            ];
            write_objects(node, &[&bound.concat()[..], &[pod(dev, PODS[1])]].concat())
        };
        let flags =
            ["--rootfs=/", "--storage-classes-exclude=scratch*", "--namespaces-exclude=kube-system,dev-*"];
        let file = objects("dev-1");
        let args = [&flags[..], &[&*file]].concat();
        let exporter = Exporter::start(&[&args[..], &["--kubelet-volume-stats=all"]].concat());
        let scrape = exporter.scrape();
        assert_eq!(exporter.logged("exclusions_unknown").len(), 0);
        assert_eq!(shown(&scrape), ["kept", "no-class", "unknown"], "what is not known is measured");
        assert_eq!(claims(&scrape), ["kept", "no-class"]);
        assert_eq!((volumes(&scrape, "measured"), volumes(&scrape, "excluded")), (3.0, 3.0));
        let asked = |fuse: &Fuse| -> Vec<String> {
            let asked = fuse.asked().into_iter();
            asked.filter(|(_, asked)| asked.contains_key(&Opcode::STATFS)).map(|(name, _)| name).collect()
        };
        assert_eq!(asked(&fuse), ["kept", "no-class", "unknown"]);
        let (names, notices) = df(&args);
        assert_eq!(names, ["kept", "no-class", "unknown"]);
        assert!(notices.contains(&format!("3 volumes {NOTICE}")), "{notices}");
        assert_eq!(scrape.value("disk_usage_exporter_ambiguous_volumes", &[]), Some(0.0));
        // Objects change, and so does what they exclude.
        objects("test");
        exporter.scrape_until("two more volumes", |scrape| {
            shown(scrape).len() == 5 && volumes(scrape, "excluded") == 1.0
        });
    });
}

#[test]
fn a_hung_volume_is_no_failure_any_more_once_its_exclusion_is_known() {
    in_namespace(Needs::Fuse, |node| {
        let file = write_objects(node, &bound("other", Some("scratch"), "shop"));
        let args = [&*file, "--storage-classes-exclude=scratch", "--stat-timeout=200ms"];
        let subject = Subject::start(node, &[("pv".to_owned(), Behaviour::Silent)], &args);
        let scrape = subject.exporter.scrape();
        assert_eq!((states(&scrape), volumes(&scrape, "excluded")), ([0.0, 0.0, 1.0, 0.0], 0.0));
        write_objects(node, &bound("pv", Some("scratch"), "shop"));
        let scrape = subject.exporter.scrape_until("its class", |scrape| volumes(scrape, "excluded") == 1.0);
        assert_eq!((shown(&scrape).len(), states(&scrape)), (0, [0.0; 4]));
        subject.exporter.wait_for_log("failing_volume_unmounted");
    });
}

#[test]
fn volumes_of_an_excluded_namespace_are_pending_until_the_api_server_tells_it() {
    let cluster = Cluster::of(&["pv-a", "pv-b"]);
    let exporter = cluster.start(&["--namespaces-exclude=shop"]);
    let scrape = exporter.scrape_until("their exclusion", |scrape| {
        assert_eq!(shown(scrape), [""; 0]);
        assert_eq!(volumes(scrape, "pending") + volumes(scrape, "excluded"), 2.0);
        volumes(scrape, "excluded") == 2.0
    });
    assert_eq!(scrape.value("disk_usage_exporter_source_success", &[("source", "pods")]), Some(1.0));
    exporter.wait_until_ready();
}

#[test]
fn claims_of_excluded_namespaces_are_left_out_of_what_the_kubelet_tells() {
    let kubelet = Kubelet::start();
    let now = Timestamp::now();
    let old = now - Duration::from_mins(20);
    let mut summary = recorded_summary(&[("data", now, json!(7)), ("hung", old, json!(7))]);
    let pods = summary["pods"].as_array_mut().unwrap();
    for pod in pods.iter_mut().rev().take(2) {
        pod["volume"][0]["pvcRef"]["namespace"] = json!("dev-1");
    }
    kubelet.set_summary(&summary);
    let exporter = |more: &[&str]| Exporter::start(&[&[&*kubelet.endpoint()], more].concat());
    let told = |scrape: &Exposition| {
        let excluded = scrape.value("disk_usage_exporter_volumes", &[("state", "excluded")]);
        let stale = scrape.value("disk_usage_exporter_stale_kubelet_volumes", &[]).unwrap();
        let mut claims = claims(scrape);
        claims.sort_unstable();
        claims.dedup();
        (claims.join(" "), stale, excluded)
    };
    let recorded = "csi-block csi-fs local-claim";
    let expected = |claims: &str, stale, excluded| (claims.to_owned(), stale, excluded);
    let all = "csi-block csi-fs data local-claim";
    assert_eq!(told(&exporter(&[]).scrape()), expected(all, 1.0, None));
    assert_eq!(told(&exporter(&["--namespaces-exclude=dev"]).scrape()), expected(all, 1.0, None));
    for args in [
        &["--namespaces-exclude=de*"][..],
        &["--namespaces-exclude=x,dev-1", "--kubelet-volume-stats-labels=pod"],
    ] {
        assert_eq!(told(&exporter(args).scrape()), expected(recorded, 0.0, Some(2.0)), "{args:?}");
    }
    let (names, notices) = df(&[&kubelet.endpoint(), "--namespaces-exclude=dev-1"]);
    assert_eq!(names.join(" "), recorded);
    assert!(notices.contains(&format!("2 volumes {NOTICE}")), "{notices}");
    assert!(kubelet.requests().iter().all(|(path, _)| path == SUMMARY));
}

#[test]
fn excluded_mounts_are_not_filled_in_from_the_kubelet() {
    let kubelet = Kubelet::start();
    let now = Timestamp::now();
    let reported = ["by-class", "by-type", "kept", "elsewhere"].map(|claim| (claim, now, json!(7)));
    kubelet.set_summary(&recorded_summary(&reported));
    let mut node = Fixture::new();
    for name in ["by-class", "kept"] {
        node.mount(name, answering());
    }
    node.mount_csi("by-type", POD);
    node.write();
    let directory = node.path();
    let mut objects =
        [bound("by-class", Some("scratch"), "shop"), bound("kept", Some("standard"), "shop")].concat();
    let [mut by_type, claim] = bound("by-type", None, "shop");
    by_type["spec"]["csi"] = json!({"driver": "d", "volumeHandle": "h"});
    by_type["spec"].as_object_mut().unwrap().remove("nfs");
    objects.extend([by_type, claim]);
    node.set_objects(&json!({"items": objects}));
    let args = [
        "--sources=mounts,kubelet".to_owned(),
        kubelet.endpoint(),
        "--rootfs=/".into(),
        format!("--mount-table={}/mountinfo", directory.display()),
        format!("--objects={}/objects.json", directory.display()),
    ];
    let claims_of = |more: &[&str]| {
        let args: Vec<&str> = args.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let scrape = Exporter::start(&args)
            .scrape_until("the kubelet's answer", |scrape| claims(scrape).contains(&"elsewhere"));
        let ours =
            claims(&scrape).into_iter().filter(|claim| reported.iter().any(|(name, ..)| name == claim));
        (ours.collect::<Vec<_>>().join(" "), volumes(&scrape, "excluded"))
    };
    // None of these mounts is there: the kubelet stands in for none that is in the table.
    assert_eq!(claims_of(&[]), ("elsewhere".to_owned(), 0.0));
    let excluded = ["--storage-classes-exclude=scratch", "--fs-types-exclude=ext4"];
    assert_eq!(claims_of(&excluded), ("elsewhere".to_owned(), 2.0));
}
