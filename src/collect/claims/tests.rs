use super::*;
use crate::volume::samples::{mount, volume};
use crate::volume::{BoundClaim, CsiVolume, Lookup, Pod, ProbeResult, Reason, Usage};

const KUBELET: KubeletSeriesOptions = KubeletSeriesOptions { only_missing_after: None, per_pod: false };
const PER_POD: KubeletSeriesOptions = KubeletSeriesOptions { only_missing_after: None, per_pod: true };
const MAX_AGE: Duration = Duration::from_mins(10);
const MEASURED: ProbeResult = Ok(Measurement::Filesystem(Usage {
    total: 100,
    used: Some(60),
    available: Some(30),
    inodes: None,
    read_only: false,
}));

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)
}

fn key(name: &str) -> Arc<ClaimKey> {
    Arc::new(ClaimKey { namespace: "shop".into(), name: name.into() })
}

/// A volume of a claim, or of an unknown one, mounted by pods that are named by their uids.
fn table_volume(
    pv_name: &str,
    claim: Option<&str>,
    pods: &[(&str, Option<&str>)],
    answer: ProbeResult,
) -> MeasuredVolume {
    let mounts = pods.iter().map(|(uid, _)| Arc::new(mount(pv_name, "nfs", uid))).collect();
    let named = |name: &str| Arc::new(Pod { namespace: "shop".into(), name: name.into(), ..Pod::default() });
    let mut volume = volume(mounts);
    volume.claim = BoundClaim { key: claim.map(key), object: None };
    for (of, (_, name)) in volume.mounts.iter_mut().zip(pods) {
        of.pod = name.map(named);
    }
    MeasuredVolume::new(Arc::new(volume), vec![answer; pods.len()])
}

fn bound(mut status: MeasuredVolume) -> MeasuredVolume {
    let volume = Arc::make_mut(&mut status.volume);
    volume.claim.object = Some(Lookup::Found(Arc::default()));
    status
}

fn failed() -> ProbeResult {
    Err(Reason::Timeout.into())
}

/// What the kubelet says of a claim in a pod, measured so many seconds ago.
fn reported(claim: &str, pod: &str, seconds: u64, capacity: u128) -> ReportedVolume {
    ReportedVolume {
        claim: key(claim),
        pod: pod.into(),
        pod_uid: format!("uid-of-{pod}").as_str().into(),
        measured: Some(now() - Duration::from_secs(seconds)),
        stats: Some(Measurement::Block { size: capacity }),
        abnormal: None,
    }
}

struct World {
    volumes: Vec<MeasuredVolume>,
    left_out: HashSet<String>,
    reported: Vec<ReportedVolume>,
    exposed: Option<ExposedClaims>,
    settling: HashSet<Arc<ClaimKey>>,
}

impl World {
    fn new(volumes: Vec<MeasuredVolume>, reported: Vec<ReportedVolume>) -> Self {
        Self { volumes, left_out: HashSet::new(), reported, exposed: None, settling: HashSet::new() }
    }

    /// Claim, pod and capacity of each series.
    fn series(&self, names: KubeletSeriesOptions) -> Vec<(String, Option<String>, Option<u128>)> {
        let found = claim_stats(names, self.figures(), now()).into_iter();
        found
            .map(|c| (c.claim.name.clone(), c.pod.map(|pod| pod.to_string()), c.stats.map(Measurement::size)))
            .collect()
    }

    fn figures(&self) -> ClaimStatsInputs<'_> {
        ClaimStatsInputs {
            volumes: &self.volumes,
            left_out_pods: &self.left_out,
            reported: &self.reported,
            max_age: MAX_AGE,
            exposed: self.exposed.as_ref(),
            settling: &self.settling,
        }
    }

    fn brief(&self) -> Vec<(String, Option<u128>)> {
        self.series(KUBELET).into_iter().map(|(claim, _, capacity)| (claim, capacity)).collect()
    }
}

fn brief(expected: &[(&str, u128)]) -> Vec<(String, Option<u128>)> {
    expected.iter().map(|(claim, capacity)| ((*claim).to_owned(), Some(*capacity))).collect()
}

#[test]
fn a_claim_has_one_series_or_one_a_pod() {
    let pods = [("1", Some("web-0")), ("2", None), ("3", Some("web-1"))];
    let world = World::new(
        vec![
            table_volume("pv-b", Some("b"), &pods, MEASURED),
            table_volume("pv-a", Some("a"), &pods[1..2], MEASURED),
            table_volume("unknown", None, &pods, MEASURED),
        ],
        vec![],
    );
    let series = |claim: &str, pod: Option<&str>| (claim.to_owned(), pod.map(str::to_owned), Some(100));
    assert_eq!(world.series(KUBELET), [series("a", None), series("b", None)]);
    assert_eq!(world.series(PER_POD), [series("b", Some("web-0")), series("b", Some("web-1"))]);
}

