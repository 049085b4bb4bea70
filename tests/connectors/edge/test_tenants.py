"""Tenants, their keys, and the file that has them."""

import json
from pathlib import Path

import pytest

from connectors.edge.tenants import Limits, Registry
from streams.errors import ConfigurationError


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "deep" / "tenants.json")


def name_of(registry: Registry, key: str) -> str | None:
    found = registry.authenticate(key)
    return found[0] if found else None


def test_a_tenant_has_several_live_keys_until_each_is_revoked(registry: Registry) -> None:
    first = registry.add("acme", channel_merging=False, campaigns_enabled=True)
    second = registry.rotate("acme")
    assert name_of(registry, first) == name_of(registry, second) == "acme"
    registry.revoke("acme", first.split("_")[1])
    assert name_of(registry, first) is None
    assert name_of(registry, second) == "acme"


def test_a_test_tenant_has_its_own_keys_limits_and_a_name_that_no_other_tenant_can_have(
    registry: Registry,
) -> None:
    live = registry.add("acme", channel_merging=False, campaigns_enabled=True)
    test = registry.add("acme", channel_merging=True, campaigns_enabled=True, test=True)
    second = registry.rotate("acme.test")
    assert name_of(registry, live) == "acme"
    assert name_of(registry, test) == name_of(registry, second) == "acme.test"
    assert test.startswith("rh_test-")
    assert second.startswith("rh_test-")
    assert not live.startswith("rh_test-")
    registry.limit("acme.test", {"items_per_s": 5.0})
    assert registry.all()["acme"].limits == Limits()
    registry.revoke("acme.test", test.split("_")[1])
    assert name_of(registry, test) is None
    with pytest.raises(ConfigurationError, match=r"acme\.test exists"):
        registry.add("acme", channel_merging=False, campaigns_enabled=True, test=True)
    with pytest.raises(ConfigurationError, match="--test"):
        registry.add("other.test", channel_merging=False, campaigns_enabled=True)


def test_an_edge_that_knows_no_test_tenants_marks_their_events_too(registry: Registry) -> None:
    """The mark is the name, so the file has no field that an earlier version does not know."""
    registry.add("acme", channel_merging=True, campaigns_enabled=False, test=True)
    tenants = json.loads(registry.path.read_text())["tenants"]
    assert list(tenants) == ["acme.test"]
    assert set(tenants["acme.test"]) == {"channel_merging", "campaigns_enabled", "keys"}


def test_the_file_holds_no_key(registry: Registry) -> None:
    key = registry.add("acme", channel_merging=False, campaigns_enabled=True)
    text = registry.path.read_text()
    assert key not in text
    assert key.split("_", 2)[2] not in text
    assert registry.path.stat().st_mode & 0o077 == 0


def test_a_right_id_with_a_wrong_secret_is_nobody(registry: Registry) -> None:
    key = registry.add("acme", channel_merging=False, campaigns_enabled=True)
    for wrong in (key[:-1], key + "x", "", "rh_", "rh_" + key.split("_")[1], key.upper()):
        assert registry.authenticate(wrong) is None


def test_a_running_edge_sees_what_another_process_changes(registry: Registry) -> None:
    other = Registry(registry.path)
    key = other.add("acme", channel_merging=False, campaigns_enabled=True)
    found = registry.authenticate(key)
    assert found
    assert found[1].channel_merging is False
    other.switch("acme", channel_merging=True)
    found = registry.authenticate(key)
    assert found
    assert found[1].channel_merging is True


def test_a_file_without_limits_scopes_and_expiry_is_read_by_earlier_versions(
    registry: Registry,
) -> None:
    registry.add("acme", channel_merging=True, campaigns_enabled=False)
    [tenant] = json.loads(registry.path.read_text())["tenants"].values()
    assert set(tenant) == {"channel_merging", "campaigns_enabled", "keys"}
    [key] = tenant["keys"].values()
    assert set(key) == {"sha256", "created_at"}


def test_limits_are_set_one_by_one_and_taken_back(registry: Registry) -> None:
    registry.add("acme", channel_merging=False, campaigns_enabled=True)
    registry.limit("acme", {"items_per_s": 5.0, "bytes_per_s": 7.0})
    registry.limit("acme", {"items_per_s": None})
    assert registry.all()["acme"].limits == Limits(bytes_per_s=7.0)


def test_mistakes_are_explained(registry: Registry) -> None:
    registry.add("acme", channel_merging=False, campaigns_enabled=True)
    with pytest.raises(ConfigurationError, match="exists"):
        registry.add("acme", channel_merging=False, campaigns_enabled=True)
    with pytest.raises(ConfigurationError, match="a-z"):
        registry.add("Acme Ltd", channel_merging=False, campaigns_enabled=True)
    with pytest.raises(ConfigurationError, match="no tenant"):
        registry.rotate("other")
    with pytest.raises(ConfigurationError, match="no live key"):
        registry.revoke("acme", "00000000")
    registry.path.write_text(json.dumps({"tenants": {"acme": {"keys": {"a": {"sha256": "x"}}}}}))
    with pytest.raises(ConfigurationError, match="sha256"):
        Registry(registry.path).all()
