"""The chat page in a real Chromium: `make test-e2e`."""
