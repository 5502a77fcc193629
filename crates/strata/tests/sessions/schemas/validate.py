"""Validates documents by the schemas beside this file.

Standard input: a JSON list of [schema's file name, document's name, document]. Whatever is wrong is
written to standard output, one line each.
"""

import json
import os
import sys

from jsonschema import Draft4Validator

HERE = os.path.dirname(os.path.abspath(__file__))


def load(name):
    with open(os.path.join(HERE, name)) as file:
        return json.load(file)


def flat(node, file):
    """The schema with all references put in; they make no circle."""
    if isinstance(node, list):
        return [flat(each, file) for each in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        name, _, pointer = node["$ref"].partition("#")
        name = name or file
        target = load(name)
        for part in pointer.strip("/").split("/") if pointer.strip("/") else []:
            target = target[part]
        return flat(target, name)
    return {key: flat(value, file) for key, value in node.items() if key not in ("id", "$schema")}


for name, title, document in json.load(sys.stdin):
    for error in Draft4Validator(flat(load(name), name)).iter_errors(document):
        print(f"{title}: {'/'.join(map(str, error.path))}: {error.message}")
