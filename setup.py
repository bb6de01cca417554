"""What pyproject.toml cannot say: a wheel takes along the two files in the root that the packages read."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


class BuildWithProfiles(build_py):
    """Copies them into resources/, where resources.profiles.packaged_file looks for them."""

    def run(self) -> None:
        super().run()
        # An editable installation reads them where they are.
        if not self.editable_mode:
            for name in ("candlecast.toml", "dagster.yaml"):
                self.copy_file(ROOT / name, Path(self.build_lib) / "resources" / name)


setup(cmdclass={"build_py": BuildWithProfiles})
