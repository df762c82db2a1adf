//! Tailwake.
