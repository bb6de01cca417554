"""Licences: which SPDX identifiers permit commercial use. https://spdx.org/licenses/

Not legal advice: a table of what the licences say. A licence that is in neither list is not judged.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Literal

UNKNOWN = "unknown"
LicenceRule = Literal["any", "commercial"]
# Patterns of lower-case identifiers. LicenseRef-Commercial: permission that was bought or given.
PERMIT = (
    "0bsd", "afl-*", "agpl-*", "apache-*", "artistic-2.0", "bsd-*", "bsl-1.0", "cc-by-[0-9]*", "cc-by-nd-*",
    "cc-by-sa-*", "cc0-*", "cdla-*", "cecill-*", "ecl-*", "epl-*", "eupl-*", "gpl-*", "isc", "lgpl-*",
    "licenseref-commercial", "mit", "mit-0", "mpl-*", "ms-pl", "ncsa", "odc-by-*", "ofl-*", "pddl-*", "postgresql",
    "psf-*", "python-*", "unlicense", "upl-*", "wtfpl", "x11", "zlib",
)  # fmt: skip
FORBID = (
    "*-nc-*", "*noncommercial*", "*non-commercial*", "aladdin", "ncgl-*", "polyform-strict-*",
    "polyform-internal-use-*", "prosperity-*",
)  # fmt: skip
_AND, _OR, _WITH = (re.compile(rf"\s+{word}\s+", re.IGNORECASE) for word in ("and", "or", "with"))


def permits_commercial_use(licence: str) -> bool | None:
    """Whether a licence permits commercial use; None: the table does not know it.

    Args:
        licence: an SPDX identifier, or an expression of identifiers with AND, OR, WITH and parentheses.
    """
    inner = re.search(r"\(([^()]*)\)", licence)
    if inner:
        found = permits_commercial_use(inner[1])
        name = {True: "mit", False: "aladdin", None: UNKNOWN}[found]
        return permits_commercial_use(licence[: inner.start()] + name + licence[inner.end() :])
    alternatives = [[_permits(one) for one in _AND.split(part)] for part in _OR.split(licence)]
    answers = [False if False in all_of else None if None in all_of else True for all_of in alternatives]
    return True if True in answers else None if None in answers else False


def refusal(licence: str, allowed: LicenceRule, key: str) -> str | None:
    """Why a licence does not fit `compute.licences`, with the key that states it; None: it fits.

    Args:
        key: the setting that states the licence, such as "models.NAME.licence".
    """
    if allowed == "any" or permits_commercial_use(licence):
        return None
    forbids = permits_commercial_use(licence) is False
    problem = "forbids commercial use" if forbids else "is not known to permit commercial use"
    return (
        f'{key}: the licence "{licence}" {problem}, and compute.licences = "commercial": use other weights, or set '
        f'{key} to the SPDX identifier of a licence that permits it ("LicenseRef-Commercial": permission of your own)'
    )


def _permits(identifier: str) -> bool | None:
    name = _WITH.split(identifier.strip())[0].lower()
    if any(fnmatchcase(name, pattern) for pattern in FORBID):
        return False
    return True if any(fnmatchcase(name, pattern) for pattern in PERMIT) else None
