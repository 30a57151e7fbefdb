"""How bytes reach another place: every kind of endpoint opens as a trio stream or listener."""
