use super::*;
use std::time::Duration;

fn read(json: &str) -> Result<(Vec<ReportedVolume>, usize), String> {
    let parsed = parse(json.as_bytes())?;
    Ok((parsed.value, parsed.malformed))
}

/// Namespace, claim and pod of each volume, and how many entries were malformed.
fn brief(json: &str) -> Result<(Vec<String>, usize), String> {
    let (volumes, malformed) = read(json)?;
    let brief = |v: &ReportedVolume| format!("{}/{} in {}", v.claim.namespace, v.claim.name, v.pod);
    Ok((volumes.iter().map(brief).collect(), malformed))
}

const POD: &str = r#""podRef": {"name": "web-0", "namespace": "shop", "uid": "u"}"#;

#[test]
fn only_claims_volumes_are_read_with_all_that_is_said_of_them() {
    let json = format!(
        r#"{{"node": {{"x": [1, {{}}]}}, "pods": [{{{POD}, "containers": [], "volume": [
            {{"name": "scratch", "time": "2026-11-22T01:13:30Z", "capacityBytes": 1}},
            {{"name": "data", "time": "2026-11-22T01:13:30Z", "capacityBytes": 100, "availableBytes": 30,
              "usedBytes": 60, "inodes": 9, "inodesFree": 4, "inodesUsed": 5, "unknown": null,
              "volumeHealthStats": {{"abnormal": true}}, "pvcRef": {{"name": "data", "namespace": "shop"}}}}
        ], "ephemeral-storage": {{}}}}]}}"#
    );
    let (volumes, malformed) = read(&json).unwrap();
    let expected = ReportedVolume {
        claim: Arc::new(ClaimKey { namespace: "shop".into(), name: "data".into() }),
        pod: "web-0".into(),
        pod_uid: "u".into(),
        measured: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_310_010)),
        stats: Some(Measurement::Filesystem(Usage {
            total: 100,
            used: Some(60),
            available: Some(30),
            inodes: Some(Inodes { total: 9, free: 4 }),
            read_only: false,
        })),
        abnormal: Some(true),
    };
    assert_eq!((volumes, malformed), (vec![expected], 0));
}

