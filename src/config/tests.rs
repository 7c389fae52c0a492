use super::*;
use clap::CommandFactory;
use std::path::Path;
use tracing::level_filters::LevelFilter;

/// Of a directory that can be used.
const FIXTURE: &str = "--fixture=fixtures/nodes/csi";

fn config(args: &[&str]) -> Result<Config, String> {
    let name = ["disk-usage-exporter"];
    let args = Args::read(name.iter().chain(args)).map_err(|error| error.to_string())?;
    Config::try_from(args)
}

#[test]
fn the_arguments_are_well_formed() {
    Args::command_line().debug_assert();
}

#[test]
fn every_flag_has_its_environment_name_and_a_sentence_of_help() {
    for arg in
        Args::command().get_arguments().filter(|arg| !matches!(arg.get_id().as_str(), "help" | "version"))
    {
        let long = arg.get_long().unwrap();
        let name = long.replace('-', "_").to_uppercase();
        // These are known by their usual names.
        let is_usual = ["kubeconfig", "node-name"].contains(&long);
        let expected = if is_usual { name } else { format!("DISK_USAGE_EXPORTER_{name}") };
        assert_eq!(arg.get_env().and_then(|env| env.to_str()), Some(expected.as_str()), "--{long}");
        assert!(arg.get_help().is_some(), "--{long}");
    }
}

#[test]
fn defaults() {
    let config = config(&["--rootfs", "/"]).unwrap();
    assert_eq!((config.serving.listen_host, config.serving.listen_port), (None, 9274));
    assert_eq!((config.log.level, config.log.human), (LevelFilter::INFO, false));
    assert_eq!(config.stat_timeout, Duration::from_secs(2));
    assert_eq!(config.kubernetes.kubernetes, KubernetesMode::Auto);
    assert_eq!(config.kubernetes.label_refresh, Duration::from_hours(1));
    assert!(config.command.is_none());
}

#[test]
fn booleans_take_an_optional_value() {
    let human = |args: &[&str]| config(args).map(|config| config.log.human);
    for yes in ["--log-human", "--log-human=true", "--log-human=1"] {
        assert_eq!(human(&[yes]), Ok(true), "{yes}");
    }
    for no in ["--log-human=false", "--log-human=0"] {
        assert_eq!(human(&[no]), Ok(false), "{no}");
    }
    assert!(config(&["metrics", "--log-human"]).unwrap().log.human, "flags may follow the command");
    assert!(matches!(config(&["--log-human", "metrics"]).unwrap().command, Some(Command::Metrics)));
    assert!(human(&["--log-human=maybe"]).unwrap_err().contains("give true, false, 1 or 0"));
}

#[test]
fn the_old_exporters_names_are_known() {
    assert_eq!(config(&["--metrics-port", "9000"]).unwrap().serving.listen_port, 9000);
    assert_eq!(config(&["--debug"]).unwrap().log.level, LevelFilter::DEBUG);
    assert_eq!(config(&["--debug", "--log-level=trace"]).unwrap().log.level, LevelFilter::TRACE);
    for (name, level) in
        [("WARNING", LevelFilter::WARN), ("Critical", LevelFilter::ERROR), ("fatal", LevelFilter::ERROR)]
    {
        assert_eq!(config(&["--log-level", name]).unwrap().log.level, level);
    }
}

#[test]
fn what_is_said_about_asking_the_kubelet_makes_it_the_source() {
    let sources = |args: &[&str]| config(args).unwrap().sources;
    let chosen = |args: &[&str]| {
        let sources = sources(args);
        (sources.mounts, sources.kubelet, sources.kubelet_series.is_some())
    };
    let all = ["--rootfs=/", "--kubelet-volume-stats=all"];
    assert_eq!(chosen(&all[..1]), (true, false, false));
    assert_eq!(chosen(&all), (true, false, true));
    for flag in [
        "--kubelet-endpoint=https://127.0.0.1:10250",
        "--kubelet-ca-file=ca.crt",
        "--kubelet-server-name=node-1",
        "--insecure-skip-tls-verify=false",
        "--token-path=/token",
        "--scrape-interval=1m30s",
        "--kubelet-max-age=20m",
        "--sources=kubelet",
    ] {
        assert_eq!(chosen(&[flag]), (false, true, true), "{flag}");
        assert_eq!(chosen(&[flag, "--sources=mounts,kubelet"]), (true, true, true), "{flag}");
    }
    assert_eq!(chosen(&["--scrape-interval=1m", "--sources=mounts"]), (true, false, false));
    let names = |args: &[&str]| {
        let sources = sources(args);
        let series = sources.kubelet_series.map(|names| (names.only_missing_after, names.per_pod));
        (series, sources.needs_kubelet())
    };
    assert_eq!(names(&["--kubelet-volume-stats=all"]), (Some((None, false)), false));
    let missing = |delay| (Some((Some(delay), false)), true);
    assert_eq!(names(&["--kubelet-volume-stats=missing"]), missing(Duration::from_mins(2)));
    assert_eq!(names(&["--kubelet-volume-stats=missing", "metrics"]), missing(Duration::ZERO));
    let go = ["--sources=kubelet", "--kubelet-volume-stats-labels=pod"];
    assert_eq!(names(&go), (Some((None, true)), true));
}

