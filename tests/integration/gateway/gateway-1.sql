CREATE TABLE gateway_job (
  id VARCHAR(64) PRIMARY KEY, tenant VARCHAR(200) NOT NULL, owner VARCHAR(200) NOT NULL,
  principal TEXT NOT NULL, credential TEXT NOT NULL, kind VARCHAR(20) NOT NULL,
  backend VARCHAR(200) NOT NULL, state VARCHAR(12) NOT NULL, priority INTEGER NOT NULL,
  cost DOUBLE PRECISION NOT NULL, created DOUBLE PRECISION NOT NULL,
  updated DOUBLE PRECISION NOT NULL, attempt INTEGER NOT NULL, worker VARCHAR(100) NOT NULL,
  lease DOUBLE PRECISION NOT NULL, idem VARCHAR(200) NOT NULL, digest VARCHAR(64) NOT NULL,
  body TEXT NOT NULL, outcome TEXT, UNIQUE (tenant, owner, idem));
CREATE INDEX gateway_job_queue ON gateway_job (state, tenant, priority, created);
CREATE INDEX gateway_job_list ON gateway_job (tenant, created, id);
CREATE TABLE gateway_tenant (
  name VARCHAR(200) PRIMARY KEY, weight DOUBLE PRECISION NOT NULL,
  vtime DOUBLE PRECISION NOT NULL, settings TEXT NOT NULL);
CREATE TABLE gateway_bucket (
  scope VARCHAR(400) PRIMARY KEY, tokens DOUBLE PRECISION NOT NULL, at DOUBLE PRECISION NOT NULL);
CREATE TABLE gateway_intent (
  job VARCHAR(64) PRIMARY KEY, attempt INTEGER NOT NULL, state VARCHAR(12) NOT NULL,
  at DOUBLE PRECISION NOT NULL, result TEXT);
INSERT INTO gateway_job VALUES (
  'j1', 'north', 'ada', '{}', '{}', 'sample', 'aer_simulator', 'cancelled', 5, 1.0, 1.0, 1.0, 0,
  '', 0, 'k', 'd', 'b', NULL);
