//! The api role: routes, operations, store, reconcilers, jobs.
