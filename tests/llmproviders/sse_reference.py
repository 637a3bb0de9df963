"""The standard's steps (WHATWG HTML 9.2.6), a character at a time: slow, and plainly right."""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field


@dataclass
class Reference:
    """Interprets one whole stream; ``events`` are ``(event, data, id)``."""

    events: list[tuple[str, str, str]] = field(default_factory=list)
    data: str = ""
    event: str = ""
    last_id: str = ""

    def interpret(self, stream: bytes) -> list[tuple[str, str, str]]:
        text = "".join(codecs.iterdecode((bytes([byte]) for byte in stream), "utf-8", "replace"))
        if text[:1] == "\ufeff":
            text = text[1:]
        line = ""
        position = 0
        while position < len(text):
            character = text[position]
            position += 1
            if character not in "\r\n":
                line += character
                continue
            if character == "\r" and text[position : position + 1] == "\n":
                position += 1
            self.process(line)
            line = ""
        return self.events

    def process(self, line: str) -> None:
        if line == "":
            self.dispatch()
        elif line[0] == ":":
            pass
        elif ":" in line:
            colon = line.index(":")
            value = line[colon + 1 :]
            self.field(line[:colon], value[1:] if value[:1] == " " else value)
        else:
            self.field(line, "")

    def field(self, name: str, value: str) -> None:
        if name == "event":
            self.event = value
        elif name == "data":
            self.data += value + "\n"
        elif name == "id" and "\0" not in value:
            self.last_id = value

    def dispatch(self) -> None:
        if self.data != "":
            self.events.append((self.event or "message", self.data[:-1], self.last_id))
        self.data = self.event = ""
