"""Laws that every stage must keep, whatever it computes."""