#[test]
fn one_bad_item_costs_itself() {
    let volume = |rest: &str| format!(r#"{{"pvcRef": {{"name": "good"}}, {rest}}}"#);
    let volumes = [
        volume(r#""capacityBytes": -1"#),
        volume(r#""capacityBytes": "1""#),
        volume(r#""volumeHealthStats": []"#),
        r#"{"pvcRef": {"namespace": "shop"}}"#.into(),
        "7".into(),
        volume(r#""time": 1"#),
        volume(r#""capacityBytes": 1"#),
    ]
    .join(",");
    let json = format!(
        r#"{{"pods": [7, {{"volume": []}}, {{"podRef": {{"name": "no uid"}}}}, {{{POD}, "volume": [{volumes}]}},
            {{{POD}, "volume": null}}, {{{POD}}}]}}"#
    );
    assert_eq!(brief(&json), Ok((vec!["shop/good in web-0".into()], 9)));
}

#[test]
fn what_is_not_known_is_absent() {
    let volume = |rest: &str| {
        let json = format!(r#"{{"pods": [{{{POD}, "volume": [{{"pvcRef": {{"name": "a"}}{rest}}}]}}]}}"#);
        let (mut volumes, malformed) = read(&json).unwrap();
        assert_eq!((volumes.len(), malformed), (1, 0), "{rest}");
        volumes.remove(0)
    };
    for nothing in ["", r#", "capacityBytes": null, "usedBytes": 3"#, r#", "capacityBytes": 0"#] {
        assert_eq!(volume(nothing).stats, None, "{nothing}");
    }
    let size = Measurement::Block { size: 64 };
    for only in
        ["", r#", "usedBytes": 0, "availableBytes": 0, "inodes": 0, "inodesFree": 0, "inodesUsed": 0"#]
    {
        assert_eq!(volume(&format!(r#", "capacityBytes": 64{only}"#)).stats, Some(size), "{only}");
    }
    let stats = |used, available, inodes: Option<(u64, u64)>| {
        let inodes = inodes.map(|(total, free)| Inodes { total, free });
        Some(Measurement::Filesystem(Usage { total: 64, used, available, inodes, read_only: false }))
    };
    let cases = [
        (r#""usedBytes": 1, "availableBytes": null"#, stats(Some(1), None, None)),
        (r#""usedBytes": 64, "availableBytes": 0, "inodes": 0"#, stats(Some(64), Some(0), None)),
        (
            r#""usedBytes": 0, "availableBytes": 64, "inodes": 9, "inodesFree": 0"#,
            stats(Some(0), Some(64), Some((9, 0))),
        ),
        // CephFS: −1 inodes are free.
        (
            r#""usedBytes": 4, "availableBytes": 60, "inodes": 9, "inodesFree": 18446744073709551615, "inodesUsed": 10"#,
            stats(Some(4), Some(60), None),
        ),
        // The reserve is exceeded, and then a quota.
        (r#""usedBytes": 60, "availableBytes": 18446744073709551608"#, stats(Some(60), Some(0), None)),
        (r#""usedBytes": 72, "availableBytes": 18446744073709551608"#, stats(Some(72), Some(0), None)),
        (r#""usedBytes": 18446744073709551608, "availableBytes": 72"#, stats(Some(0), Some(72), None)),
    ];
    for (figures, expected) in cases {
        assert_eq!(volume(&format!(r#", "capacityBytes": 64, {figures}"#)).stats, expected, "{figures}");
    }
    for time in ["", r#", "time": null"#, r#", "time": "yesterday""#, r#", "time": """#] {
        assert_eq!(volume(time).measured, None, "{time}");
    }
    assert_eq!(volume(r#", "volumeHealthStats": {}"#).abnormal, None);
}

#[test]
fn the_newest_of_a_claim_comes_first() {
    let volume = |name: &str, time: &str| format!(r#"{{"time": {time}, "pvcRef": {{"name": "{name}"}}}}"#);
    let times = [("b", r#""2026-11-22T01:13:30Z""#), ("d", "null"), ("a", r#""2026-11-22T01:14:00+00:00""#)];
    let volumes = times.map(|(name, time)| volume(name, time)).join(",");
    let (volumes, _) = read(&format!(r#"{{"pods": [{{{POD}, "volume": [{volumes}]}}]}}"#)).unwrap();
    assert_eq!(volumes.iter().map(|volume| volume.claim.name.as_str()).collect::<Vec<_>>(), ["a", "b", "d"]);
}

#[test]
fn what_is_no_summary_is_said() {
    for none in [r#"{"pods": null}"#, r#"{"pods": []}"#] {
        assert_eq!(brief(none), Ok((vec![], 0)), "{none}");
    }
    let deep = format!(r#"{{"pods": [{}"#, "[".repeat(10_000));
    let errors = [
        ("{}", "missing field `pods`"),
        ("7", "a summary"),
        ("<html>", "expected value"),
        ("", "EOF"),
        (r#"{"pods": [{"podRef": {"#, "EOF"),
        (r#"{"pods": {}}"#, "expected a sequence"),
        (r#"{"pods": []} {}"#, "trailing"),
        (&deep, "EOF"),
    ];
    for (json, expected) in errors {
        let error = brief(json).unwrap_err();
        assert!(error.contains(expected), "{json:.40}: {error}");
    }
}

#[test]
fn volumes_without_end_are_not_kept() {
    let volumes = |count| vec![r#"{"pvcRef": {"name": "a"}}"#; count].join(",");
    let pod = |count| format!(r#"{{{POD}, "volume": [{}]}}"#, volumes(count));
    let read = |pods: &[String]| read(&format!(r#"{{"pods": [{}]}}"#, pods.join(","))).map(|(v, _)| v.len());
    assert_eq!(read(&[pod(1), pod(9_999)]), Ok(10_000));
    assert_eq!(read(&[pod(9_999), pod(2)]), Ok(2), "the others' are there");
    assert_eq!(read(&[pod(10_001), pod(1)]), Ok(1));
}

#[test]
fn a_list_without_end_is_not_parsed_whole() {
    // 16 bytes each, once parsed: the largest answer would take 128 MiB.
    let many = vec!["1"; 10_001].join(",");
    assert_eq!(brief(&format!(r#"{{"pods": [{many}]}}"#)), Err("more than 10000 pods".into()));
    assert_eq!(brief(&format!(r#"{{"pods": [{{{POD}, "volume": [{many}]}}]}}"#)), Ok((vec![], 10_001)));
}

#[test]
fn names_longer_than_any_are_malformed() {
    let [long, most] = [254, 253].map(|length| "x".repeat(length));
    let pod = |pod: &str, claim: &str, namespace: &str| {
        format!(
            r#"{{"podRef": {{"name": "{pod}", "namespace": "shop", "uid": "u"}},
                "volume": [{{"pvcRef": {{"name": "{claim}", "namespace": "{namespace}"}}}}]}}"#
        )
    };
    let pods = [pod(&most, &most, &most), pod(&long, "a", "n"), pod("p", &long, "n"), pod("p", "a", &long)];
    let (volumes, malformed) = brief(&format!(r#"{{"pods": [{}]}}"#, pods.join(","))).unwrap();
    assert_eq!((volumes, malformed), (vec![format!("{most}/{most} in {most}")], 3));
}
