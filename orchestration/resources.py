"""The resource of the code location, as the UI shows it.

https://docs.dagster.io/guides/build/external-resources. Not here: what it creates (resources.candlecast).
"""

import os

import dagster as dg
from pydantic import Field

from resources.candlecast import Candlecast
from resources.profiles import ENV_FILE, load_settings
from resources.settings import Settings

# The name by which assets, checks and sensors ask for it.
RESOURCE = "candlecast"


class CandlecastResource(dg.ConfigurableResource[Candlecast]):
    """Loads the settings of one profile at the start of a run, and refuses a home with bars of another profile.

    Another profile can be given in the launchpad.
    """

    settings_file: str | None = Field(
        None, description=f"path of the settings file; none: {ENV_FILE}, or the nearest candlecast.toml"
    )
    profile: str = Field(description="name of a profile in the settings file")
    home: str = Field(description="folder of the lake, the warehouse, the checkpoints and the reports")

    @classmethod
    def of(cls, settings: Settings) -> "CandlecastResource":
        """The resource that loads these settings again, from the same file and environment."""
        return cls(settings_file=os.environ.get(ENV_FILE), profile=settings.profile, home=str(settings.home))

    def create_resource(self, context: dg.InitResourceContext) -> Candlecast:
        from orchestration.home_owner import claim_home

        settings = load_settings(self.settings_file, self.profile, self.home)
        claim_home(settings)
        if context.run and context.run.job_name == "daily":
            from assets.forecasting.companion import start_companion

            # It imports torch while the run ingests its session.
            start_companion(settings)
        return Candlecast(settings)
