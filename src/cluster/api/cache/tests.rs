#![allow(clippy::cast_precision_loss, reason = "of small counts")]

use super::super::lookup::Version;
use super::super::pace::{MOST_AT_A_TIME, Next, Pace};
use super::*;
use crate::volume::{ClaimKey, Labels};

const REFRESH: Duration = Duration::from_hours(1);

/// The cache, its pace and a clock.
struct Lab {
    cache: Cache,
    pace: Pace,
    now: Instant,
}

impl Lab {
    fn new(names: &[&str]) -> Self {
        let mut lab = Self { cache: Cache::new(REFRESH), pace: Pace::default(), now: Instant::now() };
        lab.want(names);
        lab
    }

    fn want(&mut self, names: &[&str]) {
        self.cache.want(&names.iter().copied().collect(), self.now);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// What is asked now, all of it.
    fn asked(&mut self) -> Vec<Key> {
        let mut keys = Vec::new();
        while let Next::Ask(key) = self.pace.next(&mut self.cache, self.now) {
            keys.push(key);
        }
        keys.sort();
        keys
    }

    fn reply(&mut self, reply: Reply) -> bool {
        self.pace.ended(reply.failure(), &self.cache, self.now);
        self.cache.take(reply, self.now)
    }

    fn metadata(&self) -> Metadata {
        let mut metadata = Metadata::default();
        self.cache.describe(&mut metadata);
        metadata
    }
}

fn pv_key(name: &str) -> Key {
    Key::PersistentVolume(name.into())
}

fn claim_key(name: &str) -> ClaimKey {
    ClaimKey { namespace: "shop".into(), name: name.into() }
}

fn claim_ref(name: &str, uid: &str) -> ClaimRef {
    ClaimRef { key: claim_key(name), uid: Some(uid.into()) }
}

fn version(uid: &str, number: u64) -> Version {
    Version { uid: Some(uid.into()), number: Some(number) }
}

fn labels(value: &str) -> Labels {
    Labels::from([("app".into(), value.into())])
}

/// A `PersistentVolume` that is bound to a claim, by name and uid.
fn pv(name: &str, number: u64, claim: Option<(&str, &str)>) -> Reply {
    let claim = claim.map(|(name, uid)| claim_ref(name, uid));
    let pv = PersistentVolume { labels: labels(&number.to_string()), claim, ..PersistentVolume::default() };
    Reply::PersistentVolume(name.into(), Answer::Found(version(name, number), pv))
}

fn claim(name: &str, uid: &str, number: u64) -> Reply {
    let claim = Claim { uid: Some(uid.into()), labels: labels(uid), requested_bytes: None };
    Reply::Claim(claim_ref(name, uid), Answer::Found(version(uid, number), claim))
}

fn failed(name: &str, failure: Failure) -> Reply {
    Reply::PersistentVolume(name.into(), Answer::Failed(failure))
}

fn status(code: u16, retry_after: Option<u64>) -> Failure {
    Failure::Status { code, message: String::new(), retry_after: retry_after.map(Duration::from_secs) }
}

#[test]
fn a_volume_is_answered_when_its_claim_is() {
    let mut lab = Lab::new(&["a"]);
    assert_eq!(lab.asked(), [pv_key("a")]);
    assert!(!lab.cache.is_answered("a"));
    assert!(lab.reply(pv("a", 1, Some(("c", "u")))));
    assert!(!lab.cache.is_answered("a"));
    assert_eq!(lab.asked(), [Key::Claim(claim_ref("c", "u"))]);
    assert!(lab.reply(claim("c", "u", 1)));
    assert!(lab.cache.is_answered("a"));
    assert_eq!(lab.asked(), [], "each is asked once");
    let metadata = lab.metadata();
    assert_eq!(metadata.claims[&claim_key("c")][0].labels, labels("u"));
}

#[test]
fn volumes_of_one_claim_ask_for_it_once_and_what_is_unused_is_dropped() {
    let mut lab = Lab::new(&["a", "b"]);
    lab.asked();
    lab.reply(pv("a", 1, Some(("c", "u"))));
    lab.reply(pv("b", 1, Some(("c", "u"))));
    assert_eq!(lab.asked(), [Key::Claim(claim_ref("c", "u"))]);
    lab.reply(claim("c", "u", 1));
    lab.want(&["b"]);
    assert_eq!(lab.metadata().persistent_volumes.len(), 1);
    assert_eq!(lab.metadata().claims.len(), 1, "b has it still");
    lab.want(&[]);
    assert_eq!(lab.metadata(), Metadata::default());
    lab.pass(REFRESH * 2);
    assert_eq!(lab.asked(), [], "nothing is asked about what is gone");
}

#[test]
fn a_reply_about_what_is_gone_or_back_again_is_no_harm() {
    let mut lab = Lab::new(&["a"]);
    lab.asked();
    lab.want(&[]);
    assert!(!lab.reply(pv("a", 1, None)));
    lab.want(&["a"]);
    assert_eq!(lab.asked(), [pv_key("a")]);
    lab.want(&[]);
    lab.want(&["a"]);
    // The one of its earlier stay comes now, the other later.
    assert!(lab.reply(pv("a", 1, None)));
    assert_eq!(lab.asked(), []);
    assert!(!lab.reply(pv("a", 1, None)));
    assert_eq!((lab.cache.first.len(), lab.cache.again.len()), (0, 1));
}

#[test]
fn at_most_four_first_answers_are_awaited_at_a_time() {
    let names: Vec<String> = (0..9).map(|i| format!("pv-{i}")).collect();
    let mut lab = Lab::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let asked = lab.asked();
    assert_eq!(asked.len(), MOST_AT_A_TIME);
    let Key::PersistentVolume(name) = &asked[0] else { panic!() };
    lab.reply(pv(name, 1, None));
    assert_eq!(lab.asked().len(), 1);
}

#[test]
fn refreshes_are_spread_and_at_most_two_a_second() {
    let names: Vec<String> = (0..200).map(|i| format!("pv-{i}")).collect();
    let mut lab = Lab::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    for _ in 0..50 {
        for key in lab.asked() {
            let Key::PersistentVolume(name) = key else { panic!() };
            lab.reply(pv(&name, 1, None));
        }
    }
    lab.pass(REFRESH.mul_f64(0.79));
    assert_eq!(lab.asked(), []);
    lab.pass(REFRESH.mul_f64(0.21));
    let due = lab.cache.again.iter().filter(|(due, _)| *due <= lab.now).count();
    assert!((50..150).contains(&due), "spread by jitter: {due} of 200 are due halfway");
    let (mut asked, seconds) = (0, 20);
    for _ in 0..seconds * 10 {
        for key in lab.asked() {
            asked += 1;
            let Key::PersistentVolume(name) = key else { panic!() };
            lab.reply(pv(&name, 1, None));
        }
        lab.pass(Duration::from_millis(100));
    }
    assert_eq!(asked, 2 * seconds);
}

#[test]
fn a_new_volume_does_not_wait_for_refreshes() {
    let mut lab = Lab::new(&["a", "b"]);
    lab.asked();
    lab.reply(pv("a", 1, None));
    lab.reply(pv("b", 1, None));
    lab.pass(REFRESH * 2);
    assert_eq!(lab.asked().len(), 1, "the other is half a second later");
    lab.want(&["a", "b", "new"]);
    assert_eq!(lab.asked(), [pv_key("new")]);
}

#[test]
fn an_older_state_of_the_same_object_is_ignored_and_another_object_is_not() {
    let mut lab = Lab::new(&["a"]);
    lab.asked();
    lab.reply(pv("a", 7, None));
    assert!(!lab.reply(pv("a", 6, None)));
    assert_eq!(lab.metadata().persistent_volumes["a"].labels, labels("7"));
    assert!(lab.reply(pv("a", 8, None)));
    let recreated = PersistentVolume { labels: labels("new"), ..PersistentVolume::default() };
    let recreated = Reply::PersistentVolume("a".into(), Answer::Found(version("other", 3), recreated));
    assert!(lab.reply(recreated));
    assert_eq!(lab.metadata().persistent_volumes["a"].labels, labels("new"));
}

#[test]
fn what_is_not_found_is_asked_again_ever_more_seldom_and_keeps_its_last_labels() {
    let absent = || Reply::PersistentVolume("a".into(), Answer::Absent);
    let mut lab = Lab::new(&["a"]);
    lab.asked();
    assert!(lab.reply(absent()));
    assert!(lab.cache.is_answered("a"));
    assert!(lab.metadata().absent.contains("a"));
    for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
        lab.pass(Duration::from_mins(minutes).mul_f64(0.79));
        assert_eq!(lab.asked(), [], "{minutes}");
        lab.pass(Duration::from_mins(minutes).mul_f64(0.42));
        assert_eq!(lab.asked(), [pv_key("a")], "{minutes}");
        assert!(!lab.reply(absent()));
    }
    lab.reply(pv("a", 1, None));
    assert!(!lab.metadata().absent.contains("a"));
    lab.reply(absent());
    let metadata = lab.metadata();
    assert_eq!(metadata.persistent_volumes["a"].labels, labels("1"), "deleted while mounted");
    assert!(!metadata.absent.contains("a"));
}

