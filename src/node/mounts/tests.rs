use super::*;

fn read_table(
    table: &[u8],
    rootfs: &Rootfs,
    regex: Option<&Regex>,
    own: bool,
    trusted: impl FnOnce(Vec<Vec<u8>>) -> Vec<Vec<u8>>,
) -> TableReading {
    super::read_table(&TableLines::read(table).unwrap(), rootfs, regex, own, trusted)
}

fn with_the_usual(mut found: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    found.push(layout::DEFAULT_KUBELET_ROOT.into());
    found
}

const POD: &str = "var/lib/kubelet/pods/6ad83273-bbc5-4a23-9e8c-d796d288e15a/volumes/kubernetes.io~nfs";

/// The mountpoints found in a table of these mountpoints; `own` as in `read_table`.
fn found(mountpoints: &[String], rootfs: &str, own: bool) -> Vec<String> {
    let rows = mountpoints.iter().enumerate();
    let rows = rows.map(|(id, path)| format!("{id} 0 0:{id} / {path} rw - nfs4 nas:/e rw\n"));
    let table = rows.collect::<Vec<_>>().concat();
    let rootfs = Rootfs::new(rootfs.into());
    let reading = read_table(table.as_bytes(), &rootfs, None, own, with_the_usual);
    reading.mounts.iter().map(|mount| mount.mountpoint.display().to_string()).collect()
}

#[test]
fn a_volume_has_one_host_path_whoever_sees_it() {
    let host = [format!("/{POD}/a")];
    let container = ["/etc/hosts".into(), "/rootfs".into(), format!("/rootfs/{POD}/a")];
    let elsewhere = ["/mnt/node".into(), format!("/mnt/node/{POD}/a")];
    assert_eq!(found(&host, "/", true), host);
    assert_eq!(found(&host, "/rootfs", false), host);
    assert_eq!(found(&container, "/rootfs", true), host);
    assert_eq!(found(&container, "/fixture/rootfs", false), host, "captured in a container");
    assert_eq!(found(&elsewhere, "/mnt/node", true), host);
}

#[test]
fn a_rootfs_may_be_reached_by_links() {
    let directory = tempfile::tempdir().unwrap();
    let real = std::fs::canonicalize(directory.path()).unwrap();
    std::os::unix::fs::symlink(&real, real.join("link")).unwrap();
    let rootfs = format!("{}/../{}/link", real.display(), real.file_name().unwrap().display());
    assert_eq!(found(&[format!("{}/{POD}/a", real.display())], &rootfs, true), [format!("/{POD}/a")]);
}

#[test]
fn what_a_container_has_beside_the_rootfs_is_none_of_the_hosts() {
    let both = [format!("/{POD}/own"), format!("/rootfs/{POD}/a")];
    assert_eq!(found(&both, "/rootfs", true), [format!("/{POD}/a")]);
    assert_eq!(
        found(&both[..1], "/rootfs", true),
        both[..1],
        "no rootfs in the table: it is the host's view"
    );
}

#[test]
fn a_host_may_have_a_mount_named_rootfs() {
    let host = [format!("/{POD}/a"), "/rootfs".into(), "/rootfs/data".into()];
    assert_eq!(found(&host, "/", false), host[..1]);
    assert_eq!(found(&host, "/", true), host[..1]);
}

#[test]
fn the_later_of_two_rows_on_one_path_counts() {
    let table = format!("7 0 0:7 / /{POD}/a rw - nfs4 nas:/e rw\n9 7 0:9 / /{POD}/a rw - nfs4 nas:/e rw\n");
    let rootfs = Rootfs::new("/".into());
    let reading = read_table(table.as_bytes(), &rootfs, None, true, with_the_usual);
    let ids: Vec<_> = reading.mounts.iter().map(|mount| mount.id).collect();
    assert_eq!((ids, reading.status.rows), (vec![Some(9)], 2));
    // A mount that was moved here keeps its place in the table.
    let moved = format!("7 9 0:7 / /{POD}/a rw - nfs4 nas:/e rw\n9 1 0:9 / /{POD}/a rw - nfs4 nas:/e rw\n");
    let reading = read_table(moved.as_bytes(), &rootfs, None, true, with_the_usual);
    assert_eq!(reading.mounts[0].id, Some(7));
    // In whichever order the rows of a stack are, and a file may have rows that are mounted on each other.
    for (parents, topmost) in [([9, 1, 8], 7), ([1, 7, 8], 9), ([8, 7, 1], 9), ([9, 7, 9], 8), ([7, 8, 9], 9)]
    {
        let rows =
            (7..).zip(parents).map(|(id, on)| format!("{id} {on} 0:{id} / /{POD}/a rw - nfs4 nas:/e rw\n"));
        let reading = read_table(rows.collect::<String>().as_bytes(), &rootfs, None, true, with_the_usual);
        let ids: Vec<_> = reading.mounts.iter().map(|mount| mount.id).collect();
        assert_eq!(ids, [Some(topmost)], "{parents:?}");
    }
}

