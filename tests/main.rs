//! Whole-program tests, one binary.

#![allow(clippy::float_cmp, reason = "figures are whole numbers, or made by the same arithmetic")]
#![allow(clippy::cast_precision_loss, reason = "so are their doubles")]

/// Servers that say what cannot be.
mod absurd_figures;
/// Alerts as clusters have them, on a real Prometheus.
mod alerts;
/// What Helm makes of the chart.
mod chart;
/// The command line: errors, exit codes, the log.
mod cli;
/// The project's own rules: sizes, the README's tables, the manifests.
mod conformance;
/// The dashboards: what they ask for, a real Prometheus has.
mod dashboards;
/// The table for people.
mod df;
/// Links and commands of the README and all other documents.
mod documents;
/// Thousands of scrapes while everything comes and goes.
mod endurance;
/// Fixture nodes against their golden expositions.
mod fixtures;
/// The pods of `manifests/overlays/hardened`, as a kernel has them.
mod hardened;
/// Clients that mean harm, and one that does not.
mod hostility;
/// More mounts than threads to ask them with, hanging or slow.
mod hung_many;
/// Mounts that hang, in every way.
mod hung_mounts;
/// Mounts that hang, and then do not.
mod hung_recovery;
/// Stopping while mounts hang.
mod hung_stop;
/// While nobody asks, nothing is done.
mod idle;
/// The structure of `src`: no import cycles.
mod imports;
/// Installing it as the documents say, with `kubectl` and Helm.
mod install;
/// The kubelet, gone, hanging or talking nonsense.
mod kubelet_failures;
/// The kubelet's names for what is mounted, with and without the kubelet's own figures.
mod kubelet_names;
/// Which directories are a kubelet's, and what its files may be.
mod kubelet_roots;
/// The kubelet's own figures, and how often it is asked for them.
mod kubelet_source;
/// The kubelet's certificate, of all kinds.
mod kubelet_tls;
/// Who asks the Kubernetes API, and what if it does not let them.
mod kubernetes_access;
/// Which volume a name stands for when it is mounted again, reused or claimed by another.
mod kubernetes_identity;
/// What the API server is asked about volumes and their claims, and what is known by it.
mod kubernetes_lookups;
/// Whatever an API server answers, and when.
mod kubernetes_model;
/// The API server, gone, hanging or talking nonsense.
mod kubernetes_outages;
/// The watch of the node's pods.
mod kubernetes_pods;
/// The whole program with an API server.
mod kubernetes_program;
/// What a large cluster, large objects and many volumes cost.
mod kubernetes_scale;
/// The log, when nobody reads it.
mod log;
/// What `kubectl` makes of the manifests.
mod manifests;
/// What shells and `man` make of what the program says of itself.
mod manual;
/// `MIGRATION.md` against the other exporters and this one.
mod migration;
/// What objects say, as a file or a kubeconfig has them.
mod objects_file;
/// The page on `/`, as it is sent and as a browser shows it.
mod page;
/// The real Prometheus, its `promtool`, and `OpenMetrics`' reference parser.
mod prometheus;
/// Whatever objects and mounts there are, the exposition is valid.
mod property;
/// Against a real cluster, where there is one.
mod real_cluster;
/// Block devices and ext4 on them: the system's own root is needed.
mod real_devices;
/// Real mounts, in mount namespaces of the tests' own.
mod real_mounts;
/// The moment between reading the table and measuring, with real mounts.
mod real_races;
/// The shipped rules: by `promtool`, and with a real Prometheus and Alertmanager.
mod rules;
/// HTTP: routes, limits, sharing, stopping.
mod server;
/// Many clients of the HTTP server: who waits, who makes room, and how much memory they hold.
mod server_fairness;
/// One client of the HTTP server: how long it may take, and stopping.
mod server_timeouts;
mod support;
/// Volumes unmount as if the program were not there.
mod unmounts;
