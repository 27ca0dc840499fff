-- What the nodes of a ledger should agree on, as each says it: NULL for those of a release before.

ALTER TABLE onebeat_nodes ADD COLUMN settings TEXT;

DROP VIEW onebeat_view_nodes;

-- Nodes, as they announce themselves.
CREATE VIEW onebeat_view_nodes AS SELECT
    n.id AS id,
    n.host AS host,
    n.pid AS pid,
    n.roles AS roles,
    n.queues AS queues,
    n.version AS version,
    n.tz_version AS tz_version,
    strftime('%Y-%m-%d %H:%M:%S', (n.started_at - (n.started_at % 1000000 + 1000000) % 1000000) / 1000000, 'unixepoch')
        || printf('.%06d', (n.started_at % 1000000 + 1000000) % 1000000) AS started_at,
    strftime('%Y-%m-%d %H:%M:%S', (n.seen_at - (n.seen_at % 1000000 + 1000000) % 1000000) / 1000000, 'unixepoch')
        || printf('.%06d', (n.seen_at % 1000000 + 1000000) % 1000000) AS seen_at,
    strftime('%Y-%m-%d %H:%M:%S', (n.alive_until - (n.alive_until % 1000000 + 1000000) % 1000000) / 1000000, 'unixepoch')
        || printf('.%06d', (n.alive_until % 1000000 + 1000000) % 1000000) AS alive_until,
    n.stopping AS stopping,
    n.settings AS settings
    FROM onebeat_nodes AS n;
