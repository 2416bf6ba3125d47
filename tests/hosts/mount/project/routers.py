import os

from django.conf import settings


class Router:
    """Sessions in one database. The users are in the same one, unless a test puts them elsewhere."""

    def database(self, label):
        if label == "latchkey":
            return settings.SESSIONS_IN
        return os.environ.get("USERS_IN", settings.SESSIONS_IN)

    def db_for_read(self, model, **hints):
        return self.database(model._meta.app_label)

    db_for_write = db_for_read

    def allow_relation(self, *objects, **hints):
        return True

    def allow_migrate(self, db, app_label, **hints):
        return db == self.database(app_label)
