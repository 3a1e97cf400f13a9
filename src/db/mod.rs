//! PostgreSQL: pools, transactions, the embedded server, migrations.
pub mod embedded;
