"""A door: the AI SDK's UI message stream at ``/api/chat``, which is where ``useChat()`` goes by itself.

::

    views     POST /api/chat asks, GET /api/chat/{id}/stream resumes, GET /api/chat/{id}/messages is what was said;
              every answer is an ordinary stored one
    asked     what a request says: the chat, what was said in it, and how it is to be answered
    told      an answer's events as the parts of a message
    shown     stored messages as the client has them
    tools     what a model may call, and what came of it
    images    what a user sends as files
    errors    every refusal as a sentence, which the client shows as it is
"""
