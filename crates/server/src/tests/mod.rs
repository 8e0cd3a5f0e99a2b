//! Tests at the HTTP boundary: the real router, a real database.
