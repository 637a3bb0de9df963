"""How pages write times; the API's are ISO 8601 whatever stands here (``FORMAT_MODULE_PATH``)."""
