//! Operations: authorization, rules, transactions. They know neither HTTP nor SQL.

pub(crate) mod builds;
pub(crate) mod cached;
pub(crate) mod exec;
pub(crate) mod exec_ticket;
pub(crate) mod files;
pub(crate) mod follow;
pub(crate) mod images;
pub(crate) mod log_search;
pub(crate) mod logs;
pub(crate) mod once;
pub(crate) mod registries;
pub(crate) mod validate;
pub(crate) mod vms;
pub(crate) mod webhooks;
