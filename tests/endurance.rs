use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::yield_now;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use serde_json::json;

use crate::real_mounts::assert_as_the_kernel_says;
use crate::support::exporter::Exporter;
use crate::support::exposition::Exposition;
use crate::support::namespace::{Needs, Node, in_namespace, tmpfs};
use crate::support::objects::bound_volume;
use crate::support::resources::Resources;
use crate::support::{env_number, http};

/// After so many scrapes everything that is kept has been there once.
const FIRST: usize = 200;
/// After each so many the program is checked.
const ROUND: usize = 100;
/// Of so many scrapes two are parsed, one of each encoding.
const SAMPLE: usize = 20;
/// Scrapes, where the environment gives no number: 10,000 take a debug build some minutes.
const SCRAPES: usize = 400;
/// How much more may be in use at the end: anonymous memory, resident memory, and the peak, which depends on what came
/// together. The allocator alone makes up to 600 in the first thousand scrapes and no more after: a leak of 100 bytes
/// a scrape makes 1,000 more in 10,000.
const MAX_GROWTH_KIB: [u64; 3] = [900, 900, 2 << 10];

#[test]
fn scrapes_of_a_restless_node_leave_nothing_behind() {
    in_namespace(Needs::Mounts, |node| {
        let scrapes = env_number("DISK_USAGE_EXPORTER_TEST_SCRAPES", SCRAPES);
        let mut restless = Restless::new(node, 0x9274);
        let objects = format!("--objects={}", restless.objects_path().display());
        // With several arenas the allocator grows by up to 1 MiB, which looks like a leak.
        let exporter = Exporter::start_with_env(&[("MALLOC_ARENA_MAX", "1")], &["--rootfs=/", &objects]);
        scrape_while_it_acts(&exporter, &mut restless, FIRST);
        let first = at_the_beginning_again(&exporter, &mut restless);
        println!("after {FIRST} scrapes: {first}");
        for round in 1..=scrapes.div_ceil(ROUND) {
            scrape_while_it_acts(&exporter, &mut restless, ROUND);
            check(&exporter, &restless);
            if round % 10 == 0 {
                println!("after {} scrapes: {}", round * ROUND, Resources::of(exporter.pid()));
            }
        }
        let last = at_the_beginning_again(&exporter, &mut restless);
        println!("at the end: {last}; the node changed {} times", restless.acts);
        let last = first.wait_until_back(exporter.pid());
        let [first_kib, last_kib] = [first, last].map(|held| [held.anonymous, held.resident, held.peak]);
        let is_bounded = |kind: usize| last_kib[kind] <= first_kib[kind] + MAX_GROWTH_KIB[kind];
        assert!((0..3).all(is_bounded), "from {first} to {last}");
    });
}

/// So many scrapes, two at a time, each of which must be whole; meanwhile another thread changes the node, once a
/// collection or so.
fn scrape_while_it_acts(exporter: &Exporter, restless: &mut Restless<'_>, scrapes: usize) {
    let (go_on, scrape_begins) = mpsc::sync_channel(1);
    let address = exporter.address;
    std::thread::scope(|scope| {
        scope.spawn(move || scrape_begins.iter().for_each(|()| restless.act()));
        for scrape in (0..scrapes).step_by(2) {
            go_on.send(()).unwrap();
            let get = move |coding: &[_]| http::get(address, "/metrics", coding);
            let gzip = std::thread::spawn(move || get(&[("Accept-Encoding", "gzip")]));
            for response in [get(&[]), gzip.join().unwrap()] {
                assert_eq!(response.status, 200, "{}", response.text());
                let length = response.header("content-length").unwrap().parse();
                assert_eq!(length, Ok(response.body.len()));
                if scrape % SAMPLE < 2 {
                    Exposition::parse(&response.text());
                }
            }
        }
        drop(go_on);
    });
}

/// What the program holds when the node is as it was in the beginning, and the program knows it.
fn at_the_beginning_again(exporter: &Exporter, restless: &mut Restless<'_>) -> Resources {
    restless.settle();
    check(exporter, restless);
    (0..10).for_each(|_| drop(exporter.scrape()));
    Resources::at_rest(exporter.pid())
}

/// While nothing changes, the scrape shows what is mounted, with claims of one file of objects, and nothing else.
fn check(exporter: &Exporter, restless: &Restless<'_>) {
    let volumes = restless.volumes();
    assert_as_the_kernel_says(&exporter.scrape(), &volumes);
    // The file of objects is read beside the scrape: a large one, on a busy machine, is used from the next one on.
    exporter.scrape_until("the objects of the file", |scrape| {
        let claims = scrape.label("pv_disk_usage_up", "pvc_name");
        let versions: BTreeSet<_> = claims.iter().map(|claim| claim.split('-').nth(1).unwrap()).collect();
        assert!(versions.len() <= 1, "claims of several files: {versions:?}");
        let success = scrape.value("disk_usage_exporter_source_success", &[("source", "objects")]);
        match restless.objects.map(|version| version.to_string()) {
            None => success == Some(0.0),
            Some(version) => {
                let is_shown = volumes.is_empty() || versions.contains(&*version);
                success == Some(1.0) && is_shown
            }
        }
    });
}

/// Volumes that may be there.
const VOLUMES: usize = 12;

