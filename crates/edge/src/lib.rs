//! Hostname to VM address: hold, proxy, honest errors.
