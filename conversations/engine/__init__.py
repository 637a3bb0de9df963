"""The engine: an answer is made, stored and read here, whoever asked for it and through whichever door.

::

    engines     the engine of each event loop: started, ended; what the job that begins an answer asks of it
    supervisor  starts producers, stops them, sees that none runs for ever      (one an event loop)
    producer    a completion's deltas -> log; prompts says what the model sees, completions asks it
    log         group commit: text is in the database before a reader sees it; storage has the statements
    transcript  the stored text of one answer, which readers share
    reader      one async iterator of events for every door
    relays      answers that are passed on and not stored
    feed        what is new in somebody's conversations, to those who watch; changes says what the database has
    follower    brings in the text of other processes; hints say that there is more, or that one was stopped
    liveness    whose process is alive, whose answers have to be ended; machine looks at those of this machine
    maintenance the beat, the ends of the dead, pruning; background watches all tasks that run as long as the loop
"""
