import select

from django.db.backends.postgresql import base


class DatabaseWrapper(base.DatabaseWrapper):
    def close_if_health_check_failed(self) -> None:
        """Ask the server whether a kept connection still works only if the connection's socket has something to read.

        A server that closes a connection says so on its socket, and the kernel does for one that is gone. Django asks
        by a statement in each request, which found out no more.
        """
        if self._is_quiet():
            self.health_check_done = True
        super().close_if_health_check_failed()

    def _is_quiet(self) -> bool:
        if self.connection is None or self.connection.closed:
            return False
        poll = select.poll()
        poll.register(self.connection.fileno(), select.POLLIN)
        return not poll.poll(0)
