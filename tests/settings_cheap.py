"""The server's settings, with the smallest parameters that Argon2 allows, as in the process of the tests."""

from accounts.hashers import Argon2idPasswordHasher
from tests.settings_server import *

Argon2idPasswordHasher.time_cost, Argon2idPasswordHasher.memory_cost = 1, 8