#[test]
fn the_kubelet_is_asked_as_the_go_exporter_asked_it() {
    let defaults = config(&["--insecure-skip-tls-verify"]).unwrap().kubelet;
    assert_eq!(defaults.kubelet_endpoint, "https://127.0.0.1:10250/");
    assert_eq!(defaults.token_path, Path::new("/var/run/secrets/kubernetes.io/serviceaccount/token"));
    assert_eq!(
        (defaults.scrape_interval, defaults.kubelet_max_age, defaults.insecure_skip_tls_verify),
        (Duration::from_secs(30), Duration::from_mins(10), true)
    );
    // As its chart writes them.
    let args = [
        "--kubelet-endpoint=https://127.0.0.1:10250",
        "--metrics-port=8080",
        "--scrape-interval=1m30s",
        "--token-path=/var/run/secrets/kubernetes.io/serviceaccount/token",
        "--insecure-skip-tls-verify=true",
        "--debug=true",
    ];
    let config = config(&args).unwrap();
    assert_eq!((config.serving.listen_port, config.log.level), (8080, LevelFilter::DEBUG));
    assert_eq!(config.kubelet.scrape_interval, Duration::from_secs(90));
}

#[test]
fn a_bad_value_names_flag_value_and_remedy() {
    let cases = [
        (&["--listen-port=99999"][..], &["99999", "--listen-port"][..]),
        (&["--log-level=loud"], &["loud", "--log-level", "possible values: trace"]),
        (&["--stat-timeout=2"], &["'2'", "--stat-timeout", "give a duration"]),
        (&["--stat-timeout=0s"], &["'0s'", "--stat-timeout"]),
        (&["--volume-regex=x"], &["'x'", "--volume-regex", "(?P<name>"]),
        (&["--rootfs=/nowhere"], &["/nowhere", "--rootfs", "give the directory"]),
        (&["--kubelet-root=k"], &["'k'", "--kubelet-root", "/var/lib/kubelet"]),
        (&["--fixture=/nowhere"], &["/nowhere", "--fixture", "no mountinfo"]),
        (&["--fixture=/"], &["'/'", "--fixture", "no mountinfo", "fixtures/nodes"]),
        (&[FIXTURE, "--rootfs=/"], &["--fixture", "--rootfs", "leave one of them out"]),
        (&[FIXTURE, "metrics", "--objects=o"], &["--fixture", "--objects", "leave one of them out"]),
        (
            &["--volume-regex=(?P<name>x)", "--kubelet-root=/k"],
            &["--volume-regex", "--kubelet-root", "leave one"],
        ),
        (&["--sources=disks"], &["disks", "--sources", "possible values: mounts"]),
        (&["--sources="], &["--sources", "possible values: mounts"]),
        (&["--kubelet-endpoint=10.0.0.1:10250"], &["10.0.0.1:10250", "--kubelet-endpoint", "give https://"]),
        (&["--kubelet-server-name=a b"], &["a b", "--kubelet-server-name", "give a host name"]),
        (
            &["--kubelet-volume-stats=some"],
            &["some", "--kubelet-volume-stats", "possible values: auto, all, missing"],
        ),
        (
            &["--kubelet-volume-stats-labels=no"],
            &["no", "--kubelet-volume-stats-labels", "possible values: kubelet, pod"],
        ),
        (&["--kubelet-volume-stats-labels=pod"], &["labels=pod", "give --kubelet-volume-stats=all"]),
        (&["--scrape-interval=30"], &["30", "--scrape-interval", "give a duration"]),
        (&["--insecure-skip-tls-verify=yes"], &["yes", "--insecure-skip-tls-verify", "give true"]),
        (
            &["--kubelet-volume-stats=off", "--sources=mounts,kubelet"],
            &["--kubelet-volume-stats=off", "--sources=mounts"],
        ),
        (&["--sources=kubelet", "--objects=o"], &["--objects", "--sources=mounts,kubelet"]),
        (&["--kubelet-endpoint=http://x:1", FIXTURE], &["--fixture", "--sources=mounts,kubelet"]),
        (&["--sources=mounts,kubelet", FIXTURE], &["--fixture", "--sources", "leave one"]),
        (&["--kubelet-volume-stats=missing", FIXTURE], &["--fixture", "missing", "leave one"]),
        (&["--sources=kubelet", "--kubernetes=required"], &["--kubernetes=required", "--sources=mounts"]),
        (&["--pv-labels=a b"], &["a b", "--pv-labels", "comma list"]),
        (&["--fs-types-exclude=nfs,,ext4"], &["'nfs,,ext4'", "--fs-types-exclude", "\"\" is no name; give"]),
        (&["--fs-types-exclude=n*s"], &["'n*s'", "--fs-types-exclude", "comma list of names and `prefix*`"]),
        (
            &["--storage-classes-exclude=a,!b"],
            &["'a,!b'", "--storage-classes-exclude", "\"!b\" is no name; give"],
        ),
        (&["--namespaces-exclude=dev-*,"], &["'dev-*,'", "--namespaces-exclude", "\"\" is no name; give"]),
        (
            &["--sources=kubelet", "--fs-types-exclude=nfs"],
            &["--fs-types-exclude", "--sources=mounts,kubelet"],
        ),
        (
            &["--sources=kubelet", "--storage-classes-exclude=a"],
            &["--storage-classes-exclude", "--sources=mounts,kubelet"],
        ),
        (&["--listen-host=no such"], &["no such", "--listen-host", "give an IP address"]),
    ];
    for (args, parts) in cases {
        let error = config(args).unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)), "{args:?}: {error}");
    }
}

