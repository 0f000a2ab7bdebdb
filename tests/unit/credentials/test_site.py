"""What a site shows to its services: of every kind, as it ends, fails and changes; and that nothing shows a secret."""

import asyncio
import base64
import json
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cheops.config import Site, read_site
from cheops.credentials.site import SiteCredentials
from cheops.errors import CredentialsFailed
from cheops.model import Headers
from cheops.ports import Credentials
from unit.credentials.keystone import Clock, Keystone, serving

PASSWORD = {"kind": "keystone-password", "username": "cheops", "project": "service", "password": "right horse"}
SECRET = {"kind": "keystone-application-credential", "id": "c0ffee", "secret_env": "CHEOPS_SECRET"}
ENVIRONMENT = {"CHEOPS_SECRET": "battery staple", "EMPTY": " \n", "TWO_LINES": "a\r\nhost: b"}


def site_with(folder: Path, image: dict[str, Any] | None, identity: str = "127.0.0.1:5") -> Site:
    """A site that has these credentials for its image service; its identity service listens at that address."""
    settings: dict[str, Any] = {
        "site": "Site1",
        "number": 1,
        "mesh": {"listen": "127.0.0.1:7443", "deployment": "shop"},
        "admin": {"listen": "127.0.0.1:7480"},
        "services": {
            "identity": {"front": "127.0.0.1:5000", "backend": identity},
            "image": {"front": "127.0.0.1:9292", "backend": "127.0.0.1:19292"},
        },
        "credentials": {"image": image} if image else {},
    }
    (folder / "site.yaml").write_text(yaml.safe_dump(settings))
    return read_site(folder / "site.yaml")


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def told() -> None:
        await story()

    asyncio.run(asyncio.wait_for(told(), 20))


def shown(folder: Path, image: dict[str, Any] | None, service: str = "image") -> Headers | None:
    """What the site shows to a service, without a Keystone."""
    found = []

    async def story() -> None:
        async with SiteCredentials(site_with(folder, image), Clock(), ENVIRONMENT) as credentials:
            asked: Credentials = credentials
            asked.refused(service)
            found.append(await asked.headers(service))

    run(story)
    return found[0]


class World:
    """A Keystone, and a site that has credentials of it for its image service."""

    def __init__(self, folder: Path, ttl: float = 3600, seconds: float = 10) -> None:
        self.folder, self.seconds = folder, seconds
        self.clock = Clock()
        self.keystone = Keystone(self.clock, ttl)

    def run(self, story: Callable[[SiteCredentials], Awaitable[None]], image: dict[str, Any] = PASSWORD) -> None:
        async def told() -> None:
            async with serving(self.keystone) as self.address:
                site = self.site(image)
                async with SiteCredentials(site, self.clock, ENVIRONMENT, self.seconds) as credentials:
                    await story(credentials)

        run(told)

    def site(self, image: dict[str, Any]) -> Site:
        return site_with(self.folder, image, self.address)


async def token(credentials: SiteCredentials) -> str:
    (name, value), *more = await credentials.headers("image") or ()
    assert (name, more) == (b"x-auth-token", [])
    return value.decode()


async def failure(credentials: SiteCredentials) -> CredentialsFailed:
    with pytest.raises(CredentialsFailed) as caught:
        await credentials.headers("image")
    return caught.value


def test_nothing_is_configured(tmp_path: Path) -> None:
    assert shown(tmp_path, None) is None
    assert shown(tmp_path, {"kind": "header", "value": "x"}, service="identity") is None


