#!/usr/bin/env python3
"""Writes the dashboards beside it: `manifests/dashboards/make.py`. A test holds the JSON files to it."""

import json
import pathlib

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
# A volume that does not fill up has ten years left: a table cannot show infinity.
NEVER = 10 * 365 * 24 * 3600
PERCENT = [(None, "green"), (85, "orange"), (97, "red")]
ANY_IS_BAD = [(None, "green"), (1, "red")]
UNTIL_FULL = [(None, "red"), (4 * 24 * 3600, "orange"), (30 * 24 * 3600, "green")]


def until_full(labels, selector):
    """Seconds until nothing is available, if it goes on as in the last six hours."""
    shrinks = f"max by ({labels}) (-deriv(pv_disk_usage_bytes_available{{{selector}}}[6h]))"
    left = f"max by ({labels}) (pv_disk_usage_bytes_available{{{selector}}})"
    return f"clamp_max({left} / clamp_min({shrinks}, 0.000001), {NEVER})"


def thresholds(steps):
    return {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in steps]}


def field(unit="short", steps=((None, "green"),), **more):
    return {"unit": unit, "thresholds": thresholds(steps), **more}


def panel(kind, title, width, height, queries, defaults, description="", options=None, **more):
    """A panel; `queries` are pairs of expression and legend."""
    is_range = kind in ("timeseries", "state-timeline")
    targets = [
        {
            "refId": chr(ord("A") + i),
            "datasource": DATASOURCE,
            "expr": expr,
            "legendFormat": legend or "__auto",
            "instant": not is_range,
            "range": is_range,
            "format": "table" if kind == "table" else "time_series",
        }
        for i, (expr, legend) in enumerate(queries)
    ]
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "gridPos": {"w": width, "h": height},
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": more.pop("overrides", [])},
        "options": options or {},
        **more,
    }


def stat(title, width, query, defaults, description=""):
    last = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    options = {"reduceOptions": last, "colorMode": "value", "graphMode": "none"}
    return panel("stat", title, width, 4, [(query, None)], defaults, description, options)