#[test]
fn forbidden_is_an_answer() {
    let mut lab = Lab::new(&["a"]);
    lab.asked();
    lab.reply(Reply::PersistentVolume("a".into(), Answer::Forbidden(status(403, None))));
    assert!(lab.cache.is_answered("a"));
    assert_eq!(lab.metadata(), Metadata::default(), "but not that there is none");
    assert_eq!(lab.cache.health(Resource::PersistentVolumes), Health { tried: true, failing: true });
}

#[test]
fn a_failure_is_no_answer_and_changes_nothing_that_is_known() {
    let mut lab = Lab::new(&["a"]);
    lab.asked();
    lab.reply(pv("a", 1, None));
    lab.pass(REFRESH * 2);
    lab.asked();
    assert!(!lab.reply(failed("a", status(500, None))));
    assert_eq!(lab.metadata().persistent_volumes["a"].labels, labels("1"));
    assert_eq!(lab.cache.health(Resource::PersistentVolumes), Health { tried: true, failing: true });
    assert_eq!(lab.cache.oldest().map(|oldest| lab.now - oldest), Some(REFRESH * 2));
    let mut lab = Lab::new(&["a"]);
    lab.asked();
    lab.reply(failed("a", Failure::Decode(String::new())));
    assert!(!lab.cache.is_answered("a"));
    lab.pass(Duration::from_millis(750));
    assert_eq!(lab.asked(), [pv_key("a")], "soon again");
}

