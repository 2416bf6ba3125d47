from django.db import models


class Coin(models.Model):
    """What this project means by a token."""

    face = models.CharField(max_length=20)

    def __str__(self):
        return self.face
