-- What the nodes of a ledger should agree on, as each says it: NULL for those of a release before.

ALTER TABLE onebeat_nodes ADD COLUMN settings TEXT COLLATE "C";

-- Nodes, as they announce themselves.
CREATE OR REPLACE VIEW onebeat_view_nodes AS SELECT
    n.id AS id,
    n.host AS host,
    n.pid AS pid,
    n.roles AS roles,
    n.queues AS queues,
    n.version AS version,
    n.tz_version AS tz_version,
    timestamptz 'epoch' + (n.started_at / 1000000) * interval '1 second'
        + (n.started_at % 1000000) * interval '1 microsecond' AS started_at,
    timestamptz 'epoch' + (n.seen_at / 1000000) * interval '1 second'
        + (n.seen_at % 1000000) * interval '1 microsecond' AS seen_at,
    timestamptz 'epoch' + (n.alive_until / 1000000) * interval '1 second'
        + (n.alive_until % 1000000) * interval '1 microsecond' AS alive_until,
    n.stopping AS stopping,
    n.settings AS settings
    FROM onebeat_nodes AS n CROSS JOIN (SELECT 1) AS fixed;