def graph(title, width, queries, unit, description="", stacked=False, **more):
    custom = {"fillOpacity": 10, "showPoints": "never", "stacking": {"mode": "normal" if stacked else "none"}}
    legend = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
    options = {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
    defaults = field(unit, custom=custom, min=0, **more)
    return panel("timeseries", title, width, 8, queries, defaults, description, options)


def column(name, **properties):
    values = [{"id": key.replace("__", "."), "value": value} for key, value in properties.items()]
    return {"matcher": {"id": "byName", "options": name}, "properties": values}


def table(title, width, height, queries, names, overrides=(), sort=None, description=""):
    """One row for each label set; `names` are the columns' names by label, and by `Value #A`, `Value #B`, ..."""
    organize = {
        "excludeByName": {"Time": True, **({} if len(queries) > 1 else {"Value": True})},
        "renameByName": names,
        "indexByName": {name: index for index, name in enumerate(names)},
    }
    transformations = [{"id": "merge", "options": {}}, {"id": "organize", "options": organize}]
    options = {"sortBy": [{"displayName": sort, "desc": True}]} if sort else {}
    pairs = [(query, None) for query in queries]
    return panel(
        "table", title, width, height, pairs, field(), description, options,
        transformations=transformations, overrides=list(overrides),
    )


def row(title):
    return {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": {"w": 24, "h": 1}}


def variable(name, query, label, multi=False, optional=False):
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": multi,
        "includeAll": optional,
        # Also what has no such label.
        **({"allValue": ".*", "current": {"text": "All", "value": "$__all"}} if optional else {}),
    }


def dashboard(uid, title, description, variables, panels, links=()):
    x = y = height = 0
    for number, item in enumerate(panels, 1):
        place = item["gridPos"]
        if x + place["w"] > 24:
            x, y, height = 0, y + height, 0
        item["id"] = number
        place.update(x=x, y=y)
        x, height = x + place["w"], max(height, place["h"])
    source = {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus"}
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["disk-usage-exporter", "kubernetes", "storage"],
        "schemaVersion": 41,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "1m",
        "time": {"from": "now-24h", "to": "now"},
        "templating": {"list": [source, *variables]},
        "links": list(links),
        "annotations": {"list": []},
        "panels": panels,
    }


CLUSTER = variable("cluster", "label_values(pv_disk_usage_up, cluster)", "Cluster", optional=True)
VOLUMES_UID = "disk-usage-exporter-volumes"
CLAIM_UID = "disk-usage-exporter-claim"


def volumes():
    of = 'cluster=~"$cluster"'
    chosen = of + ', pvc_namespace=~"$namespace"'
    volume = "cluster, pvc_namespace, pvc_name, pv_name"

    def largest(metric):
        return f"max by ({volume}) ({metric}{{{chosen}}})"

    def part(labels):
        """What each volume uses: its part, where it shares a file system with others."""
        used = f"pv_disk_usage_bytes_used{{{chosen}}}"
        shared = f"max by (cluster, instance, pv_name) (pv_disk_usage_filesystem_volumes{{{of}}})"
        return f"max by ({labels}) ({used} / on (cluster, instance, pv_name) group_left () {shared} or {used})"

    def by_class(figures):
        # A volume whose PersistentVolume was made anew may have two.
        info = (
            "topk by (cluster, pv_name) (1, group by (cluster, pv_name, storage_class) "
            f'(pv_disk_usage_volume_info{{{chosen}, storage_class!=""}}))'
        )
        return f"sum by (storage_class) ({figures} * on (cluster, pv_name) group_left (storage_class) {info})"

    def ours(expr):
        return f"max({expr} and on (cluster, instance) disk_usage_exporter_build_info{{{of}}})"

    def how_many(expr):
        return f"count(group by (cluster, pv_name) ({expr})) or vector(0)"

    fullest = f"topk(100, {largest('pv_disk_usage_percent_used')})"
    name = "{{pvc_namespace}}/{{pvc_name}} {{pv_name}}"
    once = "A volume on several nodes counts once, and so does a file system: each of its volumes has its part."
    bar = {"type": "gauge", "mode": "basic"}
    link = (
        f"/d/{CLAIM_UID}?${{datasource:queryparam}}&${{cluster:queryparam}}"
        "&var-namespace=${__data.fields.Namespace}&var-claim=${__data.fields.Claim}"
    )
    # An object store has no capacity: that is no failure.
    errors = f'pv_disk_usage_error{{{of}, reason!="no_figures"}}'
    failing = f"{errors} and on (cluster, instance, pv_name) pv_disk_usage_up{{{chosen}}}"
    panels = [
        stat("Volumes", 4, how_many(f"pv_disk_usage_up{{{chosen}}}"), field()),
        stat(
            "Nearly full", 4, how_many(f"pv_disk_usage_percent_used{{{chosen}}} > 97"), field(steps=ANY_IS_BAD),
            "More than 97 % used.",
        ),
        stat(
            "Nearly out of inodes", 4, how_many(f"pv_disk_usage_inodes_percent_used{{{chosen}}} > 97"),
            field(steps=ANY_IS_BAD), "More than 97 % used.",
        ),
        stat(
            "Not measured", 4, how_many(f"pv_disk_usage_up{{{chosen}}} == 0 and on (cluster, instance, pv_name) {errors}"),
            field(steps=ANY_IS_BAD),
            "On some node.",
        ),
        stat(
            "Read-only", 4, how_many(f"pv_disk_usage_filesystem_readonly{{{chosen}}} == 1"), field(),
            "The file system itself, on some node.",
        ),
        stat("Nodes", 4, f"count(disk_usage_exporter_build_info{{{of}}})", field(), "With an exporter that answers."),
        table(
            "Fullest volumes", 24, 12,
            [
                fullest,
                f"{largest('pv_disk_usage_bytes_available')} and {fullest}",
                f"{largest('pv_disk_usage_bytes_total')} and {fullest}",
                f"{until_full(volume, chosen)} and {fullest}",
                f"{largest('pv_disk_usage_inodes_percent_used')} and {fullest}",
            ],
            {
                "cluster": "Cluster", "pvc_namespace": "Namespace", "pvc_name": "Claim", "pv_name": "Volume",
                "Value #A": "Used", "Value #B": "Available", "Value #C": "Size", "Value #D": "Full in",
                "Value #E": "Inodes used",
            },
            [
                column("Used", unit="percent", min=0, max=100, thresholds=thresholds(PERCENT), custom__cellOptions=bar),
                column(
                    "Inodes used", unit="percent", min=0, max=100, thresholds=thresholds(PERCENT),
                    custom__cellOptions=bar,
                ),
                column("Available", unit="bytes"),
                column("Size", unit="bytes"),
                column(
                    "Full in", unit="s", decimals=1, thresholds=thresholds(UNTIL_FULL),
                    custom__cellOptions={"type": "color-text"},
                    mappings=[{"type": "value", "options": {str(NEVER): {"text": "–"}}}],
                ),
                column("Claim", links=[{"title": "The claim", "url": link}]),
            ],
            "Used",
            "Full in: if it goes on as in the last six hours. Directories of one disk each show that disk's figures.",
        ),
        graph(
            "Fullest", 12, [(f"topk(10, {largest('pv_disk_usage_percent_used')})", name)], "percent", max=100,
        ),
        graph(
            "Most inodes used", 12,
            [(f"topk(10, {largest('pv_disk_usage_inodes_percent_used')})", name)], "percent", max=100,
        ),
        graph(
            "Used by namespace", 12, [(f"sum by (pvc_namespace) ({part('cluster, pvc_namespace, pv_name')})", "{{pvc_namespace}}")], "bytes", once,
            stacked=True,
        ),
        graph(
            "Used by storage class", 12, [(by_class(part("cluster, pv_name")), "{{storage_class}}")], "bytes", once, stacked=True,
        ),
        graph(
            "Mounts not measured, by reason", 12,
            [(f"count by (reason) (group by (cluster, pv_name, reason) ({failing}))", "{{reason}}")],
            "short", stacked=True, decimals=0,
        ),
        table(
            "Mounts not measured now", 12, 8, [f"group by (cluster, node, pv_name, reason) ({failing})"],
            {"cluster": "Cluster", "node": "Node", "pv_name": "Volume", "reason": "Reason"},
        ),
        row("Exporters"),
        graph(
            "Volumes by state", 12, [(f"sum by (state) (disk_usage_exporter_volumes{{{of}}})", "{{state}}")], "short",
            stacked=True,
        ),
        graph(
            "Sources that fail", 12,
            [(f"1 - avg by (source) (disk_usage_exporter_source_success{{{of}}})", "{{source}}")], "percentunit",
            "Share of the nodes on which the source cannot be read.", max=1,
        ),
        graph(
            "Duration", 8,
            [
                (f"max(pv_disk_usage_timing_collect_seconds{{{of}}})", "longest collection"),
                (f"quantile(0.5, pv_disk_usage_timing_collect_seconds{{{of}}})", "median collection"),
                (f"max(pv_disk_usage_timing_total_seconds{{{of}}})", "longest scrape"),
            ],
            "s",
        ),
        graph("Age of labels", 8, [(f"max(disk_usage_exporter_metadata_age_seconds{{{of}}})", "oldest")], "s"),
        graph(
            "Mounts that do not arrive", 8,
            [
                (f"count(disk_usage_exporter_mount_propagation{{{of}}} == 0) or vector(0)", "not propagated"),
                (f"sum(disk_usage_exporter_unpropagated_mounts{{{of}}}) or vector(0)", "volumes not seen"),
                (f"sum(disk_usage_exporter_stale_kubelet_volumes{{{of}}}) or vector(0)", "stale in the kubelet"),
            ],
            "short",
        ),
        graph("Memory", 8, [(ours("process_resident_memory_bytes"), "largest")], "bytes"),
        graph("CPU", 8, [(ours("rate(process_cpu_seconds_total[$__rate_interval])"), "busiest")], "percentunit"),
        graph(
            "Versions", 8, [(f"count by (version) (disk_usage_exporter_build_info{{{of}}})", "{{version}}")], "short",
            stacked=True,
        ),
    ]
    namespaces = f"label_values(pv_disk_usage_volume_info{{{of}}}, pvc_namespace)"
    variables = [CLUSTER, variable("namespace", namespaces, "Namespace", multi=True, optional=True)]
    return dashboard(VOLUMES_UID, "Volumes", "How full the volumes of a cluster are.", variables, panels)


def claim():
    of = 'cluster=~"$cluster"'
    chosen = of + ', pvc_namespace="$namespace", pvc_name="$claim"'

    def figure(metric):
        # A claim of another cluster is another one, also where all clusters are chosen.
        return f"max by (cluster) (pv_disk_usage_{metric}{{{chosen}}})"

    def its(metric):
        info = f"pv_disk_usage_volume_info{{{chosen}}}"
        return f"pv_disk_usage_{metric}{{{of}}} and on (cluster, instance, pv_name) {info}"

    never = [{"type": "value", "options": {str(NEVER): {"text": "–"}}}]
    values = {"0": {"text": "no", "color": "red"}, "1": {"text": "yes", "color": "green"}}
    is_up = [{"type": "value", "options": values}]
    panels = [
        stat("Used", 4, figure("percent_used"), field("percent", PERCENT)),
        stat("Available", 4, figure("bytes_available"), field("bytes")),
        stat("Size", 4, figure("bytes_total"), field("bytes")),
        stat("Requested", 4, figure("claim_requested_bytes"), field("bytes"), "What the claim asks for."),
        stat(
            "Full in", 4, f"min by (cluster) ({until_full('cluster, pv_name', chosen)})",
            field("s", UNTIL_FULL, decimals=1, mappings=never), "If it goes on as in the last six hours.",
        ),
        stat("Inodes used", 4, figure("inodes_percent_used"), field("percent", PERCENT)),
        graph(
            "Space", 12,
            [
                (figure("bytes_used"), "used {{cluster}}"),
                (figure("bytes_available"), "available {{cluster}}"),
                (figure("bytes_total"), "size {{cluster}}"),
            ],
            "bytes",
        ),
        graph(
            "Inodes", 12,
            [
                (figure("inodes_used"), "used {{cluster}}"),
                (figure("inodes_available"), "free {{cluster}}"),
                (figure("inodes"), "all {{cluster}}"),
            ],
            "short",
        ),
        graph(
            "Requested and real size", 12,
            [
                (figure("claim_requested_bytes"), "requested {{cluster}}"),
                (figure("bytes_total"), "size {{cluster}}"),
            ],
            "bytes",
            "A size far above what was requested is that of a disk that the volume shares with others.",
        ),
        panel(
            "state-timeline", "Measured", 12, 8, [(f"min by (cluster, node) (pv_disk_usage_up{{{chosen}}})", "{{cluster}} {{node}}")],
            field(mappings=is_up), "On each node that has the volume.",
        ),
        table(
            "Pods and mounts", 24, 7,
            [
                "group by (cluster, node, pod_namespace, pod_name, device, root, mountpoint, fstype, access) "
                f"({its('mount_info')})"
            ],
            {
                "cluster": "Cluster", "node": "Node", "pod_namespace": "Namespace", "pod_name": "Pod",
                "device": "Device", "root": "Directory of it", "mountpoint": "Mounted at", "fstype": "File system",
                "access": "Access",
            },
        ),
        table(
            "Volume", 12, 6,
            [
                "group by (cluster, pv_name, storage_class, volume_type, volume_instance, volume_mode, access_modes) "
                f"(pv_disk_usage_volume_info{{{chosen}}})"
            ],
            {
                "cluster": "Cluster", "pv_name": "Volume", "storage_class": "Storage class", "volume_type": "Kind",
                "volume_instance": "Instance", "volume_mode": "Mode", "access_modes": "Access modes",
            },
        ),
        table(
            "Mounts not measured now", 12, 6, [f"group by (cluster, node, pv_name, reason) ({its('error')})"],
            {"cluster": "Cluster", "node": "Node", "pv_name": "Volume", "reason": "Reason"},
        ),
    ]
    info = f"pv_disk_usage_volume_info{{{of}"
    variables = [
        CLUSTER,
        variable("namespace", f"label_values({info}}}, pvc_namespace)", "Namespace"),
        variable("claim", f'label_values({info}, pvc_namespace="$namespace"}}, pvc_name)', "Claim"),
    ]
    back = {"type": "link", "title": "Volumes", "url": f"/d/{VOLUMES_UID}", "keepTime": True}
    return dashboard(CLAIM_UID, "Claim", "One claim: its history, its volume, its pods.", variables, panels, [back])


if __name__ == "__main__":
    for name, content in {"volumes": volumes(), "claim": claim()}.items():
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        pathlib.Path(__file__).with_name(f"{name}.json").write_text(text, encoding="utf-8")
