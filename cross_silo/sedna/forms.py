"""The well-formed spelling of each proposal field, for messages and documentation.

Sedna's proposals (issue 50) show them mis-indented or misspelt.
"""

from __future__ import annotations

from typing import Dict

FORMS: Dict[str, str] = {
    "stopCondition": 'spec.stopCondition: {operator: "or", conditions: [{metric: rounds, operator: ">=", '
    'threshold: 100}, {metric: targetAccuracy, operator: ">", threshold: 0.95}]}',
    "aggregationTrigger": 'spec.aggregationTrigger: {condition: {metric: num_of_ready_clients, operator: ">=", '
    "threshold: 5}}",
    "transmitter_list": "spec.transmitter: {transmitter_list: [{name: simple, parameters: [{name: sync_frequency, "
    'value: "10"}]}]}',
    "data_path": "spec.data_path: {train_path: coco128/images/train2017}",
    "platoConfig": "container environment variables, e.g. {name: epochs, value: '1'}",
}
MISSPELT = {"transimitter": "transmitter_list", "transimitter_list": "transmitter_list"}
"""As the proposals have them."""


def right_form(text: str) -> str:
    """Return the right form of the first proposal field that a text that is no YAML mentions; empty without one."""
    for name in (*FORMS, *MISSPELT):
        if f"{name}:" in text:
            return f"{name} is written so: {FORMS[MISSPELT.get(name, name)]}"
    return ""
