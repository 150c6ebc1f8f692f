"""The chart and the generator of what in it is not written by hand."""
