"""Characters → pieces. No torch here."""
