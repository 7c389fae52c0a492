use super::*;
use clap::{CommandFactory, FromArgMatches};

fn config(args: &[&str]) -> Result<Config, String> {
    let name = ["disk-usage-exporter"];
    let matches = Args::command_line().try_get_matches_from(name.iter().chain(args));
    let args = Args::from_arg_matches(&matches.map_err(|error| error.to_string())?).unwrap();
    Config::try_from(args).map_err(|error| error.to_string())
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
    assert_eq!((config.listen_host, config.listen_port), (None, 9274));
    assert_eq!((config.log.level, config.log.human), (LevelFilter::INFO, false));
    assert_eq!(config.stat_timeout, Duration::from_secs(2));
    assert_eq!(config.kubernetes.mode, KubernetesMode::Auto);
    assert_eq!(config.kubernetes.label_refresh, Duration::from_hours(1));
    assert_eq!(config.command, None);
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
    assert_eq!(config(&["--log-human", "metrics"]).unwrap().command, Some(Command::Metrics));
    assert!(human(&["--log-human=maybe"]).unwrap_err().contains("give true, false, 1 or 0"));
}

#[test]
fn the_old_exporters_names_are_known() {
    assert_eq!(config(&["--metrics-port", "9000"]).unwrap().listen_port, 9000);
    assert_eq!(config(&["--debug"]).unwrap().log.level, LevelFilter::DEBUG);
    assert_eq!(config(&["--debug", "--log-level=trace"]).unwrap().log.level, LevelFilter::TRACE);
}

#[test]
fn a_bad_value_names_flag_value_and_remedy() {
    let cases = [
        (&["--listen-port=99999"][..], &["99999", "--listen-port"][..]),
        (&["--log-level=loud"], &["loud", "--log-level", "give trace"]),
        (&["--stat-timeout=2"], &["'2'", "--stat-timeout", "give a duration"]),
        (&["--stat-timeout=0s"], &["'0s'", "--stat-timeout"]),
        (&["--volume-regex=x"], &["'x'", "--volume-regex", "(?P<name>"]),
        (&["--rootfs=/nowhere"], &["/nowhere", "--rootfs", "give the directory"]),
        (&["--kubelet-root=k"], &["\"k\"", "--kubelet-root", "/var/lib/kubelet"]),
        (&["--fixture=/nowhere"], &["/nowhere", "--fixture", "fixtures/nodes"]),
        (&["--fixture=/"], &["\"/\"", "--fixture", "no mountinfo", "fixtures/nodes"]),
        (&["--fixture=/", "--rootfs=/"], &["--fixture", "--rootfs", "leave one of them out"]),
        (&["--fixture=/", "metrics", "--objects=o"], &["--fixture", "--objects", "leave one of them out"]),
        (
            &["--volume-regex=(?P<name>x)", "--kubelet-root=/k"],
            &["--volume-regex", "--kubelet-root", "leave one"],
        ),
        (&["--sources=kubelet"], &["kubelet", "--sources", "give mounts"]),
        (&["--pv-labels=a b"], &["a b", "--pv-labels", "comma list"]),
        (&["--listen-host=no such"], &["no such", "--listen-host", "give an IP address"]),
    ];
    for (args, parts) in cases {
        let error = config(args).unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)), "{args:?}: {error}");
    }
}

#[test]
fn directories_are_made_whole() {
    let config = config(&["--rootfs", "/proc/self/root", "--kubelet-root", "/k//x/"]).unwrap();
    assert_eq!(config.kubelet_root, Some("/k/x".into()));
    assert_eq!(config.node.rootfs, Path::new("/proc/self/root"), "a way into another root, not a link to /");
}
