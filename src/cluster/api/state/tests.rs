use std::collections::BTreeSet;

use super::super::cache::Key;
use super::super::failure::Failure;
use super::super::lookup::{Answer, Version};
use super::super::pod_index::ApiPod;
use super::*;
use crate::volume::samples::mount;
use crate::volume::{PersistentVolume, Pod};

const REFRESH: Duration = Duration::from_hours(1);
const SECOND: Duration = Duration::from_secs(1);

fn state() -> State {
    State::new(Cache::new(REFRESH), Some(PodIndex::default()))
}

fn mounts(rows: &[(&str, &str)]) -> Vec<Arc<VolumeMount>> {
    rows.iter().map(|(name, uid)| Arc::new(mount(name, "nfs", uid))).collect()
}

fn pod(name: &str, uid: &str, number: u64, inline: &[&str]) -> ApiPod {
    ApiPod {
        version: Version { uid: Some(uid.into()), number: Some(number) },
        uids: vec![uid.into()],
        pod: Pod {
            namespace: "shop".into(),
            name: name.into(),
            inline_volumes: inline.iter().map(|name| ("nfs".into(), (*name).into())).collect(),
        },
    }
}

/// The pods are known, these and no others.
fn list(state: &mut State, pods: Vec<ApiPod>, now: Instant) {
    let index = state.pods.as_mut().unwrap();
    index.standing = Standing::Found;
    state.changed |= index.replace(pods);
    state.want(now);
}

fn reply(state: &mut State, name: &str, answer: Answer<PersistentVolume>, now: Instant) {
    state.take(Reply::PersistentVolume(name.into(), answer), now);
}

