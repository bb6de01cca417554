"""The code location that `dagster dev`, the code server and workspace.yaml load. Built in orchestration.build."""

from orchestration.build import build_defs

defs = build_defs()
