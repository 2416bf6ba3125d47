import pytest
from django.contrib.auth.hashers import identify_hasher, make_password

from accounts.hashers import Argon2idPasswordHasher


@pytest.mark.real_hashing
def test_passwords_are_hashed_with_the_recommended_parameters() -> None:
    assert make_password("secret").startswith("argon2$argon2id$v=19$m=19456,t=2,p=1$")


def test_summary_reveals_neither_salt_nor_hash() -> None:
    encoded = make_password("secret")
    summary = Argon2idPasswordHasher().safe_summary(encoded)
    assert summary.keys() == {"algorithm", "variety", "version", "memory cost", "time cost", "parallelism"}
    assert identify_hasher(encoded).safe_summary(encoded) == summary
