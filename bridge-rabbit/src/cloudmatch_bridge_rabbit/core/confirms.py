"""Which messages of a channel RabbitMQ has confirmed: delivery tags are counted, messages are not kept."""


class Confirms:
    """The delivery tags of a channel, which number its messages from 1."""

    def __init__(self) -> None:
        self.sent = 0  # the last tag
        self.upto = 0  # all tags up to this one are confirmed
        self._apart: set[int] = set()  # confirmed tags beyond it

    @property
    def count(self) -> int:
        """How many messages are confirmed."""
        return self.upto + len(self._apart)

    def send(self, messages: int) -> int:
        """Count messages that are sent; return the tag of the last one."""
        self.sent += messages
        return self.sent

    def confirm(self, tag: int, *, multiple: bool) -> None:
        """Count one confirm: of the message with this tag; with `multiple`, of all before it as well."""
        if multiple and tag > self.upto:
            self.upto = tag
            self._apart = {each for each in self._apart if each > tag}
        elif tag > self.upto:
            self._apart.add(tag)
        while self.upto + 1 in self._apart:
            self.upto += 1
            self._apart.remove(self.upto)
