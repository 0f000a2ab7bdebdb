"""Whose heartbeats a site takes: those of members, under their own names. Pure."""

from cheops.errors import NotAMember
from cheops.sites.message import Message
from cheops.sites.roll import Roll, Standing


def admit(message: Message, *, sender: str, generation: int, site: str, roll: Roll, learns: bool) -> None:
    """Checks a heartbeat that came to `site` under the certificate of `sender`, issued at `generation`.

    Raises NotAMember. Whoever isn't known yet is let in, if the site learns: the authority has let it in already.
    """
    claims, known = message.sender, roll.get(sender)
    if claims.name != sender:
        raise NotAMember(f"{sender} calls itself {claims.name}", hint="A site speaks for itself alone.")
    if sender == site:
        raise NotAMember(f"{site} hears from a site that has its own certificate", hint="Give each site its own.")
    if claims.generation > generation:
        raise NotAMember(f"{sender} says that its certificate is newer than it is", hint="Restart its agent.")
    if known and known.departed and claims.generation <= known.generation:
        what = "has left" if known.standing is Standing.LEFT else "was removed"
        hint = "To let it in again, invite it anew: it needs a new certificate."
        raise NotAMember(f"{sender} {what}", hint=hint, standing=known.standing.value)
    if known is None and not learns:
        raise NotAMember(f"{site} doesn't know {sender}", hint=f"List it in the site.yaml of {site}.")
