-- What the nodes of a ledger should agree on, as each says it: NULL for those of a release before.

-- MySQL has no ADD COLUMN IF NOT EXISTS, and a step may be begun again.
SET @onebeat_step = (SELECT IF(
    COUNT(*) = 0, 'ALTER TABLE onebeat_nodes ADD COLUMN settings MEDIUMTEXT', 'DO 0'
) FROM information_schema.columns
    WHERE table_schema = database() AND table_name = 'onebeat_nodes' AND column_name = 'settings');
PREPARE onebeat_step FROM @onebeat_step;
EXECUTE onebeat_step;
DEALLOCATE PREPARE onebeat_step;

-- Nodes, as they announce themselves.
CREATE OR REPLACE VIEW onebeat_view_nodes AS SELECT
    n.id AS id,
    n.host AS host,
    n.pid AS pid,
    n.roles AS roles,
    n.queues AS queues,
    n.version AS version,
    n.tz_version AS tz_version,
    TIMESTAMPADD(MICROSECOND, n.started_at, TIMESTAMP'1970-01-01 00:00:00.000000') AS started_at,
    TIMESTAMPADD(MICROSECOND, n.seen_at, TIMESTAMP'1970-01-01 00:00:00.000000') AS seen_at,
    TIMESTAMPADD(MICROSECOND, n.alive_until, TIMESTAMP'1970-01-01 00:00:00.000000') AS alive_until,
    n.stopping AS stopping,
    n.settings AS settings
    FROM onebeat_nodes AS n;
