"""Faults: kills, failing system calls, power cuts, full disks, damaged state, two at once."""
