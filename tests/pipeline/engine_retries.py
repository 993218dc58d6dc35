"""An engine that does a failed bundle again, as Flink and Dataflow do. Beam's local runner just fails."""

from typing import Any

import pytest
from apache_beam.runners.portability.fn_api_runner.fn_runner import BundleManager

ATTEMPTS = 8


def retry_bundles(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the local runner do a failed bundle again, up to ATTEMPTS times. Returns a list of what was raised."""
    process, errors = BundleManager.process_bundle, list[str]()

    def attempts(self: BundleManager, *given: Any, **named: Any) -> Any:
        for _ in range(ATTEMPTS):
            try:
                return process(self, *given, **named)
            except RuntimeError as error:
                errors.append(str(error))
        return process(self, *given, **named)

    monkeypatch.setattr(BundleManager, "process_bundle", attempts)
    return errors
