//! Fixtures of tests: registries, images, servers under test.
