-- Competing workers on one consumer. It has no tables of its own: a member is a row of pgq.subscription which shares the
-- main consumer's sub_id.
create schema if not exists pgq_coop;