#[test]
fn measured_figures_win_and_the_kubelets_fill_what_the_table_has_not() {
    let pods = [("uid-of-web-0", Some("web-0"))];
    let world = World::new(
        vec![table_volume("pv-a", Some("a"), &pods, MEASURED)],
        vec![reported("a", "web-0", 1, 7), reported("b", "web-0", 1, 8), reported("a", "web-1", 1, 9)],
    );
    assert_eq!(world.brief(), brief(&[("a", 100), ("b", 8)]));
    // Of a pod that the table does not show only the kubelet knows; its volume is measured, so it is not frozen.
    let series = |claim: &str, pod: &str, capacity| (claim.to_owned(), Some(pod.to_owned()), Some(capacity));
    assert_eq!(
        world.series(PER_POD),
        [series("a", "web-0", 100), series("a", "web-1", 9), series("b", "web-0", 8)]
    );
}

#[test]
fn what_the_table_has_and_cannot_measure_is_never_filled() {
    let pods = [("uid-of-web-0", None)];
    let elsewhere = reported("c", "web-1", 1, 9);
    let both = || vec![reported("a", "web-0", 1, 7), reported("b", "web-0", 1, 8), elsewhere.clone()];
    let known = World::new(vec![table_volume("pv-a", Some("a"), &pods, failed())], both());
    assert_eq!(known.brief(), brief(&[("b", 8), ("c", 9)]));
    // Which of the pod's claims it is cannot be told.
    let unknown = World::new(vec![table_volume("pv-a", None, &pods, failed())], both());
    assert_eq!(unknown.brief(), brief(&[("c", 9)]));
    let mut left_out = World::new(vec![], both());
    left_out.left_out.insert("uid-of-web-0".into());
    assert_eq!(left_out.brief(), brief(&[("c", 9)]));
    // The file system of an object store answers; its driver may know more.
    let without_capacity = Err(Reason::NoFigures.into());
    for claim in [Some("a"), None] {
        let store = World::new(vec![table_volume("pv-a", claim, &pods, without_capacity)], both());
        assert_eq!(store.brief(), brief(&[("a", 7), ("b", 8), ("c", 9)]));
    }
    let measured = World::new(vec![table_volume("pv-a", None, &pods, MEASURED)], both());
    assert_eq!(measured.brief(), brief(&[("a", 7), ("b", 8), ("c", 9)]));
}

#[test]
fn of_several_volumes_that_name_a_claim_the_bound_one_counts() {
    let of = |name: &str, answer| table_volume(name, Some("a"), &[("1", None)], answer);
    let kubelets = || vec![reported("a", "web-0", 1, 7)];
    let one = World::new(vec![of("old", failed()), bound(of("new", MEASURED))], kubelets());
    assert_eq!(one.brief(), brief(&[("a", 100)]));
    for volumes in [
        vec![of("old", MEASURED), bound(of("new", failed()))],
        vec![of("old", MEASURED), of("new", MEASURED)],
        vec![bound(of("old", MEASURED)), bound(of("new", MEASURED))],
    ] {
        assert_eq!(World::new(volumes, kubelets()).brief(), brief(&[]));
    }
}

/// A claim that was made again and has another volume, while a pod still has the old one.
#[test]
fn a_claim_has_no_figures_of_the_volume_of_an_earlier_one() {
    let of_earlier = |object| {
        let mut volume = table_volume("old", Some("a"), &[("uid-of-x", None)], MEASURED);
        Arc::make_mut(&mut volume.volume).claim.object = Some(object);
        volume
    };
    for object in [Lookup::Gone(Arc::default()), Lookup::Absent] {
        let kubelets = || vec![reported("a", "x", 1, 7)];
        assert_eq!(World::new(vec![of_earlier(object.clone())], kubelets()).brief(), []);
        let new = bound(table_volume("new", Some("a"), &[("2", None)], failed()));
        assert_eq!(World::new(vec![of_earlier(object.clone()), new], kubelets()).brief(), []);
        let new = bound(table_volume("new", Some("a"), &[("2", None)], MEASURED));
        assert_eq!(World::new(vec![of_earlier(object), new], kubelets()).brief(), brief(&[("a", 100)]));
    }
}

