-- Cached VMs: they start again and again, and sleep between requests.

-- cakework_core::lifecycle::VmKind.
ALTER TABLE vms ADD COLUMN kind TEXT NOT NULL DEFAULT 'once';
-- cakework_core::cached::Prewarm; only of cached ones, as all that follows.
ALTER TABLE vms ADD COLUMN prewarm TEXT;
-- Time without a request after which it is put to sleep.
ALTER TABLE vms ADD COLUMN idle_timeout_ms BIGINT;
-- 1: a request to its hostname starts or wakes it.
ALTER TABLE vms ADD COLUMN auto_start BIGINT NOT NULL DEFAULT 0;
-- While it is started, where it sleeps: cakework_core::cached::Sleep.
ALTER TABLE vms ADD COLUMN sleep TEXT;
-- How its last run started: cakework_core::cached::Start.
ALTER TABLE vms ADD COLUMN start TEXT;

CREATE INDEX vms_idle ON vms (idle_timeout_ms) WHERE idle_timeout_ms IS NOT NULL AND state = 'started';
