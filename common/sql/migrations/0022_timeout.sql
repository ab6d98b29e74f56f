-- Timeouts: the time of an attempt is over then, and its lease is not extended beyond. NULL, without a byte, for every row
-- whose job has no timeout, and for all that is not leased.
alter table tidemill.waiting add column over_at timestamptz;