#[test]
fn what_was_measured_too_long_ago_is_counted_and_not_shown() {
    let mut volumes = vec![reported("a", "x", 600, 1), reported("b", "x", 601, 2), reported("c", "x", 1, 3)];
    volumes[2].measured = None;
    // Clocks differ, and one that is set back makes figures of the past look new for as long.
    let ahead = |claim, seconds| ReportedVolume {
        measured: Some(now() + Duration::from_secs(seconds)),
        ..reported(claim, "x", 0, 4)
    };
    volumes.extend([ahead("d", 120), ahead("e", 121), ahead("f", 1 << 40)]);
    assert_eq!(count_stale(&volumes, &HashSet::new(), MAX_AGE, now()), 4);
    let left_out = ["uid-of-x".to_owned()].into();
    assert_eq!(count_stale(&volumes, &left_out, MAX_AGE, now()), 0, "it may be of a volume that is excluded");
    assert_eq!(World::new(vec![], volumes).brief(), brief(&[("a", 1), ("d", 4)]));
    // In one pod it hangs, in another it does not.
    let world = World::new(vec![], vec![reported("a", "hangs", 700, 1), reported("a", "works", 60, 2)]);
    assert_eq!(world.brief(), brief(&[("a", 2)]));
}

#[test]
fn only_what_the_kubelet_does_not_expose_is_missing() {
    let mut world = World::new(
        vec![table_volume("pv-a", Some("a"), &[("1", None)], MEASURED)],
        vec![reported("b", "x", 1, 8), reported("c", "x", 1, 9)],
    );
    let known = HashSet::from([(*key("a")).clone(), (*key("c")).clone()]);
    world.exposed = Some(ExposedClaims::Known(Arc::new(known)));
    assert_eq!(world.brief(), brief(&[("b", 8)]));
    world.exposed = Some(ExposedClaims::NotYet);
    assert_eq!(world.brief(), brief(&[]));
    world.exposed = Some(ExposedClaims::Unavailable);
    assert_eq!(world.brief(), brief(&[("a", 100), ("b", 8), ("c", 9)]));
    // The kubelet may expose a new one any moment.
    world.settling = [key("b")].into();
    assert_eq!(world.brief(), brief(&[("a", 100), ("c", 9)]));
}

#[test]
fn a_claim_is_new_until_a_pod_has_mounted_it_for_the_delay() {
    const SECOND: Duration = Duration::from_secs(1);
    let start = Instant::now();
    let of = |claim: &str, pods: &[&str]| {
        let pods: Vec<_> = pods.iter().map(|uid| (*uid, None)).collect();
        // Measured or not: it is mounted.
        table_volume(&format!("pv-{claim}"), Some(claim), &pods, failed())
    };
    let mut claims = SettlingClaims::default();
    let mut new_at = |seconds: u64, volumes: &[MeasuredVolume], reported: &[ReportedVolume]| {
        let now = start + Duration::from_secs(seconds);
        let new = claims.update(volumes, reported, None, 120 * SECOND, now);
        let mut names: Vec<_> = new.iter().map(|claim| claim.name.clone()).collect();
        names.sort();
        names.concat()
    };
    assert_eq!(new_at(0, &[of("a", &["1"])], &[reported("k", "x", 0, 1)]), "ak");
    assert_eq!(new_at(119, &[of("a", &["1"]), of("b", &["1"])], &[reported("k", "x", 0, 1)]), "abk");
    assert_eq!(new_at(120, &[of("a", &["1", "2"]), of("b", &["1"])], &[reported("k", "x", 0, 1)]), "b");
    // The kubelet measures it anew for the first pod of a claim, and not for further ones.
    assert_eq!(new_at(121, &[of("a", &["2"]), of("b", &["1"])], &[]), "ab");
    assert_eq!(new_at(240, &[of("a", &["2"]), of("b", &["2"])], &[]), "b");
    assert_eq!(new_at(360, &[of("a", &["2"])], &[]), "");
    assert_eq!(new_at(361, &[of("a", &["2"]), of("b", &["2"])], &[]), "b", "it was gone meanwhile");
}

