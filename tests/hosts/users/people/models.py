import uuid

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import AbstractUser
from django.db import models


class Manager(BaseUserManager):
    def create_user(self, password, **fields):
        user = self.model(**fields)
        user.set_password(password)
        user.save(using=self._db)
        return user


class ByUUID(AbstractUser):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    objects = Manager()


class ByCode(AbstractBaseUser):
    """A key of text; no email address, no is_active, no is_staff, no groups."""

    code = models.CharField(primary_key=True, max_length=20)
    USERNAME_FIELD = "code"
    objects = Manager()


class ByNumber(AbstractBaseUser):
    """A number as the name, and groups of another model."""

    number = models.PositiveIntegerField(unique=True)
    email = models.EmailField(blank=True)
    groups = models.CharField(max_length=40, default="first second")
    USERNAME_FIELD = "number"
    objects = Manager()


class Team(models.Model):
    title = models.CharField(max_length=40)

    def __str__(self):
        return self.title


class InTeams(AbstractBaseUser):
    """Groups that have no names."""

    login = models.CharField(max_length=20, unique=True)
    groups = models.ManyToManyField(Team)
    is_active = models.BooleanField(default=True)
    USERNAME_FIELD = "login"
    objects = Manager()


class Present(Manager):
    def get_queryset(self):
        return super().get_queryset().filter(deleted=False)


class Hidden(AbstractBaseUser):
    """A default manager that hides deleted users."""

    login = models.CharField(max_length=20, unique=True)
    is_active = models.BooleanField(default=True)
    deleted = models.BooleanField(default=False)
    USERNAME_FIELD = "login"
    objects = Present()


class Person(AbstractBaseUser):
    login = models.CharField(max_length=20, unique=True)
    is_active = models.BooleanField(default=True)
    USERNAME_FIELD = "login"
    objects = Manager()


class Member(Person):
    """A child: its row is in two tables."""

    since = models.DateField(null=True)
    objects = Manager()


class Regular(Person):
    class Meta:
        proxy = True