def test_a_header_from_wherever_it_stands(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("Basic Zm9v\n")
    for value, expected in (
        ({"value": "Basic Zm9v"}, b"Basic Zm9v"),
        ({"value_file": "secret"}, b"Basic Zm9v"),
        ({"value_file": str(tmp_path / "secret")}, b"Basic Zm9v"),
        ({"value_env": "CHEOPS_SECRET"}, b"battery staple"),
    ):
        assert shown(tmp_path, {"kind": "header", **value}) == ((b"authorization", expected),)
    assert shown(tmp_path, {"kind": "header", "header": "X-API-Key", "value": "é"}) == ((b"x-api-key", "é".encode()),)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"value_file": "absent"}, "absent can't be read: No such file or directory"),
        ({"value_file": "."}, "Is a directory"),
        ({"value_file": "binary"}, "binary isn't UTF-8"),
        ({"value_file": "empty"}, "empty is empty"),
        ({"value_env": "ABSENT"}, "the environment has no variable ABSENT"),
        ({"value_env": "EMPTY"}, "the variable EMPTY is empty"),
        ({"value_env": "TWO_LINES"}, "the variable TWO_LINES has more than one line"),
        ({"value": "a\0b"}, "the value in site.yaml has more than one line, or characters that can't be sent"),
    ],
)
def test_a_secret_that_cannot_be_had(tmp_path: Path, value: dict[str, str], told: str) -> None:
    (tmp_path / "binary").write_bytes(b"s3cret\xff")
    (tmp_path / "empty").write_text("")
    with pytest.raises(CredentialsFailed) as caught:
        shown(tmp_path, {"kind": "header", **value})
    assert told in caught.value.detail
    assert caught.value.detail.startswith("the site's credentials for 'image' can't be had: ")
    assert caught.value.members == {"service": "image"}
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_a_service_account_s_token_is_read_again_when_kubernetes_renews_it(tmp_path: Path) -> None:
    file = tmp_path / "token"

    async def story() -> None:
        account = {"kind": "kubernetes-service-account", "token_file": "token"}
        async with SiteCredentials(site_with(tmp_path, account), Clock(), {}) as credentials:
            assert "token can't be read" in (await failure(credentials)).detail
            for text in ("first", "second\n"):
                file.write_text(text)
                assert await credentials.headers("image") == ((b"authorization", b"Bearer " + text.strip().encode()),)

    run(story)


