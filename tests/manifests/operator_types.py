"""Reads objects by models that are made from the operator's own definitions, and prints what is wrong with each: a value
that they refuse, or a field that they do not have and so drop."""

import json, sys
from cloudcoil.models.prometheus_operator import v1

def fault(thing):
    try:
        kept = getattr(v1, thing["kind"]).model_validate(thing)
    except ValueError as error:
        return str(error)
    kept = kept.model_dump(by_alias=True, exclude_unset=True, mode="json")
    return None if kept == thing else f"of {json.dumps(thing)} remains {json.dumps(kept)}"

json.dump([fault for fault in map(fault, json.load(sys.stdin)) if fault], sys.stdout)