/// A node, and what is true of it while nothing acts on it.
struct Restless<'a> {
    node: &'a Node,
    random: u64,
    /// Which volumes are mounted.
    mounted: [bool; VOLUMES],
    /// The number in the names of claims in the file of objects; `None` where it cannot be read as one.
    objects: Option<u32>,
    acts: u32,
}

impl<'a> Restless<'a> {
    /// All volumes mounted, all objects known.
    fn new(node: &'a Node, seed: u64) -> Self {
        let mut new = Self { node, random: seed, mounted: [false; VOLUMES], objects: None, acts: 0 };
        new.settle();
        new
    }

    /// Goes back to the state of the beginning.
    fn settle(&mut self) {
        for volume in (0..VOLUMES).filter(|volume| !self.mounted[*volume]).collect::<Vec<_>>() {
            self.mount(volume);
        }
        self.replace_objects();
    }

    /// The file of objects.
    fn objects_path(&self) -> PathBuf {
        self.node.path().join("objects.json")
    }

    /// The volumes that must be exposed, and where each is mounted.
    fn volumes(&self) -> BTreeMap<String, PathBuf> {
        let shown = (0..VOLUMES).filter(|volume| self.mounted[*volume] && !is_inline(*volume));
        shown.map(|volume| (name(volume), self.mountpoint(volume))).collect()
    }

    /// Does something that happens on nodes.
    fn act(&mut self) {
        self.acts += 1;
        let volume = self.pick(VOLUMES);
        let mountpoint = self.mountpoint(volume);
        match self.pick(20) {
            0 => self.replace_objects(),
            // Half a file, as a reader may see one that is written in place.
            1 => {
                let text = objects(self.acts);
                fs::write(self.objects_path(), &text[..self.pick(text.len())]).unwrap();
                self.objects = None;
            }
            2 => {
                let _ = fs::remove_file(self.objects_path());
                self.objects = None;
            }
            3 if self.mounted[volume] => {
                // A mount over a mount, for a moment.
                tmpfs(&mountpoint, "size=2m");
                yield_now();
                unmount(&mountpoint);
            }
            4 if self.mounted[volume] => {
                fs::write(mountpoint.join("file"), vec![1; self.pick(1 << 18)]).unwrap();
            }
            _ if self.mounted[volume] => self.unmount(volume),
            _ => self.mount(volume),
        }
    }

    fn pick(&mut self, end: usize) -> usize {
        random_below(&mut self.random, end)
    }

    fn mountpoint(&self, volume: usize) -> PathBuf {
        self.node.volume(&pod(volume), "csi", &name(volume)).join("mount")
    }

    /// As the kubelet does it, but `vol_data.json` comes late and in pieces now and then.
    fn mount(&mut self, volume: usize) {
        let (mountpoint, vol_data) = (self.mountpoint(volume), vol_data(volume));
        fs::create_dir_all(&mountpoint).unwrap();
        let (early, path) = (self.pick(vol_data.len() + 1), mountpoint.with_file_name("vol_data.json"));
        if early > 0 {
            fs::write(&path, &vol_data[..early]).unwrap();
        }
        tmpfs(&mountpoint, "size=1m");
        yield_now();
        fs::write(&path, vol_data).unwrap();
        self.mounted[volume] = true;
    }

    /// `vol_data.json` goes first and the pod's directory last, so that there are mounts without it.
    fn unmount(&mut self, volume: usize) {
        let mountpoint = self.mountpoint(volume);
        let _ = fs::remove_file(mountpoint.with_file_name("vol_data.json"));
        unmount(&mountpoint);
        fs::remove_dir_all(self.node.kubelet().join("pods").join(pod(volume))).unwrap();
        self.mounted[volume] = false;
    }

    fn replace_objects(&mut self) {
        let new = self.node.path().join("objects.new");
        fs::write(&new, objects(self.acts)).unwrap();
        fs::rename(new, self.objects_path()).unwrap();
        self.objects = Some(self.acts);
    }
}

/// A pseudorandom number.
pub(crate) fn random_below(state: &mut u64, end: usize) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*state >> 33).unwrap() % end
}

/// Waits while the volume is being measured, and so busy.
pub(crate) fn unmount(path: &Path) {
    while let Err(error) = umount2(path, MntFlags::empty()) {
        assert_eq!(error, Errno::EBUSY, "{}", path.display());
        yield_now();
    }
}

/// One of six is a pod's own: it has no `PersistentVolume`.
fn is_inline(volume: usize) -> bool {
    volume % 6 == 2
}

fn name(volume: usize) -> String {
    format!("pv-{volume:02}")
}

fn pod(volume: usize) -> String {
    format!("6ad83273-bbc5-4a23-9e8c-{volume:012}")
}

fn vol_data(volume: usize) -> String {
    let mode = if is_inline(volume) { "Ephemeral" } else { "Persistent" };
    json!({"driverName": "d", "volumeHandle": format!("handle-{volume}"), "specVolID": name(volume),
        "volumeLifecycleMode": mode})
    .to_string()
}

/// The claims' names carry the version.
fn objects(version: u32) -> String {
    let items = (0..VOLUMES).filter(|volume| !is_inline(*volume)).flat_map(|volume| {
        let source = json!({"csi": {"driver": "d", "volumeHandle": format!("handle-{volume}")}});
        bound_volume(&name(volume), source, &format!("claim-{version}-{volume}"), &pod(volume))
    });
    json!({"kind": "List", "items": items.collect::<Vec<_>>()}).to_string()
}