/// A kubelet exposes nothing for some seconds after it was restarted, however long its claims have been mounted.
#[test]
fn a_claim_that_the_kubelet_exposed_is_new_again_when_it_vanishes_there() {
    const DELAY: Duration = Duration::from_mins(2);
    let start = Instant::now();
    let volumes = ["a", "b"].map(|claim| table_volume(claim, Some(claim), &[("1", None)], MEASURED));
    let mut claims = SettlingClaims::default();
    let mut new_at = |seconds: u64, exposed: &ExposedClaims| {
        let new = claims.update(&volumes, &[], Some(exposed), DELAY, start + Duration::from_secs(seconds));
        let mut names: Vec<_> = new.iter().map(|claim| claim.name.clone()).collect();
        names.sort();
        names.concat()
    };
    let known = |names: &[&str]| {
        ExposedClaims::Known(Arc::new(names.iter().map(|name| ClaimKey::clone(&key(name))).collect()))
    };
    assert_eq!(new_at(0, &known(&["a"])), "ab");
    assert_eq!(new_at(200, &known(&["a"])), "");
    assert_eq!(new_at(210, &ExposedClaims::Unavailable), "", "the kubelet is down");
    assert_eq!(new_at(500, &known(&[])), "a", "it is back");
    assert_eq!(new_at(619, &known(&[])), "a");
    assert_eq!(new_at(620, &known(&[])), "", "it does not expose it any more");
    assert_eq!(new_at(630, &known(&["a"])), "");
    assert_eq!(new_at(640, &known(&[])), "a");
    assert_eq!(new_at(650, &known(&["a"])), "", "it exposes it again");
}

#[test]
fn what_the_driver_says_of_a_volumes_health_goes_with_any_figures() {
    let health = |claim: &str, pod: &str, abnormal| ReportedVolume {
        abnormal: Some(abnormal),
        stats: None,
        ..reported(claim, pod, 1, 0)
    };
    let world = World::new(
        vec![
            table_volume("pv-a", Some("a"), &[("1", None)], MEASURED),
            table_volume("pv-b", Some("b"), &[("1", None)], failed()),
        ],
        vec![
            health("a", "x", true),
            health("a", "y", false),
            health("b", "x", true),
            health("c", "x", false),
            reported("d", "x", 1, 1),
        ],
    );
    let found: Vec<_> = claim_stats(KUBELET, world.figures(), now())
        .into_iter()
        .map(|status| (status.claim.name.clone(), status.stats.map(Measurement::size), status.abnormal))
        .collect();
    assert_eq!(
        found,
        [
            ("a".to_owned(), Some(100), Some(true)),
            ("c".to_owned(), None, Some(false)),
            ("d".to_owned(), Some(1), None)
        ]
    );
}

#[test]
fn inodes_that_are_not_counted_here_are_the_kubelets() {
    let counted = Some(Inodes { total: 9, free: 4 });
    let (full, unknown) = (Some(Inodes { total: 9, free: 0 }), None);
    let measured =
        |inodes| Usage { total: 100, used: Some(60), available: Some(30), inodes, read_only: false };
    let inodes = |driver: &str, here, seconds, kubelets: Option<Inodes>| {
        let answer = Ok(Measurement::Filesystem(measured(here)));
        let mut volume = table_volume("pv-a", Some("a"), &[("1", Some("web-0"))], answer);
        let csi = CsiVolume { driver: driver.into(), handle: "h".into() };
        Arc::make_mut(&mut Arc::make_mut(&mut volume.volume).mounts[0].mount).csi = Some(csi);
        let stats = Usage { total: 7, used: Some(7), ..measured(kubelets) };
        let stats = Some(Measurement::Filesystem(stats));
        let world =
            World::new(vec![volume], vec![ReportedVolume { stats, ..reported("a", "web-0", seconds, 0) }]);
        let [of_claim, of_pod] = [KUBELET, PER_POD].map(|names| {
            let stats = claim_stats(names, world.figures(), now()).remove(0).stats;
            let usage = stats.and_then(Measurement::usage).unwrap();
            assert_eq!(usage, measured(usage.inodes), "only inodes are the kubelet's");
            usage.inodes
        });
        assert_eq!(of_claim, of_pod);
        of_claim
    };
    assert_eq!(inodes("d", unknown, 1, counted), counted);
    assert_eq!(inodes("d", unknown, 1, full), full);
    assert_eq!(inodes("d", full, 1, counted), full, "what is measured wins");
    assert_eq!(inodes("d", unknown, 1, unknown), unknown);
    assert_eq!(inodes("d", unknown, 601, counted), unknown, "too old");
    assert_eq!(inodes("rook-ceph.cephfs.csi.ceph.com", unknown, 1, full), unknown, "no limit, rather");
    assert_eq!(inodes("rook-ceph.rbd.csi.ceph.com", unknown, 1, full), full);
}
