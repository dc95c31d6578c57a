"""The trace formats that can be read, one class each."""
