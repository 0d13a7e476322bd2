"""The `flowvault` command. Nothing is computed here."""
