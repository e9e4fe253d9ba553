//! From the Python operator to this one and back, with the commands of `docs/migrate.md`.

mod guide;
mod there_and_back;
