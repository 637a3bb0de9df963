"""A door: AG-UI 1.0 at ``/api/agui``, for front ends that are built on ``@ag-ui/client``.

::

    views     POST /api/agui: a run is a stored answer, and its thread a conversation
    asked     what a run says: the last user message, what was said before it, how it is to be answered
    images    what a user shows
    told      the events of an answer as those of a run
"""
