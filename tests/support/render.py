"""Releases the chart with each of the values that it is given; JSON in, JSON out."""

import json, sys
import helm_python

chart = helm_python.Chart.load(sys.argv[1])

def rendered(values):
    try:
        return {"Ok": chart.render(values, name=sys.argv[2], namespace=sys.argv[3])}
    except helm_python.HelmError as error:
        return {"Err": str(error)}

json.dump([rendered(values) for values in json.load(sys.stdin)], sys.stdout)
