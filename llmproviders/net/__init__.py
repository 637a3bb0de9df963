"""Connections to models: who may be called and with what, the calls, how long they may take and how much they bring.

From the ground up: ``addresses`` and ``policy`` (what whose calls may reach), ``guard`` (URLs, keys and names as
people give them), ``errors``, ``dial``, ``connection`` and ``pool`` (our HTTP/1.1 client), ``deadline``, ``http`` (one
call), ``retry`` and ``flow``.
"""
