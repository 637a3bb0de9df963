"""A door: OpenAI's API at ``/v1``, for whoever has a client of it already.

::

    views     GET /v1/models, POST /v1/chat/completions: an answer is passed on, and not stored
    asked     what a request says, as a model is asked
    told      deltas as chunks and as one completion
    errors    every refusal as {"error": {"message", "type", "param", "code"}}
"""
