"""Blows the horn."""


def blow(times: int) -> str:
    return "tooot" * times
