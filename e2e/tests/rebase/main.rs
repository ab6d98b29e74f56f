//! A database that was restored, copied, recovered to an earlier point, failed over or upgraded, with the real programs:
//! first everything but inserts is refused; after `tidemill queue rebase` every consumer gets what it has not had, once.

mod jobs;
mod moved;
mod recovered;
mod restored;
mod support;
