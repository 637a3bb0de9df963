"""What was said is found again by any part of a word, in any script, and equally on every database.

::

    folding   a text without what people do not type: case, accents, differences of form; and the way back
    query     what somebody looks for: words that have to be there, and words that must not
    index     the folded texts, written with their messages; a project may put an index of its own in that place
    snippets  what is shown of a text in which something was found
"""
