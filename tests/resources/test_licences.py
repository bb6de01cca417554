"""Licences of models: what permits commercial use, and that compute.licences refuses what does not fit."""

from pathlib import Path

import pytest

from resources.errors import SettingsError
from resources.licences import permits_commercial_use, refusal
from resources.profiles import load_settings


@pytest.mark.parametrize(
    ("licence", "permits"),
    [
        ("MIT", True),
        ("apache-2.0", True),
        ("CC-BY-4.0", True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", True),
        ("LicenseRef-Commercial", True),
        ("CC-BY-NC-4.0", False),
        ("CC-BY-NC-SA-3.0-IGO", False),
        ("PolyForm-Noncommercial-1.0.0", False),
        ("MIT AND CC-BY-NC-4.0", False),
        ("MIT OR CC-BY-NC-4.0", True),
        ("(MIT OR unknown) AND (Apache-2.0 AND CC-BY-NC-ND-4.0)", False),
        ("unknown", None),
        ("unknown: see the folder", None),
        ("NXAI Community License", None),
        ("MIT AND LicenseRef-Own", None),
        ("", None),
    ],
)
def test_a_licence_or_expression_permits_forbids_or_is_not_known(licence: str, permits: bool | None) -> None:
    assert permits_commercial_use(licence) is permits
    assert (refusal(licence, "commercial", "models.a.licence") is None) == bool(permits)
    assert refusal(licence, "any", "models.a.licence") is None


@pytest.mark.parametrize(("section", "key"), [("models.own", "models.own.licence"), ("predictor", "predictor.licence")])
def test_a_stated_licence_that_does_not_fit_is_refused_when_the_settings_are_loaded(
    tmp_path: Path, section: str, key: str
) -> None:
    file = tmp_path / "candlecast.toml"
    text = f'[profiles.sample.compute]\nlicences = "{{}}"\n[profiles.sample.{section}]\nlicence = "CC-BY-NC-4.0"\n'
    file.write_text(text.format("commercial"))
    with pytest.raises(SettingsError, match=key) as refused:
        load_settings(file)
    assert "CC-BY-NC-4.0" in str(refused.value)
    file.write_text(text.format("any"))
    load_settings(file)
