#!/usr/bin/env python3
"""Makes rules.yaml of the files in ../rules: a PrometheusRule for each alert, and one for each group of recording rules."""

import re
from pathlib import Path

import yaml

HERE = Path(__file__).parent


class Dumper(yaml.SafeDumper):
    """Writes texts of several lines as such."""

    def ignore_aliases(self, data):
        return True


Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, "|" if "\n" in text else None),
)


def prometheus_rule(name, rules):
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": name, "namespace": "disk-usage-exporter"},
        "spec": {"groups": [{"name": name, "rules": rules}]},
    }


def of_group(group):
    records = [rule for rule in group["rules"] if "record" in rule]
    if records:
        yield prometheus_rule(group["name"], records)
    for rule in group["rules"]:
        if "alert" in rule:
            # VolumeNearlyFull is volume-nearly-full.
            yield prometheus_rule(re.sub(r"(?<!^)(?=[A-Z])", "-", rule["alert"]).lower(), [rule])


groups = [group for file in sorted(HERE.glob("../rules/*.yaml")) for group in yaml.safe_load(file.read_text())["groups"]]
objects = [made for group in groups for made in of_group(group)]
text = yaml.dump_all(objects, Dumper=Dumper, sort_keys=False, width=1000, allow_unicode=True)
(HERE / "rules.yaml").write_text(f"# Made by make.py: change manifests/rules instead.\n{text}")
