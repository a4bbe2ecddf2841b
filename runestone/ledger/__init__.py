"""The ledger: one row for every upstream call, with what it used and what it cost, kept in SQLite or PostgreSQL."""
