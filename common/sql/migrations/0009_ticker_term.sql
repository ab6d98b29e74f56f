-- One row that is updated whenever a ticker begins to work, all versions of it on one page, which is pruned when it is
-- read. A vacuum after every fifty would only move the log of an idle server, and so wake all tickers.
alter table tidemill.ticker_term set (
    autovacuum_vacuum_threshold = 10000, autovacuum_analyze_threshold = 10000,
    autovacuum_vacuum_scale_factor = 0, autovacuum_analyze_scale_factor = 0);