#[test]
fn a_bad_object_delays_itself_a_bad_server_all() {
    let mut lab = Lab::new(&["a", "b", "c", "d", "e", "f"]);
    let first = lab.asked();
    assert_eq!(first.len(), 4);
    lab.reply(failed("a", status(500, None)));
    assert_eq!(lab.asked(), [pv_key("e")]);
    lab.reply(failed("b", Failure::Connect(String::new())));
    assert_eq!(lab.asked(), []);
    // Those that were under way may succeed; a pause begun meanwhile stays.
    lab.reply(pv("c", 1, None));
    assert_eq!(lab.asked(), []);
    lab.reply(failed("d", Failure::Connect(String::new())));
    lab.reply(failed("e", Failure::Connect(String::new())));
    lab.pass(Duration::from_mins(1));
    assert_eq!(lab.asked().len(), 1, "one shows whether it is back");
    lab.reply(pv("f", 1, None));
    assert!(!lab.asked().is_empty());
}

#[test]
fn where_many_objects_fail_the_server_does() {
    let names = names_of(0..1000);
    let mut lab = Lab::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let mut asked = 0;
    for _ in 0..5 * 60 * 10 {
        for key in lab.asked() {
            asked += 1;
            let Key::PersistentVolume(name) = key else { panic!() };
            lab.reply(failed(&name, status(500, None)));
        }
        lab.pass(Duration::from_millis(100));
    }
    assert!((20..60).contains(&asked), "{asked} requests in five minutes");
    assert_eq!(run(&mut lab, Duration::from_mins(5), |_, _| {}).len(), 2000, "once it is back");
}

#[test]
fn the_server_says_when_it_wants_to_be_asked_again() {
    let mut lab = Lab::new(&["a", "b"]);
    lab.asked();
    lab.reply(failed("a", status(429, Some(20))));
    lab.reply(pv("b", 1, None));
    lab.pass(Duration::from_secs(20));
    assert_eq!(lab.asked(), []);
    lab.pass(Duration::from_secs(5));
    assert_eq!(lab.asked(), [pv_key("a")]);
}

