use super::*;
use crate::snapshot::{ClaimStats, KubeletStatus, MeasuredVolume, MountTableStatus, SourceStatus};
use crate::volume::samples::{mount, volume};
use crate::volume::{
    BoundClaim, ClaimKey, Inodes, Lookup, Measurement, Pod, ProbeError, ProbeResult, Reason, Usage, Volume,
    VolumeMount,
};
use std::sync::Arc;

#[expect(clippy::unnecessary_wraps, reason = "it is an answer")]
fn usage(percent: u32, inodes_percent: u64) -> ProbeResult {
    let (total, used) = (102_400, u128::from(percent) * 1024);
    let inodes = Some(Inodes { total: 100, free: 100 - inodes_percent });
    let (used, available) = (Some(used), Some(total - used));
    Ok(Measurement::Filesystem(Usage { total, used, available, inodes, read_only: false }))
}

fn status(pv_name: &str, answers: &[ProbeResult]) -> MeasuredVolume {
    let mounts = answers.iter().map(|_| Arc::new(mount(pv_name, "nfs", "uid"))).collect();
    MeasuredVolume::new(Arc::new(volume(mounts)), answers)
}

fn page(snapshot: &Snapshot) -> String {
    String::from_utf8(Page::default().write(snapshot, false).concat()).unwrap()
}

fn page_of(volumes: Vec<MeasuredVolume>) -> String {
    let table = Some(MountTableStatus { readable: true, ..MountTableStatus::default() });
    page(&Snapshot { volumes, table, ..Snapshot::default() })
}

/// What is between these, each time.
fn between<'a>(text: &'a str, begin: &str, end: &str) -> Vec<&'a str> {
    text.split(begin).skip(1).map(|part| part.split(end).next().unwrap()).collect()
}

#[test]
fn what_failed_comes_first_then_the_fullest_then_what_has_a_size_only() {
    let block: ProbeResult = Ok(Measurement::Block { size: 64 << 20 });
    let volumes = vec![
        status("block", &[block]),
        status("empty", &[usage(0, 0)]),
        status("failed", &[Err(Reason::Io.into())]),
        status("full-of-inodes", &[usage(10, 99)]),
        status("hung", &[Err(Reason::Timeout.into())]),
        status("nearly-full", &[usage(89, 0)]),
        status("object-store", &[Err(Reason::NoFigures.into())]),
        status("well", &[usage(50, 50)]),
    ];
    let html = page_of(volumes);
    let names = between(&html, "<th scope=\"row\"><bdi>", "</bdi>");
    assert_eq!(
        names,
        ["failed", "hung", "full-of-inodes", "nearly-full", "well", "empty", "block", "object-store"]
    );
    let levels = between(&html, "<td class=\"level\"><b>", "</b>");
    assert_eq!(levels, ["failed", "hung", "99.0%", "89.0%", "50.0%", "0.0%", "size only", "no capacity"]);
    let bars = between(&html, "<rect width=\"", "%\"");
    assert_eq!(bars, ["99.00", "89.00", "50.00", "0.00"]);
    let classes = between(&html, "<tr class=\"", "\"");
    assert_eq!(classes, ["failed", "failed", "full", "nearly", "well", "well", "well", "well"]);
    assert_eq!(between(&html, " <small>of ", "</small>"), ["100 inodes"], "only where they are tighter");
    assert_eq!(between(&html, "<td class=\"figure size\">", "</td>")[5..], ["100Ki", "64Mi", ""]);
    assert_eq!(between(&html, "<b>", "</ul>")[0], "8</b> volumes</li>\n<li class=\"bad\">");
}

#[test]
fn why_something_failed_is_said_in_words() {
    let errno = |reason, errno| Err(ProbeError { reason, errno: Some(errno) });
    let why = |answers: &[ProbeResult]| {
        let html = page_of(vec![status("pv", answers)]);
        between(&html, "<p class=\"why\">", "</p>").join("; ")
    };
    let reasons = [
        (Reason::Timeout, "did not answer in time"),
        (Reason::Skipped, "before it could be asked"),
        (Reason::NotMounted, "not this mount"),
        (Reason::Stale, "ESTALE"),
        (Reason::Io, "EIO"),
        (Reason::Permission, "does not let root look"),
        (Reason::NotConnected, "FUSE server has ended"),
        (Reason::Other, "the log tells which"),
    ];
    for (reason, words) in reasons {
        assert!(why(&[Err(reason.into())]).contains(words), "{words}");
    }
    assert!(why(&[errno(Reason::Other, 11)]).contains("Resource temporarily unavailable"));
    let io: ProbeResult = Err(Reason::Io.into());
    let several = why(&[io, usage(1, 1), io, Err(Reason::Stale.into())]);
    assert!(several.contains("1 of 4 mounts: ") && several.contains("2 of 4 mounts: input"), "{several}");
    let store: ProbeResult = Err(Reason::NoFigures.into());
    assert!(why(&[store, io]).contains("1 of 2 mounts: it has no capacity, as an object store"));
    for healthy in [usage(1, 1), store] {
        assert_eq!(why(&[healthy]), "");
    }
}

