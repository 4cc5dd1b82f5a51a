"""How we know that routing works: replays, judges and reports."""
