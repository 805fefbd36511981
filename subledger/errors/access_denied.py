"""The caller may not do this: there is no key, it has ended, or its role does not allow the call."""

from __future__ import annotations

from subledger.errors.root import SubledgerError


class AccessDenied(SubledgerError):
    """The caller may not do this."""

    code = "access_denied"


class NotAuthenticated(AccessDenied):
    """The call needs a key."""

    code = "not_authenticated"


class KeyExpired(NotAuthenticated):
    """The key has expired."""

    code = "key_expired"


class KeyRevoked(NotAuthenticated):
    """The key was revoked, or another one has taken its place."""

    code = "key_revoked"


class NotAllowed(AccessDenied):
    """The key does not allow this."""

    code = "not_allowed"


class CrossSite(AccessDenied):
    """A page of another web site made a browser send this request."""

    code = "cross_site"
