"""What is wrong with a vault, or soon will be, found without changing anything.

Every check yields findings; work goes with the number of files and states, not with their length.
"""
