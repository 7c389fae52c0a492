//! Whole-program tests, one binary.

#![allow(clippy::float_cmp, reason = "figures are whole numbers, or made by the same arithmetic")]
#![allow(clippy::cast_precision_loss, reason = "so are their doubles")]

/// Servers that answer what cannot be.
mod absurd_figures;
/// Alerts as the chart's values change them.
mod alert_settings;
/// Shipped and stock alerts on a real Prometheus, with an Alertmanager.
mod alerts;
/// A well-behaved scraper, while clients, tenants, users of the node and servers attack together.
mod all_attacks;
/// How `CephFS` is asked.
mod cephfs;
/// The chart: refused values, names, notes, monitors, rules and dashboards.
mod chart;
/// What a claim asks for, when its volume is enlarged.
mod claim_resize;
/// The command line: errors, exit codes, the log, completions and the manual page.
mod cli;
/// The project's own rules: sizes, log events, the README's tables.
mod conformance;
/// The dashboards: what they ask for, a real Prometheus has.
mod dashboards;
/// `df`: the table for people.
mod df;
/// Links and commands of the README and all other documents.
mod documents;
/// Figures that mean unknown, or less than nothing, from both sources.
mod doubtful_figures;
/// Thousands of scrapes while everything comes and goes.
mod endurance;
/// Labels of claims: which become labels of series, and which say something by themselves.
mod excluded_claims;
/// Volumes that the settings exclude from being measured.
mod excluded_volumes;
/// Fixture nodes against their golden expositions, `promtool`, reference parsers and the real Prometheus.
mod fixtures;
/// The pods of `manifests/overlays/hardened`, as a kernel has them.
mod hardened;
/// Clients that mean harm, and one that does not.
mod hostility;
/// Mounts that hang, recover or are unmounted, also more than there are workers; stopping meanwhile.
mod hung_mounts;
/// Clients with less time than others, or than a mount needs.
mod hurried_scrapes;
/// An idle program makes no system calls.
mod idle;
/// The structure of `src`: no import cycles.
mod imports;
/// Installing it as the documents say, with `kubectl` and Helm.
mod install;
/// The kubelet beside mounts: it delays nothing that they show.
mod kubelet_beside_mounts;
/// Claims that the kubelet does not expose itself.
mod kubelet_missing;
/// The kubelet's names for what is mounted, with and without the kubelet's own figures.
mod kubelet_names;
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
/// The page on `/`, as it is sent and as a browser shows it.
mod page;
/// The objects of kind `PrometheusRule` for Kustomize, and the examples of docs/alerts.md.
mod prometheus_rules;
/// Whatever objects and mounts there are, the exposition is valid.
mod property;
/// File systems that cannot be written to, and mounts.
mod read_only;
/// When the program is ready.
mod readiness;
/// The API and a file of the same objects give the same series: with a fake server, or a real cluster.
mod real_cluster;
/// Block devices and ext4 on them: the system's own root is needed.
mod real_devices;
/// Real mounts, and FUSE servers that answer what cannot be, in mount namespaces.
mod real_mounts;
/// The moment between reading the table and measuring, with real mounts.
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
/// Volumes unmount as if the program were not there.
mod unmounts;
/// Which mounts are of the volume that has their name.
mod volume_identity;
/// File systems that have no capacity, or hide it.
mod without_capacity;
/// XFS that has shut itself down.
mod xfs;