#[test]
fn volumes_are_excluded_by_lists_of_which_none_is_needed() {
    let exclusions = |args: &[&str]| config(args).unwrap().exclusions;
    let is_empty = |args: &[&str]| {
        let Exclusions { fs_types, storage_classes, namespaces } = exclusions(args);
        [fs_types, storage_classes, namespaces].map(|patterns| patterns.is_empty())
    };
    assert_eq!(is_empty(&["--rootfs=/"]), [true; 3]);
    // As a variable that is set to nothing.
    assert_eq!(
        is_empty(&["--sources=kubelet", "--fs-types-exclude=", "--storage-classes-exclude="]),
        [true; 3]
    );
    assert_eq!(is_empty(&["--rootfs=/", "--storage-classes-exclude=a"]), [true, false, true]);
    assert!(exclusions(&["--sources=kubelet", "--namespaces-exclude=a,dev-*"]).namespaces.matches("dev-1"));
}

#[test]
fn a_bad_value_of_df_names_flag_value_and_remedy() {
    let cases = [
        (&["-o=size%"][..], &["size%", "--output", "comma list of namespace, claim"][..]),
        (&["--over=101"], &["101", "--over", "give a percentage"]),
        (&["--over=NaN"], &["NaN", "--over", "give a percentage"]),
        (&["--over=-1"], &["-1", "--over", "give a percentage"]),
        (&["--watch=5"], &["'5'", "--watch", "give a duration"]),
        (&["-n", "A b"], &["A b", "--namespace", "kubectl get namespaces"]),
        (&["-b", "-i"], &["--bytes", "--inodes"]),
    ];
    for (args, parts) in cases {
        let typed = ["disk-usage-exporter", "df"].iter().chain(args);
        let error = Args::command_line().try_get_matches_from(typed).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{args:?}: {error}");
    }
}

#[test]
fn directories_are_made_whole() {
    let config = config(&["--rootfs", "/proc/self/root", "--kubelet-root", "/k//x/"]).unwrap();
    assert_eq!(config.node.matcher.kubelet_root, Some("/k/x".into()));
    assert_eq!(config.node.rootfs, Path::new("/proc/self/root"), "a way into another root, not a link to /");
}
