"""What belongs in a ledger's PostgreSQL schema, and nothing else: a planted trigger drops entries.

Plain indexes of an administrator are let be: they change nothing that is read or written.
"""

from __future__ import annotations

__all__ = ["ACTING", "FOREIGN", "TABLES"]

#: Makes the tables.
TABLES = """
CREATE SCHEMA IF NOT EXISTS interlock;
CREATE TABLE IF NOT EXISTS interlock.meta (name text PRIMARY KEY, value text NOT NULL);
CREATE TABLE IF NOT EXISTS interlock.entries (
  idx bigint PRIMARY KEY, event text NOT NULL, leaf bytea NOT NULL,
  header bytea NOT NULL, payload bytea NOT NULL);
CREATE INDEX IF NOT EXISTS entries_event ON interlock.entries (event, idx);
CREATE TABLE IF NOT EXISTS interlock.checkpoints (
  size bigint PRIMARY KEY, root bytea NOT NULL, frontier bytea NOT NULL, note text);
CREATE TABLE IF NOT EXISTS interlock.subject_keys (id text PRIMARY KEY, sealed bytea);
"""

#: Names what acts on the tables without being named by a statement, what else the schema holds,
#: and what is missing. A table that is not logged loses acknowledged entries in a crash.
FOREIGN = """
WITH own AS (
  SELECT c.* FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'interlock'
), expected (relname) AS (
  VALUES ('meta'::name), ('entries'), ('checkpoints'), ('subject_keys')
)
SELECT 'trigger ' || tgname || ' on ' || relname AS found
  FROM pg_catalog.pg_trigger JOIN own ON own.oid = tgrelid WHERE NOT tgisinternal
UNION ALL
SELECT 'rule ' || rulename || ' on ' || relname
  FROM pg_catalog.pg_rewrite JOIN own ON own.oid = ev_class
UNION ALL
SELECT 'policy ' || polname || ' on ' || relname
  FROM pg_catalog.pg_policy JOIN own ON own.oid = polrelid
UNION ALL
SELECT 'row security on ' || relname FROM own WHERE relrowsecurity OR relforcerowsecurity
UNION ALL
SELECT 'constraint ' || conname || ' on ' || relname
  FROM pg_catalog.pg_constraint JOIN own ON own.oid IN (conrelid, confrelid)
  WHERE contype NOT IN ('p', 'n')
UNION ALL
SELECT 'inheritance of ' || relname
  FROM pg_catalog.pg_inherits JOIN own ON own.oid IN (inhparent, inhrelid)
UNION ALL
SELECT 'default in ' || relname FROM pg_catalog.pg_attrdef JOIN own ON own.oid = adrelid
UNION ALL
SELECT 'expression in index ' || relname
  FROM pg_catalog.pg_index JOIN own ON own.oid = indexrelid
  WHERE indexprs IS NOT NULL OR indpred IS NOT NULL
UNION ALL
SELECT 'function ' || proname FROM pg_catalog.pg_proc
  JOIN pg_catalog.pg_namespace n ON n.oid = pronamespace WHERE nspname = 'interlock'
UNION ALL
SELECT CASE relkind WHEN 'v' THEN 'view ' WHEN 'm' THEN 'view ' WHEN 'f'
  THEN 'foreign table ' WHEN 'S' THEN 'sequence ' ELSE 'table ' END || relname
  FROM own WHERE relkind NOT IN ('i', 'r') OR relkind = 'r' AND NOT relname IN (TABLE expected)
UNION ALL
SELECT 'unlogged ' || relname FROM own WHERE relkind = 'r' AND relpersistence <> 'p'
UNION ALL
SELECT 'no table ' || relname FROM expected
  WHERE relname NOT IN (SELECT relname FROM own WHERE relkind = 'r')
UNION ALL
SELECT 'no primary key on ' || relname FROM own
  WHERE relkind = 'r' AND relname IN (TABLE expected) AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_constraint WHERE conrelid = own.oid AND contype = 'p')
ORDER BY found
"""

#: Whether something could act on what is written, or a primary key is gone: cheap enough for each
#: commit. The server may keep a flag after its trigger or rule is gone, so `FOREIGN` has the last
#: word. Policies without row security, views, functions and more tables do not act on a write.
ACTING = """
WITH own AS (
  SELECT c.* FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = 'interlock'
    AND relname IN ('meta', 'entries', 'checkpoints', 'subject_keys')
)
SELECT EXISTS (
  SELECT FROM own
  WHERE relkind <> 'r' OR relhastriggers OR relhasrules OR relrowsecurity OR relforcerowsecurity
    OR relhassubclass OR relispartition OR relchecks <> 0 OR relpersistence <> 'p'
) OR EXISTS (
  SELECT FROM pg_catalog.pg_attrdef JOIN own ON own.oid = adrelid
) OR (
  SELECT count(*) FILTER (WHERE indisprimary) <> 4
    OR count(*) FILTER (WHERE indexprs IS NOT NULL OR indpred IS NOT NULL) <> 0
  FROM pg_catalog.pg_index JOIN own ON own.oid = indrelid
)
"""
