"""Run folders → the ledger, and a page with its pictures."""
