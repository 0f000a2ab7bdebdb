"""What lost a conflict, done once more by command: a new operation that comes after all that is known. Pure."""

from dataclasses import replace

from cheops.applications import Application
from cheops.applications.concern import item_of
from cheops.errors import NothingToDo, NotThere
from cheops.reconcile.book import Book
from cheops.reconcile.drafting import birth_of
from cheops.reconcile.ledger import Draft
from cheops.reconcile.showing import name_of
from cheops.record.operation import Kind, Operation


def applied_again(book: Book, lost: Operation, draft: Draft, application: Application) -> Operation:
    """The operation that says what `lost` said. Raises NothingToDo, NotThere."""
    name = name_of(lost.dot)
    if lost.dot not in {conflict.loser for conflict in book.log.conflicts}:
        raise NothingToDo(f"{name} lost no conflict", hint="`cheops conflicts` lists those that did.")
    if lost.request is None:
        raise NotThere(f"the request of {name} isn't kept any more, since what it was made for is gone")
    new = replace(
        lost, author=draft.author, n=draft.n, stamp=draft.stamp, after=draft.after, again=lost.dot, placement=()
    )
    if book.log.gone:
        return _made_anew(book, new)
    if lost.kind is not Kind.CREATE:
        return replace(new, birth=None)
    if not lost.repeats:
        raise NothingToDo(
            f"{name} made a resource that is there by now, and it isn't known how to put one in its place",
            hint="Change it by a request to its service.",
        )
    request = replace(lost.request, method="PUT", target=item_of(book.summary, application))
    return replace(new, kind=Kind.REPLACE, birth=None, request=request)


def _made_anew(book: Book, new: Operation) -> Operation:
    """A deletion has won: what makes the resource anew can be done, what changes it can't."""
    known = book.summary
    birth = new.birth
    if birth is None and new.kind is Kind.REPLACE and known.chosen and not new.facet:
        birth = birth_of(known)
    if birth is None:
        raise NotThere(
            f"{known.rid} was deleted, and {name_of(new.dot)} only changes what is there",
            hint="Make the resource anew first, by a request to its service.",
        )
    return replace(new, birth=birth, placement=book.holders)
