"""What is said of a round whose time is over."""

from cross_silo.aggregation.missing import missing
from cross_silo.aggregation.participant import Participant
from cross_silo.config.participation import Participation


def needing(ready, least):
    return Participation(ready=ready, most=ready, least=least, enough=0, draws=False, seed=1)


def there(*admitted):
    return {f"silo_{i}": Participant(f"silo_{i}", f"w{i}", f"host:{i}", 10, admitted=a) for i, a in enumerate(admitted)}


KNOWN = {"silo_0": "host:0", "silo_2": "", "silo_1": "host:1"}


def test_who_did_not_join():
    assert missing(needing(3, 3), True, there(False), KNOWN) == (
        "joined 1 of 3: silo_0 (host:0); 2 missing silos (silo_1 (host:1), silo_2) did not join"
    )
    assert missing(needing(2, 1), True, there(False), {}) == (
        "joined 1 of 2 (1 suffice): silo_0 (host:0); 1 missing silo did not join"
    )


def test_who_did_not_push():
    assert missing(needing(2, 2), False, there(True, False), KNOWN) == "silo_1 (host:1) joined but did not push"
    assert missing(needing(3, 2), False, there(True, False, False), KNOWN) == (
        "silo_1 (host:1), silo_2 (host:2) joined but did not push; 1 updates are in, 2 needed"
    )