// A container's subPath whose directory another container of the pod moved into deep ones.
#[test]
fn a_long_root_costs_no_other_volume() {
    let long = "/\\040".repeat(1 << 20);
    let table = format!(
        "7 0 0:7 / /{POD}/a rw - nfs4 nas:/e rw\n8 0 0:8 {long} /{POD}/b rw - nfs4 nas:/e rw\n\
         9 0 0:9 / /{POD}/c rw - nfs4 nas:/e rw\n"
    );
    let reading = read_table(table.as_bytes(), &Rootfs::new("/".into()), None, true, with_the_usual);
    let ids: Vec<_> = reading.mounts.iter().map(|mount| mount.id).collect();
    assert_eq!(ids, [Some(7), Some(9)]);
    assert_eq!((reading.status.rows, reading.status.malformed), (2, 1));
}

#[test]
fn propagation_is_that_of_the_rows_that_hold_the_kubelets_roots() {
    let told = |table: &str, rootfs: &str, own| {
        let rootfs = Rootfs::new(rootfs.into());
        read_table(table.as_bytes(), &rootfs, None, own, with_the_usual).status.propagation
    };
    let slave = "1 0 0:1 / / rw - overlay o rw\n2 1 0:2 / /rootfs rw master:1 - ext4 /dev/sda rw\n";
    assert_eq!(told(slave, "/rootfs", true), Some(true));
    assert_eq!(told(&slave.replace(" master:1", ""), "/rootfs", true), Some(false));
    let below = format!("{slave}3 2 0:3 / /rootfs/var/lib/kubelet rw - ext4 /dev/sdb rw\n");
    assert_eq!(told(&below, "/rootfs", true), Some(false), "the row next to the kubelet's root");
    assert_eq!(told(slave, "/rootfs", false), None, "of another process's table nothing is known");
    let host = "1 0 0:1 / / rw - ext4 /dev/sda rw\n2 1 0:2 / /var/lib/kubelet rw - ext4 /dev/sdb rw\n";
    assert_eq!(told(host, "/", true), None, "on the host itself there is nothing to propagate");
}

#[test]
fn a_read_only_superblock_is_told_from_a_read_only_mount_where_the_table_does() {
    let read_only = |row: &str| {
        let rootfs = Rootfs::new("/".into());
        let reading = read_table(row.as_bytes(), &rootfs, None, false, with_the_usual);
        (reading.mounts[0].read_only, reading.mounts[0].superblock_read_only)
    };
    let mountinfo = |options: &str, of_superblock: &str| {
        read_only(&format!("7 0 0:7 / /{POD}/a {options} - ext4 /dev/sda {of_superblock}\n"))
    };
    assert_eq!(mountinfo("rw", "rw"), (Some(false), Some(false)));
    assert_eq!(mountinfo("ro,relatime", "rw"), (Some(true), Some(false)));
    assert_eq!(mountinfo("rw master:1", "rw"), (None, Some(false)), "a copy");
    assert_eq!(mountinfo("ro shared:2 master:1", "rw"), (Some(true), Some(false)));
    for of_superblock in ["ro", "rw,emergency_ro", "rw,shutdown"] {
        assert_eq!(mountinfo("rw", of_superblock), (Some(false), Some(true)), "{of_superblock}");
    }
    let mounts = |options: &str| read_only(&format!("/dev/sda /{POD}/a ext4 {options} 0 0\n"));
    assert_eq!(mounts("rw"), (Some(false), Some(false)));
    assert_eq!(mounts("ro"), (Some(true), None), "of the mount or of the superblock");
    assert_eq!(mounts("ro,emergency_ro"), (Some(true), Some(true)));
}

#[test]
fn a_mount_has_the_flags_of_the_same_one_of_the_host() {
    let read = |rows: &[(&str, &str)]| {
        let rows = rows.iter().map(|(row, options)| {
            let (id, storage) = row.split_once(' ').unwrap();
            format!("{id} 0 {storage} /{POD}/a {options} - nfs4 nas:/e rw\n")
        });
        let table: String = rows.collect();
        read_table(table.as_bytes(), &Rootfs::new("/".into()), None, true, with_the_usual).mounts
    };
    let read_only = |here: &str, host: &[(&str, &str)]| {
        let mut mounts = read(&[("7 0:7 /", here)]);
        take_flags_of_host(&mut mounts, &read(host));
        (mounts[0].read_only, mounts[0].is_read_only_here)
    };
    assert_eq!(read_only("rw master:1", &[("90 0:7 /", "ro shared:1")]), (Some(true), false));
    assert_eq!(read_only("rw master:1", &[("90 0:7 /", "rw shared:1")]), (Some(false), false));
    assert_eq!(read_only("ro master:1", &[("90 0:7 /", "rw shared:1")]), (Some(false), true));
    assert_eq!(read_only("rw", &[("90 0:7 /", "ro")]), (Some(true), false));
    for other in ["90 0:8 /", "90 0:7 /sub"] {
        assert_eq!(read_only("rw master:1", &[(other, "ro shared:1")]), (None, false), "{other}");
        assert_eq!(read_only("rw", &[(other, "ro")]), (Some(false), false), "{other}");
    }
    assert_eq!(
        read_only("rw master:1", &[("90 0:7 /", "rw"), ("91 0:8 /", "ro")]),
        (None, false),
        "the topmost"
    );
}
