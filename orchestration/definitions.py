"""What `dagster dev`, the code server and workspace.yaml load. Everything is assembled in orchestration.build."""

from orchestration.build import build_defs

defs = build_defs()
