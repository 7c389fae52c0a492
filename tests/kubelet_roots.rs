use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::support::exporter::{Exporter, run};
use crate::support::exposition::Exposition;
use crate::support::fuse::{Behaviour, Fuse, Opcode};
use crate::support::namespace::{Needs, Node, PODS, in_namespace, tmpfs};

const REFUSED: &str = "disk_usage_exporter_refused_kubelet_roots";

fn names(scrape: &Exposition) -> Vec<&str> {
    scrape.label("pv_disk_usage_up", "pv_name")
}

/// A mount that looks like a volume below a kubelet's directory.
fn volume(kubelet: &Path, plugin: &str, name: &str) -> PathBuf {
    let path = kubelet.join(format!("pods/{}/volumes/{plugin}/{name}", PODS[0]));
    fs::create_dir_all(&path).unwrap();
    tmpfs(&path, "size=1m");
    path
}

fn vol_data(name: &str) -> String {
    format!(r#"{{"specVolID": "{name}", "driverName": "d", "volumeHandle": "h"}}"#)
}

/// A directory where others than root can write, as users' are.
fn home(node: &Node) -> PathBuf {
    let home = node.path().join("home");
    fs::create_dir(&home).unwrap();
    fs::set_permissions(&home, Permissions::from_mode(0o757)).unwrap();
    home
}

#[test]
fn kubelet_root_that_users_can_make_is_refused_until_it_is_configured() {
    in_namespace(Needs::Mounts, |node| {
        node.tmpfs_volume("real", "size=1m");
        let home = home(node);
        volume(&home.join("k"), "kubernetes.io~nfs", "invented");
        let exporter = Exporter::start(&["--rootfs=/"]);
        for _ in 0..2 {
            let scrape = exporter.scrape();
            assert_eq!(names(&scrape), ["real"]);
            assert_eq!(scrape.value(REFUSED, &[]), Some(1.0));
        }
        let later = node.tmpfs_volume("later", "size=1m");
        assert_eq!(names(&exporter.scrape()), ["later", "real"], "{}", later.display());
        let logged = exporter.logged("kubelet_root_refused");
        assert_eq!(logged.len(), 1, "{logged:?}");
        assert_eq!(logged[0]["level"], "WARN");
        assert_eq!(logged[0]["root"], "/mnt/home/k");
        assert!(logged[0]["cause"].as_str().unwrap().contains("/mnt/home, whose mode is 0757"), "{logged:?}");
        assert!(logged[0]["message"].as_str().unwrap().contains("--kubelet-root"), "{logged:?}");
        let page = exporter.get("/").text();
        assert!(page.contains("1 kubelet root ignored"), "{page}");

        let named = Exporter::start(&["--rootfs=/", "--kubelet-root=/mnt/home/k"]);
        let scrape = named.scrape();
        assert_eq!(names(&scrape), ["invented"]);
        assert_eq!(scrape.value(REFUSED, &[]), Some(0.0));

        fs::set_permissions(&home, Permissions::from_mode(0o755)).unwrap();
        node.tmpfs_volume("news", "size=1m");
        let scrape = exporter.scrape();
        assert_eq!((names(&scrape).contains(&"invented"), scrape.value(REFUSED, &[])), (true, Some(0.0)));
    });
}

#[test]
fn kubelet_root_may_be_a_link_or_missing() {
    in_namespace(Needs::Mounts, |node| {
        node.tmpfs_volume("pv", "size=1m");
        let csi = volume(&node.kubelet(), "kubernetes.io~csi", "in-path/mount");
        fs::write(csi.with_file_name("vol_data.json"), vol_data("csi-pv")).unwrap();
        symlink("/mnt/kubelet", node.path().join("link")).unwrap();
        let exporter = Exporter::start(&["--rootfs=/", "--kubelet-root=/mnt/link"]);
        let mounts = |scrape: &Exposition| {
            scrape.value("disk_usage_exporter_source_success", &[("source", "mounts")]).unwrap()
        };
        let scrape = exporter.scrape();
        assert_eq!((names(&scrape), mounts(&scrape)), (vec!["csi-pv", "pv"], 1.0));
        assert!(exporter.logged("kubelet_root_missing").is_empty());

        let args = ["--rootfs=/", "--kubelet-root=/mnt/nowhere"];
        let exporter = Exporter::start(&args);
        let scrape = exporter.scrape();
        assert_eq!((names(&scrape), mounts(&scrape)), (vec![], 0.0));
        exporter.scrape();
        let logged = exporter.logged("kubelet_root_missing");
        assert_eq!((logged.len(), &logged[0]["level"]), (1, &"WARN".into()));
        assert_eq!(logged[0]["root"], "/mnt/nowhere");
        let notice = "no directory can be opened at --kubelet-root";
        assert!(exporter.get("/").text().contains(notice));
        let table = run(&["df", args[0], args[1]]);
        let table = String::from_utf8([table.stdout, table.stderr].concat()).unwrap();
        assert!(table.contains(notice), "{table}");
    });
}

/// The row of a table for each of these.
fn table(mountpoints: &[PathBuf]) -> String {
    let row = |(id, path): (usize, &PathBuf)| format!("{id} 1 0:{id} / {} rw - t t rw\n", path.display());
    mountpoints.iter().enumerate().map(row).collect()
}

#[test]
fn file_system_of_a_user_is_not_opened() {
    in_namespace(Needs::Fuse, |node| {
        let (fuse, kubelet) = (Fuse::start(), home(node).join("k"));
        fs::create_dir(&kubelet).unwrap();
        fuse.mount("home", &kubelet, Behaviour::Silent);
        let file = node.path().join("mountinfo");
        let volume = format!("pods/{}/volumes/kubernetes.io~csi/pv/mount", PODS[0]);
        fs::write(&file, table(&[kubelet.join(volume)])).unwrap();
        let exporter = Exporter::start(&["--rootfs=/", &format!("--mount-table={}", file.display())]);
        let scrape = exporter.scrape();
        assert_eq!((names(&scrape), scrape.value(REFUSED, &[])), (vec![], Some(1.0)));
        assert_eq!(fuse.asked()["home"].keys().collect::<Vec<_>>(), [&Opcode::INIT]);
    });
}

#[test]
fn hung_file_is_counted_and_delays_no_other_volume() {
    in_namespace(Needs::Fuse, |node| {
        let busy =
            |scrape: &Exposition| scrape.value("disk_usage_exporter_host_files_busy_seconds", &[]).unwrap();
        let well = node.tmpfs_volume("well", "size=1m");
        let hanging = node.volume(PODS[1], "csi", "hanging");
        let other = volume(&node.path().join("opt/k"), "kubernetes.io~nfs", "other-root");
        let file = node.path().join("mountinfo");
        let rows = [well, hanging.join("mount"), other];
        let fuse = Fuse::start();
        fuse.mount("hanging", &hanging, Behaviour::Silent);
        fs::write(&file, table(&rows[..2])).unwrap();
        let exporter = Exporter::start(&[
            "--rootfs=/",
            &format!("--mount-table={}", file.display()),
            "--stat-timeout=200ms",
        ]);
        let scrape = exporter.scrape_until("busy", |scrape| busy(scrape) > 1.0);
        assert_eq!(scrape.volume("well")["pv_disk_usage_up"], 1.0);
        // Nothing is known of another root as long as the thread that would look at it is busy.
        fs::write(&file, table(&rows)).unwrap();
        assert_eq!(names(&exporter.scrape()), ["hanging", "well"]);
        fuse.set("hanging", Behaviour::Fails(Errno::EIO));
        exporter.scrape_until("idle", |scrape| busy(scrape) == 0.0);
        exporter
            .scrape_until("its root is checked", |scrape| names(scrape) == ["hanging", "other-root", "well"]);
        assert_eq!(exporter.scrape().volume("other-root")["pv_disk_usage_up"], 1.0);
    });
}
