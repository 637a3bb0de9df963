"""The engine: an answer is made, stored and read here, whoever asked for it and over whichever edge.

::

    jobs        what the database job that begins an answer asks of the supervisor
    supervisor  starts producers, stops them, sees that none runs for ever      (one an event loop)
    producer    provider deltas -> log
    log         group commit: text is in the database before a reader sees it
    transcript  the committed text of one answer, which readers share
    reader      one async iterator of events; follower brings in the text of other processes
    liveness    whose process is alive, whose answers have to be ended
"""
