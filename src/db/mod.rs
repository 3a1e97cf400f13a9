//! PostgreSQL: pools, transactions, the embedded server, migrations.