def test_a_login_by_password(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def story(credentials: SiteCredentials) -> None:
        assert [await token(credentials) for _ in range(3)] == ["token-1"] * 3

    world.run(story, PASSWORD | {"project_domain": "ops"})
    user = {"name": "cheops", "domain": {"name": "Default"}, "password": "right horse"}
    assert world.keystone.logins == [
        {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": {"name": "service", "domain": {"name": "ops"}}},
        }
    ]


def test_a_login_by_application_credential(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def story(credentials: SiteCredentials) -> None:
        assert await token(credentials) == "token-1"

    world.run(story, SECRET)
    credential = {"id": "c0ffee", "secret": "battery staple"}
    identity = {"methods": ["application_credential"], "application_credential": credential}
    assert world.keystone.logins == [{"identity": identity}]


@pytest.mark.parametrize("ending", ["/v3", "/v3/"])
def test_a_keystone_elsewhere(tmp_path: Path, ending: str) -> None:
    world = World(tmp_path)

    async def story(credentials: SiteCredentials) -> None:
        credentials.change(site_with(tmp_path, PASSWORD | {"auth_url": f"http://{world.address}{ending}"}))
        assert await token(credentials) == "token-1"

    world.run(story)


def test_a_token_is_renewed_before_it_ends(tmp_path: Path) -> None:
    """Whenever it is asked for, it is one that a service takes. Keystone's clock is years ahead of ours."""
    world = World(tmp_path, ttl=5)

    async def story(credentials: SiteCredentials) -> None:
        for _ in range(100):
            assert world.keystone.accepts(await token(credentials))
            world.clock.now += 0.25
        assert 5 <= len(world.keystone.logins) <= 7  # in 25 s: each one is used for four fifths of its life

    world.run(story)


def test_one_that_lasts_long_is_renewed_a_minute_before(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def story(credentials: SiteCredentials) -> None:
        tokens = []
        for passed in (0, 3539, 1):
            world.clock.now += passed
            tokens.append(await token(credentials))
        assert tokens == ["token-1", "token-1", "token-2"]

    world.run(story)


def test_a_refused_token_is_thrown_away_once(tmp_path: Path) -> None:
    """Many operations may have been refused with it by the time that the first has a new one."""
    world = World(tmp_path)

    async def story(credentials: SiteCredentials) -> None:
        assert await token(credentials) == "token-1"
        world.clock.now += 10
        for _ in range(3):
            credentials.refused("image")
            assert await token(credentials) == "token-2"
        world.clock.now += 10
        credentials.refused("image")
        assert await token(credentials) == "token-3"

    world.run(story)


def test_many_at_once_log_in_once(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def story(credentials: SiteCredentials) -> None:
        assert set(await asyncio.gather(*(token(credentials) for _ in range(20)))) == {"token-1"}
        assert len(world.keystone.logins) == 1

    world.run(story)


def test_a_wrong_password_is_not_tried_again_at_once(tmp_path: Path) -> None:
    """Keystone may lock the user out; somebody may have mended it 5 s later."""
    world = World(tmp_path)

    async def story(credentials: SiteCredentials) -> None:
        world.keystone.passwords = {("cheops", "Default"): "another"}
        failures = await asyncio.gather(*(failure(credentials) for _ in range(20)))
        assert {(error.detail, error.hint) for error in failures} == {
            (
                f"the site's credentials for 'image' can't be had: http://{world.address}/v3/auth/tokens answered 401",
                "Check the user, its domain and project, and the password or secret.",
            )
        }
        assert len(world.keystone.logins) == 1
        world.keystone.passwords = {("cheops", "Default"): "right horse"}
        await failure(credentials)
        world.clock.now += 5
        assert await token(credentials) == "token-2"

    world.run(story)


@pytest.mark.parametrize(
    ("mood", "told"),
    [
        ("mute", "didn't answer in time"),
        ("broken", "answered 500"),
        ("echo", "answered 400"),
        ("strange", "doesn't answer as Keystone does"),
    ],
)
def test_a_keystone_that_is_unwell(tmp_path: Path, mood: str, told: str) -> None:
    world = World(tmp_path, seconds=1 if mood == "mute" else 10)

    async def story(credentials: SiteCredentials) -> None:
        world.keystone.mood = mood
        error = await failure(credentials)
        assert (told in error.detail, error.retry) == (True, True)
        assert "right horse" not in "".join(traceback.format_exception(error)) + json.dumps(error.problem())
        world.keystone.mood = "well"
        world.clock.now += 5
        assert await token(credentials) == "token-2"

    world.run(story)


def test_a_keystone_that_is_not_there(tmp_path: Path) -> None:
    async def story() -> None:
        async with SiteCredentials(site_with(tmp_path, PASSWORD), Clock(), ENVIRONMENT) as credentials:
            error = await failure(credentials)
            assert "http://127.0.0.1:5/v3/auth/tokens can't be asked" in error.detail
            assert error.hint == "Does Keystone run there?"

    run(story)


def test_a_url_that_is_not_keystone_s(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def story(credentials: SiteCredentials) -> None:
        credentials.change(site_with(tmp_path, PASSWORD | {"auth_url": f"http://{world.address}"}))
        assert (await failure(credentials)).hint == "auth_url must end in /v3."

    world.run(story)


def test_changed_settings_are_in_force_at_once(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def story(credentials: SiteCredentials) -> None:
        assert await token(credentials) == "token-1"
        credentials.change(world.site(PASSWORD))
        assert await token(credentials) == "token-1"  # nothing has changed
        credentials.change(world.site(SECRET))
        assert await token(credentials) == "token-2"
        credentials.change(site_with(tmp_path, None))
        assert await credentials.headers("image") is None

    world.run(story)


def test_a_password_file_is_read_at_each_login(tmp_path: Path) -> None:
    world = World(tmp_path)
    by_file = {name: value for name, value in PASSWORD.items() if name != "password"} | {"password_file": "password"}
    (tmp_path / "password").write_text("old")

    async def story(credentials: SiteCredentials) -> None:
        await failure(credentials)
        (tmp_path / "password").write_text("right horse\n")
        world.clock.now += 5
        assert await token(credentials) == "token-2"

    world.run(story, by_file)


def test_no_secret_is_shown(tmp_path: Path) -> None:
    site = site_with(tmp_path, {"kind": "header", "value": "s3cret"})
    texts = [repr(site), str(site.settings), site.settings.model_dump_json(), repr(site.settings.model_dump())]
    assert "credentials" in texts[0]
    for text in texts:
        assert "s3cret" not in text
        assert base64.b64encode(b"s3cret").decode() not in text
