"""What site.yaml says of the site's own credentials for a service.

A secret stands in a file or in the environment, and site.yaml says where. It may stand in site.yaml itself too; it is
never shown.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, SecretStr, model_validator

from cheops.applications.description import HeaderName, ServiceName
from cheops.documents import Document, Misplaced

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")  # where Kubernetes puts it in a pod
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Url = Annotated[str, Field(pattern=r"^https?://[^\s/?#@]+(/[\w.~%-]+)*/?$")]


@dataclass(frozen=True, kw_only=True, slots=True)
class Whereabouts:
    """Where a secret is; one of the three is there. `name` is what it is called: "password"."""

    name: str
    text: SecretStr | None
    file: Path | None
    variable: str | None


class _Secretive(Document):
    """Has one secret, said by NAME_file, NAME_env or NAME."""

    secret_name: ClassVar[str]

    @property
    def whereabouts(self) -> Whereabouts:
        text, file, variable = (getattr(self, f"{self.secret_name}{ending}") for ending in ("", "_file", "_env"))
        return Whereabouts(name=self.secret_name, text=text, file=file, variable=variable)

    @model_validator(mode="after")
    def _has_one_secret(self) -> Self:
        name = self.secret_name
        given = [field for field in (f"{name}_file", f"{name}_env", name) if getattr(self, field) is not None]
        if len(given) != 1:
            what = f"{name}_file, {name}_env or {name} says the {name}; there must be one of them"
            raise Misplaced(what, *given[1:2])
        return self


class HeaderCredentials(_Secretive):
    """One header, always the same."""

    secret_name = "value"
    kind: Literal["header"]
    header: HeaderName = "Authorization"
    value: SecretStr | None = None
    value_file: Path | None = None
    value_env: Variable | None = None


class Keystone(_Secretive):
    """Tokens of Keystone: at `auth_url`, which ends in /v3, or else of this site's own `identity`."""

    auth_url: Url | None = None
    identity: ServiceName = "identity"


class KeystonePassword(Keystone):
    """A user with a password, for a project; domains are named."""

    secret_name = "password"
    kind: Literal["keystone-password"]
    username: str = Field(min_length=1)
    user_domain: str = "Default"
    project: str = Field(min_length=1)
    project_domain: str = "Default"
    password: SecretStr | None = None
    password_file: Path | None = None
    password_env: Variable | None = None


class KeystoneApplicationCredential(Keystone):
    """An application credential, by its id."""

    secret_name = "secret"
    kind: Literal["keystone-application-credential"]
    id: str = Field(min_length=1)
    secret: SecretStr | None = None
    secret_file: Path | None = None
    secret_env: Variable | None = None


class KubernetesServiceAccount(Document):
    """The token of a service account, from a file that Kubernetes renews."""

    kind: Literal["kubernetes-service-account"]
    token_file: Path = SERVICE_ACCOUNT


ServiceCredentials = Annotated[
    HeaderCredentials | KeystonePassword | KeystoneApplicationCredential | KubernetesServiceAccount,
    Field(discriminator="kind"),
]