fn pending(state: &mut State, now: Instant) -> BTreeSet<String> {
    state.metadata(now).pending.iter().cloned().collect()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn asked(state: &mut State, now: Instant) -> Vec<Key> {
    let mut keys = Vec::new();
    while let Next::Ask(key) = state.next(now) {
        keys.push(key);
    }
    keys.sort();
    keys
}

#[test]
fn a_volume_is_held_back_until_everything_about_it_is_answered() {
    let (mut state, now) = (state(), Instant::now());
    state.see(&mounts(&[("a", "1"), ("b", "2")]), now);
    assert_eq!(pending(&mut state, now), names(&["a", "b"]));
    reply(&mut state, "a", Answer::Absent, now);
    assert_eq!(pending(&mut state, now), names(&["a", "b"]), "its pod is not known");
    list(&mut state, vec![pod("p", "1", 1, &[])], now);
    assert_eq!(pending(&mut state, now), names(&["b"]));
    assert!(!state.is_settled(now));
    // The pod of the other is not there: after a while that counts as answered, too.
    reply(&mut state, "b", Answer::Absent, now);
    assert_eq!(pending(&mut state, now + SECOND), names(&["b"]));
    assert_eq!(pending(&mut state, now + HOLD_BACK), names(&[]));
    assert!(state.is_settled(now + HOLD_BACK));
}

#[test]
fn what_was_shown_once_is_not_held_back_again_and_what_is_mounted_later_is() {
    let (mut state, now) = (state(), Instant::now());
    let first = mounts(&[("a", "1")]);
    list(&mut state, vec![pod("p", "1", 1, &[]), pod("q", "2", 1, &[])], now);
    state.see(&first, now);
    reply(&mut state, "a", Answer::Absent, now);
    assert_eq!(pending(&mut state, now), names(&[]));
    let later = now + REFRESH;
    let both = [first, mounts(&[("b", "2"), ("a", "3")])].concat();
    assert!(state.see(&both, later));
    assert_eq!(pending(&mut state, later), names(&["b"]), "though a pod of a is not known yet");
    assert_eq!(pending(&mut state, later + HOLD_BACK), names(&[]));
}

#[test]
fn forbidden_and_unknown_pods_hold_nothing_back() {
    let now = Instant::now();
    let forbidden = Failure::Status { code: 403, message: String::new(), retry_after: None };
    let mut without_pods = State::new(Cache::new(REFRESH), None);
    let mut forbidden_pods = state();
    forbidden_pods.pods.as_mut().unwrap().standing = Standing::Forbidden;
    for state in [&mut without_pods, &mut forbidden_pods] {
        state.see(&mounts(&[("a", "1")]), now);
        reply(state, "a", Answer::Forbidden(forbidden.clone()), now);
        assert_eq!(pending(state, now), names(&[]));
    }
    assert_eq!(without_pods.success(), [(Resource::PersistentVolumes, false)]);
    assert_eq!(forbidden_pods.success(), [(Resource::Pods, false), (Resource::PersistentVolumes, false)]);
}

#[test]
fn pods_own_volumes_are_not_asked_about() {
    let (mut state, now) = (state(), Instant::now());
    list(&mut state, vec![pod("p", "1", 1, &["data"]), pod("q", "2", 1, &[])], now);
    state.see(&mounts(&[("data", "1")]), now);
    assert_eq!(asked(&mut state, now), []);
    assert_eq!(pending(&mut state, now), names(&[]));
    // Another pod has a volume of that name that is not its own.
    state.see(&mounts(&[("data", "1"), ("data", "2")]), now);
    assert_eq!(asked(&mut state, now), [Key::PersistentVolume("data".into())]);
}

#[test]
fn a_pod_that_is_gone_is_known_while_its_volume_is_mounted() {
    let (mut state, now) = (state(), Instant::now());
    state.see(&mounts(&[("a", "1")]), now);
    list(&mut state, vec![pod("p", "1", 1, &[]), pod("q", "2", 1, &[])], now);
    list(&mut state, vec![], now);
    let known = |state: &mut State| state.metadata(now).pods.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(known(&mut state), names(&["1"]));
    state.see(&[], now);
    assert_eq!(known(&mut state), names(&[]));
}

#[test]
fn pods_are_told_apart_by_uid_and_not_set_back_by_a_server_that_lags() {
    let mut index = PodIndex::default();
    assert!(index.put(pod("db-0", "old", 5, &[])));
    assert!(index.put(pod("db-0", "new", 6, &["data"])));
    index.remove("old");
    assert!(index.drop_gone(&HashSet::new()));
    assert!(index.get("old").is_none() && index.get("new").is_some());
    assert!(!index.put(pod("db-0", "new", 3, &[])), "an older state");
    assert!(!index.get("new").unwrap().inline_volumes.is_empty());
    assert!(!index.put(pod("db-0", "new", 9, &["data"])), "nothing that is used changed");
    // A static pod is known by its hash, whichever object carries it.
    let mirror = |uid| ApiPod { uids: vec![String::from(uid), "hash".into()], ..pod("static", uid, 1, &[]) };
    index.put(mirror("x"));
    index.put(mirror("y"));
    index.remove("x");
    index.drop_gone(&HashSet::new());
    assert!(index.get("hash").is_some() && index.get("x").is_none());
}

#[test]
fn metadata_is_the_same_one_until_something_changes() {
    let (mut state, now) = (state(), Instant::now());
    list(&mut state, vec![pod("p", "1", 1, &[])], now);
    state.see(&mounts(&[("a", "1")]), now);
    reply(&mut state, "a", Answer::Absent, now);
    let first = state.metadata(now);
    list(&mut state, vec![pod("p", "1", 2, &[])], now);
    reply(&mut state, "a", Answer::Absent, now + SECOND);
    assert!(Arc::ptr_eq(&first, &state.metadata(now + SECOND)));
    list(&mut state, vec![pod("p", "1", 3, &["x"])], now);
    assert!(!Arc::ptr_eq(&first, &state.metadata(now + SECOND)));
}

#[test]
fn the_age_is_that_of_the_oldest_in_use() {
    let (mut state, now) = (state(), Instant::now());
    assert_eq!(state.age(now), None);
    state.see(&mounts(&[("a", "1"), ("b", "1")]), now);
    let found = || Answer::Found(Version::default(), PersistentVolume::default());
    reply(&mut state, "a", found(), now);
    reply(&mut state, "b", found(), now + SECOND);
    assert_eq!(state.age(now + 5 * SECOND), Some(5 * SECOND));
    reply(&mut state, "a", found(), now + 2 * SECOND);
    assert_eq!(state.age(now + 5 * SECOND), Some(4 * SECOND));
    state.see(&[], now);
    assert_eq!(state.age(now + 5 * SECOND), None);
}

#[test]
fn an_annotation_does_not_take_the_place_of_another_pod() {
    let victim = || pod("db-0", "victim", 1, &[]);
    // Whoever makes a pod can write a static pod's annotations: here with another one's uid.
    let thief = || ApiPod { uids: vec!["thief".into(), "victim".into()], ..pod("x", "thief", 2, &["pv-1"]) };
    let is_right = |index: &PodIndex| index.get("victim").unwrap().name == "db-0";
    let mut index = PodIndex::default();
    index.put(victim());
    assert!(index.put(thief()));
    assert!(is_right(&index));
    assert!(!index.put(thief()), "nothing new");
    for list in [vec![victim(), thief()], vec![thief(), victim()]] {
        index.replace(list);
        assert!(is_right(&index));
    }
    index.replace(vec![thief()]);
    index.drop_gone(&HashSet::from(["victim"]));
    assert!(is_right(&index), "known while it is mounted");
    index.drop_gone(&HashSet::new());
    assert!(index.get("victim").is_none(), "gone");
}