#[test]
fn a_claim_that_was_made_again_is_another_one() {
    let mut lab = Lab::new(&["a", "b"]);
    lab.asked();
    lab.reply(pv("a", 1, Some(("c", "old"))));
    lab.asked();
    lab.reply(claim("c", "old", 1));
    let known = |lab: &Lab| lab.metadata().claims[&claim_key("c")].len();
    lab.reply(pv("b", 1, Some(("c", "new"))));
    assert!(!lab.cache.is_answered("b"));
    assert_eq!(lab.asked(), [Key::Claim(claim_ref("c", "new"))]);
    lab.reply(claim("c", "new", 9));
    assert!(lab.cache.is_answered("b"));
    assert_eq!(known(&lab), 2, "a has its own still");
    // Now both volumes are the new one's.
    lab.reply(pv("a", 2, Some(("c", "new"))));
    assert_eq!(known(&lab), 1);
    assert_eq!(lab.asked(), []);
}

#[test]
fn no_request_is_made_of_what_is_no_name() {
    let mut lab = Lab::new(&["../pods", "a/b", "A", "", "-a", "a..b", "ok-1.example"]);
    assert_eq!(lab.asked(), [pv_key("ok-1.example")]);
    assert!(lab.cache.is_answered("../pods"));
    assert!(lab.metadata().absent.contains("A"));
    lab.cache.ask_anew(lab.now);
    lab.pass(REFRESH * 2);
    assert_eq!(lab.asked(), [pv_key("ok-1.example")]);
}

#[test]
fn after_a_restart_everything_that_was_under_way_is_asked_anew() {
    let mut lab = Lab::new(&["a", "b"]);
    assert_eq!(lab.asked().len(), 2);
    lab.pace.restart();
    lab.cache.ask_anew(lab.now);
    assert_eq!(lab.asked().len(), 2);
}

/// Answers whatever is asked for so long, looking ten times a second; what was asked.
fn run(lab: &mut Lab, time: Duration, mut each_second: impl FnMut(&mut Lab, u64)) -> Vec<Key> {
    let mut all = Vec::new();
    for tick in 0..time.as_secs() * 10 {
        if tick % 10 == 0 {
            each_second(lab, tick / 10);
        }
        for key in lab.asked() {
            all.push(key.clone());
            match key {
                Key::PersistentVolume(name) => lab.reply(pv(&name, 1, Some((&name, &name)))),
                Key::Claim(reference) => lab.reply(claim(&reference.key.name, &reference.key.name, 1)),
            };
        }
        lab.pass(Duration::from_millis(100));
    }
    all
}

fn names_of(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|i| format!("pv-{i}")).collect()
}

#[test]
fn a_thousand_volumes_cost_little_while_nothing_changes() {
    let names = names_of(0..1000);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut lab = Lab::new(&names);
    assert_eq!(run(&mut lab, Duration::from_mins(5), |_, _| {}).len(), 2000);
    let hours = 3;
    let asked = run(&mut lab, REFRESH * hours, |_, _| {}).len();
    let a_second = asked as f64 / (REFRESH * hours).as_secs_f64();
    assert!(a_second <= 0.7, "{a_second} requests a second");
    assert!(asked >= 2000 * 2, "all were refreshed: {asked}");
}

#[test]
fn a_tenth_of_the_volumes_changing_each_minute_costs_what_is_new() {
    let window = |minute: usize| names_of(minute * 100..1000 + minute * 100);
    let first = window(0);
    let mut lab = Lab::new(&first.iter().map(String::as_str).collect::<Vec<_>>());
    run(&mut lab, Duration::from_mins(1), |_, _| {});
    let asked = run(&mut lab, Duration::from_mins(10), |lab, second| {
        if second % 60 == 0 {
            let names = window(usize::try_from(second).unwrap() / 60 + 1);
            lab.want(&names.iter().map(String::as_str).collect::<Vec<_>>());
        }
    });
    assert_eq!(asked.len(), 10 * 100 * 2, "a volume and its claim each, once");
    assert_eq!(lab.metadata().persistent_volumes.len(), 1000);
    assert_eq!(lab.metadata().claims.len(), 1000, "what is gone is dropped");
    assert_eq!(lab.cache.first.len() + lab.cache.again.len(), 2000);
}
