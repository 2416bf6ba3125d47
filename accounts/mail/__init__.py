"""Mails: the outbox, the texts, the links in them, and the notices."""
