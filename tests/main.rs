//! Whole-program tests, one binary.

#![allow(clippy::float_cmp, reason = "figures are whole numbers, or made by the same arithmetic")]
#![allow(clippy::cast_precision_loss, reason = "so are their doubles")]

/// Alerts as the chart's values change them.
mod alert_settings;
/// Shipped and stock alerts on a real Prometheus, with an Alertmanager.
mod alerts;
/// A well-behaved scraper, while clients, tenants, users of the node and servers attack together.
mod all_attacks;
/// The chart: refused values, names, notes, monitors, rules and dashboards.
mod chart;
/// The command line: errors, exit codes, the log, completions and the manual page.
mod cli;
/// The project's own rules: sizes, log events, the README's tables, no import cycles in `src`.
mod conformance;
/// The dashboards: what they ask for, a real Prometheus has.
mod dashboards;
/// `df`: the table for people.
mod df;
/// Links and commands of the README and all other documents.
mod documents;
/// Thousands of scrapes while everything comes and goes.
mod endurance;
/// Labels of claims: which become labels of series, and which say something by themselves.
mod excluded_claims;
/// Volumes that the settings exclude from being measured.
mod excluded_volumes;
/// Figures that are impossible, unknown or hidden, from both sources, and how `CephFS` is asked.
mod figures;
/// Fixture nodes against their golden expositions, `promtool`, reference parsers and the real Prometheus.
mod fixtures;
/// Clients that mean harm, and one that does not.
mod hostility;
/// Mounts that hang, recover or are unmounted, also more than there are workers; stopping meanwhile.
mod hung_mounts;
/// Clients with less time than others, or than a mount needs.
mod hurried_scrapes;
/// Installing it as the documents say, with `kubectl` and Helm.
mod install;
/// The kubelet beside mounts: its names for what is mounted, and claims that it does not expose itself.
mod kubelet_and_mounts;
/// Requests to the kubelet: failures, retries, how long an answer is used, which certificates are trusted.
mod kubelet_requests;
/// Which directories are a kubelet's, and what its files may be.
mod kubelet_roots;
/// The whole program with the kubelet as its source.
mod kubelet_source;
/// Credentials for the Kubernetes API, and settings that cannot be used.
mod kubernetes_access;
/// Volumes and claims that are mounted again, made again or reused under one name.
mod kubernetes_identity;
/// Lookups of volumes and claims: requests, caching, refreshes.
mod kubernetes_lookups;
/// Property test of the cached objects against a model of the API server.
mod kubernetes_model;
/// Outages of the API server: hanging, closed, wrong or endless responses.
mod kubernetes_outages;
/// The watch of the node's pods.
mod kubernetes_pods;
/// The whole program with an API server.
mod kubernetes_program;
/// Requests and memory in a large cluster, and with large pods.
mod kubernetes_scale;
/// What `kubectl` makes of the manifests and Helm of the chart: objects, arguments, rights, privileges.
mod manifests;
/// `MIGRATION.md` against the other exporters and this one.
mod migration;
/// The file of objects (`--objects`), and the fields that are used of objects.
mod objects_file;
/// Mounts at a volume's path that are not what the kubelet makes.
mod odd_mounts;
/// The page on `/`, as it is sent and as a browser shows it.
mod page;
/// The objects of kind `PrometheusRule` for Kustomize, and the examples of docs/alerts.md.
mod prometheus_rules;
/// Whatever objects and mounts there are, the exposition is valid.
mod property;
/// File systems that cannot be written to, and mounts.
mod read_only;
/// The API and a file of the same objects give the same series: with a fake server, or a real cluster.
mod real_cluster;
/// Block devices, file systems on them, and the container of `manifests/overlays/hardened`: the system's own root is needed.
mod real_devices;
/// Real mounts in mount namespaces: what is shown of them, and when the program rests.
mod real_mounts;
/// Mounts that come and go while they are measured, and unmount as if the program were not there.
mod real_races;
/// Rules give the same in Prometheus and in `VictoriaMetrics`.
mod rule_portability;
/// The shipped rules: `promtool`, runbooks, the README's table.
mod rules;
/// The limits of the shipped scrape jobs and monitors, and the most that there is to scrape.
mod scrape_limits;
/// HTTP: routes, limits, sharing, stopping.
mod server;
/// What clients of the HTTP server may take of it: time, connections, memory.
mod server_limits;
/// Which volumes count as sharing a file system.
mod shared_filesystems;
mod support;
/// What whoever may make pods, claims and labels can do to the exporter: nothing.
mod tenants;
/// Fewer threads than mounts that hang, and hardly any.
mod thread_exhaustion;
/// Volumes and claims that are made again, resized or new: whose labels, and when the program is ready.
mod volume_changes;
