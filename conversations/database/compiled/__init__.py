"""Statements that the ORM writes once, and that then only get their values.

Building a statement takes the ORM about ten times what running it takes: one look-up of an account's allowances
0.66 ms against 0.04, and an answer needs some twenty. So the statements on an answer's way, and only those, are
querysets with ``given`` values in them, compiled when they run for the first time on a kind of database::

    _by_hash = Select(lambda: ApiKey.objects.filter(hash=given(ApiKey, "hash")))
    key = _by_hash.first(hash=digest)

They run on the default database, like everything in this app.
"""

from .select import Count, Select, given
from .write import Delete, Insert, InsertMany, Update

__all__ = ["Count", "Delete", "Insert", "InsertMany", "Select", "Update", "given"]
