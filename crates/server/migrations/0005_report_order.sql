-- A host's reports come by more than one way, and may overtake each other.

-- While a cached VM is started, the number of the host's last report that changed how it sleeps.
ALTER TABLE vms ADD COLUMN said BIGINT NOT NULL DEFAULT 0;