/// A volume with names of somebody's who means harm.
fn hostile(text: &str) -> MeasuredVolume {
    let mount = VolumeMount {
        plugin: text.into(),
        fstype: text.into(),
        device: text.into(),
        mountpoint: text.into(),
        ..mount(text, "nfs", text)
    };
    let pod = Pod { namespace: text.into(), name: text.into(), ..Pod::default() };
    let key = ClaimKey { namespace: text.into(), name: text.into() };
    let mut volume = volume(vec![Arc::new(mount)]);
    volume.mounts[0].pod = Some(Arc::new(pod));
    volume.pv = Some(Arc::default());
    volume.claim = BoundClaim { key: Some(Arc::new(key)), object: Some(Lookup::Found(Arc::default())) };
    MeasuredVolume::new(Arc::new(volume), [usage(1, 1)])
}

#[test]
fn names_of_others_are_text_wherever_they_stand() {
    let text = "<b onload=\"x\" id='y'>&\u{1b}\u{202e}\r\n";
    let volumes = vec![hostile(text)];
    let claim = Arc::new(ClaimKey { namespace: text.into(), name: "other".into() });
    let claims = vec![ClaimStats { claim, pod: Some(text.into()), stats: None, abnormal: None }];
    let snapshot = Snapshot { volumes, claims, ..Snapshot::default() };
    let page = Page { node: Some(text.into()), fixture: Some(text.into()) };
    let html = String::from_utf8(page.write(&snapshot, false).concat()).unwrap();
    assert!(!html.contains("<b onload") && !html.contains("id='y'") && !html.contains("\"x\""), "{html}");
    assert!(html.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'), "{html:?}");
    let escaped = r"&#60;b onload=&#34;x&#34; id=&#39;y&#39;&#62;&#38;\u{1b}\u{202e}\r\n";
    // The fixture; of the volume its three names, its pod's, and six of its mount; of the claim the namespace and a pod.
    assert_eq!(html.matches(escaped).count(), 1 + 3 + 1 + 6 + 2, "{html}");
}

#[test]
fn claims_that_only_the_kubelet_knows_have_rows_of_their_own() {
    let key = |name: &str| ClaimKey { namespace: "shop".into(), name: name.into() };
    let claim = |name: &str, pod: &str, abnormal| {
        let (used, available) = (Some(750), Some(250));
        let usage = Usage { total: 1000, used, available, inodes: None, read_only: false };
        let stats = Some(Measurement::Filesystem(usage));
        ClaimStats { claim: Arc::new(key(name)), pod: Some(pod.into()), stats, abnormal }
    };
    let mounted = Volume {
        claim: BoundClaim { key: Some(Arc::new(key("mounted"))), object: None },
        ..volume(vec![Arc::new(mount("pv", "nfs", "uid"))])
    };
    let volumes = vec![MeasuredVolume::new(Arc::new(mounted), [usage(1, 1)])];
    let claims =
        vec![claim("db", "db-0", None), claim("db", "db-1", None), claim("mounted", "web-0", Some(true))];
    let kubelet = Some(KubeletStatus { answered: None, stale: Some(2) });
    let html = page(&Snapshot { volumes, claims, kubelet, ..Snapshot::default() });
    assert_eq!(
        between(&html, "<th scope=\"row\"><bdi>", "</bdi>"),
        ["<span>shop/</span>db", "<span>shop/</span>mounted"]
    );
    assert_eq!(between(&html, "<td class=\"level\"><b>", "</b>"), ["75.0%", "1.0%"]);
    assert!(html.contains("in <bdi>db-0</bdi>, <bdi>db-1</bdi></small>"), "{html}");
    assert_eq!(html.matches("reports a problem").count(), 1, "of the volume that is mounted");
    assert!(html.contains("2 volumes hidden: kubelet"), "{html}");
}

#[test]
fn what_is_missing_is_said() {
    let quiet = page_of(vec![status("pv", &[usage(1, 1)])]);
    assert_eq!(between(&quiet, "class=\"notice\">", "</p>"), [""; 0]);
    let source = |name, success| SourceStatus { name, success };
    let table = MountTableStatus {
        readable: false,
        malformed: 1,
        propagation: Some(false),
        unpropagated: Some(3),
        ..MountTableStatus::default()
    };
    let html = page(&Snapshot {
        pending: 2,
        ambiguous: 1,
        table: Some(table),
        sources: vec![source("mounts", false), source("pods", true), source("objects", false)],
        ..Snapshot::default()
    });
    assert!(html.contains("<b>0</b> volumes"), "{html}");
    let notices = between(&html, "class=\"notice\">", "</p>");
    let expected = [
        "source mounts",
        "source objects",
        "no source",
        "do not reach",
        "3 vol",
        "1 line of",
        "2 volumes hidden",
        "1 PV name",
    ];
    assert_eq!(notices.len(), expected.len(), "{notices:?}");
    assert!(notices.iter().zip(expected).all(|(notice, text)| notice.contains(text)), "{notices:?}");
    assert!(!html.contains("<table>") && !html.contains("filter\" hidden"), "{html}");
}

#[test]
fn nothing_is_taken_from_elsewhere_and_no_style_is_in_the_markup() {
    let html = page_of(vec![status("pv", &[usage(95, 99), Err(Reason::Io.into())])]);
    for outside in ["http:", "https:", "//", "url(", "@import", "style=", "<style"] {
        assert!(!html.contains(outside) && !STYLE.contains(outside), "{outside}");
    }
}
