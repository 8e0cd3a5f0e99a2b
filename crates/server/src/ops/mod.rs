//! Operations: authorization, rules, transactions. They know neither HTTP nor SQL.

pub(crate) mod images;
pub(crate) mod logs;
pub(crate) mod validate;
pub(crate) mod vms;
