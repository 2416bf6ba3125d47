from django.db import models


class Coin(models.Model):
    """This project's kind of token."""

    face = models.CharField(max_length=20)

    def __str__(self):
        return self.face
